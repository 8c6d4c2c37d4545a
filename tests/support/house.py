"""Reads the source of packages, without importing it: modules, imports and names. For tests/test_house.py."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class Room(NamedTuple):
    """A room of a package: modules by path, or whole folders with a slash at the end."""

    name: str
    modules: tuple[str, ...]


class House(NamedTuple):
    """A package.

    Attributes:
        folder, package: the folder at the top level, and the package in it.
        rooms: from the top.
        outside: another package -> the only modules that may import it at run time, as patterns.
    """

    folder: str
    package: str
    rooms: tuple[Room, ...]
    outside: Mapping[str, tuple[str, ...]]


class Import(NamedTuple):
    """One imported module.

    Attributes:
        module: its dotted name; of `from package import module` the module, of `from package import name` the package.
        name: the name that is imported from the module, or None for the module itself.
        bound: the name that the import binds.
        at_run_time: false below `if TYPE_CHECKING`.
    """

    module: str
    name: str | None
    bound: str
    line: int
    at_run_time: bool


@dataclass(frozen=True)
class Module:
    """A module of a package.

    Attributes:
        name: dotted; a package has the name of its folder.
        file: relative to the root of the sources.
    """

    name: str
    file: str
    text: str
    is_package: bool

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.file)

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split("."))

    @property
    def functions(self) -> Iterator[Function]:
        """All functions and methods, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    @property
    def statements(self) -> Iterator[tuple[ast.stmt, bool]]:
        """The statements outside of functions and classes; false beside one: only a type checker reads it."""
        return _statements(self.tree, at_run_time=True)

    @cached_property
    def definitions(self) -> dict[str, ast.stmt]:
        """The names that the module itself defines at run time."""
        found: dict[str, ast.stmt] = {}
        for statement, at_run_time in self.statements:
            if not at_run_time:
                continue
            if isinstance(statement, ast.ClassDef | Function):
                found[statement.name] = statement
            elif isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                names = (node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))
                found.update((name.id, statement) for name in names)
        return found

    @property
    def exported(self) -> list[str] | None:
        """`__all__`, or None where there is none. Raises ValueError where it is not written out."""
        statement = self.definitions.get("__all__")
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            return None
        names: list[str] = list(ast.literal_eval(statement.value))
        return names


class Sources:
    """The modules of some packages.

    Attributes:
        modules: by name.
    """

    def __init__(self, root: Path, packages: Mapping[str, str]) -> None:
        """Read `packages`, the folder below `root` that holds each, by name."""
        self.modules: dict[str, Module] = {}
        for package, folder in packages.items():
            above = root / folder
            for path in sorted((above / package).rglob("*.py")):
                parts = path.relative_to(above).with_suffix("").parts
                is_package = parts[-1] == "__init__"
                name = ".".join(parts[:-1] if is_package else parts)
                text = path.read_text(encoding="utf-8")
                self.modules[name] = Module(name, path.relative_to(root).as_posix(), text, is_package)

    def of(self, package: str) -> list[Module]:
        return [module for name, module in self.modules.items() if name.split(".")[0] == package]

    def imports(self, module: Module, *, everywhere: bool = True) -> Iterator[Import]:
        """Yield the imports of a module; without `everywhere` only those outside of functions and classes."""
        for node, at_run_time in _statements(module.tree, at_run_time=True, into_functions=everywhere):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.split(".")[0]
                    yield Import(alias.name, None, bound, node.lineno, at_run_time)
            elif isinstance(node, ast.ImportFrom):
                base = _absolute(module, node)
                for alias in node.names:
                    bound = alias.asname or alias.name
                    submodule = f"{base}.{alias.name}"
                    if submodule in self.modules:
                        yield Import(submodule, None, bound, node.lineno, at_run_time)
                    else:
                        yield Import(base, alias.name, bound, node.lineno, at_run_time)

    def names(self, module: Module) -> set[str]:
        """Return the names that a module binds at run time."""
        imported = {one.bound for one in self.imports(module, everywhere=False) if one.at_run_time}
        return imported | set(module.definitions)

    def definition(self, module: Module, name: str) -> tuple[Module, ast.stmt] | None:
        """Return where and how a name is defined, through imports of ours; None where it comes from elsewhere."""
        if name in module.definitions:
            return module, module.definitions[name]
        for one in self.imports(module, everywhere=False):
            if one.bound == name and one.name is not None and one.module in self.modules:
                return self.definition(self.modules[one.module], one.name)
        return None

    def exists(self, dotted: str) -> bool:
        """Tell whether a dotted name is a module, a name of one, or an attribute of such a name."""
        parts = dotted.split(".")
        for count in range(len(parts), 0, -1):
            module = self.modules.get(".".join(parts[:count]))
            if module is not None:
                return count == len(parts) or parts[count] in self.names(module)
        return False


def cycles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Return one cycle for each group of nodes that reach each other."""
    found: list[list[str]] = []
    reported: set[str] = set()
    for start in sorted(graph):
        if start not in reported and (way := _way_back(graph, start)):
            found.append(way)
            reported.update(way)
    return found


def _way_back(graph: Mapping[str, set[str]], start: str) -> list[str]:
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:  # grows: breadth first
        for target in sorted(graph[way[-1]]):
            if target == start:
                return [*way, start]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return []


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, node.module] if node.module else parts)


def _statements(node: ast.AST, *, at_run_time: bool, into_functions: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child, at_run_time
        if isinstance(child, ast.If) and _is_type_checking(child.test):
            for statements, runs in ((child.body, False), (child.orelse, at_run_time)):
                for statement in statements:
                    yield statement, runs
                    yield from _statements(statement, at_run_time=runs, into_functions=into_functions)
        elif not isinstance(child, ast.expr) and (into_functions or not isinstance(child, ast.ClassDef | Function)):
            yield from _statements(child, at_run_time=at_run_time, into_functions=into_functions)


def _is_type_checking(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"
