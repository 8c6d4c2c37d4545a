"""A bound on transfers that threads and event loops share, and a wait that either can do."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

_T = TypeVar("_T")


async def settled(future: Future[_T]) -> None:
    """Wait until `future` is done, whatever its outcome. Being cancelled leaves `future` alone.

    asyncio.wrap_future would pass the cancellation on, to everybody who waits for the same future.
    """
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def on_done(_: Future[_T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed, nobody waits any more
            loop.call_soon_threadsafe(wake)

    future.add_done_callback(on_done)
    await waiter


class TransferSlots:
    """A semaphore for threads (`with`) and tasks of any event loop (`async with`) at once, first come first served."""

    def __init__(self, count: int) -> None:
        self._lock = Lock()
        self._free = count
        self._waiting: deque[Future[None]] = deque()

    def _take(self) -> Future[None] | None:
        """None if a slot was free and is taken now, else the future that is done when one is handed over."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            ticket: Future[None] = Future()
            self._waiting.append(ticket)
            return ticket

    def _give_back(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._free += 1
                    return
                ticket = self._waiting.popleft()
            if ticket.set_running_or_notify_cancel():
                ticket.set_result(None)
                return

    def _give_up(self, ticket: Future[None]) -> None:
        if not ticket.cancel():  # too late: the slot was handed over
            self._give_back()

    def __enter__(self) -> None:
        ticket = self._take()
        if ticket is not None:
            try:
                ticket.result()
            except BaseException:
                self._give_up(ticket)
                raise

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()

    async def __aenter__(self) -> None:
        ticket = self._take()
        if ticket is not None:
            try:
                await settled(ticket)
            except BaseException:
                self._give_up(ticket)
                raise

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()
