"""The table of failures on the wire: what the server gets for a completion, and for a work item.

`test_worker` shows the same with the SDK's worker, and what the reference does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.struct_pb2 import Value
from google.protobuf.wrappers_pb2 import Int32Value, StringValue
from tests.support.call_forms import opened
from tests.support.scripted_store import MAXIMUM, ScriptedStore, nothing, prove
from tests.support.waiting import wait_until

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    PayloadAccessDeniedError,
    PayloadError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTooLargeError,
)
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tests.support.call_forms import Form, Stream
    from tests.support.server import ScriptedServer

LARGE = "x" * 5_000
TOO_LARGE = "x" * (MAXIMUM + 1)
LEDGER = "@ledger@1"
TOO_LARGE_FOR_GRPC = "Received message larger than max (70001 vs. 70000)"


def text(value: str) -> StringValue:
    return StringValue(value=value)


def deliver(form: Form, server: ScriptedServer, *items: pb.WorkItem) -> Stream:
    """A stream on which the server delivers `items`, and then nothing."""

    def answer(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        yield from items
        while context.is_active():
            time.sleep(0.01)

    server.answers["GetWorkItems"] = answer
    return form.stream("GetWorkItems", pb.GetWorkItemsRequest())


def failing(store: ScriptedStore, error: Exception) -> None:
    def fail(payload: bytes) -> None:
        raise error

    store.uploading = store.downloading = fail


def down() -> Exception:
    return PayloadStoreUnavailableError("the store is down")


def only(server: ScriptedServer, rpc: str) -> Message:
    wait_until(lambda: bool(server.named(rpc)), what=rpc)
    (request,) = server.named(rpc)
    return request


# ---- completions ---------------------------------------------------------------------------------------------------


def activity_response(result: str) -> pb.ActivityResponse:
    return pb.ActivityResponse(instanceId="order-1", taskId=7, result=text(result), completionToken="token-1")


def test_an_activity_that_cannot_be_completed_is_failed(form: Form, server: ScriptedServer) -> None:
    request = activity_response(TOO_LARGE)
    form.call("CompleteActivityTask", request)
    sent = only(server, "CompleteActivityTask")
    assert isinstance(sent, pb.ActivityResponse)
    assert (sent.instanceId, sent.taskId, sent.completionToken) == ("order-1", 7, "token-1")
    assert not sent.HasField("result")
    assert f"has {MAXIMUM + 1} bytes" in sent.failureDetails.errorMessage
    assert sent.failureDetails.isNonRetriable
    assert request == activity_response(TOO_LARGE)


def test_an_activity_is_abandoned_while_the_store_is_down(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    failing(store, down())
    request = activity_response(LARGE)
    with pytest.raises(PayloadStoreUnavailableError, match=r"activity 7 of order-1 .* abandoned: the store is down"):
        form.call("CompleteActivityTask", request)
    abandoned = only(server, "AbandonTaskActivityWorkItem")
    assert isinstance(abandoned, pb.AbandonActivityTaskRequest)
    assert abandoned.completionToken == "token-1"
    assert server.named("CompleteActivityTask") == []
    assert request == activity_response(LARGE)


def test_the_last_delivery_that_counts_is_failed(
    address: str, server: ScriptedServer, store: ScriptedStore, externalizer: Externalizer
) -> None:
    """One counts if the store has served something else since the last one."""
    with opened("sync", address, externalizer, max_deliveries=3) as form:
        for number in range(4):
            failing(store, down())
            if number < 3:
                with pytest.raises(PayloadStoreUnavailableError):
                    form.call("CompleteActivityTask", activity_response(LARGE))
            else:
                form.call("CompleteActivityTask", activity_response(LARGE))
            if number != 1:
                store.uploading = store.downloading = nothing
                prove(externalizer, store)
        sent = only(server, "CompleteActivityTask")
        assert isinstance(sent, pb.ActivityResponse)
        assert "gave up after 3 deliveries: the store is down" in sent.failureDetails.errorMessage
        failing(store, down())
        with pytest.raises(PayloadStoreUnavailableError):  # it was completed, so this is another one
            form.call("CompleteActivityTask", activity_response(LARGE))


def orchestrator_request() -> pb.WorkItem:
    """Asked for two locks, gave one back."""
    lock = pb.EntityLockRequestedEvent(criticalSectionId="section-1", lockSet=[LEDGER, "@ledger@2", "@ledger@3"])
    unlock = pb.EntityUnlockSentEvent(criticalSectionId="section-1", targetInstanceId=text("@ledger@3"))
    return pb.WorkItem(
        completionToken="token-1",
        orchestratorRequest=pb.OrchestratorRequest(
            instanceId="order-1",
            pastEvents=[pb.HistoryEvent(eventId=4, entityLockRequested=lock)],
            newEvents=[pb.HistoryEvent(eventId=9, entityUnlockSent=unlock)],
            orchestrationTraceContext=pb.OrchestrationTraceContext(spanID=text("span-1")),
        ),
    )


def orchestrator_response(*, result: str) -> pb.OrchestratorResponse:
    unlock = pb.EntityUnlockSentEvent(criticalSectionId="section-1", targetInstanceId=text("@ledger@2"))
    response = pb.OrchestratorResponse(
        instanceId="order-1",
        completionToken="token-1",
        customStatus=text("half way"),
        numEventsProcessed=Int32Value(value=3),
        requiresHistory=True,
        orchestrationTraceContext=pb.OrchestrationTraceContext(spanID=text("span-1")),
        actions=[
            pb.OrchestratorAction(id=11, scheduleTask=pb.ScheduleTaskAction(name="digest", input=text(result))),
            pb.OrchestratorAction(id=12, sendEntityMessage=pb.SendEntityMessageAction(entityUnlockSent=unlock)),
            pb.OrchestratorAction(id=13, createTimer=pb.CreateTimerAction()),
        ],
    )
    response.MergeFromString(b"\x4a\x02\x08\x02")  # chunkIndex is 2; it is deprecated
    return response


def assert_fails_and_frees(sent: Message, *, kept: bool) -> None:
    assert isinstance(sent, pb.OrchestratorResponse)
    assert (sent.instanceId, sent.completionToken) == ("order-1", "token-1")
    assert sent.orchestrationTraceContext.spanID.value == "span-1"
    assert not sent.requiresHistory
    assert not sent.HasField("chunkIndex")
    assert not sent.HasField("numEventsProcessed")
    *unlocks, last = sent.actions
    targets = [action.sendEntityMessage.entityUnlockSent.targetInstanceId.value for action in unlocks]
    assert sorted(targets) == [LEDGER, "@ledger@2"]
    assert {action.sendEntityMessage.entityUnlockSent.criticalSectionId for action in unlocks} == {"section-1"}
    added = next(one for one in unlocks if one.sendEntityMessage.entityUnlockSent.targetInstanceId.value == LEDGER)
    assert added.sendEntityMessage.entityUnlockSent.parentInstanceId.value == "order-1"
    assert len({action.id for action in sent.actions}) == 3
    assert last.completeOrchestration.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    assert last.completeOrchestration.failureDetails.isNonRetriable
    if kept:
        assert [action.id for action in unlocks] == [12, 14]
        assert sent.customStatus.value == "half way"
    else:
        assert [action.id for action in unlocks] == [10, 11]


def test_an_orchestration_that_cannot_be_completed_is_failed_and_its_locks_are_freed(
    form: Form, server: ScriptedServer
) -> None:
    stream = deliver(form, server, orchestrator_request())
    stream.next()
    request = orchestrator_response(result=TOO_LARGE)
    form.call("CompleteOrchestratorTask", request)
    assert_fails_and_frees(only(server, "CompleteOrchestratorTask"), kept=True)
    assert request == orchestrator_response(result=TOO_LARGE)
    stream.cancel()


def test_an_orchestration_is_abandoned_after_a_delay(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    stream = deliver(form, server, orchestrator_request())
    stream.next()
    failing(store, down())
    started = time.monotonic()
    with pytest.raises(PayloadStoreUnavailableError):
        form.call("CompleteOrchestratorTask", orchestrator_response(result=LARGE))
    only(server, "AbandonTaskOrchestratorWorkItem")
    assert time.monotonic() - started > 0.1
    stream.cancel()


def entity_request(*, state: str = "", inputs: tuple[str, ...] = ("a", "b")) -> pb.WorkItem:
    operations = [
        pb.HistoryEvent(
            entityOperationCalled=pb.EntityOperationCalledEvent(
                requestId=f"request-{number}",
                operation="put",
                input=text(value),
                parentInstanceId=text("order-1"),
                parentExecutionId=text("execution-1"),
            )
        )
        for number, value in enumerate(inputs)
    ]
    request = pb.EntityRequest(instanceId=LEDGER, operationRequests=operations)
    if state:
        request.entityState.value = state
    return pb.WorkItem(completionToken="token-1", entityRequestV2=request)


def batch_result(*results: str, state: str = "after") -> pb.EntityBatchResult:
    return pb.EntityBatchResult(
        completionToken="token-1",
        entityState=text(state),
        results=[pb.OperationResult(success=pb.OperationResultSuccess(result=text(result))) for result in results],
        operationInfos=[pb.OperationInfo(requestId=f"request-{number}") for number in range(len(results))],
        actions=[pb.OperationAction(sendSignal=pb.SendSignalAction(instanceId="@ledger@2", name="put"))],
    )


def test_only_the_result_at_fault_is_failed_where_the_rest_of_the_batch_fits(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    stream = deliver(form, server, entity_request())
    stream.next()
    form.call("CompleteEntityTask", batch_result(LARGE, TOO_LARGE))
    sent = only(server, "CompleteEntityTask")
    assert isinstance(sent, pb.EntityBatchResult)
    assert sent.results[0].success.result.value == store.tokens[0]
    assert f"has {MAXIMUM + 1} bytes" in sent.results[1].failure.failureDetails.errorMessage
    assert sent.entityState.value == "after"
    assert len(sent.actions) == 1
    assert not sent.HasField("failureDetails")
    assert store.instance_id(store.tokens[0]) == LEDGER
    stream.cancel()


def test_what_waits_in_another_instance_is_stored_as_its_payload(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """Whoever cleans up must not take the sender, which has run on, for the one that needs it."""
    stream = deliver(form, server, entity_request())
    stream.next()
    answered = batch_result(LARGE)
    answered.operationInfos[0].responseDestination.instanceId = "order-8"
    answered.entityState.value = LARGE + "s"
    answered.actions[0].sendSignal.input.value = LARGE + "i"
    form.call("CompleteEntityTask", answered)
    stream.cancel()
    event = pb.SendEventAction(instance=pb.OrchestrationInstance(instanceId="order-9"), data=text(LARGE + "e"))
    called = pb.EntityOperationCalledEvent(input=text(LARGE + "c"), targetInstanceId=text("@ledger@3"))
    signaled = pb.EntityOperationSignaledEvent(input=text(LARGE + "g"), targetInstanceId=text("@ledger@4"))
    both = [text(LARGE + "b"), text(LARGE + "b")]
    form.call(
        "CompleteOrchestratorTask",
        pb.OrchestratorResponse(
            instanceId="order-7",
            actions=[
                pb.OrchestratorAction(sendEvent=event),
                pb.OrchestratorAction(sendEntityMessage=pb.SendEntityMessageAction(entityOperationCalled=called)),
                pb.OrchestratorAction(sendEntityMessage=pb.SendEntityMessageAction(entityOperationSignaled=signaled)),
                pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=text(LARGE + "a"))),
                pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=both[0])),
                pb.OrchestratorAction(sendEvent=pb.SendEventAction(instance=event.instance, data=both[1])),
            ],
        ),
    )
    owners = {store.download(token).decode()[-1]: store.instance_id(token) for token in store.tokens}
    assert owners == {
        LARGE[-1]: "order-8",
        "s": LEDGER,
        "i": "@ledger@2",
        "e": "order-9",
        "c": "@ledger@3",
        "g": "@ledger@4",
        "a": "order-7",
        "b": None,  # one payload for two instances
    }


def test_a_batch_that_cannot_be_completed_is_failed_and_keeps_its_state(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())
    stream = deliver(form, server, entity_request(state=token))
    received = stream.next()
    assert isinstance(received, pb.WorkItem)
    assert received.entityRequestV2.entityState.value == LARGE
    request = batch_result("small", "small", state=TOO_LARGE)
    form.call("CompleteEntityTask", request)
    sent = only(server, "CompleteEntityTask")
    assert isinstance(sent, pb.EntityBatchResult)
    assert [result.WhichOneof("resultType") for result in sent.results] == ["failure", "failure"]
    assert [info.requestId for info in sent.operationInfos] == ["request-0", "request-1"]
    assert sent.entityState.value == token
    assert list(sent.actions) == []
    assert sent.failureDetails.isNonRetriable
    stream.cancel()


def test_a_refused_credential_is_an_outage(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    """A key is rotated, a role is being assigned."""
    stream = deliver(form, server, entity_request())
    stream.next()
    failing(store, PayloadAccessDeniedError("no right"))
    with pytest.raises(PayloadStoreUnavailableError, match=r"entity @ledger@1 .* abandoned: no right"):
        form.call("CompleteEntityTask", batch_result("small", "small", state=LARGE))
    only(server, "AbandonTaskEntityWorkItem")
    assert server.named("CompleteEntityTask") == []
    stream.cancel()


def test_a_batch_whose_state_as_it_arrived_is_not_known_is_abandoned(form: Form, server: ScriptedServer) -> None:
    """Failed without it, the state would be deleted."""
    with pytest.raises(PayloadError, match="entityState"):
        form.call("CompleteEntityTask", batch_result("small", state=TOO_LARGE))
    only(server, "AbandonTaskEntityWorkItem")
    assert server.named("CompleteEntityTask") == []


def test_nothing_is_known_of_a_batch_after_its_completion_ended_in_whatever_way(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())
    stream = deliver(form, server, entity_request(state=token))
    stream.next()
    server.answers["CompleteEntityTask"] = lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
    with pytest.raises(grpc.RpcError, match="gone"):
        form.call("CompleteEntityTask", batch_result("small", "small"))
    del server.answers["CompleteEntityTask"]
    with pytest.raises(PayloadTooLargeError):  # failed without its state as it arrived, it would lose the state
        form.call("CompleteEntityTask", batch_result("small", "small", state=TOO_LARGE))
    only(server, "AbandonTaskEntityWorkItem")
    stream.cancel()


def test_what_is_known_to_be_too_large_is_cut_before_it_is_sent(address: str, server: ScriptedServer) -> None:
    store = ScriptedStore()
    with Externalizer(store, message_budget_bytes=80_000) as externalizer:
        with opened("sync", address, externalizer) as form:
            request = activity_response("")
            request.ClearField("result")
            failure = request.failureDetails
            failure.errorMessage = "e" * 90_000
            failure.properties["small"].CopyFrom(Value(string_value="kept"))
            failure.properties["large"].CopyFrom(Value(string_value="p" * 70_000))
            failure.innerFailure.errorMessage = "i" * 90_000
            before = request.SerializeToString()
            form.call("CompleteActivityTask", request)
        sent = only(server, "CompleteActivityTask")
        assert isinstance(sent, pb.ActivityResponse)
        assert sent.ByteSize() < 80_000
        details = sent.failureDetails
        assert details.errorMessage.startswith("eeee")
        assert "cut: 90000 bytes, whole in stackTrace" in details.errorMessage
        assert "property large dropped: 70" in details.errorMessage
        assert list(details.properties) == ["small"]
        assert "cut: 90000 bytes" in details.innerFailure.errorMessage
        assert store.download(details.stackTrace.value) == b"e" * 90_000 + b"\n"
        assert request.SerializeToString() == before


@pytest.mark.parametrize("cuttable", [True, False])
def test_what_grpc_refuses_for_its_size_is_sent_cut_or_failed(
    cuttable: bool, form: Form, server: ScriptedServer
) -> None:
    """The server takes less than gRPC's default here, which nobody could know."""

    def answer(request: Message, context: grpc.ServicerContext) -> Message:
        if request.ByteSize() > 70_000:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE_FOR_GRPC)
        return pb.CompleteTaskResponse()

    server.answers["CompleteOrchestratorTask"] = answer
    stream = deliver(form, server, orchestrator_request())
    stream.next()
    request = pb.OrchestratorResponse(instanceId="order-1", completionToken="token-1")
    if cuttable:
        complete = request.actions.add().completeOrchestration
        complete.orchestrationStatus = pb.ORCHESTRATION_STATUS_FAILED
        complete.failureDetails.errorType = "ValueError"
        complete.failureDetails.errorMessage = "e" * 90_000
    else:
        for number in range(3_000):
            request.actions.add(id=number).scheduleTask.name = "an activity with a name"
    form.call("CompleteOrchestratorTask", request)
    *_, sent = server.named("CompleteOrchestratorTask")
    assert isinstance(sent, pb.OrchestratorResponse)
    *_, action = sent.actions
    details = action.completeOrchestration.failureDetails
    assert action.completeOrchestration.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    if cuttable:
        assert details.errorType == "ValueError"
        assert "cut: 90000 bytes" in details.errorMessage
    else:
        assert details.errorType == "durabletask_payloads.PayloadTooLargeError"
        assert "its largest field is OrchestratorResponse.actions.scheduleTask" in details.errorMessage
    stream.cancel()


