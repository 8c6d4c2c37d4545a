"""GetWorkItems: what is handed over when, and how a stream ends."""

from __future__ import annotations

import gc
import logging
import threading
import time
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.call_forms import opened
from tests.support.senders import Sender, ends_with_an_error, read_all
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadStoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

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


def of_streams(form: Form) -> list[str]:
    """Threads of ours that are running, less those of the Externalizer."""
    return [name for name in form.left_over() if not name.startswith("durabletask-payloads_")]


def token_of(message: Message) -> str:
    assert isinstance(message, pb.WorkItem)
    return message.completionToken


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


def test_no_more_downloads_than_the_externalizer_allows(
    address: str, server: ScriptedServer, store: ScriptedStore
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
        opened("sync", address, externalizer) as form,
    ):
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        received = [token_of(stream.next()) for _ in range(12)]
        stream.cancel()
    assert sorted(received, key=int) == [str(number) for number in range(12)]
    assert max(at_once) == 2


def test_past_a_bounded_number_of_items_that_wait_reading_stops(
    address: str,
    server: ScriptedServer,
    store: ScriptedStore,
    externalizer: Externalizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("durabletask_payloads.interceptors.worker._stream.MOST_WAITING", 3)
    tokens = [store.upload(f"payload {number}".encode() * 200) for number in range(9)]
    server.answers["GetWorkItems"] = Sender(*(activity(str(number), token) for number, token in enumerate(tokens)))
    store.delay = lambda payload: 20.0
    with opened("sync", address, externalizer) as form:
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        reader = threading.Thread(target=lambda: ends_with_an_error(stream))
        reader.start()
        wait_until(lambda: store.downloads == 3, what="the downloads")
        time.sleep(0.2)  # for one more, which must not come
        assert store.downloads == 3
        stream.cancel()
        reader.join(30)
        store.released.set()
        assert not reader.is_alive()
    assert len(server.named("AbandonTaskActivityWorkItem")) in (3, 4)  # what was read is given back


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
    assert time.monotonic() - started < 15  # the download goes on
    if isinstance(caught.value, grpc.RpcError):
        assert caught.value.code() is grpc.StatusCode.CANCELLED
    assert_given_back(server)
    assert sender.was_cancelled.wait(30)
    with pytest.raises((grpc.RpcError, StopIteration)):  # it stays at its end
        stream.next()
    store.released.set()  # a thread that is in a download ends after it
    wait_until(lambda: not of_streams(form), what="the end of all that is ours")


def test_a_stream_that_nobody_holds_any_more_is_cancelled_and_what_is_held_given_back(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    stream, sender = held(form, server, store, Sender)
    del stream
    gc.collect()
    assert sender.was_cancelled.wait(30)
    wait_until(lambda: server.named("AbandonTaskActivityWorkItem") != [], what="the abandonment")
    assert_given_back(server)
    store.released.set()
    wait_until(lambda: not of_streams(form), what="the end of all that is ours")


def test_the_end_of_the_stream_is_passed_on_at_once_and_what_is_held_given_back(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    stream, sender = held(form, server, store, Sender)
    sender.ended.set()
    started = time.monotonic()
    with pytest.raises(StopIteration):
        stream.next()
    assert time.monotonic() - started < 15  # the download goes on
    assert_given_back(server)
    store.released.set()
    wait_until(lambda: not of_streams(form), what="the end of all that is ours")
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
    reader.join(30)
    assert not reader.is_alive()
    assert_given_back(server)


def test_items_are_given_back_though_the_first_time_there_is_no_thread_for_it(
    form: Form, server: ScriptedServer, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    refused: list[str] = []

    def refuse_once(thread: threading.Thread) -> None:
        if "abandoner" in thread.name and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    def fail(payload: bytes) -> None:
        raise TimeoutError("no answer")

    monkeypatch.setattr(threading.Thread, "start", refuse_once)
    store.downloading = fail
    sender = Sender(*(activity(token, store.upload(LARGE.encode())) for token in ("first", "second")))
    server.answers["GetWorkItems"] = sender
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest(), timeout=30)
    reader = threading.Thread(target=lambda: ends_with_an_error(stream))
    reader.start()
    wait_until(lambda: len(server.named("AbandonTaskActivityWorkItem")) >= 2, what="the abandonment")
    assert len(refused) == 1
    stream.cancel()
    reader.join(30)


@pytest.mark.parametrize(
    ("details", "is_size"),
    [
        ("CLIENT: Received message larger than max (5000000 vs. 4194304)", True),
        ("SERVER: Sent message larger than max (5000000 vs. 4194304)", True),
        ("Too many requests: the task hub is throttled", False),
    ],
    ids=["received", "sent", "throttled"],
)
def test_a_history_over_the_receive_limit_is_logged_with_the_remedy_and_a_quota_is_not(
    form: Form, server: ScriptedServer, caplog: pytest.LogCaptureFixture, details: str, is_size: bool
) -> None:
    sender = Sender(code=grpc.StatusCode.RESOURCE_EXHAUSTED, details=details)
    sender.ended.set()
    server.answers["GetWorkItems"] = sender
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.RpcError):
        stream.next()
    for remedy in ("GrpcChannelOptions(max_receive_message_length=...)", "threshold_bytes"):
        assert (remedy in caplog.text) is is_size


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
