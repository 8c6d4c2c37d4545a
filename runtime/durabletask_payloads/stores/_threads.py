"""Daemon threads for calls that block and cannot be interrupted: a caller waits for one no longer than it wants to."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError  # another class than TimeoutError before Python 3.11
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ._blob_client import ClientClosedError, RequestFailedError, no_thread

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

# How many calls may go on without a caller: each keeps a thread, and a payload, for as long as it hangs.
_MOST_GIVEN_UP: Final = 64


class DaemonThreads:
    """Runs calls side by side, in threads that are made on demand and end with `close`.

    There are as many threads as calls under way: one that hangs keeps its thread, and stops no other until there are
    64 of those. Safe for any number of threads; a forked child needs a new object.

    Args:
        name: of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._idle = 0
        # The results are of any type: that of what their calls return.
        self._tasks: SimpleQueue[tuple[Callable[[], object], Future[Any]] | None] = SimpleQueue()
        self._awaited: set[Future[Any]] = set()
        self._running: set[Future[Any]] = set()
        self._given_up: set[Future[Any]] = set()

    def run(self, call: Callable[[], _T], seconds: float) -> _T:
        """Return what `call` returns, or raise what it raises.

        Raises:
            TimeoutError: it takes longer than `seconds`. It goes on, and its result is dropped.
            ClientClosedError: this was closed, before or meanwhile.
            RequestFailedError: too many calls hang, or there are too many threads.
        """
        result: Future[_T] = Future()
        try:
            self._begin(call, result)
            return result.result(seconds)
        except FutureTimeoutError:
            raise TimeoutError from None
        finally:
            with self._lock:
                self._awaited.discard(result)
                if result in self._running:
                    self._given_up.add(result)
            del result  # or an error, this frame and the result would hold each other, and a payload and a connection

    def close(self) -> None:
        """End idle threads now, and the others after their calls. The callers that wait for those are told at once."""
        with self._lock:
            self._closed = True
            awaited, self._awaited = self._awaited, set()
            for _ in range(self._idle):
                self._tasks.put(None)
            self._idle = 0
        for result in awaited:
            with suppress(InvalidStateError):  # it has just ended
                result.set_exception(ClientClosedError())

    def _begin(self, call: Callable[[], _T], result: Future[_T]) -> None:
        with self._lock:
            if self._closed:
                raise ClientClosedError
            if len(self._given_up) >= _MOST_GIVEN_UP:
                raise RequestFailedError(trouble=f"has {_MOST_GIVEN_UP} earlier requests that still hang")
            if self._idle:
                self._idle -= 1
            else:
                try:
                    threading.Thread(target=self._serve, name=self._name, daemon=True).start()
                except RuntimeError as error:
                    raise no_thread(error) from error
            self._awaited.add(result)
            self._running.add(result)
            self._tasks.put((call, result))

    def _serve(self) -> None:
        while (task := self._tasks.get()) is not None:
            call, result = task
            outcome, error = _outcome(call)
            with self._lock:  # before the caller goes on, whose next call then finds this thread idle
                self._running.discard(result)
                self._given_up.discard(result)
                closed = self._closed
                self._idle += not closed
            with suppress(InvalidStateError):  # the caller has gone
                if error is None:
                    result.set_result(outcome)
                else:
                    result.set_exception(error)
            # They hold a payload, and the next call may be long in coming. An error and its result hold each other.
            del task, call, result, outcome, error
            if closed:
                return


def _outcome(call: Callable[[], object]) -> tuple[object, BaseException | None]:
    """Return what `call` returns, or what it raises. The frame of this is in an error: it must not hold its result."""
    try:
        return call(), None
    except BaseException as error:
        return None, error