def test_a_small_completion_that_is_refused_as_exhausted_is_left_to_the_worker(
    form: Form, server: ScriptedServer
) -> None:
    """It is a quota: to fail the activity for it would lose a good result."""
    server.answers["CompleteActivityTask"] = lambda request, context: context.abort(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "too many"
    )
    with pytest.raises(grpc.RpcError, match="too many"):
        form.call("CompleteActivityTask", activity_response(LARGE))
    assert len(server.named("CompleteActivityTask")) == 1


def test_what_is_under_the_threshold_is_cut_too_where_the_server_takes_less(
    address: str, server: ScriptedServer
) -> None:
    def refuse_first(request: Message, context: grpc.ServicerContext) -> Message:
        if len(server.named("CompleteActivityTask")) == 1:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE_FOR_GRPC)
        return pb.CompleteTaskResponse()

    server.answers["CompleteActivityTask"] = refuse_first
    failed = pb.ActivityResponse(failureDetails=pb.TaskFailureDetails(errorMessage="e" * 100_000))
    with Externalizer(InMemoryPayloadStore()) as externalizer, opened("sync", address, externalizer) as form:
        form.call("CompleteActivityTask", failed)
    sent = server.named("CompleteActivityTask")[-1]
    assert isinstance(sent, pb.ActivityResponse)
    assert sent.failureDetails.errorMessage.startswith("e" * 30_000)
    assert " [cut: 100000 bytes" in sent.failureDetails.errorMessage


