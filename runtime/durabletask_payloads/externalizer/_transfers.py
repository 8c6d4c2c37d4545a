"""Runs transfers in threads: side by side, at most so many at a time, and for event loops too."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import BoundedSemaphore, Event, Lock, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, TypeVar

from durabletask_payloads._errors import PayloadStoreUnavailableError
from durabletask_payloads._lifecycle import renewed_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Transfers:
    """The threads of an Externalizer, made on first need.

    All work is blocking code. Async callers await a thread, so that nothing is ever held by an event loop: no slot,
    no download that others wait for. Safe for any number of threads and event loops; a forked child starts afresh.
    While the interpreter shuts down, the calling thread does everything by itself.

    Args:
        concurrency: how many slots and threads there are.

    Attributes:
        slots: hold one (`with`) while talking to the store. A caller must not wait for another transfer meanwhile.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._closed = False
        self._renew()
        renewed_after_fork(self, type(self)._renew)

    def _renew(self) -> None:
        self.slots = BoundedSemaphore(self._concurrency)
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._undoing: set[Thread] = set()

    def each(
        self,
        transfer: Callable[[_Item], _Result],
        items: Sequence[_Item],
        *,
        undo: Callable[[Iterable[_Result]], None] | None = None,
    ) -> list[_Result]:
        """Call `transfer` for all `items` side by side and return the results in order.

        The calling thread takes part, so that a single item needs no other thread, and a thread of the pool may call
        this. When one transfer fails, those under way are waited for, `undo` gets the results there are, and the error
        is raised. The main thread, which Ctrl-C interrupts, takes no part in what can be undone: then the transfers
        under way run to their end in the background, and are undone there.

        Raises:
            PayloadStoreUnavailableError: this was closed, or there can be no further thread.
        """
        if not items:
            return []
        self._check_open()
        takes_part = undo is None or current_thread() is not main_thread()
        if len(items) == 1 and takes_part:
            return [transfer(item) for item in items]
        own, rest = (items[:1], items[1:]) if takes_part else ((), items)
        results: list[_Result] = []
        shares: list[Future[_Result]] = []
        failed: list[int] = []  # which of them: after each share no more is looked at than this
        try:
            for number, item in enumerate(rest):
                shares.append(self._submit(partial(transfer, item)))
                shares[-1].add_done_callback(partial(_note_failure, failed, number))
            results.extend(transfer(item) for item in own)
            for number, item in enumerate(rest):
                if failed:
                    shares[failed[0]].result()
                # One that no thread has begun is done here: a thread of the pool must not wait for a free one.
                is_here = takes_part and shares[number].cancel()
                results.append(transfer(item) if is_here else shares[number].result())
            return results
        except BaseException as error:
            del shares[: max(len(results) - len(own), 0)]
            self._finish_others(error, shares, results, undo, takes_part=takes_part)
            raise
        finally:
            shares.clear()  # or an error, this frame and its share would hold each other, and all payloads

    def _finish_others(
        self,
        error: BaseException,
        shares: Iterable[Future[_Result]],
        results: Sequence[_Result],
        undo: Callable[[Iterable[_Result]], None] | None,
        *,
        takes_part: bool,
    ) -> None:
        """Let the `shares` under way end after `error`, and undo them and `results`: here, or in the background."""
        others = [share for share in shares if not share.cancel()]
        finish = partial(_finish, results, others, undo)
        if undo is None or (takes_part and isinstance(error, Exception)):
            finish()
        else:  # nobody wants to wait after Ctrl-C, and one that comes now must not end this halfway
            undone = self._in_background(finish)
            if isinstance(error, Exception):
                undone.wait()  # no join: Ctrl-C in that makes Python forget that the thread runs

    async def in_thread(
        self,
        work: Callable[[], _Result],
        *,
        undo: Callable[[_Result], None] | None = None,
        dropped: Callable[[], None] | None = None,
    ) -> _Result:
        """Call `work` in a thread of the pool and await its result.

        When the caller is cancelled, `work` that has not begun is dropped, and `dropped` is called. Otherwise it runs
        to its end in the background, and `undo` gets its result there.

        Raises:
            PayloadStoreUnavailableError: as for `each`.
        """
        future = self._submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if future.cancel():  # not begun; asyncio cancels it too, before this or after
                if dropped is not None:
                    dropped()
            elif undo is not None:
                self._in_background(partial(_undo_late, future, undo))
            raise
        finally:
            del future  # as in `each`

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

    def _check_open(self) -> None:
        if self._closed:
            raise PayloadStoreUnavailableError("this Externalizer is closed: it transfers nothing any more")

    def _submit(self, work: Callable[[], _Result]) -> Future[_Result]:
        with self._lock:
            self._check_open()
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="durabletask-payloads")
            try:
                return self._pool.submit(copy_context().run, work)  # for observers: the caller's trace
            except RuntimeError as error:
                if "shutdown" not in str(error):  # there can be no further thread: it says nothing about the payload
                    raise PayloadStoreUnavailableError(f"no transfer can begin now: {error}") from error
        # The interpreter shuts down: pools take no work any more, but the calling thread is still waited for.
        done: Future[_Result] = Future()
        try:
            done.set_result(work())
        except Exception as error:
            done.set_exception(error)
        return done

    def _in_background(self, work: Callable[[], None]) -> Event:
        """Begin `work` in a thread of its own, or do it here if there can be none. Return what is set at its end."""
        ended = Event()

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._undoing.discard(thread)
                ended.set()

        thread = Thread(target=run, name="durabletask-payloads-undo")
        with self._lock:
            self._undoing.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no further thread, or the interpreter shuts down
            run()
        return ended


def _finish(
    results: Sequence[_Result],
    others: Sequence[Future[_Result]],
    undo: Callable[[Iterable[_Result]], None] | None,
) -> None:
    """Wait for `others`, and undo what they and those before them did."""
    wait(others)
    if undo is not None:
        undo([*results, *(share.result() for share in others if share.exception() is None)])


def _undo_late(future: Future[_Result], undo: Callable[[_Result], None]) -> None:
    if future.exception() is None:
        undo(future.result())


async def settled(future: Future[_Result]) -> None:
    """Wait until `future` is done, whatever its outcome. Being cancelled leaves `future` alone."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def wake(_: Future[_Result]) -> None:
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(wake)
    await done.wait()


def _note_failure(failed: list[int], number: int, share: Future[_Result]) -> None:
    if not share.cancelled() and share.exception() is not None:
        failed.append(number)
