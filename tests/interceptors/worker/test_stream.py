"""GetWorkItems and StreamInstanceHistory, in both forms: what is handed over when, and how a stream ends."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.backend import wait_until
from tests.support.call_forms import AioForm, opened

from durabletask_payloads import Externalizer, PayloadNotFoundError, PayloadStoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message
    from tests.support.call_forms import Form, Stream
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

LARGE = "x" * 5_000


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


def chunk(number: int, text: str) -> pb.HistoryChunk:
    event = pb.HistoryEvent(eventId=number, eventRaised=pb.EventRaisedEvent(input=StringValue(value=text)))
    return pb.HistoryChunk(events=[event])


class Sender:
    """Answers a streaming RPC with messages, and then waits until the client is gone or `ended` is set."""

    def __init__(self, *messages: Message, code: grpc.StatusCode | None = None) -> None:
        self.messages = messages
        self.code = code
        self.ended = threading.Event()
        self.was_cancelled = threading.Event()

    def __call__(self, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        context.add_callback(self.was_cancelled.set)
        yield from self.messages
        while context.is_active() and not self.ended.wait(0.01):
            pass
        if self.code is not None and context.is_active():
            context.abort(self.code, "the server is going")


def token_of(message: Message) -> str:
    assert isinstance(message, pb.WorkItem)
    return message.completionToken


def read_all(stream: Stream) -> list[Message]:
    messages: list[Message] = []
    while True:
        try:
            messages.append(stream.next())
        except StopIteration:
            return messages


# ---- what is asked for ---------------------------------------------------------------------------------------------


def test_the_capability_is_named_once_and_the_request_is_left_alone(form: Form, server: ScriptedServer) -> None:
    for capabilities in ([], [pb.WORKER_CAPABILITY_LARGE_PAYLOADS]):
        request = pb.GetWorkItemsRequest(maxConcurrentActivityWorkItems=3, capabilities=capabilities)
        assert read_all(form.stream("GetWorkItems", request)) == []
        assert list(request.capabilities) == capabilities
    for sent in server.named("GetWorkItems"):
        assert isinstance(sent, pb.GetWorkItemsRequest)
        assert list(sent.capabilities) == [pb.WORKER_CAPABILITY_LARGE_PAYLOADS]
        assert sent.maxConcurrentActivityWorkItems == 3


# ---- what is handed over -------------------------------------------------------------------------------------------


def test_work_items_are_resolved_and_what_has_no_token_does_not_wait(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    slow, quick = store.upload(b"slow" * 1_000), store.upload(b"quick" * 1_000)
    store.delay = lambda payload: 0.5 if payload.startswith(b"slow") else 0.0
    small = [activity(f"small-{number}") for number in range(50)]
    ping = pb.WorkItem(healthPing=pb.HealthPing())
    sender = Sender(activity("slow", slow), activity("quick", quick), ping, *small)
    server.answers["GetWorkItems"] = sender
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    received = [stream.next() for _ in range(53)]
    tokens = [token_of(message) for message in received]
    assert tokens[-1] == "slow"
    assert sorted(tokens) == sorted(["slow", "quick", "", *(f"small-{number}" for number in range(50))])
    assert [text for text in tokens if text.startswith("small")] == [f"small-{number}" for number in range(50)]
    last = received[-1]
    assert isinstance(last, pb.WorkItem)
    assert last.activityRequest.input.value == "slow" * 1_000
    sender.ended.set()
    assert read_all(stream) == []


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_no_more_downloads_than_the_externalizer_allows(
    kind: str, address: str, server: ScriptedServer, store: ScriptedStore
) -> None:
    tokens = [store.upload(f"payload {number}".encode() * 200) for number in range(12)]
    server.answers["GetWorkItems"] = Sender(*(activity(str(number), token) for number, token in enumerate(tokens)))
    at_once: list[int] = []
    done: list[bytes] = []
    store.downloading = done.append

    def delay(payload: bytes) -> float:
        at_once.append(store.downloads - len(done))
        return 0.02

    store.delay = delay
    with (
        Externalizer(store, concurrency=2, cache_bytes=0) as externalizer,
        opened(kind, address, externalizer) as form,
    ):
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        received = [token_of(stream.next()) for _ in range(12)]
        stream.cancel()
    assert sorted(received, key=int) == [str(number) for number in range(12)]
    assert max(at_once) == 2


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_past_a_bounded_number_of_items_that_wait_reading_stops(
    kind: str,
    address: str,
    server: ScriptedServer,
    store: ScriptedStore,
    externalizer: Externalizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for streams in ("_streams", "_aio_streams"):
        monkeypatch.setattr(f"durabletask_payloads.interceptors.{streams}.MOST_WAITING", 3)
    tokens = [store.upload(f"payload {number}".encode() * 200) for number in range(9)]
    server.answers["GetWorkItems"] = Sender(*(activity(str(number), token) for number, token in enumerate(tokens)))
    store.delay = lambda payload: 20.0
    with opened(kind, address, externalizer) as form:
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        reader = threading.Thread(target=lambda: ends_with_an_error(stream))
        reader.start()
        wait_until(lambda: store.downloads == 3, what="the downloads")
        time.sleep(0.2)  # for one more, which must not come
        assert store.downloads == 3
        stream.cancel()
        reader.join(5)
        store.released.set()
        assert not reader.is_alive()
    assert len(server.named("AbandonTaskActivityWorkItem")) in (3, 4)  # what was read is given back


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_a_history_is_resolved_ahead_of_the_reader_by_a_bounded_number(
    kind: str, address: str, server: ScriptedServer, store: ScriptedStore
) -> None:
    tokens = [store.upload(f"payload {number}".encode() * 200) for number in range(9)]
    sender = Sender(*(chunk(number, token) for number, token in enumerate(tokens)))
    sender.ended.set()
    server.answers["StreamInstanceHistory"] = sender
    with (
        Externalizer(store, concurrency=2, cache_bytes=0) as externalizer,
        opened(kind, address, externalizer) as form,
    ):
        stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
        stream.next()
        wait_until(lambda: store.downloads == 3, what="the look-ahead")
        time.sleep(0.2)  # for one more, which must not come
        assert store.downloads == 3
        assert len(read_all(stream)) == 8


def ends_with_an_error(stream: Stream) -> None:
    with pytest.raises((grpc.RpcError, InterruptedError)):
        stream.next()


# ---- how a stream ends ---------------------------------------------------------------------------------------------


def held(
    form: Form, server: ScriptedServer, store: ScriptedStore, sender: Callable[..., Sender]
) -> tuple[Stream, Sender]:
    """A stream that holds an item whose download takes 20 s, of which a small one was read."""
    store.delay = lambda payload: 20.0
    made = sender(activity("held", store.upload(LARGE.encode())), activity("small"))
    server.answers["GetWorkItems"] = made
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    assert token_of(stream.next()) == "small"
    wait_until(lambda: store.downloads == 1, what="the download")
    return stream, made


def assert_given_back(server: ScriptedServer, token: str = "held") -> None:
    (abandoned,) = server.named("AbandonTaskActivityWorkItem")
    assert isinstance(abandoned, pb.AbandonActivityTaskRequest)
    assert abandoned.completionToken == token


def test_cancel_ends_the_stream_at_once_and_gives_back_what_is_held(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """The reference holds nothing: it downloads on the threads of the worker, which `stop` waits for."""
    stream, sender = held(form, server, store, Sender)
    started = time.monotonic()
    stream.cancel()
    with pytest.raises((grpc.RpcError, InterruptedError)) as caught:
        stream.next()
    assert time.monotonic() - started < 1.5
    if isinstance(caught.value, grpc.RpcError):
        assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert_given_back(server)
    assert sender.was_cancelled.wait(5)
    with pytest.raises((grpc.RpcError, StopIteration)):  # it stays at its end
        stream.next()
    store.released.set()  # a thread that is in a download ends after it
    wait_until(lambda: not form.left_over(), seconds=5, what="the end of all that is ours")


def test_the_end_of_the_stream_is_passed_on_at_once_and_what_is_held_given_back(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    stream, sender = held(form, server, store, Sender)
    sender.ended.set()
    started = time.monotonic()
    with pytest.raises(StopIteration):
        stream.next()
    assert time.monotonic() - started < 1.5
    assert_given_back(server)
    store.released.set()
    wait_until(lambda: not form.left_over(), seconds=5, what="the end of all that is ours")
    with pytest.raises(StopIteration):  # not the item that was given back
        stream.next()


def test_an_error_of_the_stream_is_passed_on_at_once_and_what_is_held_given_back(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    stream, sender = held(form, server, store, lambda *items: Sender(*items, code=grpc.StatusCode.UNAVAILABLE))
    sender.ended.set()
    with pytest.raises(grpc.RpcError, match="the server is going") as caught:
        stream.next()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert_given_back(server)
    store.released.set()


def test_the_deadline_of_the_stream_is_passed_on_while_a_download_runs(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    store.delay = lambda payload: 20.0
    server.answers["GetWorkItems"] = Sender(activity("held", store.upload(LARGE.encode())))
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest(), timeout=0.5)
    with pytest.raises(grpc.RpcError) as caught:
        stream.next()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert_given_back(server)
    store.released.set()


def test_an_item_that_waits_to_be_given_back_is_given_back_when_the_stream_ends(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    def fail(payload: bytes) -> None:
        raise TimeoutError("no answer")

    store.downloading = fail
    sender = Sender(activity("held", store.upload(LARGE.encode())))
    server.answers["GetWorkItems"] = sender
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest(), timeout=30)
    reader = threading.Thread(target=lambda: ends_with_an_error(stream))
    reader.start()
    wait_until(lambda: store.downloads == 1, what="the download")
    stream.cancel()
    reader.join(5)
    assert not reader.is_alive()
    assert_given_back(server)


def test_a_history_over_the_receive_limit_is_logged_with_the_remedy(
    form: Form, server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(code=grpc.StatusCode.RESOURCE_EXHAUSTED)
    sender.ended.set()
    server.answers["GetWorkItems"] = sender
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.RpcError):
        stream.next()
    assert "GrpcChannelOptions(max_receive_message_length=...)" in caplog.text
    assert "threshold_bytes" in caplog.text


def test_a_completion_that_finds_the_store_down_after_the_stream_has_ended_is_given_back_at_once(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    sender = Sender(activity("token-1"))
    server.answers["GetWorkItems"] = sender
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    stream.next()
    sender.ended.set()
    with pytest.raises(StopIteration):
        stream.next()

    def fail(payload: bytes) -> None:
        raise TimeoutError("no answer")

    store.uploading = fail
    completion = pb.ActivityResponse(
        instanceId="order-1", taskId=7, completionToken="token-1", result=StringValue(value=LARGE)
    )
    with pytest.raises(PayloadStoreUnavailableError):
        form.call("CompleteActivityTask", completion)
    assert_given_back(server, "token-1")


def test_an_aio_reader_that_is_cancelled_cancels_the_stream(
    address: str, server: ScriptedServer, store: ScriptedStore, externalizer: Externalizer
) -> None:
    """As a stream of grpc.aio does."""
    store.delay = lambda payload: 20.0
    sender = Sender(activity("held", store.upload(LARGE.encode())))
    server.answers["GetWorkItems"] = sender
    with opened("aio", address, externalizer) as form:
        assert isinstance(form, AioForm)

        async def use() -> None:
            call = form.stub.GetWorkItems(pb.GetWorkItemsRequest())
            task = asyncio.ensure_future(call.read())
            while not store.downloads:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not server.named("AbandonTaskActivityWorkItem"):
                await asyncio.sleep(0.01)

        form.run(use())
        assert sender.was_cancelled.wait(5)
        wait_until(lambda: not form.left_over(), seconds=5, what="the end of all that is ours")
    assert_given_back(server)


# ---- histories -----------------------------------------------------------------------------------------------------


def test_a_history_keeps_its_order_and_is_resolved_ahead(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    texts = [f"{number}" * 2_000 if number % 3 else f"small {number}" for number in range(9)]
    store.delay = lambda payload: 0.4 - 0.04 * int(payload[:1])
    sender = Sender(
        *(chunk(number, store.upload(text.encode()) if number % 3 else text) for number, text in enumerate(texts))
    )
    sender.ended.set()
    server.answers["StreamInstanceHistory"] = sender
    started = time.monotonic()
    received = read_all(form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(instanceId="order-1")))
    assert time.monotonic() - started < 1.2  # one after the other it is more than 1.3
    values: list[str] = []
    for message in received:
        assert isinstance(message, pb.HistoryChunk)
        values += [event.eventRaised.input.value for event in message.events]
    assert values == texts


def test_a_history_with_a_payload_that_is_gone_is_our_error_with_instance_and_field(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    gone = store.upload(LARGE.encode())
    store.delete(gone)
    sender = Sender(chunk(0, "small"), chunk(1, gone), chunk(2, "small"))
    server.answers["StreamInstanceHistory"] = sender
    stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(instanceId="order-1"))
    stream.next()
    with pytest.raises(PayloadNotFoundError, match=rf"instance order-1: EventRaisedEvent\.input: .*{gone}"):
        stream.next()
    assert sender.was_cancelled.wait(5)
    wait_until(lambda: not form.left_over(), seconds=5, what="the end of all that is ours")


def test_an_error_of_a_history_is_passed_on_at_once(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    store.delay = lambda payload: 20.0
    sender = Sender(chunk(0, store.upload(LARGE.encode())), code=grpc.StatusCode.UNAVAILABLE)
    server.answers["StreamInstanceHistory"] = sender
    stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
    reader = threading.Thread(target=lambda: ends_with_an_error(stream))
    reader.start()
    wait_until(lambda: store.downloads == 1, what="the download")
    sender.ended.set()
    reader.join(5)
    assert not reader.is_alive()
    store.released.set()
    wait_until(lambda: not form.left_over(), seconds=5, what="the end of all that is ours")


def test_a_history_can_be_cancelled_while_it_is_resolved_and_keeps_its_deadline(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    store.delay = lambda payload: 20.0
    sender = Sender(chunk(0, store.upload(LARGE.encode())))
    sender.ended.set()
    server.answers["StreamInstanceHistory"] = sender
    stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(), timeout=0.5)
    with pytest.raises(grpc.RpcError) as caught:
        stream.next()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
    threading.Timer(0.2, stream.cancel).start()
    with pytest.raises((grpc.RpcError, InterruptedError)):
        stream.next()
    store.released.set()
    wait_until(lambda: not form.left_over(), seconds=5, what="the end of all that is ours")
