"""Arrivals and the registry, without gRPC: what is handed over, abandoned or failed, and what is counted of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.observer import Seen
from tests.support.scripted_store import ScriptedStore, prove
from tests.support.stream_holder import Holder

from durabletask_payloads import (
    Abandonment,
    Externalizer,
    PayloadNotFoundError,
    PayloadStats,
    PayloadStoreUnavailableError,
    Substitution,
)
from durabletask_payloads.interceptors._verdict import Abandon, Final
from durabletask_payloads.interceptors.worker import Registry
from durabletask_payloads.interceptors.worker._arrival import Arrival, deexternalize_arrival
from durabletask_payloads.interceptors.worker.kinds import Activity, Entity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from durabletask_payloads.interceptors.worker.kinds import WorkItem

GONE = f"blob:v1:durabletask-payloads:{'0' * 32}"
TRACE = pb.TraceContext(traceParent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


class Worker:
    """One store, one registry, and the completions that were sent, which the server answers by `code`."""

    def __init__(self, *, proven: bool = True) -> None:
        self.store = ScriptedStore()
        self.seen = Seen()
        self.externalizer = Externalizer(self.store, cache_bytes=0)
        self.now = 0.0
        self.registry = Registry(3, lambda: self.externalizer.stats, clock=lambda: self.now, observer=self.seen)
        self.code = grpc.StatusCode.OK
        self.sent: list[Message] = []
        if proven:
            prove(self.externalizer, self.store)

    def send(self, item: WorkItem, completion: Message) -> grpc.StatusCode:
        self.sent.append(completion)
        return self.code

    def arrives(self, work: pb.WorkItem) -> tuple[WorkItem, Arrival | Abandon]:
        item = self.registry.arrived(work, Holder())
        assert item is not None
        return item, deexternalize_arrival(item, work, self.externalizer, self.registry, self.send)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    with worker.externalizer:
        yield worker


def activity(text: str = GONE, task: int = 7) -> pb.WorkItem:
    request = pb.ActivityRequest(
        taskId=task,
        input=StringValue(value=text),
        orchestrationInstance=pb.OrchestrationInstance(instanceId="order-1"),
        parentTraceContext=TRACE,
    )
    return pb.WorkItem(completionToken="token-1", activityRequest=request)


def batch(*inputs: str) -> pb.WorkItem:
    operations = [pb.OperationRequest(operation="add", input=StringValue(value=text)) for text in inputs]
    request = pb.EntityBatchRequest(
        instanceId="@ledger@1", entityState=StringValue(value="s" * 500), operations=operations
    )
    return pb.WorkItem(completionToken="token-1", entityRequest=request)


def substitution(worker: Worker) -> Substitution:
    """The one event that the observer was told of."""
    (event,) = worker.seen.events
    assert isinstance(event, Substitution)
    return event


def abandonment(worker: Worker) -> Abandonment:
    """The same, of an item that was abandoned."""
    (event,) = worker.seen.events
    assert isinstance(event, Abandonment)
    return event


def unavailable(payload: bytes) -> None:
    raise PayloadStoreUnavailableError("down")


# ---- arrivals ------------------------------------------------------------------------------------------------------


def test_what_can_be_read_is_handed_over(worker: Worker) -> None:
    work = activity(worker.store.upload(b"x" * 5_000))
    item, arrival = worker.arrives(work)
    assert arrival is Arrival.HAND_OVER
    assert work.activityRequest.input.value == "x" * 5_000
    assert item.trace == (TRACE.traceParent, "")
    assert (len(worker.registry), worker.sent, worker.seen.events) == (1, [], [])


def test_what_is_gone_is_completed_as_failed(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    item, arrival = worker.arrives(activity())
    assert arrival is Arrival.DROP
    (response,) = worker.sent
    assert isinstance(response, pb.ActivityResponse)
    assert (response.instanceId, response.taskId, response.completionToken) == ("order-1", 7, "token-1")
    assert len(worker.registry) == 0
    event = substitution(worker)
    assert event[:3] == ("activity", "order-1", "failed")
    assert isinstance(event.error, PayloadNotFoundError)
    assert "If payload_store= of the SDK is set beside the interceptor" in caplog.text
    assert worker.registry.retry_later(item).delay <= 0.25  # its failures are forgotten


def test_a_failure_that_the_server_does_not_accept(worker: Worker) -> None:
    worker.code = grpc.StatusCode.RESOURCE_EXHAUSTED
    item, arrival = worker.arrives(activity())
    assert isinstance(arrival, Abandon)
    event = abandonment(worker)
    assert event == ("activity", "order-1", arrival.delay, event.error)
    assert "not accepted: RESOURCE_EXHAUSTED" in str(event.error)
    assert 0.75 <= worker.registry.retry_later(item).delay <= 1.0  # the third failure


def test_an_outage_abandons(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    token = worker.store.upload(b"x" * 5_000)
    worker.store.downloading = unavailable
    _, arrival = worker.arrives(activity(token))
    assert isinstance(arrival, Abandon)
    assert worker.sent == []
    event = abandonment(worker)
    assert event == ("activity", "order-1", arrival.delay, event.error)
    assert isinstance(event.error, PayloadStoreUnavailableError)
    assert "abandoning work item kind=activity instance=order-1 task=7" in caplog.text
    assert "payload_store=" not in caplog.text


def test_an_operation_whose_input_is_gone_is_taken_out(worker: Worker) -> None:
    work = batch("small", GONE, worker.store.upload(b"y" * 5_000))
    _, arrival = worker.arrives(work)
    assert arrival is Arrival.HAND_OVER
    assert [operation.input.value for operation in work.entityRequest.operations] == ["small", "y" * 5_000]
    event = substitution(worker)
    assert event[:3] == ("entity", "@ledger@1", "operation failed")
    assert isinstance(event.error, PayloadNotFoundError)


def test_a_batch_of_which_one_input_may_come_later_is_abandoned_whole(worker: Worker) -> None:
    """The first error is final, the second one is not."""
    token = worker.store.upload(b"y" * 5_000)
    work = batch(GONE, token)
    worker.store.downloading = unavailable
    _, arrival = worker.arrives(work)
    assert isinstance(arrival, Abandon)
    assert [operation.input.value for operation in work.entityRequest.operations] == [GONE, token]
    event = abandonment(worker)
    assert event == ("entity", "@ledger@1", arrival.delay, event.error)
    assert worker.sent == []


def test_a_batch_of_which_nothing_is_left_is_completed_as_failed(worker: Worker) -> None:
    _, arrival = worker.arrives(batch(GONE, GONE))
    assert arrival is Arrival.DROP
    assert isinstance(worker.sent[0], pb.EntityBatchResult)
    assert len(worker.sent[0].results) == 2


# ---- the registry --------------------------------------------------------------------------------------------------


class Served:
    """What a store has served, by a test."""

    def __init__(self, downloads: int = 0) -> None:
        self.downloads = downloads

    def stats(self) -> PayloadStats:
        return PayloadStats(0, 0, self.downloads, *[0] * 8)


ITEM = Activity("order-1", 1, "token-1")
DOWN, MISSING = PayloadStoreUnavailableError("down"), PayloadNotFoundError("gone")


def test_what_an_item_held_is_given_back() -> None:
    """Otherwise every item would be pushed out once 32 MiB have passed through."""
    items, holder = Registry(10, Served().stats), Holder()
    for end in range(5):
        item = items.arrived(batch("x"), holder)
        assert item is not None
        assert items.bytes >= 500
        completion = pb.EntityBatchResult(completionToken="token-1")
        if end == 0:
            items.completed(Entity, completion, accepted=True)
        elif end == 1:
            items.done(item)
        elif end == 2:
            items.abandoned(item)
        elif end == 3:
            items.abandoned_by_worker(Entity, "token-1")
        else:
            items.stream_ended(holder)
        assert (items.bytes, len(items)) == (0, 0)
    for _ in range(2):
        items.arrived(batch("x"), holder)  # again, before it ended
    assert items.bytes < 1_000


def test_the_bounds() -> None:
    items, holder = Registry(10, Served().stats), Holder()
    for number in range(4_097):
        items.arrived(activity(task=number), holder)
    assert len(items) == 4_096
    assert items.find(Activity, pb.ActivityResponse(instanceId="order-1", completionToken="token-1")).holder is None
    first = Activity("order-1", 0, "")
    for number in range(4_096):
        items.judge(Activity("order-1", number, ""), MISSING, "download")
    items.judge(first, MISSING, "download")  # which makes it the newest
    items.judge(Activity("order-1", 4_096, ""), MISSING, "download")
    assert items.retry_later(first).delay >= 0.75 * 1.0  # the third failure
    assert items.retry_later(Activity("order-1", 1, "")).delay <= 60  # that of task 1 was pushed out


def test_the_bound_in_bytes() -> None:
    items, mib = Registry(10, Served().stats), 1024 * 1024
    for number in range(32):
        work = batch()
        work.completionToken, work.entityRequest.entityState.value = f"token-{number}", "s" * mib
        items.arrived(work, Holder())
    assert (items.bytes, len(items)) == (32 * mib, 32)
    work = batch()
    work.completionToken, work.entityRequest.entityState.value = "token-32", "s"
    items.arrived(work, Holder())
    assert (items.bytes, len(items)) == (31 * mib + 1, 32)


def test_a_batch_that_was_completed_begins_anew() -> None:
    """Its result does not name its instance: what arrived does."""
    items, work = Registry(2, Served().stats), batch()
    for _ in range(3):
        item = items.arrived(work, Holder())
        assert item is not None
        assert isinstance(items.judge(item, MISSING, "download"), Abandon)
        items.completed(Entity, pb.EntityBatchResult(completionToken="token-1"), accepted=True)


def test_it_takes_at_least_one_delivery() -> None:
    with pytest.raises(ValueError, match="max_deliveries is 0: an item has to be delivered at least once"):
        Registry(0, Served().stats)


def test_the_sdk_abandons_one_of_several_of_its_kind() -> None:
    items = Registry(10, Served().stats)
    for token in ("token-1", "token-2"):
        work = activity()
        work.completionToken = token
        items.arrived(work, Holder())
    items.abandoned_by_worker(Activity, "token-2")
    assert len(items) == 1
    response = pb.ActivityResponse(instanceId="order-1", taskId=7, completionToken="token-1")
    assert items.find(Activity, response).holder is not None


def test_a_given_up_failure_has_the_error_as_its_cause() -> None:
    items = Registry(1, Served().stats)
    verdict = items.judge(ITEM, MISSING, "download")
    assert isinstance(verdict, Final)
    assert isinstance(verdict.error, PayloadNotFoundError)
    assert verdict.error is not MISSING
    assert verdict.error.__cause__ is MISSING


def test_a_further_error_of_a_delivery_is_judged_as_the_first_one() -> None:
    """It does not count a second time: with three deliveries, the first two are not final and the third one is."""
    items = Registry(3, Served().stats)
    finals: list[bool] = []
    for _ in range(4):
        items.judge(ITEM, MISSING, "download")
        finals += [items.is_final(ITEM, MISSING, "download") for _ in range(3)]
    assert finals == [False] * 6 + [True] * 6
    assert not Registry(2, Served().stats).is_final(ITEM, MISSING, "download")  # never judged: as the first delivery
    assert Registry(1, Served().stats).is_final(ITEM, MISSING, "download")
    assert Registry(3, Served(1).stats).is_final(ITEM, MISSING, "download")  # proven


def test_a_store_is_proven_by_the_first_transfer() -> None:
    served = Served()
    items = Registry(1, served.stats)
    assert isinstance(items.judge(ITEM, DOWN, "download"), Abandon)
    served.downloads = 1
    assert isinstance(items.judge(ITEM, DOWN, "download"), Final)


def test_delays_grow_with_all_failures_and_only_deliveries_that_count_are_counted() -> None:
    now, served = [0.0], Served(1)
    items = Registry(3, served.stats, clock=lambda: now[0])
    delays: list[float] = []
    for _ in range(4):
        delays.append(items.retry_later(ITEM).delay)
        served.downloads += 1  # so that the delay is the item's own
    for delay, seconds in zip(delays, (0.25, 0.5, 1.0, 2.0), strict=True):
        assert 0.75 * seconds <= delay <= seconds
    verdicts: list[Abandon | Final] = []
    for _ in range(3):
        served.downloads += 1
        verdicts.append(items.judge(ITEM, DOWN, "download"))
    assert [type(verdict) for verdict in verdicts] == [Abandon, Abandon, Final]
    assert isinstance(verdicts[1], Abandon)
    assert 0.75 * 0.5 <= verdicts[1].delay <= 0.5  # by those that counted


@pytest.mark.parametrize("outcome", ["failed", "truncated"])
def test_substitutes_are_reported(outcome: str) -> None:
    seen = Seen()
    items = Registry(3, Served().stats, observer=seen)
    if outcome == "failed":
        items.completed_as_failed(ITEM, MISSING)
    else:
        items.completed_truncated(ITEM, MISSING)
    assert seen.events == [("activity", "order-1", outcome, MISSING)]


def test_without_an_observer_no_span_is_looked_up(caplog: pytest.LogCaptureFixture) -> None:
    items = Registry(3, Served().stats)
    item = items.arrived(activity(), Holder())
    assert item is not None
    assert item.trace is None
    with caplog.at_level(logging.WARNING):
        items.abandoning(item, 1.5, DOWN)
    assert "delay=1.5" in caplog.text
