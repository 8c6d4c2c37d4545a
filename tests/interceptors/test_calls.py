"""The calls that the interceptors return keep what grpc's own have."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, TypeVar, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.call_forms import AioForm, opened
from tests.support.scripted_store import MAXIMUM, ScriptedStore
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadNotFoundError, PayloadTooLargeError
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from google.protobuf.message import Message
    from grpc import _CallFuture, _CallIterator  # pyright: ignore[reportPrivateUsage] # they have no public name
    from tests.support.server import ScriptedServer

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
LARGE = "x" * 5_000


def start(text: str = LARGE) -> pb.CreateInstanceRequest:
    return pb.CreateInstanceRequest(instanceId="order-1", name="settle", input=StringValue(value=text))


def state_of(token: str) -> pb.GetInstanceResponse:
    state = pb.OrchestrationState(instanceId="order-1", output=StringValue(value=token))
    return pb.GetInstanceResponse(exists=True, orchestrationState=state)


@pytest.fixture
def channel(address: str, externalizer: Externalizer) -> Generator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield grpc.intercept_channel(channel, PayloadInterceptor(externalizer))


@pytest.fixture
def stub(channel: grpc.Channel) -> stubs.TaskHubSidecarServiceStub:
    return stubs.TaskHubSidecarServiceStub(channel)


def output_of(response: object) -> str:
    assert isinstance(response, pb.GetInstanceResponse)
    return response.orchestrationState.output.value


# ---- sync, unary ---------------------------------------------------------------------------------------------------


def test_with_call_returns_the_resolved_response_and_the_call(
    stub: stubs.TaskHubSidecarServiceStub, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last", "2"),))
        return state_of(token)

    server.answers["GetInstance"] = answer
    response, call = stub.GetInstance.with_call(pb.GetInstanceRequest(instanceId="order-1"), timeout=5)
    assert output_of(response) == LARGE
    assert call.code() is grpc.StatusCode.OK
    assert ("first", "1") in tuple(call.initial_metadata())
    assert ("last", "2") in tuple(call.trailing_metadata())


def test_a_future_has_the_whole_surface_and_the_resolved_response(
    stub: stubs.TaskHubSidecarServiceStub, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())
    go = threading.Event()

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        go.wait(10)
        context.set_trailing_metadata((("last", "2"),))
        return state_of(token)

    server.answers["GetInstance"] = answer
    done: list[object] = []
    ended = threading.Event()
    call = future(stub.GetInstance, pb.GetInstanceRequest(instanceId="order-1"), timeout=10)
    call.add_done_callback(done.append)
    assert call.add_callback(ended.set)
    assert (call.done(), call.running(), call.cancelled(), call.is_active()) == (False, True, False, True)
    assert 5 < call.time_remaining() <= 10
    with pytest.raises(grpc.FutureTimeoutError):
        call.result(timeout=0.01)
    assert store.downloads == 0
    go.set()
    assert output_of(call.result(timeout=30)) == LARGE
    assert output_of(call.result()) == LARGE
    assert store.downloads == 1
    assert call.exception() is None
    assert call.traceback() is None  # pyright: ignore[reportUnknownMemberType] # the stubs do not know it either
    assert (call.done(), call.running()) == (True, False)
    assert call.code() is grpc.StatusCode.OK
    assert call.details() == ""
    assert call.initial_metadata() is not None
    assert ("last", "2") in tuple(call.trailing_metadata())
    assert ended.wait(30)
    wait_until(lambda: done == [call], what="the callback")


def test_a_future_can_be_cancelled(stub: stubs.TaskHubSidecarServiceStub, server: ScriptedServer) -> None:
    go = threading.Event()
    server.answers["GetInstance"] = lambda request, context: (go.wait(30), pb.GetInstanceResponse())[1]
    call = future(stub.GetInstance, pb.GetInstanceRequest())
    assert call.cancel()
    with pytest.raises(grpc.FutureCancelledError):
        call.result()
    assert call.cancelled()
    go.set()


def test_a_future_raises_our_errors_and_grpc_errors(
    stub: stubs.TaskHubSidecarServiceStub, server: ScriptedServer, store: ScriptedStore
) -> None:
    gone = store.upload(LARGE.encode())
    store.delete(gone)
    answer = state_of(gone)
    answer.orchestrationState.orchestrationStatus = pb.ORCHESTRATION_STATUS_COMPLETED
    server.answers["GetInstance"] = lambda request, context: answer
    call = future(stub.GetInstance, pb.GetInstanceRequest())
    with pytest.raises(PayloadNotFoundError, match=r"instance order-1: OrchestrationState\.output"):
        call.result()
    assert isinstance(call.exception(), PayloadNotFoundError)
    assert call.exception() is call.exception()
    assert call.traceback() is not None  # pyright: ignore[reportUnknownMemberType] # as above

    server.answers["GetInstance"] = lambda request, context: context.abort(grpc.StatusCode.NOT_FOUND, "no")
    call = future(stub.GetInstance, pb.GetInstanceRequest())
    assert isinstance(call.exception(), grpc.RpcError)
    with pytest.raises(grpc.RpcError, match="no"):
        call.result()

    call = future(stub.StartInstance, start("x" * (MAXIMUM + 1)))
    assert isinstance(call.exception(), PayloadTooLargeError)


def test_the_request_of_a_future_is_as_it_was_at_once_and_its_payload_stays(
    stub: stubs.TaskHubSidecarServiceStub, server: ScriptedServer, store: ScriptedStore
) -> None:
    go = threading.Event()

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        go.wait(10)
        context.abort(grpc.StatusCode.ALREADY_EXISTS, "it exists")

    server.answers["StartInstance"] = answer
    request = start()
    call = future(stub.StartInstance, request)
    assert request == start()
    assert len(store) == 1
    go.set()
    assert isinstance(call.exception(), grpc.RpcError)
    assert len(store) == 1
    (sent,) = server.named("StartInstance")
    assert isinstance(sent, pb.CreateInstanceRequest)
    assert sent.input.value.startswith("blob:v1:")


def test_a_call_that_was_not_sent_is_one_that_is_over(
    stub: stubs.TaskHubSidecarServiceStub, server: ScriptedServer, store: ScriptedStore
) -> None:
    call = future(stub.StartInstance, start(), timeout=1e-6)  # less than any upload takes
    assert server.named("StartInstance") == []
    assert len(store) == 0
    assert (call.code(), call.cancelled(), call.running(), call.done(), call.is_active(), call.time_remaining()) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        False,
        False,
        True,
        False,
        0.0,
    )
    assert "was not sent" in (call.details() or "")
    assert list(call.initial_metadata()) == list(call.trailing_metadata()) == []
    assert not call.cancel()
    assert not call.add_callback(lambda: None)
    told: list[object] = []
    call.add_done_callback(told.append)
    with pytest.raises(grpc.RpcError) as raised:
        call.result()
    assert [*told, call.exception(), raised.value] == [call] * 3  # as with grpc's own, the error is the call


def future(rpc: object, request: Message, *, timeout: float | None = None) -> _CallFuture[Message]:
    call = cast("Callable[..., _CallFuture[Message]]", getattr(rpc, "future"))  # noqa: B009 - the stubs leave it out
    return call(request, timeout=timeout)


class Watch(grpc.UnaryUnaryClientInterceptor):
    """Below ours: sees what is passed on."""

    def __init__(self) -> None:
        self.details: list[grpc.ClientCallDetails] = []
        self.requests: list[object] = []

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], _CallFuture[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> _CallFuture[_Response]:
        self.details.append(client_call_details)
        self.requests.append(request)
        return continuation(client_call_details, request)


@pytest.mark.parametrize("text", ["small", LARGE])
def test_the_details_of_a_call_stay_and_what_is_small_is_not_copied(
    text: str, address: str, externalizer: Externalizer, server: ScriptedServer
) -> None:
    watch = Watch()
    credentials = grpc.access_token_call_credentials("secret")
    request = start(text)
    with grpc.insecure_channel(address) as channel:
        intercepted = grpc.intercept_channel(channel, PayloadInterceptor(externalizer), watch)
        stub = stubs.TaskHubSidecarServiceStub(intercepted)
        with pytest.raises(grpc.RpcError):  # no credentials on a channel without TLS
            stub.StartInstance(
                request,
                timeout=7.5,
                metadata=(("key", "value"),),
                credentials=credentials,
                wait_for_ready=True,
                compression=grpc.Compression.Gzip,
            )
    (details,) = watch.details
    assert watch.requests == [request]
    assert watch.requests[0] is request
    assert details.method == "/TaskHubSidecarService/StartInstance"
    assert details.timeout is not None
    assert details.timeout == 7.5 if text == "small" else 7 < details.timeout < 7.5
    assert details.metadata == (("key", "value"),)
    assert details.credentials is credentials
    assert details.wait_for_ready is True
    assert details.compression is grpc.Compression.Gzip


def test_calls_of_other_services_are_not_touched(address: str, externalizer: Externalizer) -> None:
    """The preview of the scheduler's sandboxes has a service of its own, on the same channel."""
    with grpc.insecure_channel(address) as channel:
        intercepted = grpc.intercept_channel(channel, PayloadInterceptor(externalizer))
        call = intercepted.unary_unary(
            "/Another.Service/StartInstance",
            pb.CreateInstanceRequest.SerializeToString,
            pb.CreateInstanceResponse.FromString,
        )
        call(start())
        stream = intercepted.unary_stream(
            "/Another.Service/GetWorkItems", pb.GetWorkItemsRequest.SerializeToString, pb.WorkItem.FromString
        )
        assert list(stream(pb.GetWorkItemsRequest())) == []


