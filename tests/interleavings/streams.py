"""Scenarios of streams: the registry of work items against the end of the stream, and histories."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
from google.protobuf.wrappers_pb2 import StringValue
from tests.interleavings.hub import Details, Hub, StreamCall
from tests.interleavings.primitives import Time
from tests.interleavings.world import CACHE, SteppedStore, payload, require_idle

from durabletask_payloads import Externalizer, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.interceptors._aio_history import AsyncHistoryStream
from durabletask_payloads.interceptors._calls import EndedLocallyError
from durabletask_payloads.interceptors._client import ClientPayloads
from durabletask_payloads.interceptors._history import HistoryStream
from durabletask_payloads.interceptors._read_ahead import HeldStream
from durabletask_payloads.interceptors.worker import WorkItemStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message
    from tests.interleavings.world import World

_ITEMS: Final = 4


class _Worker:
    """A worker: reads the stream, and completes each work item in a thread of its own.

    Attributes:
        taken: the completion tokens of what it was handed.
        not_sent: how many completions could not be stored.
        error: what the stream ended with.
    """

    def __init__(self, world: World, interceptor: PayloadInterceptor, hub: Hub) -> None:
        self._world = world
        self._interceptor = interceptor
        self._hub = hub
        self.taken: list[str] = []
        self.not_sent = 0
        self.error: Exception | None = None
        call: object = interceptor.intercept_unary_stream(
            hub.streaming, Details("GetWorkItems"), pb.GetWorkItemsRequest()
        )
        assert isinstance(call, HeldStream)
        self._held = call
        stream: object = vars(call)["_stream"]  # nothing public tells what it holds
        assert isinstance(stream, WorkItemStream)
        self.stream = stream

    def read(self) -> None:
        try:
            for message in self._held:
                assert isinstance(message, pb.WorkItem)
                assert message.completionToken not in self.taken, "handed over twice"
                self.taken.append(message.completionToken)
                self._world.start(partial(self._complete, message), f"activity {len(self.taken)}")
        except (grpc.RpcError, ValueError) as error:
            self.error = error

    def _complete(self, work: pb.WorkItem) -> None:
        self._world.soon()
        request = work.activityRequest
        assert request.input.value == payload(f"input {request.taskId}"), "the worker sees the payload"
        response = pb.ActivityResponse(
            instanceId=request.orchestrationInstance.instanceId,
            taskId=request.taskId,
            result=StringValue(value=payload(f"result {request.taskId}")),
            completionToken=work.completionToken,
        )
        try:
            self._interceptor.intercept_unary_unary(self._hub.unary, Details("CompleteActivityTask"), response)
        except PayloadStoreUnavailableError:
            self.not_sent += 1
        except ValueError:
            assert self._hub.is_closed


def _set_up(world: World, *, failing: float) -> tuple[SteppedStore, Externalizer, PayloadInterceptor, Hub]:
    store = SteppedStore(world, failing=failing)
    texts = {number: payload(f"input {number}") for number in range(_ITEMS)}
    inputs = {number: store.keep(text) if world.chance(0.7) else text for number, text in texts.items()}
    externalizer = Externalizer(store, concurrency=world.random.randint(1, 2), cache_bytes=CACHE)
    interceptor = PayloadInterceptor(externalizer)
    registry = interceptor._registry  # pyright: ignore[reportPrivateUsage]  # it takes its clock when it is defined
    registry._clock = Time.monotonic  # pyright: ignore[reportPrivateUsage]
    registry._renew()  # pyright: ignore[reportPrivateUsage]
    hub = Hub(world, inputs)
    hub.can_abandon = world.chance(0.8)
    return store, externalizer, interceptor, hub


def _require_clean(interceptor: PayloadInterceptor, stream: WorkItemStream) -> None:
    registry = interceptor._registry  # pyright: ignore[reportPrivateUsage]  # nothing public tells, here and below
    assert len(registry) == 0, f"{len(registry)} work items are left in the registry"
    assert registry.bytes == 0
    for name in ("_held", "_due", "_finishing", "_ready"):
        left: object = getattr(stream, name)
        assert not left, f"{name} of the stream holds {left}"


def work_items_until_all_are_done(world: World) -> None:
    """Transfers and calls fail by chance, work items are abandoned and delivered again: each is completed once."""
    store, externalizer, interceptor, hub = _set_up(world, failing=0.2)
    hub.failing = world.random.choice((0.0, 0.1))
    worker = _Worker(world, interceptor, hub)
    hub.deliver_all()
    reader = world.start(worker.read, "reader")
    # A completion that the server did not take is nobody's any more, until the hub delivers it again.
    world.scheduler.switch(lambda: hub.failing > 0 or len(hub.completed) == _ITEMS)
    if hub.failing:
        world.scheduler.sleep(300.0)
    hub.stream.end()
    reader.join()
    world.join()
    externalizer.close()
    assert not hub.twice, hub.twice
    if not hub.failing:
        assert hub.completed == dict.fromkeys(range(_ITEMS), 1)
        assert hub.unanswered == 0
    _require_results(hub, store)
    require_idle(externalizer, store, world)
    _require_clean(interceptor, worker.stream)


def _require_results(hub: Hub, store: SteppedStore) -> None:
    for number, response in hub.results.items():
        assert not response.HasField("failureDetails"), f"an outage failed an activity: {response.failureDetails}"
        assert store.is_known_token(response.result.value) or response.result.value == payload(f"result {number}")


def work_items_against_the_end_of_the_stream(world: World) -> None:
    """The stream ends in the middle: by cancel, by the server, by an error, or as the channel or the store closes."""
    store, externalizer, interceptor, hub = _set_up(world, failing=world.random.choice((0.0, 0.4)))
    hub.failing = world.random.choice((0.0, 0.0, 0.2))
    worker = _Worker(world, interceptor, hub)
    how = world.random.choice(("cancel", "cancel twice", "end", "error", "channel", "externalizer"))

    def end() -> None:
        for _ in range(world.random.randrange(4)):
            world.soon()
        match how:
            case "end":
                hub.stream.end()
            case "error":
                hub.stream.end(EndedLocallyError(grpc.StatusCode.UNAVAILABLE, "scripted"))
            case "channel":
                hub.is_closed = True
                hub.stream.end(EndedLocallyError(grpc.StatusCode.CANCELLED, "Channel closed!"))
            case "externalizer":
                externalizer.close(wait=False)
                world.soon()
                worker.stream.cancel()
            case _:
                worker.stream.cancel()

    hub.deliver_all()
    reader = world.start(worker.read, "reader")
    for _ in range(2 if how == "cancel twice" else 1):
        world.start(end, "ending")
    reader.join()
    world.join()
    externalizer.close()
    require_idle(externalizer, store, world)  # also of abandonments that take longer than the end of a stream waits
    assert not hub.twice, hub.twice
    # The server delivers again what the stream had not read, and what could not be stored after the end of the stream.
    # All else is answered, where the server can be told.
    is_heard = how != "channel" and worker.stream.can_abandon is not False and not hub.failing
    if is_heard and not world.scheduler.has_early_timeouts:
        excused = hub.stream.unread + worker.not_sent
        assert hub.unanswered <= excused, f"{hub.unanswered} deliveries are unanswered, {excused} may be"
    is_expected = worker.error is None if how == "end" else isinstance(worker.error, grpc.RpcError | None)
    assert is_expected, repr(worker.error)
    _require_clean(interceptor, worker.stream)


# ---- histories -----------------------------------------------------------------------------------------------------


def _history(world: World, store: SteppedStore) -> tuple[StreamCall, list[str], Callable[[], None]]:
    """Return a call, what its chunks must become, and what ends it after a while, or not."""
    call = StreamCall(world)
    texts = [payload(f"chunk {number}") for number in range(4)]
    for text in texts:
        value = store.keep(text) if world.chance(0.7) else text
        event = pb.HistoryEvent(taskCompleted=pb.TaskCompletedEvent(result=StringValue(value=value)))
        call.send(pb.HistoryChunk(events=[event]))
    call.end()
    return call, texts, world.soon


def _text_of(message: Message) -> str:
    assert isinstance(message, pb.HistoryChunk)
    return message.events[0].taskCompleted.result.value


def _require_history(got: list[str], texts: list[str], error: BaseException | None, *, is_whole: bool) -> None:
    assert got == texts[: len(got)], "in order, and none is missing"
    if error is None:
        assert got == texts, f"it ended after {len(got)} chunks as if that were all"
    elif is_whole:
        raise error


def histories_against_cancel(world: World) -> None:
    """A history that is read while it is cancelled, its deadline passes, or a download fails."""
    store = SteppedStore(world, failing=world.random.choice((0.0, 0.2)))
    externalizer = Externalizer(store, concurrency=world.random.randint(1, 2), cache_bytes=0)
    call, texts, wait = _history(world, store)
    timeout = world.random.choice((None, None, 1.0))
    payloads = ClientPayloads(externalizer, "raise")
    stream = HeldStream(call, HistoryStream(call, payloads, timeout, "order"))  # type: ignore[arg-type]  # it has what is used of one
    is_cancelled = world.chance(0.5)
    got: list[str] = []
    error: BaseException | None = None

    def cancel() -> None:
        wait()
        stream.cancel()

    if is_cancelled:
        world.start(cancel, "cancelling")
    try:
        for message in stream:
            got.append(_text_of(message))
            world.soon()
    except (grpc.RpcError, PayloadStoreUnavailableError) as reason:
        error = reason
    world.join()
    externalizer.close()
    is_whole = not is_cancelled and timeout is None and not store.failing
    _require_history(got, texts, error, is_whole=is_whole)
    require_idle(externalizer, store, world)


class _AioCall:
    """A streaming call of grpc.aio."""

    def __init__(self, world: World, call: StreamCall) -> None:
        self._world = world
        self._call = call
        self._is_cancelled = False

    def __aiter__(self) -> _AioCall:
        return self

    async def __anext__(self) -> Message:
        await asyncio.sleep(self._world.random.choice((0.0, 0.1, 0.5)))
        if self._is_cancelled:
            raise asyncio.CancelledError
        try:
            return next(self._call)
        except StopIteration:
            raise StopAsyncIteration from None

    def cancel(self) -> bool:
        self._is_cancelled = True
        return True


def async_histories_against_cancel(world: World) -> None:
    """The same on an event loop, where the reading task may be cancelled, too."""
    store = SteppedStore(world, failing=world.random.choice((0.0, 0.2)))
    externalizer = Externalizer(store, concurrency=world.random.randint(1, 2), cache_bytes=0)
    call, texts, _ = _history(world, store)
    timeout = world.random.choice((None, None, 1.0))
    how = world.random.choice(("not", "call", "task"))
    got: list[str] = []
    errors: list[BaseException] = []

    async def read(stream: AsyncHistoryStream) -> None:
        try:
            async for message in stream:
                got.append(_text_of(message))
                await asyncio.sleep(world.random.choice((0.0, 0.5)))
        finally:
            stream.cancel()

    async def main() -> None:
        aio_call = _AioCall(world, call)
        payloads = ClientPayloads(externalizer, "raise")
        stream = AsyncHistoryStream(aio_call, payloads, timeout, "order")  # type: ignore[arg-type]  # likewise
        task = asyncio.ensure_future(read(stream))
        if how != "not":
            await asyncio.sleep(world.random.choice((0.0, 0.1, 0.6, 1.1)))
            (task if how == "task" else stream).cancel()
        try:
            await task
        except (asyncio.CancelledError, grpc.RpcError, PayloadStoreUnavailableError) as reason:
            errors.append(reason)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=600)  # downloads under way end after it
        left = [task.get_name() for task in others if not task.done()]
        assert not left, f"tasks are left: {left}"

    world.in_loop(main).join()
    externalizer.close()
    is_whole = how == "not" and timeout is None and not store.failing
    _require_history(got, texts, errors[0] if errors else None, is_whole=is_whole)
    require_idle(externalizer, store, world)
