"""The parts of the interceptors that need no server: what counts as transient, the registry, how texts are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.wrappers_pb2 import StringValue

import durabletask_payloads
from durabletask_payloads import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
    SchemaMismatchError,
    interceptors,
)
from durabletask_payloads.interceptors import _failures, _messages, _work_items
from durabletask_payloads.interceptors._messages import ACTIVITY, ENTITY, ORCHESTRATION, Lock
from durabletask_payloads.interceptors._work_items import Backoff, WorkItem, WorkItems

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from durabletask_payloads.interceptors._messages import Completion, Kind


def test_what_is_public() -> None:
    assert interceptors.__all__ == ["PayloadInterceptor", "async_payload_interceptors"]


# ---- transient or permanent ----------------------------------------------------------------------------------------


def answered(status: int) -> HttpResponseError:
    error = HttpResponseError("no")
    error.status_code = status
    return error


@pytest.mark.parametrize(
    "error",
    [
        PayloadStoreUnavailableError(""),
        OSError(),
        ConnectionResetError(),
        TimeoutError(),
        ServiceRequestError("refused"),
        ServiceResponseError("no answer"),
        *(answered(status) for status in (408, 429, 500, 503)),
    ],
)
def test_transient(error: Exception) -> None:
    assert _failures.is_transient(error)
    assert type(_failures.as_payload_error(error, "text")) is PayloadStoreUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        *(
            of("")
            for of in (
                PayloadError,
                PayloadTooLargeError,
                PayloadNotFoundError,
                PayloadAccessDeniedError,
                PayloadTokenError,
                PayloadIntegrityError,
                SchemaMismatchError,
            )
        ),
        KeyError("unknown ones, too"),
        RuntimeError(),
        ResourceNotFoundError("gone"),
        *(answered(status) for status in (400, 403, 404, 409)),
    ],
)
def test_permanent(error: Exception) -> None:
    assert not _failures.is_transient(error)
    expected = type(error) if isinstance(error, PayloadError) else PayloadError
    assert type(_failures.as_payload_error(error, "text")) is expected


# ---- the registry --------------------------------------------------------------------------------------------------


class Holder:
    def give_back(self, item: WorkItem, delay: float) -> bool:
        return False


def activity(task_id: int, token: str = "token-1") -> WorkItem:
    return WorkItem(ACTIVITY, "order-1", task_id, token)


def activity_arrives(task_id: int) -> pb.WorkItem:
    instance = pb.OrchestrationInstance(instanceId="order-1")
    request = pb.ActivityRequest(taskId=task_id, orchestrationInstance=instance)
    return pb.WorkItem(completionToken="token-1", activityRequest=request)


def response(task_id: int, token: str = "token-1") -> pb.ActivityResponse:
    return pb.ActivityResponse(instanceId="order-1", taskId=task_id, completionToken=token)


def test_what_arrives_is_found_by_its_completion_until_that_got_through() -> None:
    items, holder = WorkItems(10), Holder()
    history = pb.OrchestratorRequest(instanceId="order-1")
    batch = pb.EntityBatchRequest(instanceId="@ledger@1", entityState=StringValue(value="7"))
    batch_v2 = pb.EntityRequest(instanceId="@ledger@2")
    arrived = [
        items.arrived(message, holder)
        for message in (
            activity_arrives(7),
            pb.WorkItem(completionToken="token-2", orchestratorRequest=history),
            pb.WorkItem(completionToken="token-3", entityRequest=batch),
            pb.WorkItem(completionToken="token-4", entityRequestV2=batch_v2),
        )
    ]
    assert arrived == [
        WorkItem(ACTIVITY, "order-1", 7, "token-1", True, holder),
        WorkItem(ORCHESTRATION, "order-1", 0, "token-2", True, holder, history),
        WorkItem(ENTITY, "@ledger@1", 0, "token-3", True, holder, state="7"),
        WorkItem(ENTITY, "@ledger@2", 0, "token-4", True, holder),
    ]
    completions: list[tuple[Kind, Completion]] = [
        (ACTIVITY, response(7)),
        (ORCHESTRATION, pb.OrchestratorResponse(instanceId="order-1", completionToken="token-2")),
        (ENTITY, pb.EntityBatchResult(completionToken="token-3")),
        (ENTITY, pb.EntityBatchResult(completionToken="token-4")),
    ]
    for item, (kind, completion) in zip(arrived, completions, strict=True):
        assert items.find(kind, completion) is item
        items.completed(kind, completion)
        assert not items.find(kind, completion).is_known
    assert len(items) == 0


def test_activities_of_one_token_are_told_apart_and_removed_when_completed() -> None:
    """The SDK's in-memory backend gives all activities of a turn one token."""
    items = WorkItems(10)
    first, second = (items.arrived(activity_arrives(number), Holder()) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert items.find(ACTIVITY, response(1)) is first
    assert items.find(ACTIVITY, response(2)) is second
    items.done(first)
    items.given_back(second)
    assert len(items) == 0


def test_what_the_sdk_abandons_is_removed_where_it_is_clear_which_one_it_is() -> None:
    items = WorkItems(10)
    entity = pb.EntityBatchRequest(instanceId="@ledger@1")
    items.arrived(pb.WorkItem(completionToken="token-1", entityRequest=entity), Holder())
    items.arrived(activity_arrives(1), Holder())
    items.arrived(activity_arrives(2), Holder())
    items.abandoned(ACTIVITY, "token-1")
    assert len(items) == 3
    items.abandoned(ENTITY, "token-1")
    assert len(items) == 2
    items.abandoned(ORCHESTRATION, "token-1")
    assert len(items) == 2


def test_the_registry_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_work_items, "_MOST_ITEMS", 3)
    items = WorkItems(10)
    for number in range(10):
        items.arrived(activity_arrives(number), Holder())
        items.failed_again(activity(number))
    assert len(items) == 3
    items.arrived(activity_arrives(7), Holder())  # again
    items.arrived(activity_arrives(10), Holder())
    assert [number for number in range(11) if items.find(ACTIVITY, response(number)).is_known] == [7, 9, 10]
    assert items.failed_again(activity(0)) == 1
    assert items.failed_again(activity(9)) == 2


