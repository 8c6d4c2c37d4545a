"""The kinds of work items: locks of an orchestration, and messages of another descriptor pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.stream_holder import Holder

from durabletask_payloads import PayloadNotFoundError
from durabletask_payloads.interceptors import _protocol
from durabletask_payloads.interceptors.worker.kinds import Activity, Entity, Lock, Orchestration, held_locks

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from durabletask_payloads.interceptors.worker.kinds import WorkItem


def test_locks_are_held_from_the_request_until_each_is_released() -> None:
    def asked(section: str, *entities: str) -> pb.HistoryEvent:
        event = pb.EntityLockRequestedEvent(criticalSectionId=section, lockSet=entities)
        return pb.HistoryEvent(entityLockRequested=event)

    def released(section: str, entity: str) -> pb.HistoryEvent:
        event = pb.EntityUnlockSentEvent(criticalSectionId=section, targetInstanceId=StringValue(value=entity))
        return pb.HistoryEvent(entityUnlockSent=event)

    events = [asked("s1", "@a@1", "@b@1"), released("s1", "@a@1"), released("s1", "@b@1"), asked("s2", "@a@1", "@c@1")]
    assert held_locks(events) == (Lock("s2", "@a@1"), Lock("s2", "@c@1"))
    assert held_locks([*events, released("s1", "@a@1"), released("s2", "@a@1")]) == (Lock("s2", "@c@1"),)


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
    error = PayloadNotFoundError("gone")
    batch = pb.EntityBatchRequest(
        instanceId="@ledger@1", entityState=StringValue(value="7"), operations=[pb.OperationRequest()] * 2
    )
    lock = pb.EntityLockRequestedEvent(criticalSectionId="s1", lockSet=["@a@1"])
    history = pb.OrchestratorRequest(pastEvents=[pb.HistoryEvent(eventId=2, entityLockRequested=lock)])

    def fails(kind: type[WorkItem], work: pb.WorkItem, completion: str) -> bytes:
        """Let `work` fail when it arrives, and again when that is completed; return the second substitute."""
        other = private("WorkItem")()
        other.MergeFromString(work.SerializeToString())
        arrived = cast("pb.WorkItem", other)  # by its name
        item = kind.arrived(arrived, Holder())
        failed = item.failed_arrival(arrived, error)
        assert type(failed) is private(completion)
        substitute = item.substitute(failed, error, 1_000)
        assert type(substitute) is private(completion)
        return substitute.SerializeToString()

    activity = pb.ActivityResponse.FromString(
        fails(Activity, pb.WorkItem(activityRequest=pb.ActivityRequest(taskId=7)), "ActivityResponse")
    )
    assert activity.taskId == 7
    assert activity.failureDetails.errorMessage == "gone"
    orchestration = pb.OrchestratorResponse.FromString(
        fails(Orchestration, pb.WorkItem(orchestratorRequest=history), "OrchestratorResponse")
    )
    assert [action.id for action in orchestration.actions] == [3, -1]
    assert orchestration.actions[1].completeOrchestration.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    entity = pb.EntityBatchResult.FromString(fails(Entity, pb.WorkItem(entityRequest=batch), "EntityBatchResult"))
    assert [result.failure.failureDetails.errorMessage for result in entity.results] == ["gone", "gone"]
    assert entity.entityState.value == "7"
    request = _protocol.with_large_payloads(private("GetWorkItemsRequest")())
    read_back = pb.GetWorkItemsRequest.FromString(request.SerializeToString())
    assert list(read_back.capabilities) == [pb.WORKER_CAPABILITY_LARGE_PAYLOADS]
