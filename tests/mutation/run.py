"""Runs the mutants of a target: each in a forked process, against the tests that run the changed line, until one fails.

Two ways. A change inside of a function: the tests are collected once, and each fork puts the changed code into the
function. A change to what runs at import: each fork imports the package anew, with the changed module, so this process
never imports it. What else the tests import is imported here, once.
"""

from __future__ import annotations

import gc
import os
import pickle
import re
import sys
import tempfile
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from tests.mutation.forks import Job, in_fork, run_forked
from tests.mutation.targets import ROOT
from tests.mutation.traced import Traced

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from tests.mutation.mutants import Key, Mutant
    from tests.mutation.targets import Target

_PRELOADED: Final = (
    "azure.storage.blob.aio",
    "cachetools",
    "durabletask.client",
    "durabletask.testing",
    "durabletask.worker",
    "google.protobuf.unknown_fields",
    "grpc.aio",
)
_SURVIVED, _KILLED = 0, 1
# Constants of these types can be put into a module that is imported already: no `is` depends on them.
_PLAIN: Final = (int, float, str, bytes, tuple, re.Pattern)
# How long a mutant may take: all of its tests many times over, since the machine may be busy.
_LEAST_SECONDS: Final = 20.0
_TIMES: Final = 10.0


class Verdict(NamedTuple):
    """What became of a mutant.

    Attributes:
        tests: how many run the changed line.
        timed_out: whether it was killed by its time limit.
    """

    key: Key
    survived: bool
    tests: int
    timed_out: bool


class _Outcome(NamedTuple):
    """What was found in the process that collected the tests.

    Attributes:
        left: the numbers of the mutants that need a new import.
    """

    verdicts: list[Verdict]
    left: list[int]
    traced: Traced


class NotGreenError(Exception):
    """The tests fail without a mutant."""


def run(target: Target, processes: int, log: Path, only: Container[Key] | None = None) -> list[Verdict]:
    """Run the mutants of a target and return what became of them.

    Args:
        processes: how many at a time.
        only: run those alone.
        log: gets what the tests print.

    Raises:
        NotGreenError: the tests fail without a mutant.
    """
    mutants = [mutant for mutant in target.mutants() if only is None or mutant.key in only]
    for name in _PRELOADED:
        import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "outcome"
        forking = _Forking(Traced(target.modules), mutants, processes, file, log)
        if in_fork(forking.collect(target), log) != 0:
            raise NotGreenError(f"the tests of {', '.join(target.modules)} fail without a mutant: see {log}")
        outcome: _Outcome = pickle.loads(file.read_bytes())

        def test(number: int, tests: Sequence[str]) -> int:
            sys.meta_path.insert(0, _Finder(mutants[number]))
            return _pytest(target, _Chosen(tests))

        left = {number: mutants[number] for number in outcome.left}
        control = _Chosen(sorted(outcome.traced.seconds))
        if left and in_fork(lambda: _pytest(target, control), log) != 0:
            raise NotGreenError(f"the tests of {', '.join(target.modules)} fail after a new import: see {log}")
        return [*outcome.verdicts, *_verdicts(left, test, outcome.traced, processes, log)]


def _verdicts(
    mutants: Mapping[int, Mutant],
    test: Callable[[int, Sequence[str]], int],
    traced: Traced,
    processes: int,
    log: Path,
) -> Iterator[Verdict]:
    """Run `mutants`, of which `test` runs one in a fork."""

    def job(number: int, tests: Sequence[str]) -> Job:
        seconds = _LEAST_SECONDS + _TIMES * sum(traced.seconds[name] for name in tests)
        return Job(number, lambda: test(number, tests), seconds)

    tests = {number: traced.tests_of(mutant) for number, mutant in mutants.items()}
    for number, names in tests.items():
        if not names:
            yield Verdict(mutants[number].key, survived=True, tests=0, timed_out=False)
    for ended in run_forked((job(number, names) for number, names in tests.items() if names), processes, log):
        key = mutants[ended.name].key
        yield Verdict(key, ended.code == _SURVIVED, len(tests[ended.name]), timed_out=ended.code is None)


def _pytest(target: Target, plugin: _Plugin) -> int:
    """Run pytest in this process, which is a fork of its own, and return its exit code."""
    options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:randomly"]  # -s: forks would share what it captures to
    chosen = [f"-k={target.chosen}"] if target.chosen else []
    return int(pytest.main([f"--rootdir={ROOT}", *options, *chosen, *target.tests], plugins=[plugin]))


