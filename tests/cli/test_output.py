"""Tables, facts and JSON: what fits, where it breaks, and what is never taken for markup."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum

import pytest
from rich.console import Console, RenderableType

from durabletask_payloads.cli._output import Cell, Column, Facts, Rows, output, printable, progress, size, to_json

TOKEN = "blob:v1:container:0123456789abcdef0123456789abcdef"
COLUMNS = (Column("token", fold=True), Column("bytes", right=True), Column("field"))
ROWS: tuple[tuple[Cell, ...], ...] = ((TOKEN, 1_234_567, "input"), ("[b]short[/]", 5, "result"))


def rendered(part: RenderableType, width: int) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False, highlight=False).print(part)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_a_table_that_fits() -> None:
    assert rendered(Rows(COLUMNS, ROWS), 80) == [
        "token                                                   bytes  field",
        f"{TOKEN}  1,234,567  input",
        "[b]short[/]                                                 5  result",
    ]


def test_a_column_that_folds() -> None:
    """Behind a sign where there is one."""
    assert rendered(Rows(COLUMNS, ROWS), 51) == [
        "token                                 bytes  field",
        "blob:v1:container:                1,234,567  input",
        "0123456789abcdef0123456789abcdef",
        "[b]short[/]                               5  result",
    ]


def test_the_widest_column_gives_way_first() -> None:
    """Names stay whole: rich would take from both columns."""
    columns = (Column("field", fold=True), Column("token", fold=True))
    assert rendered(Rows(columns, [("ExecutionStartedEvent.input", TOKEN)]), 64) == [
        "field                        token",
        "ExecutionStartedEvent.input  blob:v1:container:",
        "                             0123456789abcdef0123456789abcdef",
    ]


def test_names_that_a_table_would_break() -> None:
    columns = (Column("field", fold=True), Column("token", fold=True))
    assert rendered(Rows(columns, [("ExecutionStartedEvent.input", TOKEN)]), 55) == [
        "field  ExecutionStartedEvent.input",
        "token  blob:v1:container:",
        "       0123456789abcdef0123456789abcdef",
    ]


def test_a_terminal_that_is_too_narrow_for_a_table() -> None:
    assert rendered(Rows(COLUMNS, ROWS), 30) == [
        "token  blob:v1:container:",
        "       0123456789abcdef0123456",
        "       789abcdef",
        "bytes  1,234,567",
        "field  input",
        "",
        "token  [b]short[/]",
        "bytes  5",
        "field  result",
    ]


def test_facts_break_at_spaces() -> None:
    assert rendered(Facts([("sizes", "10.5 MB, compression 1.5 to 1")]), 20) == [
        "sizes  10.5 MB,",
        "       compression",
        "       1.5 to 1",
    ]


def test_cells() -> None:
    cells: list[tuple[str, Cell]] = [
        ("none", None),
        ("yes", True),
        ("number", -1234),
        ("time", datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))),
        ("text", "a\x1b[31m\r\nb"),
    ]
    assert rendered(Facts(cells), 80) == [
        "none",
        "yes     yes",
        "number  -1,234",
        "time    2026-01-31 12:00:00 UTC",
        "text    a\\x1b[31m\\r",
        "        b",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KB"), (2_500_000, "2.5 MB"), (10**18, "1,000.0 PB")],
)
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


def test_printable() -> None:
    assert printable("größe\n\x00\u202e\ud800") == "größe\n\\x00\\u202e\\ud800"


class Color(Enum):
    RED = "red"


@dataclass(frozen=True)
class Report:
    when: datetime
    color: Color
    inner: tuple[int | None, ...]
    named: dict[str, bool]


def test_json() -> None:
    report = Report(datetime(2026, 1, 31, 12, tzinfo=timezone.utc), Color.RED, (1, None), {"ok": True})
    assert to_json([report]) == [
        {"when": "2026-01-31T12:00:00Z", "color": "red", "inner": [1, None], "named": {"ok": True}}
    ]


def test_the_width_of_what_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a line stays a line for grep; COLUMNS says otherwise."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output().width > 1000
    monkeypatch.setenv("COLUMNS", "40")
    assert output().width == 40


def test_no_progress_bar_where_nobody_sees_it(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as bar:
        bar.update(bar.add_task("listing"), completed=1, total=2)
    assert capsys.readouterr() == ("", "")
