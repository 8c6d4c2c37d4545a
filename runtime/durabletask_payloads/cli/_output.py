"""What commands print: tables and lines for people, or the same data as one JSON object.

Texts of users (names, ids, reasons) are never taken for markup, and control characters in them are shown as escapes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from rich.console import Console
from rich.measure import Measurement
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from ._errors import print_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import DataclassInstance
    from rich.console import ConsoleOptions, RenderableType, RenderResult

Cell: TypeAlias = "bool | int | str | datetime | Text | None"
JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
Data: TypeAlias = (
    "bool | int | float | str | Enum | datetime | Mapping[str, Data] | Sequence[Data] | DataclassInstance | None"
)
_R = TypeVar("_R", bound="DataclassInstance")

_NO_END = 10_000  # columns of what is no terminal: there, a line is a line
# The least width of a column that may fold: one of sentences, and one of ids and tokens, which stay whole if they can.
_SENTENCE = 16
_NAME = 32


def output() -> Console:
    """Return the console on standard output. Where that is no terminal, only COLUMNS limits its width."""
    return _console(sys.stdout.isatty(), stderr=False)


def progress() -> Progress:
    """Return a progress bar on standard error, which shows nothing where that is no terminal."""
    console = _console(sys.stderr.isatty(), stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _console(terminal: bool, *, stderr: bool) -> Console:
    width = None if terminal or "COLUMNS" in os.environ else _NO_END
    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def print_result(result: _R, to_text: Callable[[_R], Iterable[RenderableType]], *, as_json: bool) -> None:
    """Print the result of a command, a dataclass: as `to_text` renders it, or as JSON.

    Raises:
        OutputClosedError: nobody reads it any more.
    """
    if as_json:
        print_data(result)
        return
    console = output()
    for part in to_text(result):
        console.print(printable(part) if isinstance(part, str) else part)


def print_data(data: Data) -> None:
    """Print one JSON object. Raises as `print_result`."""
    print_output(json.dumps(to_json(data), indent=2))


def to_json(value: Data) -> JsonValue:
    """Return `value` as JSON has it: dataclasses and mappings are objects, times are in UTC in ISO 8601."""
    match value:
        case Enum():
            plain: bool | int | float | str = value.value
            return plain
        case None | bool() | int() | float() | str():
            return value
        case datetime():
            return value.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
        case Mapping():
            return {name: to_json(one) for name, one in value.items()}
        case Sequence():
            return [to_json(one) for one in value]
        case _:
            return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}


class Column(NamedTuple):
    """A column of a table. Numbers go to the right; what may fold takes several lines where the terminal is narrow."""

    title: str
    right: bool = False
    fold: bool = False


class Rows:
    """A table, or where the terminal is too narrow for one, a few lines for each row."""

    def __init__(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        self._columns = columns
        self._rows = [[shown(cell) for cell in row] for row in rows]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        if widths is not None:
            yield self._table(widths)
            return
        titles = [column.title for column in self._columns]
        for number, row in enumerate(self._rows):
            if number:
                yield ""
            yield Facts(zip(titles, row, strict=True))

    def _widths(self, most: int) -> list[int] | None:
        """Return the width of each column in a table of `most` columns; None if it is too narrow for one."""
        titles = [len(column.title) for column in self._columns]
        name = _NAME if most - max(titles) - 2 >= _NAME else _SENTENCE  # lines for each row would break it, too
        widths: list[int] = []
        least: list[int] = []
        for number, column in enumerate(self._columns):
            cells = [row[number] for row in self._rows]
            widths.append(max([titles[number], *(cell.cell_len for cell in cells)]))
            longest = max([titles[number], *(_Folded(cell).longest for cell in cells)])
            folded = min(longest, _SENTENCE if any(" " in cell.plain for cell in cells) else name)
            least.append(max(titles[number], folded) if column.fold else widths[-1])
        room = most - 2 * (len(widths) - 1)
        if sum(least) > room:
            return None
        # The widest gives way first. rich alone would take from all columns alike, and break a name in each.
        for number in sorted(range(len(widths)), key=widths.__getitem__, reverse=True):
            widths[number] -= min(max(sum(widths) - room, 0), widths[number] - least[number])
        return widths

    def _table(self, widths: Sequence[int]) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold underline")
        for column, width in zip(self._columns, widths, strict=True):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                overflow="fold",
                no_wrap=not column.fold,
                width=width,
            )
        for row in self._rows:
            table.add_row(
                *(_Folded(cell) if column.fold else cell for column, cell in zip(self._columns, row, strict=True))
            )
        return table


class Facts:
    """Names and values, one a line."""

    def __init__(self, facts: Iterable[tuple[str, Cell]]) -> None:
        self._facts = [(name, shown(value)) for name, value in facts]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="bold")
        grid.add_column(overflow="fold")
        for name, value in self._facts:
            grid.add_row(name, _Folded(value))
        yield grid


_WORD = re.compile(r"\S*\s+|\S+")
_PART = re.compile(r"[^./:@-]*[./:@-]+|[^./:@-]+")


class _Folded:
    """A text that breaks at its spaces; tokens, paths and ids, which have none, behind a sign."""

    def __init__(self, text: Text) -> None:
        self._text = text
        pieces = _WORD if " " in text.plain else _PART
        self._pieces = [match.span() for match in pieces.finditer(text.plain)]
        self.longest = max((text[start:end].cell_len for start, end in self._pieces), default=0)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(self.longest, options.max_width), min(self._text.cell_len, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = [(0, 0)]
        for start, end in self._pieces:
            first, last = lines[-1]
            if last > first and self._text[first:end].cell_len > options.max_width:
                lines.append((start, end))
            else:
                lines[-1] = (first, end)
        for first, last in lines:
            line = self._text[first:last]
            line.rstrip()
            line.overflow = "fold"
            yield line


def shown(cell: Cell) -> Text:
    """Return a cell as text: numbers with commas, times in UTC."""
    match cell:
        case Text():
            return cell
        case None:
            return Text("")
        case bool():
            return Text("yes" if cell else "no")
        case int():
            return Text(f"{cell:,}")
        case datetime():
            return Text(f"{cell.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S} UTC")
        case str():
            return Text(printable(cell))


def size(number: int) -> str:
    """Return a number of bytes as people read it, with its unit."""
    value, unit = float(number), "bytes"
    for larger in ("KB", "MB", "GB", "TB", "PB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{number:,} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"


def printable(text: str) -> str:
    """Return `text` with what a terminal would obey, or not show, as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
