"""Payloads of a message that was handed to gRPC stay in the store, whatever the answer; the others are deleted."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
import grpc.aio
import pytest
from durabletask.client import TaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions, GrpcRetryPolicyOptions
from tests.support.call_forms import AioForm
from tests.support.server import METHODS, ScriptedServer, input_of, payload_fields
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadAccessDeniedError, PayloadTooLargeError
from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from google.protobuf.message import Message
    from grpc import _CallFuture  # pyright: ignore[reportPrivateUsage] # it has no public name
    from tests.support.scripted_store import ScriptedStore

    # RPC, request, timeout in seconds. Returns once the RPC has ended, or raises what it ended with.
    Call: TypeAlias = Callable[[str, Message, float | None], object]

LARGE = "x" * 5_000
FORMS = ("sync", "future", "aio")
ERRORS = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
TOO_LARGE = "SERVER: Received message larger than max (5000000 vs. 4194304)"


WITH_PAYLOADS = sorted(
    name for name, method in METHODS.items() if not method.server_streaming and payload_fields(input_of(method)())
)
COMPLETIONS = [rpc for rpc in WITH_PAYLOADS if rpc.startswith("Complete")]
CLIENT_RPCS = [rpc for rpc in WITH_PAYLOADS if rpc not in COMPLETIONS]

# There is no asynchronous worker: in aio its calls pass untouched.
every_call = pytest.mark.parametrize(
    ("rpc", "form"),
    [(rpc, form) for rpc in WITH_PAYLOADS for form in FORMS if form != "aio" or rpc not in COMPLETIONS],
)


def request_of(rpc: str, mark: str) -> Message:
    """Return a request with a text of its own in each payload field."""
    request = input_of(METHODS[rpc])()
    for number, leaf in enumerate(payload_fields(request)):
        leaf.value = f"{mark} {number} {LARGE}"
    return request


@contextmanager
def calling(
    form: str, address: str, externalizer: Externalizer, options: Sequence[tuple[str, object]] = ()
) -> Generator[Call]:
    """Open a channel with our interceptors; yields a function that calls an RPC in one of `FORMS`."""
    if form == "aio":
        aio = AioForm()

        async def connect() -> grpc.aio.Channel:
            return grpc.aio.insecure_channel(
                address, options=options, interceptors=async_payload_interceptors(externalizer)
            )

        channel = aio.run(connect())
        aio.stub = stubs.TaskHubSidecarServiceStub(channel)
        try:
            yield lambda rpc, request, timeout: aio.call(rpc, request, timeout=timeout)
        finally:
            aio.run(channel.close(None))
            aio.close()
        return
    with grpc.insecure_channel(address, options=options) as plain:
        stub = stubs.TaskHubSidecarServiceStub(grpc.intercept_channel(plain, PayloadInterceptor(externalizer)))

        def call(rpc: str, request: Message, timeout: float | None) -> object:
            method: object = getattr(stub, rpc)
            if form == "sync":
                return cast("Callable[..., Message]", method)(request, timeout=timeout)  # all of them are
            future = cast("Callable[..., _CallFuture[Message]]", getattr(method, "future"))  # noqa: B009 - not in the stubs
            return future(request, timeout=timeout).result()

        yield call


def refusing(*codes: grpc.StatusCode, details: str = "refused") -> Callable[[Message, grpc.ServicerContext], Message]:
    """Return an answer for a ScriptedServer, which has the request by then: one of `codes` after another."""
    left = iter(codes)

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        context.abort(next(left), details)

    return answer


def tokens_in(requests: Sequence[Message]) -> list[str]:
    return [leaf.value for request in requests for leaf in payload_fields(request) if leaf.value.startswith("blob:")]


def stored(store: ScriptedStore, tokens: Sequence[str]) -> list[str]:
    return [store.download(token).decode() for token in tokens]


@pytest.fixture
def deleted(store: ScriptedStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens that were deleted, at whatever time and by whatever thread."""
    tokens: list[str] = []
    delete = store.delete

    def note(token: str) -> None:
        tokens.append(token)
        delete(token)

    monkeypatch.setattr(store, "delete", note)
    return tokens


