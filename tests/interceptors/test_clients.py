"""What clients send and get, in both forms."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.call_forms import AioForm, opened
from tests.support.scripted_store import MAXIMUM, ScriptedStore
from tests.support.server import METHODS, ScriptedServer, input_of, payload_fields

from durabletask_payloads import (
    Externalizer,
    PayloadAccessDeniedError,
    PayloadError,
    PayloadStoreUnavailableError,
    PayloadTooLargeError,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tests.support.call_forms import Form

LARGE = "x" * 5_000
UNARY = sorted(name for name, method in METHODS.items() if not method.server_streaming and name != "Hello")
OF_WORKERS = sorted(name for name in UNARY if name.startswith(("Complete", "Abandon")))


def start(text: str = LARGE, instance_id: str = "order-1") -> pb.CreateInstanceRequest:
    return pb.CreateInstanceRequest(instanceId=instance_id, name="settle", input=StringValue(value=text))


# ---- every RPC -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rpc", UNARY)
def test_a_request_goes_out_with_tokens_and_is_unchanged_afterwards(
    rpc: str, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """The reference does this in its own client code, and forgets the reasons of suspend, resume and rewind."""
    request = input_of(METHODS[rpc])()
    leaves = payload_fields(request)
    for leaf in leaves:
        leaf.value = LARGE
    before = request.SerializeToString()
    form.call(rpc, request)
    (sent,) = server.named(rpc)
    if rpc in OF_WORKERS and isinstance(form, AioForm):  # they pass untouched: there is no asynchronous worker
        assert sent.SerializeToString() == before
        assert len(store) == 0
    else:
        assert [leaf.value for leaf in payload_fields(sent)] == list(store.tokens) * len(leaves)
    assert request.SerializeToString() == before


def test_an_asynchronous_worker_is_refused_with_the_way_out(
    address: str, externalizer: Externalizer, server: ScriptedServer
) -> None:
    """Its code would get tokens, and nothing would tell."""
    with opened("aio", address, externalizer) as form:
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        with pytest.raises(TypeError, match="use PayloadInterceptor on a synchronous channel"):
            stream.next()
    assert server.named("GetWorkItems") == []


def test_hello_and_unknown_messages_pass(form: Form, server: ScriptedServer) -> None:
    form.call("Hello", input_of(METHODS["Hello"])())
    assert len(server.named("Hello")) == 1


def test_responses_are_resolved(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    token = store.upload(LARGE.encode())
    state = pb.OrchestrationState(
        instanceId="order-1",
        input=StringValue(value=token),
        output=StringValue(value=token),
        customStatus=StringValue(value="small"),
    )
    entity = pb.EntityMetadata(instanceId="@ledger@1", serializedState=StringValue(value=token))
    answers: dict[str, Message] = {
        "GetInstance": pb.GetInstanceResponse(exists=True, orchestrationState=state),
        "WaitForInstanceStart": pb.GetInstanceResponse(exists=True, orchestrationState=state),
        "WaitForInstanceCompletion": pb.GetInstanceResponse(exists=True, orchestrationState=state),
        "QueryInstances": pb.QueryInstancesResponse(orchestrationState=[state, state]),
        "GetEntity": pb.GetEntityResponse(exists=True, entity=entity),
        "QueryEntities": pb.QueryEntitiesResponse(entities=[entity]),
    }
    for rpc in answers:
        server.answers[rpc] = lambda request, context: answers[server.requests[-1][0]]
        text = str(form.call(rpc, input_of(METHODS[rpc])()))
        assert LARGE in text, rpc
        assert token not in text, rpc


def test_payloads_know_their_instance(form: Form, store: ScriptedStore) -> None:
    form.call("StartInstance", start(instance_id="order-7"))
    assert store.instance_id(store.tokens[0]) == "order-7"


# ---- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["ALREADY_EXISTS", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION"]
)
def test_what_was_uploaded_for_a_refused_request_stays(
    code: str, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """The message may have been accepted before, its answer lost, and the same bytes sent again by gRPC."""
    status = getattr(grpc.StatusCode, code)
    server.answers["StartInstance"] = lambda request, context: context.abort(status, "no")
    request = start()
    with pytest.raises(grpc.RpcError) as caught:
        form.call("StartInstance", request)
    assert caught.value.code() is status
    assert len(store) == 1
    assert request == start()


@pytest.mark.parametrize("code", ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL"])
def test_what_was_uploaded_is_kept_when_the_outcome_is_unknown(
    code: str, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    status = getattr(grpc.StatusCode, code)
    server.answers["StartInstance"] = lambda request, context: context.abort(status, "perhaps")
    request = start()
    with pytest.raises(grpc.RpcError) as caught:
        form.call("StartInstance", request)
    assert caught.value.code() is status
    assert len(store) == 1
    assert request == start()


# ---- the store says no ---------------------------------------------------------------------------------------------


def test_a_payload_over_the_maximum_is_our_error_and_nothing_is_sent(form: Form, server: ScriptedServer) -> None:
    """The reference raises ValueError."""
    request = start("x" * (MAXIMUM + 1))
    with pytest.raises(PayloadTooLargeError, match=rf"CreateInstanceRequest\.input has {MAXIMUM + 1} bytes"):
        form.call("StartInstance", request)
    assert server.requests == []
    assert request == start("x" * (MAXIMUM + 1))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PayloadAccessDeniedError("no right"), PayloadAccessDeniedError),
        (PayloadStoreUnavailableError("down"), PayloadStoreUnavailableError),
        (ConnectionResetError("reset"), PayloadStoreUnavailableError),
        (KeyError("a bug of the store"), PayloadError),
    ],
)
def test_an_error_of_the_store_reaches_the_client_as_ours_and_nothing_is_sent(
    error: Exception, expected: type[PayloadError], form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """The reference raises what the Azure client raises, after 15 s for one 503."""

    def fail(payload: bytes) -> None:
        raise error

    store.uploading = fail
    with pytest.raises(expected) as caught:
        form.call("StartInstance", start())
    assert type(caught.value) is expected
    assert caught.value is error or caught.value.__cause__ is error
    assert server.requests == []


# ---- too large for gRPC --------------------------------------------------------------------------------------------


def test_a_request_that_grpc_refuses_for_its_size_is_our_error_with_the_largest_field(
    form: Form, server: ScriptedServer
) -> None:
    """The reference raises the RpcError. A request is sent as it is: the limit of the server may be higher."""
    request = start("small")
    request.tags["note"] = "y" * 5_000_000
    with pytest.raises(
        PayloadTooLargeError,
        match=r"CreateInstanceRequest has 5\d{6} bytes .*largest field is CreateInstanceRequest\.tags",
    ) as caught:
        form.call("StartInstance", request)
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert request.tags["note"] == "y" * 5_000_000


def test_resource_exhausted_for_a_small_request_stays_what_it_is(form: Form, server: ScriptedServer) -> None:
    """It is a quota, or the response that is too large."""
    server.answers["StartInstance"] = lambda request, context: context.abort(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "too many"
    )
    with pytest.raises(grpc.RpcError, match="too many"):
        form.call("StartInstance", start())


# ---- time ----------------------------------------------------------------------------------------------------------


def test_the_time_for_uploads_comes_off_the_timeout(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    left: list[float] = []

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        left.append(context.time_remaining())
        return pb.CreateInstanceResponse()

    server.answers["StartInstance"] = answer
    store.uploading = lambda payload: time.sleep(0.5)
    form.call("StartInstance", start(), timeout=60)
    assert 30 < left[0] < 59.55


def test_a_timeout_that_uploads_have_used_up_ends_as_grpc_ends_it(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    store.uploading = lambda payload: time.sleep(0.3)
    with pytest.raises(grpc.RpcError) as caught:
        form.call("StartInstance", start(), timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.named("StartInstance") == []
    assert len(store) == 0
