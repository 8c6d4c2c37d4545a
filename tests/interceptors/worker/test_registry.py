"""The registry of work items in flight, and what the interceptors export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.stream_holder import Holder

from durabletask_payloads import PayloadNotFoundError, PayloadStats, PayloadStoreUnavailableError, interceptors
from durabletask_payloads.interceptors._verdict import Abandon, Final
from durabletask_payloads.interceptors.worker import Registry
from durabletask_payloads.interceptors.worker.kinds import Activity, Entity, Lock, Orchestration

if TYPE_CHECKING:
    import pytest

    from durabletask_payloads.interceptors.worker.kinds import WorkItem
    from durabletask_payloads.interceptors.worker.kinds._base import Completion


def test_what_is_public() -> None:
    assert interceptors.__all__ == ["PayloadInterceptor", "async_payload_interceptors"]


class Store:
    """What a store has served so far."""

    def __init__(self) -> None:
        self.uploads = self.downloads = 1  # it is proven

    def stats(self) -> PayloadStats:
        return PayloadStats(self.uploads, 0, self.downloads, *[0] * 8)


def registry(max_deliveries: int = 10, store: Store | None = None) -> Registry:
    return Registry(max_deliveries, (store or Store()).stats)


def activity(task_id: int, token: str = "token-1") -> Activity:
    return Activity("order-1", task_id, token)


def activity_arrives(task_id: int) -> pb.WorkItem:
    instance = pb.OrchestrationInstance(instanceId="order-1")
    request = pb.ActivityRequest(taskId=task_id, orchestrationInstance=instance)
    return pb.WorkItem(completionToken="token-1", activityRequest=request)


def response(task_id: int, token: str = "token-1") -> pb.ActivityResponse:
    return pb.ActivityResponse(instanceId="order-1", taskId=task_id, completionToken=token)


def deliveries(items: Registry, store: Store, item: WorkItem) -> int:
    """Let `item` fail once more in a registry with max_deliveries=1, and return which delivery that was."""
    store.uploads += 1  # or it does not count
    verdict = items.judge(item, PayloadStoreUnavailableError("down"), "upload")
    assert isinstance(verdict, Final)
    return int(str(verdict.error).split()[3])


def test_only_what_was_served_in_the_same_direction_proves_a_store() -> None:
    store = Store()
    store.downloads = 0
    items, item = registry(store=store), activity(1)
    assert isinstance(items.judge(item, PayloadNotFoundError("gone"), "download"), Abandon)
    assert isinstance(items.judge(item, PayloadNotFoundError("gone"), "upload"), Final)
    store.downloads = 1
    assert isinstance(items.judge(item, PayloadNotFoundError("gone"), "download"), Final)


def test_an_outage_is_no_delivery_however_long_it_lasts() -> None:
    store = Store()
    items, item = registry(max_deliveries=3, store=store), activity(1)
    down = PayloadStoreUnavailableError("down")
    for _ in range(5):
        assert isinstance(items.judge(item, down, "download"), Abandon)  # the first of them alone counts
        items.retry_later(item)  # never
    store.downloads += 1
    assert isinstance(items.judge(item, down, "download"), Abandon)
    store.downloads += 1
    verdict = items.judge(item, down, "download")
    assert isinstance(verdict, Final)
    assert str(verdict.error) == "gave up after 3 deliveries: down"


def test_arrivals_are_found_by_their_completion_until_that_is_accepted() -> None:
    items, holder = registry(), Holder()
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
    assert [item and (type(item), item.instance_id, item.task_id, item.token, item.holder) for item in arrived] == [
        (Activity, "order-1", 7, "token-1", holder),
        (Orchestration, "order-1", 0, "token-2", holder),
        (Entity, "@ledger@1", 0, "token-3", holder),
        (Entity, "@ledger@2", 0, "token-4", holder),
    ]
    states = [item.state for item in arrived if isinstance(item, Entity)]
    assert states == ["7", None]
    completions: list[tuple[type[WorkItem], Completion]] = [
        (Activity, response(7)),
        (Orchestration, pb.OrchestratorResponse(instanceId="order-1", completionToken="token-2")),
        (Entity, pb.EntityBatchResult(completionToken="token-3")),
        (Entity, pb.EntityBatchResult(completionToken="token-4")),
    ]
    for item, (kind, completion) in zip(arrived, completions, strict=True):
        assert items.find(kind, completion) is item
        items.completed(kind, completion, accepted=True)
        assert items.find(kind, completion).holder is None
    assert len(items) == 0


def test_activities_of_one_token_are_told_apart_and_removed_when_completed() -> None:
    """The SDK's in-memory backend gives all activities of a turn one token."""
    items = registry()
    first, second = (items.arrived(activity_arrives(number), Holder()) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert items.find(Activity, response(1)) is first
    assert items.find(Activity, response(2)) is second
    items.done(first)
    items.abandoned(second)
    assert len(items) == 0


def test_an_item_that_the_sdk_abandons_is_removed_if_it_is_clear_which_one_it_is() -> None:
    items = registry()
    entity = pb.EntityBatchRequest(instanceId="@ledger@1")
    items.arrived(pb.WorkItem(completionToken="token-1", entityRequest=entity), Holder())
    items.arrived(activity_arrives(1), Holder())
    items.arrived(activity_arrives(2), Holder())
    items.abandoned_by_worker(Activity, "token-1")
    assert len(items) == 3
    items.abandoned_by_worker(Entity, "token-1")
    assert len(items) == 2
    items.abandoned_by_worker(Orchestration, "token-1")
    assert len(items) == 2


def test_the_registry_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durabletask_payloads.interceptors.worker._registry._MOST_ITEMS", 3)
    store = Store()
    items = registry(1, store)
    for number in range(10):
        items.arrived(activity_arrives(number), Holder())
        deliveries(items, store, activity(number))
    assert len(items) == 3
    items.arrived(activity_arrives(7), Holder())  # again
    items.arrived(activity_arrives(10), Holder())
    assert [number for number in range(11) if items.find(Activity, response(number)).holder] == [7, 9, 10]
    assert deliveries(items, store, activity(0)) == 1
    assert deliveries(items, store, activity(9)) == 2


def test_deliveries_are_counted_over_tokens_and_until_one_is_completed() -> None:
    store = Store()
    items = registry(1, store)
    assert [deliveries(items, store, activity(1, f"token-{n}")) for n in range(3)] == [1, 2, 3]
    items.abandoned(activity(1))
    assert deliveries(items, store, activity(1)) == 4
    items.done(activity(1, "token-9"))
    assert deliveries(items, store, activity(1)) == 1
    items.completed(Activity, response(1, "token-8"), accepted=True)
    assert deliveries(items, store, activity(1)) == 1


def test_a_refused_completion_is_forgotten_but_not_its_failures() -> None:
    store = Store()
    items = registry(1, store)
    items.arrived(activity_arrives(1), Holder())
    assert deliveries(items, store, activity(1)) == 1
    items.completed(Activity, response(1), accepted=False)
    assert len(items) == 0
    assert deliveries(items, store, activity(1)) == 2


def test_nothing_of_a_stream_is_kept_when_it_has_ended() -> None:
    items, ended, other = registry(), Holder(), Holder()
    for number in range(5):
        items.arrived(activity_arrives(number), ended if number else other)
    items.stream_ended(ended)
    assert len(items) == 1


def test_what_entries_hold_is_bounded_in_bytes() -> None:
    items = registry()
    for number in range(1_000):
        state = StringValue(value="s" * 200_000)
        batch = pb.EntityRequest(instanceId=f"@ledger@{number}", entityState=state)
        items.arrived(pb.WorkItem(completionToken=f"token-{number}", entityRequestV2=batch), Holder())
    assert items.bytes <= 32 * 1024 * 1024
    assert 100 < len(items) < 200
    assert items.find(Entity, pb.EntityBatchResult(completionToken="token-999")).holder is not None
    assert items.find(Entity, pb.EntityBatchResult(completionToken="token-1")).holder is None


def test_an_orchestration_keeps_its_locks_and_no_history() -> None:
    items = registry()
    lock = pb.EntityLockRequestedEvent(criticalSectionId="s1", lockSet=["@a@1"])
    history = pb.OrchestratorRequest(
        instanceId="order-1",
        pastEvents=[pb.HistoryEvent(eventId=7, entityLockRequested=lock)],
        newEvents=[pb.HistoryEvent(eventId=8, eventRaised=pb.EventRaisedEvent(input=StringValue(value="x" * 100_000)))],
    )
    item = items.arrived(pb.WorkItem(completionToken="token-1", orchestratorRequest=history), Holder())
    assert isinstance(item, Orchestration)
    assert item.locks == (Lock("s1", "@a@1"),)
    assert item.next_id == 9
    assert items.bytes == 0


def test_pings_and_unknown_requests_are_no_work_items() -> None:
    items = registry()
    assert items.arrived(pb.WorkItem(healthPing=pb.HealthPing()), Holder()) is None
    assert items.arrived(pb.WorkItem(), Holder()) is None
    assert len(items) == 0
