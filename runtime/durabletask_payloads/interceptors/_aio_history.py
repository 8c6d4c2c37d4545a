"""Histories of a channel of grpc.aio: chunks in order, some of them deexternalized ahead of the reader."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import grpc
import grpc.aio

from ._calls import WrappedCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import TypeAlias

    from google.protobuf.message import Message

    from ._client import ClientPayloads

    StreamCall: TypeAlias = grpc.aio.UnaryStreamCall[Message, Message]


class _Signal:
    """Wakes all that wait. Unlike an asyncio.Event it cannot be cleared between `set` and the first step of a wait."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def set(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout: float | None = None) -> None:
        """Return at the next `set`, or after `timeout` seconds."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout)
        finally:
            self._waiters.discard(waiter)


class _Chunk(NamedTuple):
    message: Message
    task: asyncio.Task[None] | None  # deexternalizes it, if it has tokens


class AsyncHistoryStream(WrappedCall):
    """StreamInstanceHistory. A task reads ahead, others deexternalize; they end with the stream.

    Iterate it from one task.
    """

    def __init__(
        self, call: StreamCall, payloads: ClientPayloads, timeout: float | None, instance_id: str | None
    ) -> None:
        super().__init__(call)
        self._call = call
        self._payloads = payloads
        self._instance_id = instance_id
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._changed = _Signal()
        self._reader: asyncio.Task[None] | None = None
        self._chunks: deque[_Chunk] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False  # it was cancelled, or the deadline has passed
        self._has_ended = False  # nothing is read any more
        self._error: BaseException | None = None

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="durabletask-payloads-reader")
        while True:
            message = None if self._is_stopping else self._next_ready()
            if message is not None:
                self._changed.set()
                return message
            if self._has_ended and (self._is_stopping or not self._chunks):
                raise self._error or StopAsyncIteration
            remaining = None if self._deadline is None else self._deadline - time.monotonic()
            if remaining is not None and remaining <= 0 and not self._is_stopping:
                self._error = _deadline_exceeded()
                self.cancel()
                continue
            try:
                await self._changed.wait(None if self._is_stopping else remaining)
            except asyncio.CancelledError:
                self.cancel()  # as grpc.aio does when the reading task is cancelled
                raise

    async def read(self) -> object:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return grpc.aio.EOF

    def _next_ready(self) -> Message | None:
        """Return the next chunk if it is ready, or raise its error."""
        if not self._chunks:
            return None
        message, task = self._chunks[0]
        if task is not None:
            if not task.done():
                return None
            self._tasks.discard(task)
            error = task.exception()
            if error is not None:
                self._error = error
                self.cancel()
                raise error
        self._chunks.popleft()
        return message

    async def _read(self) -> None:
        error: BaseException | None = None
        try:
            async for message in self._call:
                await self._take(message)
                if self._is_stopping:
                    break
        except (Exception, asyncio.CancelledError) as reason:  # the call was cancelled, or this task at the loop's end
            error = reason
        try:
            if error is not None or self._is_stopping:  # passed on at once, whatever is still under way
                self._chunks.clear()
                tasks = tuple(self._tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            self._error = self._error or error or (asyncio.CancelledError() if self._is_stopping else None)
            self._has_ended = True
            self._changed.set()

    async def _take(self, message: Message) -> None:
        """Keep a chunk until it is handed over, and wait for room."""
        externalizer = self._payloads.externalizer
        task: asyncio.Task[None] | None = None
        if externalizer.has_tokens(message):
            work = self._payloads.deexternalize_async(message, self._instance_id, all_or_nothing=True)
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(lambda _: self._changed.set())
        self._chunks.append(_Chunk(message, task))
        self._changed.set()
        while not (self._is_stopping or len(self._chunks) < externalizer.concurrency):
            await self._changed.wait()

    def cancel(self) -> bool:
        if self._has_ended and not self._is_stopping:
            self._error = self._error or asyncio.CancelledError()
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        self._changed.set()
        return self._call.cancel()


grpc.aio.UnaryStreamCall.register(AsyncHistoryStream)  # for isinstance


def _deadline_exceeded() -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    text = "the deadline passed while payloads were downloaded"
    return grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, none, none, text)
