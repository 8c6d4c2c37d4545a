"""RESOURCE_EXHAUSTED: a message that is too large gets a substitute or our error, a quota is left as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.call_forms import opened
from tests.support.senders import Sender

from durabletask_payloads import PayloadTooLargeError
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from google.protobuf.message import Message
    from tests.support.call_forms import Form
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

    from durabletask_payloads import Externalizer

LARGE = "x" * 5_000
LONG = "e" * 50_000  # a text that is cut
SURE_BYTES = 4_000_000  # more than this is too large, whatever the server says

# What servers and gRPC itself say, by language.
TOO_LARGE = {
    "C core": "Received message larger than max (5000000 vs. 4194304)",
    "C core, by side": "SERVER: Received message larger than max (5000000 vs. 4194304)",
    "C core, not sent": "CLIENT: Sent message larger than max (5000000 vs. 4194304)",
    "Go": "grpc: received message larger than max (5000000 vs. 4194304)",
    "Go, not sent": "trying to send message larger than max (5000000 vs. 4194304)",
    "Java": "gRPC message exceeds maximum size 4194304: 5000000",
    ".NET": "The received message exceeds the maximum configured message size.",
}
OTHER = ["quota exceeded", "throttled", "", "too many requests", "the maximum number of messages is exceeded"]
OF_A_RESPONSE = [
    "CLIENT: Received message larger than max (5000000 vs. 4194304)",
    "SERVER: Sent message larger than max (5000000 vs. 4194304)",
    "Sending message exceeds the maximum configured message size.",
]
too_large_texts = pytest.mark.parametrize("details", TOO_LARGE.values(), ids=TOO_LARGE)
other_texts = pytest.mark.parametrize("details", OTHER)
quota_or_response = pytest.mark.parametrize("details", OTHER + OF_A_RESPONSE)


class Kind(NamedTuple):
    """A kind of work item: how one arrives, a completion with a payload, and one with a text that can be cut too."""

    rpc: str
    work: pb.WorkItem
    completion: Callable[[], Message]
    cuttable: Callable[[int], Message]
    failures: Callable[[Message], list[pb.TaskFailureDetails]]

    def __repr__(self) -> str:
        return self.rpc


def _activity(result: str = LARGE) -> pb.ActivityResponse:
    return pb.ActivityResponse(
        instanceId="order-1", taskId=7, completionToken="token-1", result=StringValue(value=result)
    )


def _cuttable_activity(size: int) -> pb.ActivityResponse:
    response = _activity()
    response.failureDetails.CopyFrom(pb.TaskFailureDetails(errorType="ValueError", errorMessage="e" * size))
    return response


def _activity_failures(sent: Message) -> list[pb.TaskFailureDetails]:
    assert isinstance(sent, pb.ActivityResponse)
    return [sent.failureDetails]


def _turn() -> pb.OrchestratorResponse:
    response = pb.OrchestratorResponse(instanceId="order-1", completionToken="token-1")
    response.actions.add(id=1).scheduleTask.input.value = LARGE
    return response


def _cuttable_turn(size: int) -> pb.OrchestratorResponse:
    response = pb.OrchestratorResponse(instanceId="order-1", completionToken="token-1")
    response.customStatus.value = LARGE
    complete = response.actions.add(id=1).completeOrchestration
    complete.orchestrationStatus = pb.ORCHESTRATION_STATUS_FAILED
    complete.failureDetails.CopyFrom(pb.TaskFailureDetails(errorType="ValueError", errorMessage="e" * size))
    return response


def _turn_failures(sent: Message) -> list[pb.TaskFailureDetails]:
    assert isinstance(sent, pb.OrchestratorResponse)
    return [action.completeOrchestration.failureDetails for action in sent.actions]


def _batch() -> pb.EntityBatchResult:
    return pb.EntityBatchResult(
        completionToken="token-1",
        entityState=StringValue(value=LARGE),
        results=[pb.OperationResult(success=pb.OperationResultSuccess(result=StringValue(value="small")))],
        operationInfos=[pb.OperationInfo(requestId="request-1")],
    )


def _cuttable_batch(size: int) -> pb.EntityBatchResult:
    response = _batch()
    response.results[0].failure.failureDetails.CopyFrom(
        pb.TaskFailureDetails(errorType="ValueError", errorMessage="e" * size)
    )
    return response


def _batch_failures(sent: Message) -> list[pb.TaskFailureDetails]:
    assert isinstance(sent, pb.EntityBatchResult)
    return [result.failure.failureDetails for result in sent.results]


KINDS = [
    Kind(
        "CompleteActivityTask",
        pb.WorkItem(
            completionToken="token-1",
            activityRequest=pb.ActivityRequest(
                taskId=7, orchestrationInstance=pb.OrchestrationInstance(instanceId="order-1")
            ),
        ),
        _activity,
        _cuttable_activity,
        _activity_failures,
    ),
    Kind(
        "CompleteOrchestratorTask",
        pb.WorkItem(completionToken="token-1", orchestratorRequest=pb.OrchestratorRequest(instanceId="order-1")),
        _turn,
        _cuttable_turn,
        _turn_failures,
    ),
    Kind(
        "CompleteEntityTask",
        pb.WorkItem(
            completionToken="token-1",
            entityRequestV2=pb.EntityRequest(
                instanceId="@ledger@1",
                operationRequests=[
                    pb.HistoryEvent(
                        entityOperationCalled=pb.EntityOperationCalledEvent(requestId="request-1", operation="put")
                    )
                ],
            ),
        ),
        _batch,
        _cuttable_batch,
        _batch_failures,
    ),
]
all_kinds = pytest.mark.parametrize("kind", KINDS, ids=repr)


@pytest.fixture
def arrived(kind: Kind, form: Form, server: ScriptedServer) -> Generator[None]:
    """A work item of `kind` has arrived, and its stream is open."""
    sender = Sender(kind.work)
    server.answers["GetWorkItems"] = sender
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    assert stream.next() == kind.work
    yield
    stream.cancel()
    assert sender.was_cancelled.wait(30)


def refuse(server: ScriptedServer, rpc: str, details: str, *, times: int) -> None:
    """Let `server` refuse the first requests of `rpc` as exhausted."""

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        if len(server.named(rpc)) <= times:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, details)
        return pb.CreateInstanceResponse() if rpc == "StartInstance" else pb.CompleteTaskResponse()

    server.answers[rpc] = answer


def completions(server: ScriptedServer) -> list[str]:
    """Return the RPCs that came in, but for the stream: completions, and whatever is sent in their place."""
    return [name for name, _ in server.requests if name != "GetWorkItems"]


def start(note: str) -> pb.CreateInstanceRequest:
    request = pb.CreateInstanceRequest(instanceId="order-1", name="settle", input=StringValue(value=LARGE))
    request.tags["note"] = note
    return request


# ---- completions ---------------------------------------------------------------------------------------------------


@all_kinds
@too_large_texts
def test_a_completion_that_is_too_large_by_its_answer_is_sent_truncated(
    kind: Kind, details: str, arrived: None, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    refuse(server, kind.rpc, details, times=1)
    request = kind.cuttable(len(LONG))
    before = request.SerializeToString()
    form.call(kind.rpc, request)
    assert completions(server) == [kind.rpc] * 2
    first, second = server.named(kind.rpc)
    assert [failure.errorMessage for failure in kind.failures(first)] == [LONG]
    (failure,) = kind.failures(second)
    assert failure.errorType == "ValueError"
    assert failure.errorMessage.startswith("e" * 30_000)
    assert f"[cut: {len(LONG)} bytes" in failure.errorMessage
    assert len(store) == 2  # the first one's payload stays
    assert request.SerializeToString() == before


@all_kinds
@too_large_texts
def test_a_completion_that_is_too_large_by_its_answer_and_cannot_be_cut_is_sent_as_failed(
    kind: Kind, details: str, arrived: None, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    refuse(server, kind.rpc, details, times=1)
    request = kind.completion()
    before = request.SerializeToString()
    form.call(kind.rpc, request)
    assert completions(server) == [kind.rpc] * 2
    (failure,) = kind.failures(server.named(kind.rpc)[1])
    assert failure.errorType == "durabletask_payloads.PayloadTooLargeError"
    assert f"{request.DESCRIPTOR.full_name} has " in failure.errorMessage
    assert len(store) == 1
    assert request.SerializeToString() == before


@all_kinds
@too_large_texts
def test_a_substitute_that_is_refused_too_is_left_to_the_worker(
    kind: Kind, details: str, arrived: None, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    refuse(server, kind.rpc, details, times=3)
    with pytest.raises(grpc.RpcError) as caught:
        form.call(kind.rpc, kind.cuttable(len(LONG)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == details
    assert completions(server) == [kind.rpc] * 3  # as it was, truncated, failed
    assert len(store) == 2


@all_kinds
@quota_or_response
@pytest.mark.parametrize("cuttable", [True, False], ids=["cuttable", "whole"])
def test_a_completion_that_meets_a_quota_is_left_to_the_worker(
    kind: Kind, details: str, cuttable: bool, arrived: None, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """To fail it would lose a good result."""
    refuse(server, kind.rpc, details, times=9)
    request = kind.cuttable(len(LONG)) if cuttable else kind.completion()
    before = request.SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        form.call(kind.rpc, request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == details
    assert completions(server) == [kind.rpc]
    assert len(store) == 1
    assert request.SerializeToString() == before


def of_size(size: int, message: Callable[[int], Message], externalizer: Externalizer) -> Message:
    """Return what `message` makes of a number, such that it is sent in `size` bytes: with a token for its payload."""
    number = size
    while True:
        made = message(number)
        receipt = externalizer.externalize(made)
        excess = made.ByteSize() - size
        receipt.rollback()
        if excess <= 0:
            return made
        number -= excess


@all_kinds
@other_texts
@pytest.mark.parametrize("extra", [0, 1], ids=["4,000,000 bytes", "4,000,001 bytes"])
def test_a_completion_of_more_than_4_000_000_bytes_is_too_large_whatever_the_answer(
    kind: Kind, details: str, extra: int, arrived: None, form: Form, server: ScriptedServer, externalizer: Externalizer
) -> None:
    refuse(server, kind.rpc, details, times=1)
    request = of_size(SURE_BYTES + extra, kind.cuttable, externalizer)
    before = request.SerializeToString()
    if extra:
        form.call(kind.rpc, request)
        first, second = server.named(kind.rpc)
        (failure,) = kind.failures(second)
        assert failure.errorMessage.startswith("e" * 30_000)
        assert "[cut: 39" in failure.errorMessage
    else:
        with pytest.raises(grpc.RpcError) as caught:
            form.call(kind.rpc, request)
        assert caught.value.details() == details
        (first,) = server.named(kind.rpc)
    assert first.ByteSize() == SURE_BYTES + extra
    assert request.SerializeToString() == before


# ---- requests of clients -------------------------------------------------------------------------------------------

both_forms = pytest.mark.parametrize("client", ["sync", "aio"])


@both_forms
@too_large_texts
def test_a_request_that_is_too_large_by_its_answer_is_our_error_with_the_largest_field(
    client: str, details: str, address: str, externalizer: Externalizer, server: ScriptedServer, store: ScriptedStore
) -> None:
    refuse(server, "StartInstance", details, times=9)
    request = start("y" * 9_000)
    with (
        opened(client, address, externalizer) as form,
        pytest.raises(
            PayloadTooLargeError,
            match=r"CreateInstanceRequest has 9\d{3} bytes .*largest field is CreateInstanceRequest\.tags",
        ) as caught,
    ):
        form.call("StartInstance", request)
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert caught.value.__cause__.details() == details
    assert completions(server) == ["StartInstance"]
    assert len(store) == 1
    assert request == start("y" * 9_000)


@both_forms
@quota_or_response
def test_a_request_that_meets_a_quota_gets_the_error_as_it_came(
    client: str, details: str, address: str, externalizer: Externalizer, server: ScriptedServer, store: ScriptedStore
) -> None:
    refuse(server, "StartInstance", details, times=9)
    request = start("y" * 9_000)
    with opened(client, address, externalizer) as form, pytest.raises(grpc.RpcError) as caught:
        form.call("StartInstance", request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == details
    assert completions(server) == ["StartInstance"]
    assert len(store) == 1
    assert request == start("y" * 9_000)


@both_forms
@other_texts
@pytest.mark.parametrize("extra", [0, 1], ids=["4,000,000 bytes", "4,000,001 bytes"])
def test_a_request_of_more_than_4_000_000_bytes_is_too_large_whatever_the_answer(
    client: str,
    details: str,
    extra: int,
    address: str,
    externalizer: Externalizer,
    server: ScriptedServer,
    store: ScriptedStore,
) -> None:
    refuse(server, "StartInstance", details, times=9)
    request = of_size(SURE_BYTES + extra, lambda number: start("y" * number), externalizer)
    with (
        opened(client, address, externalizer) as form,
        pytest.raises(
            PayloadTooLargeError if extra else grpc.RpcError,
            match=r"has 4000001 bytes .*largest field is CreateInstanceRequest\.tags" if extra else None,
        ),
    ):
        form.call("StartInstance", request)
    (sent,) = server.named("StartInstance")
    assert sent.ByteSize() == SURE_BYTES + extra
    assert len(store) == 1


def test_a_future_of_a_client_knows_both(address: str, externalizer: Externalizer, server: ScriptedServer) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = stubs.TaskHubSidecarServiceStub(grpc.intercept_channel(channel, PayloadInterceptor(externalizer)))
        for details in [*TOO_LARGE.values(), *OTHER]:
            server.requests.clear()
            refuse(server, "StartInstance", details, times=9)
            error = stub.StartInstance.future(start("y" * 9_000)).exception()
            assert isinstance(error, grpc.RpcError if details in OTHER else PayloadTooLargeError), details
