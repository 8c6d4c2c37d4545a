"""Calls to an observer that cannot harm the caller, and the span that the work at hand belongs to."""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._base import PayloadObserver, TraceParent

_Event = TypeVar("_Event")
_log = logging.getLogger("durabletask_payloads.observers")

trace_at_hand: ContextVar[TraceParent | None] = ContextVar("durabletask_payloads_trace", default=None)


@contextlib.contextmanager
def within(trace: TraceParent | None) -> Generator[None]:
    """Let the transfers of the block belong to `trace`."""
    token = trace_at_hand.set(trace)
    try:
        yield
    finally:
        trace_at_hand.reset(token)


class SafeObserver:
    """An observer that may raise. Safe for any number of threads."""

    def __init__(self, observer: PayloadObserver) -> None:
        self._observer = observer
        self._logged: set[str] = set()

    def tell(self, find: Callable[[PayloadObserver], Callable[[_Event], None]], event: _Event) -> None:
        """Call the method that `find` returns with `event`. Never raises; the first error of each method is logged.

        The method is looked up here: one that the observer lacks, or fails to return, harms no caller either.
        """
        try:
            find(self._observer)(event)
        except Exception:
            name = type(event).__name__
            if name not in self._logged:
                self._logged.add(name)
                _log.exception("observer raised observer=%s event=%s", type(self._observer).__name__, name)