# ---- handed over ---------------------------------------------------------------------------------------------------


def test_each_rpc_that_carries_payloads_is_here() -> None:
    assert [METHODS[rpc].input_type.name for rpc in COMPLETIONS] == [
        "ActivityResponse",
        "EntityBatchResult",
        "OrchestratorResponse",
    ]
    assert {"StartInstance", "RaiseEvent", "TerminateInstance", "SignalEntity"} < set(CLIENT_RPCS)
    assert len(ERRORS) == 16


@every_call
def test_payloads_of_a_message_that_the_server_took_stay_whatever_it_answers(
    rpc: str,
    form: str,
    server: ScriptedServer,
    address: str,
    externalizer: Externalizer,
    store: ScriptedStore,
    deleted: list[str],
) -> None:
    """The server may have taken the message before it answered with an error, or in an earlier attempt."""
    sent: dict[str, str] = {}
    with calling(form, address, externalizer) as call:
        for code in ERRORS:
            server.requests.clear()
            server.answers[rpc] = refusing(code)
            request = request_of(rpc, code.name)
            before = request.SerializeToString()
            with pytest.raises(grpc.RpcError) as caught:
                call(rpc, request, None)
            assert caught.value.code() is code
            assert caught.value.details() == "refused"
            assert request.SerializeToString() == before, code
            (at_server,) = server.named(rpc)
            texts = [leaf.value for leaf in payload_fields(request)]
            tokens = tokens_in([at_server])
            assert len(tokens) == len(texts) > 0, code
            sent.update(zip(tokens, texts, strict=True))
            assert stored(store, tokens) == texts, code
            assert [name for name, _ in server.requests] == [rpc], code
    externalizer.close()
    wait_until(lambda: our_threads() == [], what="the end of our threads")
    assert deleted == []
    assert stored(store, list(sent)) == list(sent.values())


@pytest.mark.parametrize("rpc", CLIENT_RPCS)
@pytest.mark.parametrize("form", FORMS)
def test_payloads_of_a_request_that_is_too_large_for_the_server_stay(
    rpc: str,
    form: str,
    server: ScriptedServer,
    address: str,
    externalizer: Externalizer,
    store: ScriptedStore,
    deleted: list[str],
) -> None:
    """Its text may come from a server behind the one that took the message."""
    server.answers[rpc] = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, details=TOO_LARGE)
    request = request_of(rpc, "")
    before = request.SerializeToString()
    with calling(form, address, externalizer) as call, pytest.raises(PayloadTooLargeError) as caught:
        call(rpc, request, None)
    error = caught.value.__cause__
    assert isinstance(error, grpc.RpcError)
    assert error.details() == TOO_LARGE
    assert request.SerializeToString() == before
    externalizer.close()
    wait_until(lambda: our_threads() == [], what="the end of our threads")
    assert deleted == []
    assert stored(store, tokens_in(server.named(rpc))) == [leaf.value for leaf in payload_fields(request)]


# ---- resent by gRPC ------------------------------------------------------------------------------------------------

RETRIES = GrpcChannelOptions(retry_policy=GrpcRetryPolicyOptions())
LOST_THEN_THERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ALREADY_EXISTS)


@every_call
def test_payloads_of_a_request_that_grpc_sends_again_stay_when_the_second_is_refused(
    rpc: str,
    form: str,
    server: ScriptedServer,
    address: str,
    externalizer: Externalizer,
    store: ScriptedStore,
    deleted: list[str],
) -> None:
    """The server took the first attempt and its answer was lost: the second one is refused, for the first one."""
    server.answers[rpc] = refusing(*LOST_THEN_THERE)
    request = request_of(rpc, "")
    texts = [leaf.value for leaf in payload_fields(request)]
    with calling(form, address, externalizer, RETRIES.to_grpc_options()) as call:
        with pytest.raises(grpc.RpcError) as caught:
            call(rpc, request, None)
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    first, second = server.named(rpc)
    assert first == second
    externalizer.close()
    wait_until(lambda: our_threads() == [], what="the end of our threads")
    assert deleted == []
    assert stored(store, tokens_in([first])) == texts