class _Plugin:
    """Runs tests as pytest does, until one fails."""

    def run(self, items: Sequence[pytest.Item], ended: Callable[[pytest.Item], None] = lambda item: None) -> int:
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            ended(item)
            if item.session.testsfailed:
                return _KILLED
        return _SURVIVED


# ---- collected once -----------------------------------------------------------------------------------------------


class _Forking(_Plugin):
    """Runs the mutants in forks of the process that has collected the tests."""

    def __init__(self, traced: Traced, mutants: Sequence[Mutant], processes: int, file: Path, log: Path) -> None:
        self._traced = traced
        self._mutants = mutants
        self._processes = processes
        self._file = file
        self._log = log

    def collect(self, target: Target) -> Callable[[], int]:
        """Return what collects the tests of a target, and then runs the mutants."""

        def collect() -> int:
            self._traced.start()
            return _pytest(target, self)

        return collect

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._traced = self._trace(session)
        items = {item.nodeid: item for item in session.items}
        functions = _functions()
        changes: dict[int, list[tuple[FunctionType, CodeType]]] = {}
        for number, mutant in enumerate(self._mutants):
            if not self._traced.runs_at_import(mutant):
                changes[number] = list(_changes(mutant, functions))

        def test(number: int, tests: Sequence[str]) -> int:
            for function, code in changes.get(number, ()):
                function.__code__ = code
            if self._mutants[number].constant:
                _set_constants(self._mutants[number])
            return self.run([items[name] for name in tests])

        here = {
            number: mutant
            for number, mutant in enumerate(self._mutants)
            if changes.get(number) or mutant.constant.startswith("_")
        }
        verdicts = list(_verdicts(here, test, self._traced, self._processes, self._log))
        left = [number for number in range(len(self._mutants)) if number not in here]
        self._file.write_bytes(pickle.dumps(_Outcome(verdicts, left, self._traced)))
        return True

    def _trace(self, session: pytest.Session) -> Traced:
        """Learn, in a fork, which test runs which lines."""

        def trace() -> int:
            code = self.run(session.items, lambda item: self._traced.test_ended(item.nodeid))
            self._file.write_bytes(pickle.dumps(self._traced))
            return code

        self._traced.import_ended()
        if in_fork(trace, self._log) != _SURVIVED:
            raise NotGreenError
        self._traced.stop()
        traced: Traced = pickle.loads(self._file.read_bytes())
        return traced


_Functions = dict[tuple[str, int, str], list[FunctionType]]


def _functions() -> _Functions:
    """Return all functions there are, by file, first line and name."""
    found: _Functions = {}
    for function in [thing for thing in gc.get_objects() if isinstance(thing, FunctionType)]:
        found.setdefault(_place(function.__code__), []).append(function)
    return found


def _changes(mutant: Mutant, functions: _Functions) -> Iterator[tuple[FunctionType, CodeType]]:
    """Yield the functions that the mutant changes, and their code. None where it takes a new import."""
    changes = [
        (function, code)
        for code in _codes_in(mutant.code())
        for function in functions.get(_place(code), ())
        if function.__code__ != code
    ]
    if all(function.__code__.co_freevars == code.co_freevars for function, code in changes):
        yield from changes


def _set_constants(mutant: Mutant) -> None:
    """Run the changed module beside the one that is imported, and take over its private constants."""
    (module,) = (one for one in list(sys.modules.values()) if getattr(one, "__file__", None) == str(mutant.path))
    changed = ModuleType(module.__name__)
    changed.__package__ = module.__package__
    sys.modules[module.__name__] = changed  # where dataclasses look for it
    try:
        exec(mutant.code(), vars(changed))
    finally:
        sys.modules[module.__name__] = module
    for name, value in vars(changed).items():
        if name.startswith("_") and not name.startswith("__") and isinstance(value, _PLAIN):
            setattr(module, name, value)


def _place(code: CodeType) -> tuple[str, int, str]:
    return code.co_filename, code.co_firstlineno, code.co_name


def _codes_in(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes_in(constant)


# ---- imported anew ------------------------------------------------------------------------------------------------


class _Chosen(_Plugin):
    """Runs chosen tests, in their order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._tests = tests

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        os._exit(self.run([items[name] for name in self._tests]))


class _Loader(SourceFileLoader):
    """Loads the changed code of a module."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(ROOT / mutant.key.module))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        return self._mutant.code()


class _Finder:
    """Finds the module that is changed, before all others do."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        module = ROOT / self._mutant.key.module
        if not fullname.endswith(f".{module.stem}"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin == str(module):
            spec.loader = _Loader(fullname, self._mutant)
            return spec
        return None
