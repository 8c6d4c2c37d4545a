"""What is mutated, and how."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from tests.mutation.mutants import mutants_of

if TYPE_CHECKING:
    from pathlib import Path


def mutations(tmp_path: Path, text: str, *, texts: bool = False) -> list[str]:
    path = tmp_path / "module.py"
    path.write_text(dedent(text))
    found = mutants_of(path, "module.py", texts=texts)
    for mutant in found:
        mutant.code()
    # What compiles leaves the tree as it was: all come out the same a second time.
    assert [mutant.key for mutant in found] == [mutant.key for mutant in mutants_of(path, "module.py", texts=texts)]
    return [mutant.key.mutation for mutant in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x = a < b", ["a < b -> a <= b"]),
        ("x = a >= b", ["a >= b -> a > b"]),
        ("x = a == b is c", ["a == b is c -> a != b is c", "a == b is c -> a == b is not c"]),
        ("x = a and b", ["a and b -> a or b", "a and b -> b", "a and b -> a"]),
        ("x = not a", ["not a -> a"]),
        ("x = f(1)", ["f(1) -> f(2)", "f(1) -> f(0)"]),
        ("x = f(True)", ["f(True) -> f(False)"]),
        ("x = a // b", ["a // b -> a * b"]),
        ("x = f(a, b)", ["f(a, b) -> f(b, a)"]),
        ("x = max(a, b)", ["max(a, b) -> min(a, b)"]),
        ("x = a if b else c", ["not (b)"]),
        ("x = [a for a in b if a]", ["not (a)"]),
        ("f(a)", ["removed"]),
        ("x.y = a", ["removed"]),
        ("x += a", ["removed"]),
        ("raise a", ["removed"]),
        ("return", ["removed"]),
        ("return a", ["return None"]),
        ("return None", []),
        ("if a: x = b", ["not (a)"]),
        ("for a in b: break", ["removed"]),
        ("_log.warning('text', 1)", []),
        ("x = f'{a + 1}'", []),
        ("x: Literal[1] = a", []),
        ("x = isinstance(a, b)", []),
    ],
)
def test_the_mutations_of_a_line(line: str, expected: list[str], tmp_path: Path) -> None:
    assert mutations(tmp_path, f"def f():\n    {line}\n") == expected


def test_handlers_and_cases(tmp_path: Path) -> None:
    text = """
        def f():
            try:
                x = a
            except ValueError:
                x = b
            except KeyError:
                raise
            match x:
                case "a":
                    x = c
                case _:
                    x = d
    """
    assert mutations(tmp_path, text) == ["raised again", "removed", "case removed"]


def test_texts_lose_each_character(tmp_path: Path) -> None:
    text = """
        X = rf"[a-{Y}]"
        def f():
            return g("text")
    """
    assert mutations(tmp_path, text) == ["return None"]
    assert [change.rpartition(" ")[2] for change in mutations(tmp_path, text, texts=True)] == [
        "'['",
        "'a'",
        "'-'",
        "']'",
        "None",
    ]


def test_where_a_mutant_is(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        dedent(
            """
            _ONE = 1
            class A:
                def f(self):
                    return (
                        g() +
                        _ONE
                    )
            """
        )
    )
    constant, _, returned, added = mutants_of(path, "module.py")
    assert (constant.key.function, constant.constant, constant.readers) == ("", "_ONE", frozenset({7}))
    assert (returned.key.function, returned.key.line, returned.lines) == ("A.f", "return (", range(5, 9))
    assert added.key.line == "g() +"
    namespace: dict[str, object] = {}
    exec(constant.code(), namespace)
    assert namespace["_ONE"] == 2