def test_a_start_of_the_sdk_that_is_sent_again_and_refused_keeps_its_input(
    server: ScriptedServer, address: str, externalizer: Externalizer, store: ScriptedStore, deleted: list[str]
) -> None:
    server.answers["StartInstance"] = refusing(*LOST_THEN_THERE)
    client = TaskHubGrpcClient(
        host_address=address, interceptors=[PayloadInterceptor(externalizer)], channel_options=RETRIES
    )
    try:
        with pytest.raises(grpc.RpcError) as caught:
            client.schedule_new_orchestration("settle", input=LARGE, instance_id="order-1")
    finally:
        client.close()
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    first, second = server.named("StartInstance")
    assert first == second
    assert deleted == []
    assert stored(store, tokens_in([first])) == [f'"{LARGE}"']


# ---- never handed over ---------------------------------------------------------------------------------------------


@every_call
def test_payloads_are_deleted_when_uploads_have_used_up_the_deadline(
    rpc: str,
    form: str,
    server: ScriptedServer,
    address: str,
    externalizer: Externalizer,
    store: ScriptedStore,
    deleted: list[str],
) -> None:
    request = request_of(rpc, "")
    before = request.SerializeToString()
    store.uploading = lambda payload: time.sleep(0.1)
    with calling(form, address, externalizer) as call:
        with pytest.raises(grpc.RpcError) as caught:
            call(rpc, request, 0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "it was not sent" in str(caught.value.details())
    assert server.requests == []
    assert request.SerializeToString() == before
    assert len(deleted) == len(payload_fields(request))
    assert len(store) == 0


@pytest.mark.parametrize("form", ["sync", "future"])
def test_payloads_are_deleted_when_another_upload_fails(
    form: str, server: ScriptedServer, address: str, externalizer: Externalizer, store: ScriptedStore
) -> None:
    """Requests of clients have one payload each: this is about the turns of orchestrations."""
    request = pb.OrchestratorResponse(instanceId="order-1", completionToken="token-1")
    for number in range(5):
        request.actions.add(id=number).scheduleTask.input.value = f"{number}{LARGE}"
    before = request.SerializeToString()
    stored_before: list[int] = []

    def refuse_the_last(payload: bytes) -> None:
        if payload.startswith(b"4"):
            wait_until(lambda: len(store) == 4, what="the other uploads")
            stored_before.append(len(store))
            raise PayloadTooLargeError("too much")

    store.uploading = refuse_the_last
    with calling(form, address, externalizer) as call, pytest.raises(PayloadTooLargeError, match="too much"):
        call("CompleteOrchestratorTask", request, None)  # which did not arrive here, so it cannot be failed
    assert server.named("CompleteOrchestratorTask") == []
    assert stored_before == [4]
    assert len(store) == 0
    assert request.SerializeToString() == before


@pytest.mark.parametrize("rpc", CLIENT_RPCS)
@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_sent_or_stays_when_an_upload_fails(
    rpc: str, form: str, server: ScriptedServer, address: str, externalizer: Externalizer, store: ScriptedStore
) -> None:
    def refuse(payload: bytes) -> None:
        raise PayloadAccessDeniedError("no right")

    request = request_of(rpc, "")
    before = request.SerializeToString()
    store.uploading = refuse
    with calling(form, address, externalizer) as call, pytest.raises(PayloadAccessDeniedError, match="no right"):
        call(rpc, request, None)
    assert server.requests == []
    assert len(store) == 0
    assert request.SerializeToString() == before