@pytest.mark.parametrize("method", ["CompleteActivityTask", "CompleteOrchestratorTask", "CompleteEntityTask"])
def test_a_completion_that_is_not_known_is_passed_on(
    method: str, address: str, externalizer: Externalizer, server: ScriptedServer
) -> None:
    """As of a proxy, which serializes nothing, or of another version of the protos."""
    with grpc.insecure_channel(address) as channel:
        intercepted = grpc.intercept_channel(channel, PayloadInterceptor(externalizer))
        raw: grpc.UnaryUnaryMultiCallable[bytes, bytes] = intercepted.unary_unary(f"/TaskHubSidecarService/{method}")
        assert raw(b"") == b""
        other = intercepted.unary_unary(
            f"/TaskHubSidecarService/{method}", empty_pb2.Empty.SerializeToString, pb.CompleteTaskResponse.FromString
        )
        other(empty_pb2.Empty())
    assert [request.ByteSize() for request in server.named(method)] == [0, 0]


def test_the_method_of_a_completion_may_be_bytes(
    address: str, externalizer: Externalizer, server: ScriptedServer, store: ScriptedStore
) -> None:
    with grpc.insecure_channel(address) as channel:
        intercepted = grpc.intercept_channel(channel, PayloadInterceptor(externalizer))
        method = cast("str", b"/TaskHubSidecarService/CompleteActivityTask")  # grpc takes it, its types do not
        call = intercepted.unary_unary(
            method, pb.ActivityResponse.SerializeToString, pb.CompleteTaskResponse.FromString
        )
        call(pb.ActivityResponse(instanceId="order-1", result=StringValue(value="x" * (MAXIMUM + 1))))
    (sent,) = server.named("CompleteActivityTask")
    assert isinstance(sent, pb.ActivityResponse)
    assert f"has {MAXIMUM + 1} bytes" in sent.failureDetails.errorMessage


