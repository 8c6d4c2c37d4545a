"""Daemon threads for calls that block and cannot be interrupted: a caller waits for one no longer than it wants to."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError  # another class than TimeoutError before Python 3.11
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from ._blob_client import ClientClosedError, is_of_shutdown

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class DaemonThreads:
    """Runs calls side by side, in threads that are made on demand and end with `close`.

    There are as many threads as calls under way: one that hangs keeps its thread, and stops no other. Safe for any
    number of threads; a forked child needs a new object.

    Args:
        name: of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._idle = 0
        self._calls: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        self._aborts: set[Callable[[], None]] = set()

    def run(self, call: Callable[[], _T], seconds: float) -> _T:
        """Return what `call` returns, or raise what it raises.

        Raises:
            TimeoutError: it takes longer than `seconds`. It goes on, and its result is dropped.
            ClientClosedError: this was closed, before or meanwhile.
        """
        result: Future[_T] = Future()

        def work() -> Callable[[], None]:
            try:
                outcome = call()
            except BaseException as error:
                return partial(result.set_exception, error)
            return partial(result.set_result, outcome)

        def abort() -> None:
            with suppress(InvalidStateError):  # it has just ended
                result.set_exception(ClientClosedError())

        self._begin(work, abort)
        try:
            return result.result(seconds)
        except FutureTimeoutError:
            raise TimeoutError from None
        finally:
            with self._lock:
                self._aborts.discard(abort)

    def close(self) -> None:
        """End idle threads now, and the others after their calls. The callers that wait for those are told at once."""
        with self._lock:
            self._closed = True
            aborts, self._aborts = self._aborts, set()
            for _ in range(self._idle):
                self._calls.put(None)
            self._idle = 0
        for abort in aborts:
            abort()

    def _begin(self, work: Callable[[], Callable[[], None]], abort: Callable[[], None]) -> None:
        with self._lock:
            if self._closed:
                raise ClientClosedError
            if self._idle:
                self._idle -= 1
            else:
                try:
                    threading.Thread(target=self._serve, name=self._name, daemon=True).start()
                except RuntimeError as error:  # Python 3.12 and later
                    if is_of_shutdown(error):
                        raise ClientClosedError from None
                    raise
            self._aborts.add(abort)
            self._calls.put(work)

    def _serve(self) -> None:
        while (work := self._calls.get()) is not None:
            tell = work()
            with self._lock:  # before the caller goes on, whose next call then finds this thread idle
                closed = self._closed
                self._idle += not closed
            with suppress(InvalidStateError):  # the caller has gone
                tell()
            if closed:
                return
            del work, tell  # they hold a payload, and the next call may be long in coming
