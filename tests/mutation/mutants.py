"""Mutants of a module: small changes to its syntax tree, each of which a test should notice.

What is mutated: comparisons, `and` and `or`, `not`, conditions, numbers, operators, the order of arguments, returned
values, statements, handlers of exceptions, cases; where asked for, the text of constants too. What is not: types, log
lines, the text of messages, decorators, and `with`, since a removed lock shows only in the tests of interleavings.
"""

from __future__ import annotations

import ast
import copy
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import CodeType

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_UNTOUCHED = {"annotation", "returns", "decorator_list", "type_comment"}
_LONGEST = 100


_Node = TypeVar("_Node", bound=ast.AST)


class Place(NamedTuple):
    """A node that can be replaced: `field` of `parent`, at `position` if that is a list."""

    parent: ast.AST
    field: str
    position: int | None


class Key(NamedTuple):
    """What a mutant is known by, from one run to the next.

    Attributes:
        module: the path of the module, from the root of the repository.
        function: its dotted name in the module, empty outside of functions and classes.
        line: the text of the line that is changed.
        mutation: the part before and after.
    """

    module: str
    function: str
    line: str
    mutation: str


class Mutant(NamedTuple):
    """One change to a module.

    Attributes:
        lines: those that run when the changed code does, or is about to.
        constant: the name of the constant of the module that is changed, empty if none is.
        readers: the lines that read the name of what is changed, where that tells more than `lines`: of a constant
            that only functions of the module read, and of a function that remembers its results.
    """

    key: Key
    path: Path
    tree: ast.Module
    place: Place
    replacement: ast.AST
    lines: range
    constant: str
    readers: frozenset[int]

    def code(self) -> CodeType:
        """The module with the change, compiled."""
        original = _put(self.place, self.replacement)
        try:
            return compile(ast.fix_missing_locations(self.tree), str(self.path), "exec", dont_inherit=True)
        finally:
            _put(self.place, original)


def mutants_of(path: Path, module: str, *, texts: bool = False) -> list[Mutant]:
    """Return the mutants of a module.

    Args:
        path: its file.
        module: its path in the repository.
        texts: mutate the text of its constants too, a character at a time.
    """
    return _Mutations(path, module, texts=texts).mutants


class _Mutations:
    """Walks a tree and collects its mutants."""

    def __init__(self, path: Path, module: str, *, texts: bool) -> None:
        text = path.read_text(encoding="utf-8")
        self.mutants: list[Mutant] = []
        self._path = path
        self._tree = ast.parse(text)
        self._lines = text.splitlines()
        self._readers = _readers(self._tree)
        self._module = module
        self._texts = texts
        self._function: tuple[str, ...] = ()
        self._statement: ast.stmt | None = None
        self._remembered = ""
        self._visit_children(self._tree)

    def _visit_children(self, node: ast.AST) -> None:
        for field, value in ast.iter_fields(node):
            if field in _UNTOUCHED:
                continue
            if isinstance(value, list):
                for index, child in enumerate(cast("list[object]", value)):
                    if isinstance(child, ast.AST):
                        self._visit(child, Place(node, field, index))
            elif isinstance(value, ast.AST):
                self._visit(value, Place(node, field, None))

    def _visit(self, node: ast.AST, place: Place) -> None:
        before = self._function, self._statement, self._remembered
        if isinstance(node, ast.stmt):
            self._statement = node
        for replacement, mutation in _replacements(node, place):
            self._add(node, place, replacement, mutation)
        if isinstance(node, ast.Constant) and self._texts and not self._function:
            for replacement, mutation in _shorter(node):
                self._add(node, place, replacement, mutation)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._function = (*self._function, node.name)
            if any("cache" in ast.unparse(decorator) for decorator in node.decorator_list):
                self._remembered = node.name
        if not _is_left_out(node) or (self._texts and isinstance(node, ast.JoinedStr) and not self._function):
            self._visit_children(node)
        self._function, self._statement, self._remembered = before

    def _add(self, node: ast.AST, place: Place, replacement: ast.AST, mutation: str) -> None:
        at = node.pattern if isinstance(node, ast.match_case) else node
        number: int = getattr(at, "lineno", 0) or _first_line(place.parent)
        if isinstance(at, ast.expr | ast.stmt) and isinstance(replacement, ast.expr | ast.stmt):
            ast.copy_location(replacement, at)
        key = Key(self._module, ".".join(self._function), self._lines[number - 1].strip(), mutation)
        lines = range(number, number + 1) if self._statement is None else _head(self._statement, number)
        constant = self._constant()
        readers = self._readers.get(constant or self._remembered, frozenset())
        self.mutants.append(Mutant(key, self._path, self._tree, place, replacement, lines, constant, readers))

    def _constant(self) -> str:
        match self._statement:
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                return "" if self._function else name
            case _:
                return ""


def _replacements(node: ast.AST, place: Place) -> Iterator[tuple[ast.AST, str]]:
    """Yield what to put in the place of `node`, and how that is called."""
    if isinstance(node, ast.expr):
        for expression in _expressions(node):
            yield expression, _described(node, expression, place)
        if _is_condition(place) and _can_be_negated(node):
            yield ast.UnaryOp(ast.Not(), node), _short(f"not ({ast.unparse(node)})")
    elif isinstance(node, ast.stmt):
        yield from _statements(node)
    elif isinstance(node, ast.ExceptHandler) and not isinstance(node.body[-1], ast.Raise):
        yield _copy(node, body=[ast.Raise()]), "raised again"
    elif isinstance(node, ast.match_case) and not (isinstance(node.pattern, ast.MatchAs) and node.guard is None):
        yield _copy(node, guard=ast.Constant(value=False)), "case removed"


