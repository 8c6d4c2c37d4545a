"""How the end of GetWorkItems and the end of a work item meet: each item is ended exactly once.

An item that the stream holds is completed (its payload is gone) or abandoned. Which of the two is decided once: what
is being completed when the stream ends is not abandoned, and what was abandoned is not completed.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.backend import worker_on
from tests.support.server import METHODS, output_of
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadNotFoundError, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from google.protobuf.message import Message
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

LARGE = "x" * 5_000
ABANDON = "AbandonTaskActivityWorkItem"
COMPLETE = "CompleteActivityTask"


class Sender:
    """Answers GetWorkItems with `items`, then waits until the client is gone or `ended` is set; ends with `code`."""

    def __init__(self, *items: pb.WorkItem) -> None:
        self.items = items
        self.code: grpc.StatusCode | None = None
        self.ended = threading.Event()
        self.was_cancelled = threading.Event()

    def __call__(self, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        context.add_callback(self.was_cancelled.set)
        yield from self.items
        while context.is_active() and not self.ended.wait(0.01):
            pass
        if self.code is not None and context.is_active():
            context.abort(self.code, "the server is going")


class HeldAnswer:
    """Answers the unary RPC `rpc` once `released` is set, with an empty message or with `code`."""

    def __init__(self, rpc: str, code: grpc.StatusCode | None = None) -> None:
        self.rpc = rpc
        self.code = code
        self.arrived = threading.Event()
        self.released = threading.Event()

    def __call__(self, request: Message, context: grpc.ServicerContext) -> Message:
        self.arrived.set()
        while context.is_active() and not self.released.wait(0.01):
            pass
        if self.code is not None and context.is_active():
            context.abort(self.code, "not now")
        return output_of(METHODS[self.rpc])()


class Worker:
    """A channel with the interceptor, and the stream that is read from it."""

    def __init__(self, channel: grpc.Channel, externalizer: Externalizer) -> None:
        self.channel = channel
        self.stub = stubs.TaskHubSidecarServiceStub(grpc.intercept_channel(channel, PayloadInterceptor(externalizer)))
        self._stream: Iterator[Message] | None = None

    def read(self) -> Message:
        if self._stream is None:
            self._stream = cast("Iterator[Message]", self.stub.GetWorkItems(pb.GetWorkItemsRequest()))
        return next(self._stream)

    def end(self, how: str, sender: Sender) -> None:
        """End the stream, and read the end."""
        if how == "cancelled":
            cast("grpc.Call", self._stream).cancel()  # a stream is both
        elif how == "failed":
            sender.code = grpc.StatusCode.UNAVAILABLE
        sender.ended.set()
        with pytest.raises(StopIteration if how == "ended" else grpc.RpcError):
            self.read()


@pytest.fixture(autouse=True)
def nothing_left(store: ScriptedStore) -> Generator[None]:
    """End what a test that fails leaves under way: it would be found by the next one."""
    yield
    store.released.set()
    wait_for_our_threads()


@pytest.fixture
def worker(address: str, externalizer: Externalizer) -> Generator[Worker]:
    with grpc.insecure_channel(address) as channel:
        yield Worker(channel, externalizer)


def activity(token: str, text: str = "small") -> pb.WorkItem:
    return pb.WorkItem(
        completionToken=token,
        activityRequest=pb.ActivityRequest(
            name="digest",
            taskId=7,
            input=StringValue(value=text),
            orchestrationInstance=pb.OrchestrationInstance(instanceId="order-1"),
        ),
    )


def orchestration(token: str, text: str) -> pb.WorkItem:
    event = pb.HistoryEvent(eventId=0, eventRaised=pb.EventRaisedEvent(input=StringValue(value=text)))
    return pb.WorkItem(
        completionToken=token,
        orchestratorRequest=pb.OrchestratorRequest(instanceId="order-1", newEvents=[event]),
    )


def entity(token: str, text: str) -> pb.WorkItem:
    operation = pb.OperationRequest(operation="add", requestId="1", input=StringValue(value=text))
    return pb.WorkItem(
        completionToken=token,
        entityRequest=pb.EntityBatchRequest(instanceId="@ledger@1", operations=[operation]),
    )


def gone(store: ScriptedStore) -> str:
    """A token whose payload was deleted."""
    token = store.upload(LARGE.encode())
    store.delete(token)
    return token


def serve(server: ScriptedServer, *items: pb.WorkItem) -> Sender:
    """Have the server deliver `items`, and a small one at last, by which a test knows that all have arrived."""
    sender = Sender(*items, activity("small"))
    server.answers["GetWorkItems"] = sender
    return sender


def hold(server: ScriptedServer, rpc: str, code: grpc.StatusCode | None = None) -> HeldAnswer:
    """Have the server keep its answer to `rpc` back."""
    answer = HeldAnswer(rpc, code)
    server.answers[rpc] = answer
    return answer


def tokens(server: ScriptedServer, rpc: str) -> list[str]:
    """The completion tokens of what came as `rpc`."""
    return [cast("pb.ActivityResponse", request).completionToken for request in server.named(rpc)]  # all have one


def wait_for_our_threads() -> None:
    """After this nothing is sent any more."""
    of_the_stream = (
        "durabletask-payloads-reader",
        "durabletask-payloads-deexternalize",
        "durabletask-payloads-abandoner",
    )
    wait_until(
        lambda: not any(name.startswith(of_the_stream) for name in our_threads()),
        seconds=10,
        what="the end of the stream's threads",
    )


def raising(error: Callable[[], Exception]) -> Callable[[bytes], None]:
    """A hook of the store that raises `error`."""

    def hook(payload: bytes) -> None:
        raise error()

    return hook


# ---- an item that is being completed as failed ---------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancelled", "ended", "failed"])
@pytest.mark.parametrize(
    ("make", "complete", "abandon"),
    [
        (activity, COMPLETE, ABANDON),
        (orchestration, "CompleteOrchestratorTask", "AbandonTaskOrchestratorWorkItem"),
        (entity, "CompleteEntityTask", "AbandonTaskEntityWorkItem"),
    ],
)
def test_an_item_that_is_being_completed_when_the_stream_ends_is_not_abandoned(
    make: Callable[[str, str], pb.WorkItem],
    complete: str,
    abandon: str,
    how: str,
    worker: Worker,
    server: ScriptedServer,
    store: ScriptedStore,
) -> None:
    """Its completion was sent, the server may have taken it: it ends once, and the stream does not wait for long."""
    sender = serve(server, make("gone", gone(store)))
    answer = hold(server, complete)
    worker.read()
    assert answer.arrived.wait(10)
    worker.end(how, sender)
    assert tokens(server, abandon) == []
    answer.released.set()
    wait_for_our_threads()
    assert tokens(server, complete) == ["gone"]
    assert tokens(server, abandon) == []


def test_the_other_items_are_abandoned_while_one_is_being_completed(
    worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    store.delay = lambda payload: 20.0
    sender = serve(server, activity("gone", gone(store)), activity("slow", store.upload(LARGE.encode())))
    answer = hold(server, COMPLETE)
    worker.read()
    assert answer.arrived.wait(10)
    wait_until(lambda: store.downloads == 1, what="the download")
    worker.end("cancelled", sender)
    assert tokens(server, ABANDON) == ["slow"]
    answer.released.set()
    store.released.set()
    wait_for_our_threads()
    assert tokens(server, ABANDON) == ["slow"]
    assert tokens(server, COMPLETE) == ["gone"]


@pytest.mark.parametrize("how", ["cancelled", "ended"])
def test_a_completion_that_is_refused_after_the_end_of_the_stream_is_followed_by_one_abandonment(
    how: str, worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """Nobody else does it any more; and it is not kept for a delay, since nothing is left to keep it."""
    sender = serve(server, activity("gone", gone(store)))
    answer = hold(server, COMPLETE, grpc.StatusCode.UNAVAILABLE)
    worker.read()
    assert answer.arrived.wait(10)
    worker.end(how, sender)
    assert tokens(server, ABANDON) == []
    answer.released.set()
    wait_for_our_threads()
    assert tokens(server, COMPLETE) == ["gone"]
    assert tokens(server, ABANDON) == ["gone"]


def test_a_completion_that_is_refused_as_the_stream_ends_is_abandoned_before_the_end_is_passed_on(
    worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """The SDK closes the channel when it has read the end: what is under way gets the same moment as an abandonment."""
    sender = serve(server, activity("gone", gone(store)))
    arrived = threading.Event()

    def refuse(request: Message, context: grpc.ServicerContext) -> Message:
        arrived.set()
        sender.was_cancelled.wait(20)
        time.sleep(0.05)  # longer than the stream takes to end if it does not wait, shorter than it may wait
        context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    server.answers[COMPLETE] = refuse
    worker.read()
    assert arrived.wait(10)
    worker.end("cancelled", sender)
    assert tokens(server, ABANDON) == ["gone"]
    wait_for_our_threads()
    assert tokens(server, ABANDON) == ["gone"]


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_channel_that_is_closed_while_an_item_is_being_completed_leaves_nothing_behind(
    is_cancelled: bool, worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """Nothing can be sent any more: the server delivers the item again by itself. No thread ends with an error."""
    sender = serve(server, activity("gone", gone(store)))
    answer = hold(server, COMPLETE)
    worker.read()
    assert answer.arrived.wait(10)
    if is_cancelled:
        worker.end("cancelled", sender)
    worker.channel.close()
    wait_for_our_threads()
    with pytest.raises((grpc.RpcError, StopIteration)):
        worker.read()
    assert tokens(server, COMPLETE) == ["gone"]
    assert tokens(server, ABANDON) == []


def test_a_channel_that_is_closed_while_an_item_is_downloaded_leaves_nothing_behind(
    worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """Nothing may be sent: the first call of a method on a channel that is closed is a crash in gRPC."""
    store.delay = lambda payload: 20.0
    serve(server, activity("slow", store.upload(LARGE.encode())))
    worker.read()
    wait_until(lambda: store.downloads == 1, what="the download")
    worker.channel.close()
    with pytest.raises(grpc.RpcError):
        worker.read()
    store.released.set()
    wait_for_our_threads()
    assert tokens(server, COMPLETE) == []
    assert tokens(server, ABANDON) == []


def test_stop_of_the_worker_does_not_abandon_an_item_that_is_being_completed(
    address: str, server: ScriptedServer, store: ScriptedStore, externalizer: Externalizer
) -> None:
    """`stop` of the SDK cancels the stream, reads its end and closes the channel."""
    server.answers["GetWorkItems"] = Sender(activity("gone", gone(store)))
    answer = hold(server, COMPLETE)
    with worker_on(address, [], [PayloadInterceptor(externalizer)]) as hub_worker:
        hub_worker.start()
        assert answer.arrived.wait(10)
        hub_worker.stop()
    wait_for_our_threads()
    assert tokens(server, ABANDON) == []


# ---- an item that is being downloaded ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancelled", "ended", "failed"])
@pytest.mark.parametrize("error", [None, PayloadNotFoundError, TimeoutError])
def test_an_item_that_is_being_downloaded_is_abandoned_at_the_end_and_nothing_follows(
    error: type[Exception] | None, how: str, worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """The end does not wait for the download; whatever that ends with, the item is the server's again."""
    store.delay = lambda payload: 20.0
    if error is not None:
        store.downloading = raising(lambda: error("the download is over"))
    sender = serve(server, activity("slow", store.upload(LARGE.encode())))
    worker.read()
    wait_until(lambda: store.downloads == 1, what="the download")
    worker.end(how, sender)
    assert tokens(server, ABANDON) == ["slow"]
    store.released.set()
    wait_for_our_threads()
    assert tokens(server, COMPLETE) == []
    assert tokens(server, ABANDON) == ["slow"]


