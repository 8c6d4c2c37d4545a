"""Which lines of some modules run at import, and which tests run which of the rest."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

from tests.mutation.targets import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from _typeshed import TraceFunction
    from tests.mutation.mutants import Mutant


class Traced:
    """Traces, from `start` to `stop`, this thread and those that it starts.

    Attributes:
        seconds: how long each test took, by its id.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.seconds: dict[str, float] = {}
        self._names = {str(ROOT / module): module for module in modules}
        self._now: dict[str, set[int]] = {module: set() for module in modules}
        self._at_import = self._now
        self._by_test: dict[str, dict[str, set[int]]] = {}
        self._began = 0.0

    def start(self) -> None:
        threading.settrace(self._called)
        sys.settrace(self._called)

    def stop(self) -> None:
        sys.settrace(None)
        threading.settrace(lambda frame, event, argument: None)

    def import_ended(self) -> None:
        """What has run so far ran at import."""
        self._at_import = self._taken()
        self._began = time.monotonic()

    def test_ended(self, test: str) -> None:
        """What has run since the last call was run by `test`."""
        self._by_test[test] = self._taken()
        now = time.monotonic()
        self.seconds[test] = now - self._began
        self._began = now

    def runs_at_import(self, mutant: Mutant) -> bool:
        """Return whether the changed line runs at import."""
        return not self._at_import[mutant.key.module].isdisjoint(mutant.lines)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the changed line, or read the constant on it, the fastest first."""
        module, lines = mutant.key.module, mutant.readers or mutant.lines
        every = self.runs_at_import(mutant) and not mutant.readers
        tests = [test for test, ran in self._by_test.items() if every or not ran[module].isdisjoint(lines)]
        return sorted(tests, key=self.seconds.__getitem__)

    def _taken(self) -> dict[str, set[int]]:
        taken, self._now = self._now, {module: set() for module in self._now}
        return taken

    def _called(self, frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        return self._ran if frame.f_code.co_filename in self._names else None

    def _ran(self, frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        self._now[self._names[frame.f_code.co_filename]].add(frame.f_lineno)
        return self._ran