class _Cancels(grpc.UnaryUnaryClientInterceptor):
    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], _CallFuture[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> _CallFuture[_Response]:
        call = continuation(client_call_details, request)
        call.cancel()
        return call


def test_a_completion_that_an_interceptor_below_cancels_is_cancelled_for_the_caller(
    address: str, externalizer: Externalizer, server: ScriptedServer
) -> None:
    released = threading.Event()

    def wait(request: Message, context: grpc.ServicerContext) -> Message:
        released.wait(10)
        return pb.CompleteTaskResponse()

    server.answers["CompleteActivityTask"] = wait
    with grpc.insecure_channel(address) as channel:
        intercepted = grpc.intercept_channel(channel, PayloadInterceptor(externalizer), _Cancels())
        call = stubs.TaskHubSidecarServiceStub(intercepted).CompleteActivityTask.future(pb.ActivityResponse())
        assert call.code() is grpc.StatusCode.CANCELLED
        assert call.cancelled()
    released.set()


class _Raises(grpc.UnaryUnaryClientInterceptor):
    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], _CallFuture[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> _CallFuture[_Response]:
        continuation(client_call_details, request).result()
        raise self._error("after it was sent")


@pytest.mark.parametrize(
    "error", [KeyError, KeyboardInterrupt]
)  # gRPC makes a call of the one, and lets the other pass
@pytest.mark.parametrize(
    ("rpc", "request_of_it"),
    [
        ("StartInstance", start()),
        ("CompleteActivityTask", pb.ActivityResponse(instanceId="order-1", result=StringValue(value=LARGE))),
    ],
)
def test_what_was_uploaded_stays_when_an_interceptor_below_raises(
    rpc: str,
    request_of_it: Message,
    error: type[BaseException],
    address: str,
    store: ScriptedStore,
    server: ScriptedServer,
) -> None:
    before = request_of_it.SerializeToString()
    with Externalizer(store) as externalizer, grpc.insecure_channel(address) as channel:
        stub = stubs.TaskHubSidecarServiceStub(
            grpc.intercept_channel(channel, PayloadInterceptor(externalizer), _Raises(error))
        )
        call = cast("Callable[[Message], Message]", getattr(stub, rpc))  # all of them are
        with pytest.raises(error, match="after it was sent"):
            call(request_of_it)
    assert len(server.named(rpc)) == 1
    assert len(store) == 1
    assert request_of_it.SerializeToString() == before


# ---- sync, streams -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rpc", ["GetWorkItems", "StreamInstanceHistory"])
def test_a_stream_has_the_whole_surface(
    rpc: str, stub: stubs.TaskHubSidecarServiceStub, server: ScriptedServer
) -> None:
    go = threading.Event()

    def answer(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        go.wait(10)
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last", "2"),))
        yield from ()

    server.answers[rpc] = answer
    request: Message = pb.GetWorkItemsRequest() if rpc == "GetWorkItems" else pb.StreamInstanceHistoryRequest()
    call = cast("Callable[..., _CallIterator[Message]]", getattr(stub, rpc))(request, timeout=10)  # both are
    done: list[object] = []
    ended = threading.Event()
    assert call.add_callback(ended.set)
    as_future = cast("grpc.Future[Message]", call)  # as grpc's own streams are
    as_future.add_done_callback(done.append)
    assert 5 < call.time_remaining() <= 10
    go.set()
    assert iter(call) is call
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK
    assert call.details() == ""
    assert ("first", "1") in tuple(call.initial_metadata())
    assert ("last", "2") in tuple(call.trailing_metadata())
    assert not call.is_active()
    assert as_future.done()
    assert not as_future.cancelled()
    assert ended.wait(30)
    wait_until(lambda: len(done) == 1, what="the callback")
    with pytest.raises(StopIteration):
        next(iter(call))


# ---- aio -----------------------------------------------------------------------------------------------------------


def test_an_aio_call_keeps_its_surface(
    address: str, externalizer: Externalizer, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        context.set_trailing_metadata((("last", "2"),))
        return state_of(token)

    server.answers["GetInstance"] = answer
    with opened("aio", address, externalizer) as form:
        assert isinstance(form, AioForm)

        async def use() -> None:
            call = form.stub.GetInstance(pb.GetInstanceRequest())
            done: list[object] = []
            call.add_done_callback(done.append)
            assert output_of(await call) == LARGE
            assert output_of(await call) == LARGE
            assert await call.code() is grpc.StatusCode.OK
            assert ("last", "2") in list(await call.trailing_metadata())
            assert call.done()
            assert not call.cancelled()
            assert len(done) == 1

        form.run(use())
    assert store.downloads == 1


def test_an_aio_call_that_is_cancelled_leaves_its_request_as_it_was_and_its_payload_stays(
    address: str, externalizer: Externalizer, server: ScriptedServer, store: ScriptedStore
) -> None:
    arrived, go = threading.Event(), threading.Event()

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        arrived.set()
        go.wait(30)
        return pb.CreateInstanceResponse()

    server.answers["StartInstance"] = answer
    request = start()
    with opened("aio", address, externalizer) as form:
        assert isinstance(form, AioForm)

        async def use() -> None:
            call = form.stub.StartInstance(request)
            task = asyncio.ensure_future(wait_for(call))
            while not arrived.is_set():
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert call.cancelled()

        form.run(use())
        go.set()
    assert request == start()
    assert len(store) == 1


async def wait_for(call: grpc.aio.UnaryUnaryCall[Message, Message]) -> Message:
    return await call


def test_an_aio_stream_keeps_its_surface_and_can_be_read(
    address: str, externalizer: Externalizer, server: ScriptedServer
) -> None:
    def answer(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((("last", "2"),))
        yield pb.HistoryChunk()

    server.answers["StreamInstanceHistory"] = answer
    with opened("aio", address, externalizer) as form:
        assert isinstance(form, AioForm)

        async def use() -> None:
            call = form.stub.StreamInstanceHistory(pb.StreamInstanceHistoryRequest(), timeout=10)
            await call.wait_for_connection()
            assert await call.read() is not grpc.aio.EOF
            assert await call.read() is grpc.aio.EOF
            assert await call.code() is grpc.StatusCode.OK
            assert await call.details() == ""
            assert ("first", "1") in list(await call.initial_metadata())
            assert ("last", "2") in list(await call.trailing_metadata())
            assert call.done()
            assert not call.cancelled()
            assert not call.cancel()

        form.run(use())
