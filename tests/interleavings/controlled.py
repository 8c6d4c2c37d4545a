"""Puts the primitives of runs in the place of the real ones, in the modules under test."""

from __future__ import annotations

import asyncio
import asyncio.base_events
import concurrent.futures._base
import concurrent.futures.thread
import contextlib
import gc
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from tests.interleavings import event_loop
from tests.interleavings.primitives import REPLACEMENTS, Lock
from tests.interleavings.scheduler import running

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator
    from types import ModuleType

_T = TypeVar("_T")


class _Asyncio:
    """The module `asyncio`, for the package: `run` runs a seeded loop."""

    @staticmethod
    def run(main: Coroutine[Any, Any, _T]) -> _T:
        scheduler = running()
        assert scheduler is not None, "loops run in runs"
        return event_loop.run(scheduler, lambda: main)

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)


def _modules() -> list[ModuleType]:
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "durabletask_payloads"]
    # The pools and futures are the real ones, on primitives of ours.
    return [*ours, concurrent.futures._base, concurrent.futures.thread, asyncio.base_events]


@contextlib.contextmanager
def controlled() -> Generator[None]:
    """Replace them, in every loaded module of the package and in the futures and pools of the standard library."""
    gc.collect()  # stores of other tests, whose ends would be in the runs
    replacements = {id(real): ours for real, ours in REPLACEMENTS}
    replacements[id(asyncio)] = _Asyncio()
    before: list[tuple[ModuleType, str, object]] = []
    try:
        for module in _modules():
            for name, value in list(vars(module).items()):
                if id(value) in replacements:
                    before.append((module, name, value))
                    setattr(module, name, replacements[id(value)])
        pools = concurrent.futures.thread
        before.append((pools, "_global_shutdown_lock", vars(pools)["_global_shutdown_lock"]))
        setattr(pools, "_global_shutdown_lock", Lock())  # noqa: B010  # no public name
        setattr(concurrent.futures._base, "id", hash)  # noqa: B010  # by which `wait` sorts futures
        yield
    finally:
        if "id" in vars(concurrent.futures._base):
            delattr(concurrent.futures._base, "id")
        for module, name, value in before:
            setattr(module, name, value)