@pytest.mark.parametrize("how", ["cancelled", "ended", "failed"])
def test_items_that_wait_for_a_download_are_abandoned_and_neither_downloaded_nor_completed(
    how: str, address: str, server: ScriptedServer, store: ScriptedStore
) -> None:
    """With as many downloads under way as there may be, the next item waits in a queue, which nobody needs any more."""
    store.delay = lambda payload: 20.0
    first, second = store.upload(b"first" * 1_000), store.upload(b"second" * 1_000)
    sender = serve(server, activity("first", first), activity("second", second), activity("gone", gone(store)))
    with (
        Externalizer(store, concurrency=1, cache_bytes=0) as externalizer,
        grpc.insecure_channel(address) as channel,
    ):
        worker = Worker(channel, externalizer)
        worker.read()
        wait_until(lambda: store.downloads == 1, what="the download")
        worker.end(how, sender)
        assert sorted(tokens(server, ABANDON)) == ["first", "gone", "second"]
        store.released.set()
        wait_for_our_threads()
    assert store.downloads == 1
    assert tokens(server, COMPLETE) == []
    assert sorted(tokens(server, ABANDON)) == ["first", "gone", "second"]


# ---- an item that is abandoned -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancelled", "ended", "failed"])
def test_items_that_wait_for_their_delay_are_abandoned_at_the_end_once_each(
    how: str, worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """Nine deliveries of one activity find the store down: the last of them is to wait for more than 20 s."""
    store.downloading = raising(lambda: TimeoutError("no answer"))
    deliveries = [f"delivery-{number}" for number in range(9)]
    sender = serve(server, *(activity(token, store.upload(token.encode() * 200)) for token in deliveries))
    worker.read()
    wait_until(lambda: store.downloads == 9, what="the downloads")
    worker.end(how, sender)
    assert sorted(tokens(server, ABANDON)) == deliveries
    wait_for_our_threads()
    assert sorted(tokens(server, ABANDON)) == deliveries
    assert tokens(server, COMPLETE) == []


@pytest.mark.parametrize("how", ["cancelled", "ended", "failed"])
def test_an_item_that_is_being_abandoned_when_the_stream_ends_is_not_abandoned_twice(
    how: str, worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    store.downloading = raising(lambda: TimeoutError("no answer"))
    sender = serve(server, activity("held", store.upload(LARGE.encode())))
    answer = hold(server, ABANDON)
    worker.read()
    assert answer.arrived.wait(10)
    worker.end(how, sender)
    assert tokens(server, ABANDON) == ["held"]
    answer.released.set()
    wait_for_our_threads()
    assert tokens(server, ABANDON) == ["held"]


def test_an_item_whose_completion_was_refused_before_the_end_is_abandoned_once(
    worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """It waits for its delay, as one whose download failed: from here on the end of the stream has it."""
    sender = serve(server, activity("gone", gone(store)))
    answer = hold(server, COMPLETE, grpc.StatusCode.UNAVAILABLE)
    answer.released.set()
    worker.read()
    assert answer.arrived.wait(10)
    worker.end("cancelled", sender)
    wait_for_our_threads()
    assert tokens(server, COMPLETE) == ["gone"]
    assert tokens(server, ABANDON) == ["gone"]


# ---- an item that the worker has -----------------------------------------------------------------------------------


@pytest.mark.parametrize("result", ["small", LARGE])
def test_an_item_that_the_worker_is_completing_when_the_stream_ends_is_not_abandoned(
    result: str, worker: Worker, server: ScriptedServer
) -> None:
    """What was handed over is the worker's."""
    sender = serve(server)
    answer = hold(server, COMPLETE)
    worker.read()
    completion = pb.ActivityResponse(
        instanceId="order-1", taskId=7, completionToken="small", result=StringValue(value=result)
    )
    completing = threading.Thread(target=lambda: worker.stub.CompleteActivityTask(completion))
    completing.start()
    assert answer.arrived.wait(10)
    worker.end("cancelled", sender)
    answer.released.set()
    completing.join(10)
    assert not completing.is_alive()
    wait_for_our_threads()
    assert tokens(server, COMPLETE) == ["small"]
    assert tokens(server, ABANDON) == []


def test_an_item_whose_completion_could_not_be_stored_is_abandoned_at_the_end_once(
    worker: Worker, server: ScriptedServer, store: ScriptedStore
) -> None:
    """It is the stream's again until its delay is over."""
    sender = serve(server)
    worker.read()
    store.uploading = raising(lambda: TimeoutError("no answer"))
    completion = pb.ActivityResponse(
        instanceId="order-1", taskId=7, completionToken="small", result=StringValue(value=LARGE)
    )
    with contextlib.suppress(PayloadStoreUnavailableError):
        worker.stub.CompleteActivityTask(completion)
    worker.end("cancelled", sender)
    wait_for_our_threads()
    assert tokens(server, COMPLETE) == []
    assert tokens(server, ABANDON) == ["small"]
