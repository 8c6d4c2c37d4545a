"""Runs transfers in threads: side by side, at most so many at a time, and for event loops too."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import BoundedSemaphore, Lock, Thread
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Transfers:
    """The threads of an Externalizer, made on first need.

    All work is blocking code. Async callers await a thread, so that nothing is ever held by an event loop: no slot,
    no download that others wait for. Safe for any number of threads and event loops.

    Args:
        concurrency: how many slots and threads there are.

    Attributes:
        slots: hold one (`with`) while talking to the store. A caller must not wait for another transfer meanwhile.
    """

    def __init__(self, concurrency: int) -> None:
        self.slots = BoundedSemaphore(concurrency)
        self._concurrency = concurrency
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._undoing: set[Thread] = set()
        self._closed = False

    def each(
        self,
        transfer: Callable[[_Item], _Result],
        items: Sequence[_Item],
        *,
        undo: Callable[[Iterable[_Result]], None] | None = None,
    ) -> list[_Result]:
        """Call `transfer` for all `items` side by side and return the results in order.

        The calling thread takes part, so a single item needs no other thread, and a thread of the pool may call this.
        When one transfer fails, those under way are waited for, `undo` gets the results there are, and the error is
        raised.

        Raises:
            RuntimeError: there are several items, and this was closed.
        """
        if len(items) <= 1:
            return [transfer(item) for item in items]
        pool = self._threads()
        results: list[_Result] = []
        shares: list[Future[_Result]] = []
        try:
            shares.extend(pool.submit(transfer, item) for item in items[1:])
            results.append(transfer(items[0]))
            for item, share in zip(items[1:], shares, strict=True):
                _raise_first_error(shares)
                # One that no thread has begun is done here: a thread of the pool must not wait for a free one.
                results.append(transfer(item) if share.cancel() else share.result())
            return results
        except BaseException:
            running = [share for share in shares if not share.cancel()]
            wait(running)
            if undo is not None:
                # Of those that are in `results` already, and those of other threads that are not.
                others = shares[max(len(results) - 1, 0) :]
                undo([*results, *(s.result() for s in others if not s.cancelled() and s.exception() is None)])
            raise

    async def in_thread(self, work: Callable[[], _Result], *, undo: Callable[[_Result], None] | None = None) -> _Result:
        """Call `work` in a thread of the pool and await its result.

        When the caller is cancelled, `work` that has not begun is dropped. Otherwise it runs to its end in the
        background, and `undo` gets its result there.

        Raises:
            RuntimeError: this was closed.
        """
        future = self._threads().submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if undo is not None and not future.cancelled():
                self._undo_in_background(future, undo)
            raise

    def close(self, *, wait: bool = True) -> None:
        """End the threads after what they are doing now. A second call does nothing.

        Args:
            wait: return only when they have ended.
        """
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
            undoing = tuple(self._undoing)
        if pool is not None:
            pool.shutdown(wait=wait)
        if wait:
            for thread in undoing:
                thread.join()

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise RuntimeError("this Externalizer is closed: it cannot transfer several payloads any more")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="durabletask-payloads")
            return self._pool

    def _undo_in_background(self, future: Future[_Result], undo: Callable[[_Result], None]) -> None:
        def finish() -> None:
            if future.exception() is None:
                undo(future.result())
            with self._lock:
                self._undoing.discard(thread)

        thread = Thread(target=finish, name="durabletask-payloads-undo")
        with self._lock:
            self._undoing.add(thread)
        thread.start()


def _raise_first_error(shares: Iterable[Future[_Result]]) -> None:
    for share in shares:
        if share.done() and not share.cancelled():
            share.result()