def test_the_outcome_of_a_completion_that_is_not_known_is_left_to_the_worker(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    server.answers["CompleteActivityTask"] = lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
    request = activity_response(LARGE)
    with pytest.raises(grpc.RpcError, match="gone"):
        form.call("CompleteActivityTask", request)
    assert len(store) == 1
    assert request == activity_response(LARGE)


def test_what_was_uploaded_for_a_completion_that_was_sent_stays(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """Whatever the answer is: the message may have been accepted before, and been sent again."""
    server.answers["CompleteActivityTask"] = lambda request, context: context.abort(grpc.StatusCode.NOT_FOUND, "gone")
    with pytest.raises(grpc.RpcError, match="gone"):
        form.call("CompleteActivityTask", activity_response(LARGE))
    assert len(store) == 1


def test_a_payload_over_the_maximum_is_named_as_that_also_where_the_message_is_over_the_budget(
    address: str, server: ScriptedServer, store: ScriptedStore
) -> None:
    with (
        Externalizer(store, message_budget_bytes=MAXIMUM) as externalizer,
        opened("sync", address, externalizer) as form,
    ):
        form.call("CompleteActivityTask", activity_response(TOO_LARGE))
    sent = only(server, "CompleteActivityTask")
    assert isinstance(sent, pb.ActivityResponse)
    assert "ActivityResponse.result has" in sent.failureDetails.errorMessage
    assert "max_stored_payload_bytes" in sent.failureDetails.errorMessage


def test_what_the_worker_abandons_by_itself_is_forgotten(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """So that a completion that comes for it all the same is one whose state as it arrived is not known."""
    stream = deliver(form, server, entity_request(state="before"))
    stream.next()
    form.call("AbandonTaskEntityWorkItem", pb.AbandonEntityTaskRequest(completionToken="token-1"))
    with pytest.raises(PayloadError, match="entityState"):
        form.call("CompleteEntityTask", batch_result("small", state=TOO_LARGE))
    stream.cancel()


# ---- work items ----------------------------------------------------------------------------------------------------


def activity_request(value: str) -> pb.WorkItem:
    return pb.WorkItem(
        completionToken="token-1",
        activityRequest=pb.ActivityRequest(
            name="digest",
            taskId=7,
            input=text(value),
            orchestrationInstance=pb.OrchestrationInstance(instanceId="order-1"),
        ),
    )


def small(token: str = "small") -> pb.WorkItem:
    item = activity_request("small")
    item.completionToken = token
    return item


def assert_goes_on(stream: Stream) -> None:
    received = stream.next()
    assert isinstance(received, pb.WorkItem)
    assert received.completionToken == "small"


def test_an_activity_that_cannot_be_resolved_is_failed_and_the_stream_goes_on(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())
    store.delete(token)
    stream = deliver(form, server, activity_request(token), small())
    assert_goes_on(stream)
    sent = only(server, "CompleteActivityTask")
    assert isinstance(sent, pb.ActivityResponse)
    assert (sent.instanceId, sent.taskId, sent.completionToken) == ("order-1", 7, "token-1")
    assert sent.failureDetails.errorType == "durabletask_payloads.PayloadNotFoundError"
    assert token in sent.failureDetails.errorMessage


def test_an_orchestration_that_cannot_be_resolved_is_failed_and_its_locks_are_freed(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())
    store.delete(token)
    item = orchestrator_request()
    item.orchestratorRequest.newEvents.add().eventRaised.input.value = token
    stream = deliver(form, server, item, small())
    assert_goes_on(stream)
    assert_fails_and_frees(only(server, "CompleteOrchestratorTask"), kept=False)


def test_an_item_that_cannot_be_resolved_now_is_abandoned_and_the_stream_goes_on(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    token = store.upload(LARGE.encode())
    failing(store, down())
    started = time.monotonic()
    stream = deliver(form, server, activity_request(token), small())
    received = stream.next()
    assert isinstance(received, pb.WorkItem)
    assert received.completionToken == "small"
    only(server, "AbandonTaskActivityWorkItem")
    assert time.monotonic() - started > 0.1
    assert server.named("CompleteActivityTask") == []
    stream.cancel()


@pytest.mark.parametrize("version", [1, 2])
def test_an_operation_that_cannot_be_resolved_is_taken_out_and_failed_at_its_place(
    version: int, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    here, gone = store.upload(LARGE.encode()), store.upload(b"gone" * 1_000)
    store.delete(gone)
    item = entity_request(state=here, inputs=("first", gone, here))
    if version == 1:
        operations = [event.entityOperationCalled for event in item.entityRequestV2.operationRequests]
        item.entityRequest.CopyFrom(
            pb.EntityBatchRequest(
                instanceId=LEDGER,
                entityState=text(here),
                operations=[pb.OperationRequest(requestId=one.requestId, input=one.input) for one in operations],
            )
        )
    stream = deliver(form, server, item)
    received = stream.next()
    assert isinstance(received, pb.WorkItem)
    if version == 1:
        assert received.entityRequest.entityState.value == LARGE
        assert [one.input.value for one in received.entityRequest.operations] == ["first", LARGE]
    else:
        assert received.entityRequestV2.entityState.value == LARGE
        events = received.entityRequestV2.operationRequests
        assert [event.entityOperationCalled.input.value for event in events] == ["first", LARGE]
    result = batch_result("result of first", "result of third")
    if version == 1:
        del result.operationInfos[:]
    before = result.SerializeToString()
    form.call("CompleteEntityTask", result)
    sent = only(server, "CompleteEntityTask")
    assert isinstance(sent, pb.EntityBatchResult)
    assert [one.success.result.value for one in sent.results] == ["result of first", "", "result of third"]
    assert gone in sent.results[1].failure.failureDetails.errorMessage
    assert sent.entityState.value == "after"
    if version == 1:
        assert list(sent.operationInfos) == []
    else:
        assert sent.operationInfos[1].requestId == "request-1"
        assert sent.operationInfos[1].responseDestination.instanceId == "order-1"
        assert sent.operationInfos[1].responseDestination.executionId.value == "execution-1"
    assert result.SerializeToString() == before
    stream.cancel()


def test_a_signal_that_cannot_be_resolved_is_failed_at_its_place_and_answered_to_nobody(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    gone = store.upload(LARGE.encode())
    store.delete(gone)
    item = entity_request(inputs=("first",))
    signal = pb.EntityOperationSignaledEvent(requestId="signal-1", operation="put", input=text(gone))
    item.entityRequestV2.operationRequests.append(pb.HistoryEvent(entityOperationSignaled=signal))
    stream = deliver(form, server, item)
    received = stream.next()
    assert isinstance(received, pb.WorkItem)
    assert len(received.entityRequestV2.operationRequests) == 1
    form.call("CompleteEntityTask", batch_result("result of first"))
    sent = only(server, "CompleteEntityTask")
    assert isinstance(sent, pb.EntityBatchResult)
    assert [one.WhichOneof("resultType") for one in sent.results] == ["success", "failure"]
    assert sent.operationInfos[1] == pb.OperationInfo(requestId="signal-1")
    stream.cancel()


@pytest.mark.parametrize("part", ["state", "all inputs"])
def test_a_batch_of_which_nothing_can_be_done_is_failed_and_keeps_its_state(
    part: str, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    gone = store.upload(LARGE.encode())
    store.delete(gone)
    item = entity_request(state=gone) if part == "state" else entity_request(state="as it was", inputs=(gone, gone))
    stream = deliver(form, server, item, small())
    assert_goes_on(stream)
    sent = only(server, "CompleteEntityTask")
    assert isinstance(sent, pb.EntityBatchResult)
    assert sent.completionToken == "token-1"
    assert [one.WhichOneof("resultType") for one in sent.results] == ["failure", "failure"]
    assert [info.responseDestination.instanceId for info in sent.operationInfos] == ["order-1", "order-1"]
    assert sent.entityState.value == (gone if part == "state" else "as it was")
    assert sent.HasField("failureDetails")


def test_a_batch_of_which_one_part_cannot_be_resolved_now_is_abandoned_whole(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    slow, gone = store.upload(b"slow" * 1_000), store.upload(LARGE.encode())
    store.delete(gone)

    def fail(payload: bytes) -> None:
        raise down()

    store.downloading = fail
    stream = deliver(form, server, entity_request(inputs=(gone, slow)), small())
    received = stream.next()
    assert isinstance(received, pb.WorkItem)
    assert received.completionToken == "small"
    only(server, "AbandonTaskEntityWorkItem")
    stream.cancel()


def test_an_item_whose_failure_is_refused_is_abandoned(
    form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    gone = store.upload(LARGE.encode())
    store.delete(gone)
    server.answers["CompleteActivityTask"] = lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "no")
    stream = deliver(form, server, activity_request(gone), small())
    received = stream.next()
    assert isinstance(received, pb.WorkItem)
    only(server, "AbandonTaskActivityWorkItem")
    stream.cancel()


def test_max_deliveries_is_checked(store: ScriptedStore) -> None:
    with pytest.raises(ValueError, match="max_deliveries is 0"):
        PayloadInterceptor(store, max_deliveries=0)


def test_errors_of_ours_have_no_code() -> None:
    """The SDK's own interceptor calls it."""
    assert not hasattr(PayloadNotFoundError("x"), "code")