def test_deliveries_are_counted_over_tokens_and_until_one_is_completed() -> None:
    items = WorkItems(3)
    assert [items.failed_again(activity(1, f"token-{n}")) for n in range(3)] == [1, 2, 3]
    assert [items.is_last(n) for n in (1, 2, 3, 4)] == [False, False, True, True]
    items.given_back(activity(1))
    assert items.failed_again(activity(1)) == 4
    items.done(activity(1, "token-9"))
    assert items.failed_again(activity(1)) == 1
    items.completed(ACTIVITY, response(1, "token-8"))
    assert items.failed_again(activity(1)) == 1


def test_what_is_no_work_is_not_kept() -> None:
    items = WorkItems(10)
    assert items.arrived(pb.WorkItem(healthPing=pb.HealthPing()), Holder()) is None
    assert items.arrived(pb.WorkItem(), Holder()) is None
    assert len(items) == 0


# ---- the delay -----------------------------------------------------------------------------------------------------


def test_the_delay_grows_with_the_deliveries_from_a_quarter_of_a_second_to_half_a_minute() -> None:
    for deliveries, seconds in [(1, 0.25), (2, 0.5), (5, 4.0), (8, 30.0), (1_000, 30.0)]:
        for _ in range(20):
            assert 0.75 * seconds <= Backoff(lambda: 0).delay(deliveries) <= seconds


def test_the_delay_grows_for_new_items_too_while_nothing_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("durabletask_payloads.interceptors._work_items.time.monotonic", lambda: now[0])

    def longest(low: float, high: float) -> float:
        return high

    monkeypatch.setattr("durabletask_payloads.interceptors._work_items.random.uniform", longest)
    transfers = [0]
    backoff = Backoff(lambda: transfers[0])
    delays: list[float] = []
    for _ in range(4):
        delays += [backoff.delay(1), backoff.delay(1)]  # two items of one round
        now[0] += 100
    assert delays == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0]
    transfers[0] = 1  # the store is back
    assert backoff.delay(1) == 0.25


# ---- locks ---------------------------------------------------------------------------------------------------------


def test_locks_are_held_from_the_request_until_each_is_released() -> None:
    def asked(section: str, *entities: str) -> pb.HistoryEvent:
        event = pb.EntityLockRequestedEvent(criticalSectionId=section, lockSet=entities)
        return pb.HistoryEvent(entityLockRequested=event)

    def released(section: str, entity: str) -> pb.HistoryEvent:
        event = pb.EntityUnlockSentEvent(criticalSectionId=section, targetInstanceId=StringValue(value=entity))
        return pb.HistoryEvent(entityUnlockSent=event)

    events = [asked("s1", "@a@1", "@b@1"), released("s1", "@a@1"), released("s1", "@b@1"), asked("s2", "@a@1", "@c@1")]
    assert _messages.held_locks(events) == (Lock("s2", "@a@1"), Lock("s2", "@c@1"))
    assert _messages.held_locks([*events, released("s1", "@a@1"), released("s2", "@a@1")]) == (Lock("s2", "@c@1"),)


# ---- cut -----------------------------------------------------------------------------------------------------------


def cut(response: pb.ActivityResponse, *, goal: int = 1_000_000, max_trace: int = 1_000_000) -> bool:
    return _failures.cut_failures(
        response, goal=goal, smallest_bytes=lambda message: message.ByteSize(), max_trace=max_trace
    )


