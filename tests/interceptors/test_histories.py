"""StreamInstanceHistory, in both forms: order, read-ahead, and how a stream ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.call_forms import AioForm, SyncForm, opened
from tests.support.senders import Sender, ends_with_an_error, read_all
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadNotFoundError
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message
    from tests.support.call_forms import Form, Stream
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

LARGE = "x" * 5_000


def chunk(number: int, text: str) -> pb.HistoryChunk:
    event = pb.HistoryEvent(eventId=number, eventRaised=pb.EventRaisedEvent(input=StringValue(value=text)))
    return pb.HistoryChunk(events=[event])


def chunks_of(stream: Stream) -> list[pb.HistoryChunk]:
    return [message for message in read_all(stream) if isinstance(message, pb.HistoryChunk)]


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


def test_a_history_keeps_its_order_where_what_is_later_is_there_first(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    texts = [f"{number}" * 2_000 if number % 3 else f"small {number}" for number in range(9)]
    store.delay = lambda payload: 0.2 - 0.02 * int(payload[:1])
    sender = Sender(
        *(chunk(number, store.upload(text.encode()) if number % 3 else text) for number, text in enumerate(texts))
    )
    sender.ended.set()
    server.answers["StreamInstanceHistory"] = sender
    received = chunks_of(form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest(instanceId="order-1")))
    assert [event.eventRaised.input.value for message in received for event in message.events] == texts


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
    assert sender.was_cancelled.wait(30)
    wait_until(lambda: not form.left_over(), what="the end of all that is ours")


class PanicError(BaseException):
    """As an extension in Rust raises it: no Exception."""


def test_whatever_a_store_raises_ends_a_history(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    def panic(payload: bytes) -> None:
        raise PanicError

    store.downloading = panic
    sender = Sender(chunk(0, store.upload(LARGE.encode())))
    server.answers["StreamInstanceHistory"] = sender
    stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
    with pytest.raises(PanicError):
        stream.next()
    assert sender.was_cancelled.wait(30)
    wait_until(lambda: not form.left_over(), what="the end of all that is ours")


@pytest.mark.parametrize("name", ["durabletask-payloads-reader", "durabletask-payloads-deexternalize_1"])
def test_a_history_without_a_further_thread(
    name: str,
    address: str,
    externalizer: Externalizer,
    server: ScriptedServer,
    store: ScriptedStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is read without those of the pool; without its reader it ends with what Python says."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    store.delay = lambda payload: 0.1  # the first thread is not idle when there is something for the next one
    sender = Sender(*(chunk(number, store.upload(f"{number}".encode() * 5_000)) for number in range(9)))
    server.answers["StreamInstanceHistory"] = sender
    with opened("sync", address, externalizer) as form:
        stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
        if name.endswith("reader"):
            for _ in range(2):
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    stream.next()
            assert sender.was_cancelled.wait(30)
        else:
            sender.ended.set()
            assert [message.events[0].eventId for message in chunks_of(stream)] == list(range(9))
            assert store.downloads == 9
        wait_until(lambda: not form.left_over(), what="the end of all that is ours")


class Generator(grpc.UnaryStreamClientInterceptor):
    """An interceptor that puts a generator in the place of a call, as some do that trace."""

    def intercept_unary_stream(  # type: ignore[override]  # gRPC asks for a call
        self, continuation: Callable[..., Iterator[Message]], details: grpc.ClientCallDetails, request: Message
    ) -> Iterator[Message]:  # pyright: ignore[reportIncompatibleMethodOverride]  # likewise
        yield from continuation(details, request)


def test_a_history_through_an_interceptor_that_returns_a_generator(
    address: str, externalizer: Externalizer, server: ScriptedServer, store: ScriptedStore
) -> None:
    """It cannot be cancelled. The error is that of the payload all the same, and to drop it is silent."""
    gone = store.upload(LARGE.encode())
    store.delete(gone)
    sender = Sender(chunk(0, store.upload(LARGE.encode())), chunk(1, gone))
    sender.ended.set()
    server.answers["StreamInstanceHistory"] = sender
    with grpc.insecure_channel(address) as channel:
        form = SyncForm(grpc.intercept_channel(channel, PayloadInterceptor(externalizer), Generator()))
        stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
        stream.next()
        with pytest.raises(PayloadNotFoundError):
            stream.next()
        dropped = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
        dropped.next()
        dropped.cancel()
        del dropped
        wait_until(lambda: not form.left_over(), what="the end of all that is ours")


def test_an_error_of_a_history_is_passed_on_at_once(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    store.delay = lambda payload: 20.0
    sender = Sender(chunk(0, store.upload(LARGE.encode())), code=grpc.StatusCode.UNAVAILABLE)
    server.answers["StreamInstanceHistory"] = sender
    stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
    reader = threading.Thread(target=lambda: ends_with_an_error(stream))
    reader.start()
    wait_until(lambda: store.downloads == 1, what="the download")
    sender.ended.set()
    reader.join(30)
    assert not reader.is_alive()
    store.released.set()
    wait_until(lambda: not form.left_over(), what="the end of all that is ours")


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
    wait_until(lambda: not form.left_over(), what="the end of all that is ours")


@pytest.mark.parametrize("waits_for", ["the server", "a download", "its reader"])
def test_a_history_that_nobody_holds_any_more_is_cancelled(
    waits_for: str, address: str, externalizer: Externalizer, server: ScriptedServer, store: ScriptedStore
) -> None:
    """As gRPC does with its own; grpc.aio does not. It would wait for ever for somebody to take what it has read."""
    chunks = [chunk(number, store.upload(f"{number}".encode() * 5_000)) for number in range(2)]
    if waits_for == "a download":
        store.delay = lambda payload: 20.0 if payload.startswith(b"1") else 0.0
    elif waits_for == "its reader":
        chunks += [chunk(number, store.upload(f"{number}".encode() * 5_000)) for number in range(2, 40)]
    sender = Sender(*chunks)
    server.answers["StreamInstanceHistory"] = sender
    with opened("sync", address, externalizer) as form:
        stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
        stream.next()
        wait_until(lambda: store.downloads > 1, what="the read-ahead")
        del stream
        gc.collect()
        assert sender.was_cancelled.wait(30)
        store.released.set()
        wait_until(lambda: not form.left_over(), what="the end of all that is ours")


def test_an_aio_reader_that_is_cancelled_cancels_the_stream(
    address: str, server: ScriptedServer, store: ScriptedStore, externalizer: Externalizer
) -> None:
    """As a stream of grpc.aio does."""
    store.delay = lambda payload: 20.0
    sender = Sender(chunk(0, store.upload(LARGE.encode())))
    server.answers["StreamInstanceHistory"] = sender
    with opened("aio", address, externalizer) as form:
        assert isinstance(form, AioForm)

        async def use() -> None:
            call = form.stub.StreamInstanceHistory(pb.StreamInstanceHistoryRequest())
            task = asyncio.ensure_future(call.read())
            while not store.downloads:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        form.run(use())
        assert sender.was_cancelled.wait(30)
        store.released.set()
        wait_until(lambda: not form.left_over(), what="the end of all that is ours")