def _statements(node: ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    match node:
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Expr(value=call) if _is_log(call):
            return
        case ast.Assign(targets=[ast.Name() | ast.Tuple()]):  # nothing runs without
            return
        case ast.Return(value=None) | ast.Expr() | ast.Raise() | ast.Continue() | ast.Break() | ast.Delete():
            yield ast.Pass(), "removed"
        case ast.Assign() | ast.AugAssign():
            yield ast.Pass(), "removed"
        case ast.Return(value=value) if not isinstance(value, ast.Constant):
            yield ast.Return(ast.Constant(value=None)), "return None"
        case _:
            return


def _expressions(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(ops=operators):
            for index, operator in enumerate(operators):
                other = _COMPARED[type(operator)]()
                yield _copy(node, ops=[*operators[:index], other, *operators[index + 1 :]])
        case ast.BoolOp(op=operator, values=values):
            yield _copy(node, op=ast.Or() if isinstance(operator, ast.And) else ast.And())
            for index in range(len(values)):
                rest = [*values[:index], *values[index + 1 :]]
                yield rest[0] if len(rest) == 1 else _copy(node, values=rest)
        case ast.Constant(value=bool() as value):
            yield ast.Constant(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value=value + 1)
            yield ast.Constant(value=value - 1)
        case ast.BinOp(op=operator) if type(operator) in _OPERATORS:
            yield _copy(node, op=_OPERATORS[type(operator)]())
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Call():
            yield from _calls(node)
        case _:
            return


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    if _is_log(node) or (isinstance(node.func, ast.Name) and node.func.id == "isinstance"):
        return
    if isinstance(node.func, ast.Name) and node.func.id in _OPPOSITES:
        yield _copy(node, func=ast.Name(_OPPOSITES[node.func.id], ast.Load()))
        return
    for index in range(len(node.args) - 1):
        first, second = node.args[index : index + 2]
        if not isinstance(first, ast.Starred) and not isinstance(second, ast.Starred):
            yield _copy(node, args=[*node.args[:index], second, first, *node.args[index + 2 :]])


def _shorter(node: ast.Constant) -> Iterator[tuple[ast.AST, str]]:
    """Yield a text without each of its characters in turn."""
    match node.value:
        case str() as text:
            cuts: list[tuple[str | bytes, object]] = [(text[:i] + text[i + 1 :], text[i]) for i in range(len(text))]
        case bytes() as data:
            cuts = [(data[:i] + data[i + 1 :], data[i : i + 1]) for i in range(len(data))]
        case _:
            return
    for index, (shorter, character) in enumerate(cuts):
        yield ast.Constant(value=shorter), f"{_short(repr(node.value))} without character {index}, {character!r}"


# ---- what a place is ----------------------------------------------------------------------------------------------


def _is_left_out(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.JoinedStr() | ast.Raise():
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring
            return True
        case _:
            return _is_log(node)


def _is_log(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"))):
            return True
        case _:
            return False


def _is_condition(place: Place) -> bool:
    if isinstance(place.parent, ast.If | ast.While | ast.IfExp):
        return place.field == "test"
    return isinstance(place.parent, ast.comprehension) and place.field == "ifs"


def _can_be_negated(node: ast.expr) -> bool:
    """Whether no other mutation negates it."""
    match node:
        case ast.Compare(ops=[operator]):
            return isinstance(operator, _ORDERED)
        case ast.UnaryOp(op=ast.Not()) | ast.Constant() | ast.Name(id="TYPE_CHECKING"):
            return False
        case _:
            return True


def _head(statement: ast.stmt, number: int) -> range:
    """Return the lines of a statement, of one with a body those before it, or the one that is changed."""
    last = statement.end_lineno or statement.lineno
    body: list[ast.stmt] | None = getattr(statement, "body", None)
    if body:
        last = max(body[0].lineno - 1, statement.lineno)
    return range(statement.lineno, last + 1) if statement.lineno <= number <= last else range(number, number + 1)


def _readers(tree: ast.Module) -> dict[str, frozenset[int]]:
    """Return the lines of functions that read each name, without names that are read outside of functions too."""
    found: dict[str, set[int]] = {}
    elsewhere: set[str] = set()
    for top in tree.body:
        for node in ast.walk(top):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                if isinstance(top, ast.FunctionDef | ast.ClassDef):
                    found.setdefault(node.id, set()).add(node.lineno)
                else:
                    elsewhere.add(node.id)
    return {name: frozenset(lines) for name, lines in found.items() if name not in elsewhere}


def _first_line(node: ast.AST) -> int:
    return min(child.lineno for child in ast.walk(node) if isinstance(child, ast.expr | ast.stmt))


# ---- trees --------------------------------------------------------------------------------------------------------


def _put(place: Place, node: object) -> object:
    """Put `node` in a place, and return what was there."""
    current: object = getattr(place.parent, place.field)
    if place.position is None:
        setattr(place.parent, place.field, node)
        return current
    nodes = cast("list[object]", current)
    original, nodes[place.position] = nodes[place.position], node
    return original


def _copy(node: _Node, **fields: object) -> _Node:
    """Return a copy of a node with other fields; the rest is shared."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _described(node: ast.expr, replacement: ast.expr, place: Place) -> str:
    """Return the change, with what is around where the node by itself would not tell."""
    if not isinstance(node, ast.Constant) or not isinstance(place.parent, ast.expr | ast.keyword):
        return f"{_short(ast.unparse(node))} -> {_short(ast.unparse(replacement))}"
    before = ast.unparse(place.parent)
    original = _put(place, replacement)
    after = ast.unparse(place.parent)
    _put(place, original)
    return f"{_short(before)} -> {_short(after)}"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
