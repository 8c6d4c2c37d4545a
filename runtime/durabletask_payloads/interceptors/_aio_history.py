"""The streams that a channel of grpc.aio returns: as `_streams`, with tasks where that has threads."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import grpc
import grpc.aio
from google.protobuf.message import Message

from ._calls import aio_details
from ._messages import abandonment
from ._policy import (
    FAREWELL_SECONDS,
    MOST_WAITING,
    OWN_TIMEOUT_SECONDS,
    Deexternalize,
    Send,
    Verdict,
    carry_out_async,
    log,
    log_if_exhausted,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
    from typing import TypeAlias

    import durabletask.internal.orchestrator_service_pb2 as pb

    from ._calls import AioStreamContinuation
    from ._policy import Policy, Resolution, Step
    from ._work_items import WorkItem

    StreamCall: TypeAlias = grpc.aio.UnaryStreamCall[Message, Message]


class _Signal:
    """Wakes all who wait. Unlike an asyncio.Event it can not be cleared between `set` and the first step of a wait."""

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


class AsyncResolvingStream(grpc.aio.UnaryStreamCall[Message, Message]):
    """A stream that is read ahead by a task of its own and resolved by others.

    The tasks start with the first read and end with the stream. Iterate it from one task.
    """

    def __init__(self, call: StreamCall, policy: Policy, timeout: float | None) -> None:
        self._call = call
        self._policy = policy
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._changed = _Signal()
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False  # it was cancelled, or the deadline has passed
        self._has_ended = False  # nothing is read any more
        self._error: BaseException | None = None

    # ---- what the kinds of streams do differently -----------------------------------------------------------

    async def _take(self, message: Message) -> None:
        """A message was read."""
        raise NotImplementedError

    def _next_ready(self) -> Message | None:
        """The next message to hand over, if there is one now; may raise for it."""
        raise NotImplementedError

    def _is_empty(self) -> bool:
        """Whether nothing will be ready any more once nothing is read any more."""
        raise NotImplementedError

    async def _wind_up(self, error: BaseException | None) -> None:
        """Nothing is read any more."""
        raise NotImplementedError

    # ---- reading --------------------------------------------------------------------------------------------

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
            if self._has_ended and (self._is_stopping or self._is_empty()):
                raise self._error or StopAsyncIteration
            remaining = None if self._deadline is None else self._deadline - time.monotonic()
            if remaining is not None and remaining <= 0 and not self._is_stopping:
                self._error = _deadline_exceeded()
                self.cancel()
                continue
            try:
                await self._changed.wait(None if self._is_stopping else remaining)
            except asyncio.CancelledError:
                self.cancel()  # as grpc.aio does when the task that reads is cancelled
                raise

    async def read(self) -> object:
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return grpc.aio.EOF

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
            await self._wind_up(error)
        finally:
            self._error = self._error or error or (asyncio.CancelledError() if self._is_stopping else None)
            self._has_ended = True
            self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_tasks(self) -> None:
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- grpc.aio.Call --------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        if self._has_ended and not self._is_stopping:
            self._error = self._error or asyncio.CancelledError()
        self._is_stopping = True
        for task in self._tasks:
            task.cancel()
        self._changed.set()
        return self._call.cancel()

    def cancelled(self) -> bool:
        return self._call.cancelled()

    def done(self) -> bool:
        return self._call.done()

    def time_remaining(self) -> float | None:
        return self._call.time_remaining()

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._call.add_done_callback(callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return await self._call.initial_metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return await self._call.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        return await self._call.code()

    async def details(self) -> str:
        return await self._call.details()

    async def wait_for_connection(self) -> None:
        await self._call.wait_for_connection()

    def __getattr__(self, name: str) -> object:  # what a grpc release has beyond that, as debug_error_string
        return getattr(self._call, name)


def _deadline_exceeded() -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        "the deadline passed while payloads were downloaded",
    )


# ---- work items ----------------------------------------------------------------------------------------------------


class AsyncWorkItemStream(AsyncResolvingStream):
    """GetWorkItems: what has no token passes at once, the rest in the order in which it is resolved."""

    def __init__(
        self,
        call: StreamCall,
        policy: Policy,
        continuation: AioStreamContinuation,
        details: grpc.aio.ClientCallDetails,
        request: Message,
    ) -> None:
        super().__init__(call, policy, details.timeout)
        self._continuation = continuation
        self._details = details
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(policy.externalizer.concurrency)
        self._ready: deque[tuple[WorkItem | None, Message]] = deque()
        self._takes_back = True  # until it winds up
        self._held: dict[int, WorkItem] = {}  # by identity: resolving, or waiting for that, or to be given back

    async def _take(self, message: Message) -> None:
        item = self._policy.items.arrived(cast("pb.WorkItem", message), self)  # what the method returns
        if item is None or not self._policy.externalizer.has_tokens(message):
            self._ready.append((item, message))
            self._changed.set()
            await self._until(lambda: self._is_stopping or len(self._ready) < MOST_WAITING)
            return
        self._held[id(item)] = item
        self._spawn(self._resolve(item, message))
        await self._until(lambda: self._is_stopping or len(self._held) < MOST_WAITING)

    async def _resolve(self, item: WorkItem, message: Message) -> None:
        async with self._slots:
            flow: Generator[Step[object], None, Resolution] = self._policy.resolve(
                item, cast("pb.WorkItem", message)
            )  # as in _take
            resolution = await carry_out_async(flow, self._do)
        if resolution.verdict is Verdict.ABANDON:
            await self._give_back_after(item, resolution.delay)
            return
        if self._held.pop(id(item), None) is not None and resolution.verdict is Verdict.DELIVER:
            self._ready.append((item, message))
        self._changed.set()

    async def _do(self, step: Step[object]) -> None:
        if isinstance(step, Deexternalize):
            await self._policy.externalizer.deexternalize_async(step.message)
        elif isinstance(step, Send):
            step.code = await self._send(step.name, step.message, OWN_TIMEOUT_SECONDS)
        else:
            raise AssertionError(f"{step} is no step of a work item that arrives")

    def _next_ready(self) -> Message | None:
        return self._ready.popleft()[1] if self._ready else None

    def _is_empty(self) -> bool:
        return not self._ready

    # ---- giving back ----------------------------------------------------------------------------------------

    def give_back(self, item: WorkItem, delay: float) -> bool:
        if not self._takes_back or self._is_stopping or self._loop.is_closed():
            return False
        self._held[id(item)] = item
        # A completion may be sent from another event loop.
        self._loop.call_soon_threadsafe(lambda: self._spawn(self._give_back_after(item, delay)))
        return True

    async def _give_back_after(self, item: WorkItem, delay: float) -> None:
        await asyncio.sleep(delay)
        if self._held.pop(id(item), None) is not None:
            await self._abandon(item, OWN_TIMEOUT_SECONDS)
            self._changed.set()

    async def _wind_up(self, error: BaseException | None) -> None:
        log_if_exhausted(error)
        self._takes_back = False
        await self._end_tasks()
        items = dict(self._held)
        if self._is_stopping:
            items |= {id(item): item for item, _ in self._ready if item is not None}
            self._ready.clear()
        self._held.clear()
        await self._abandon_all(items.values())

    async def _abandon_all(self, items: Iterable[WorkItem]) -> None:
        work = [self._abandon(item, FAREWELL_SECONDS) for item in items]
        await asyncio.gather(*work, return_exceptions=True)

    async def _abandon(self, item: WorkItem, timeout: float) -> None:
        self._policy.items.given_back(item)
        code = await self._send(item.kind.abandon, abandonment(item.kind, self._request, item.token), timeout)
        if code is not grpc.StatusCode.OK:
            log.info("the %s was not given back: %s", item, code)

    async def _send(self, rpc: str, message: Message, timeout: float) -> grpc.StatusCode:
        details = aio_details(self._details, timeout=timeout, rpc=rpc)
        try:
            async for _ in await self._continuation(details, message):
                pass
        except grpc.aio.AioRpcError as error:
            return error.code()
        except (grpc.aio.UsageError, ValueError):  # the channel is closed
            return grpc.StatusCode.CANCELLED
        return grpc.StatusCode.OK


# ---- histories -----------------------------------------------------------------------------------------------------


class AsyncHistoryStream(AsyncResolvingStream):
    """StreamInstanceHistory: in order, with some chunks resolved ahead."""

    def __init__(self, call: StreamCall, policy: Policy, timeout: float | None, instance_id: str | None) -> None:
        super().__init__(call, policy, timeout)
        self._instance_id = instance_id
        self._chunks: deque[tuple[Message, asyncio.Task[None] | None]] = deque()

    async def _take(self, message: Message) -> None:
        task: asyncio.Task[None] | None = None
        if self._policy.externalizer.has_tokens(message):
            task = asyncio.create_task(self._policy.deexternalize_async(message, self._instance_id))
            self._tasks.add(task)
            task.add_done_callback(lambda _: self._changed.set())
        self._chunks.append((message, task))
        self._changed.set()
        ahead = self._policy.externalizer.concurrency
        await self._until(lambda: self._is_stopping or len(self._chunks) < ahead)

    def _next_ready(self) -> Message | None:
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

    def _is_empty(self) -> bool:
        return not self._chunks

    async def _wind_up(self, error: BaseException | None) -> None:
        if error is not None or self._is_stopping:  # passed on at once, whatever is still under way
            self._chunks.clear()
            await self._end_tasks()