def failed(message: str, trace: str = "") -> pb.ActivityResponse:
    details = pb.TaskFailureDetails(errorType="ValueError", errorMessage=message)
    if trace:
        details.stackTrace.value = trace
    return pb.ActivityResponse(failureDetails=details)


def test_a_text_is_cut_to_32_kib_of_utf8_and_never_in_a_character() -> None:
    text = _failures.cut("ä" * 40_000, " end")
    assert len(text.encode()) in (32 * 1024, 32 * 1024 - 1)
    assert text.endswith("ä end")
    assert _failures.cut("short", " end") == "short"


def test_what_fits_is_not_cut() -> None:
    response = failed("e" * 32 * 1024, "trace")
    before = response.SerializeToString()
    assert not cut(response)
    assert response.SerializeToString() == before


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ("", "e" * 40_000 + "\n"),
        ("frames", "e" * 40_000 + "\nframes"),
        ("ValueError: " + "e" * 40_000, "ValueError: " + "e" * 40_000),
    ],
)
def test_the_whole_text_is_in_the_stack_trace_once(trace: str, expected: str) -> None:
    response = failed("e" * 40_000, trace)
    assert cut(response)
    assert response.failureDetails.stackTrace.value == expected
    assert response.failureDetails.errorMessage.endswith(" [cut: 40000 bytes, whole in stackTrace]")
    assert len(response.failureDetails.errorMessage) == 32 * 1024


def test_a_stack_trace_that_can_not_be_stored_is_cut_too() -> None:
    response = failed("short", "t" * 40_000)
    assert cut(response, max_trace=32 * 1024)
    assert response.failureDetails.errorMessage == "short"
    assert len(response.failureDetails.stackTrace.value) == 32 * 1024
    response = failed("e" * 40_000)
    assert cut(response, max_trace=32 * 1024)
    assert response.failureDetails.errorMessage.endswith(" [cut: 40000 bytes]")


def test_properties_go_largest_first_until_it_fits() -> None:
    response = failed("short")
    for name, size in [("a", 10), ("b", 3_000), ("c", 2_000), ("d", 1_000)]:
        response.failureDetails.properties[name].string_value = "p" * size
    assert cut(response, goal=2_000)
    assert sorted(response.failureDetails.properties) == ["a", "d"]
    text = response.failureDetails.errorMessage
    assert text.startswith("short [property b dropped: 3")
    assert "[property c dropped: 2" in text


# ---- another descriptor pool ---------------------------------------------------------------------------------------


@pytest.fixture
def private() -> Callable[[str], type[Message]]:
    """The messages of the SDK, in a pool of their own: as of a fork, or of a process without the SDK."""
    pool = descriptor_pool.DescriptorPool()
    for name in ("timestamp", "duration", "wrappers", "empty", "struct"):
        pool.AddSerializedFile(pb.DESCRIPTOR.pool.FindFileByName(f"google/protobuf/{name}.proto").serialized_pb)
    pool.AddSerializedFile(pb.DESCRIPTOR.serialized_pb)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_a_failure_is_of_the_pool_of_the_message_at_hand(private: Callable[[str], type[Message]]) -> None:
    like = private("WorkItem")()
    error = PayloadNotFoundError("gone")
    activity = _failures.failed_activity(like, "order-1", 7, "token-1", error)
    assert type(activity) is private("ActivityResponse")
    orchestration = _failures.failed_orchestration(
        like, "order-1", "token-1", error, locks=[Lock("s1", "@a@1")], next_id=3, trace_context=None
    )
    assert type(orchestration) is private("OrchestratorResponse")
    read = pb.OrchestratorResponse.FromString(orchestration.SerializeToString())
    assert [action.id for action in read.actions] == [3, -1]
    assert read.actions[1].completeOrchestration.failureDetails.errorMessage == "gone"
    batch = _failures.failed_batch(like, "token-1", error, operations=2, infos=[], state=None)
    assert type(batch) is private("EntityBatchResult")
    assert not pb.EntityBatchResult.FromString(batch.SerializeToString()).HasField("entityState")
    request = _messages.with_large_payloads(private("GetWorkItemsRequest")())
    read_back = pb.GetWorkItemsRequest.FromString(request.SerializeToString())
    assert list(read_back.capabilities) == [pb.WORKER_CAPABILITY_LARGE_PAYLOADS]


def test_the_text_of_an_unknown_error_names_its_class() -> None:
    details = pb.TaskFailureDetails()
    _failures.describe(details, KeyError())
    assert details.errorType == "builtins.KeyError"
    assert details.errorMessage == "builtins.KeyError"  # the in-memory backend takes an empty one for a success
    _failures.describe(details, durabletask_payloads.PayloadTokenError("t" * 50_000))
    assert details.errorType == "durabletask_payloads.PayloadTokenError"
    assert len(details.errorMessage) == 32 * 1024
