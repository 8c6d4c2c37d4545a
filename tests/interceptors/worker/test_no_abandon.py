"""Servers that cannot take work items back, as the sidecar written in Go: what is not delivered is kept.

A work item that cannot be deexternalized waits in its stream and is tried again; a completion that cannot be
externalized waits in the thread of its caller and is sent again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.backend import RedeliveringBackend
from tests.support.hub import LEDGER_ID, Hub, calls_digest, calls_produce, operates, returns
from tests.support.scripted_store import ScriptedStore, nothing
from tests.support.senders import Sender
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import _verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from google.protobuf.message import Message
    from tests.support.call_forms import Form
    from tests.support.server import ScriptedServer

SIZE = 5_000
BAD_SIZE = 6_000
CANNOT = "the server cannot take work items back"


@pytest.fixture
def backend() -> RedeliveringBackend:
    return RedeliveringBackend(can_abandon=False)


@pytest.fixture
def hub(backend: RedeliveringBackend, hub_address: str, externalizer: Externalizer) -> Generator[Hub]:
    with contextlib.ExitStack() as stack:
        yield Hub(backend, hub_address, externalizer, stack, max_deliveries=3)


class Outage:
    """The store does not serve: any transfer, those of one direction, or those after the first few downloads.

    Attributes:
        failures: how many transfers have failed.
    """

    def __init__(self, store: ScriptedStore) -> None:
        self.failures = 0
        self._store = store

    def begin(self, *, uploads: bool = True, downloads_after: int = 0) -> None:
        served: list[bytes] = []

        def download(payload: bytes) -> None:
            served.append(payload)
            if len(served) > downloads_after:
                self._fail(payload)

        self._store.downloading = download
        self._store.uploading = self._fail if uploads else nothing

    def end(self) -> None:
        self._store.downloading = self._store.uploading = nothing

    def _fail(self, payload: bytes) -> None:
        self.failures += 1
        raise PayloadStoreUnavailableError("the store is away")


@pytest.fixture
def outage(store: ScriptedStore) -> Outage:
    return Outage(store)


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


# ---- an outage -----------------------------------------------------------------------------------------------------


ARRIVALS: list[tuple[str, Callable[..., Any], Any, int, Any]] = [
    # what fails, the orchestration, its input, how many downloads succeed before, its output
    ("an orchestration arrives", calls_digest, "x" * SIZE, 0, SIZE),
    ("an activity arrives", calls_digest, "x" * SIZE, 1, SIZE),
    ("an entity batch arrives", operates, [["put", "x" * SIZE]], 1, [SIZE]),
]
COMPLETIONS: list[tuple[str, Callable[..., Any], Any, Any]] = [
    ("an activity is completed", calls_produce, SIZE, SIZE),
    ("an orchestration is completed", returns, SIZE, "r" * SIZE),
    ("an entity batch is completed", operates, [["grow", SIZE]], ["g" * SIZE]),
    ("a state is stored", operates, [["swell", SIZE], ["get", None]], [SIZE, SIZE]),
]


def assert_survives(hub: Hub, outage: Outage, instance: str, output: object) -> None:
    wait_until(lambda: outage.failures >= 6, what="the outage")
    assert not hub.backend.is_idle
    outage.end()
    outcome = hub.end_of(instance)
    assert outcome.completed, outcome.message
    assert outcome.output == output
    wait_until(lambda: hub.backend.is_idle, what="the end of all work")
    assert set(hub.backend.deliveries.values()) <= {1, 2, 3}  # an orchestration has several turns
    assert len(hub.backend.capabilities) == 1, "it is one stream"


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("orchestrator", "value", "before", "output"), [case[1:] for case in ARRIVALS], ids=[case[0] for case in ARRIVALS]
)
def test_what_arrives_during_an_outage_is_kept(
    orchestrator: Callable[..., Any],
    value: Any,
    before: int,
    output: Any,
    hub: Hub,
    outage: Outage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    instance = hub.client.schedule_new_orchestration(orchestrator, input=value)
    outage.begin(uploads=False, downloads_after=before)
    hub.start()
    assert_survives(hub, outage, instance, output)
    assert hub.backend.asked_to_abandon == 1  # the answer is remembered
    assert len(lines(caplog, CANNOT)) == 1


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("orchestrator", "value", "output"), [case[1:] for case in COMPLETIONS], ids=[case[0] for case in COMPLETIONS]
)
def test_what_is_completed_during_an_outage_is_kept(
    orchestrator: Callable[..., Any],
    value: Any,
    output: Any,
    hub: Hub,
    outage: Outage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    outage.begin(downloads_after=1_000)
    instance = hub.client.schedule_new_orchestration(orchestrator, input=value)
    hub.start()
    assert_survives(hub, outage, instance, output)
    assert hub.backend.asked_to_abandon == 1
    assert len(lines(caplog, CANNOT)) == 1
    assert hub.logged == []  # the SDK has seen nothing of it


@pytest.mark.usefixtures("fast")
def test_one_line_says_so_however_many_meet_it_at_once(
    hub: Hub, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    outage.begin(downloads_after=1_000)
    instances = [hub.client.schedule_new_orchestration(calls_produce, input=SIZE) for _ in range(10)]
    hub.start()
    wait_until(lambda: outage.failures >= 30, what="the outage")
    outage.end()
    assert all(hub.end_of(instance).output == SIZE for instance in instances)
    assert len(lines(caplog, CANNOT)) == 1
    assert len(hub.backend.capabilities) == 1


# ---- each round is a delivery --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("orchestrator", "bad", "good"),
    [
        (calls_digest, "x" * BAD_SIZE, "x" * SIZE),
        (calls_produce, BAD_SIZE, SIZE),
        (returns, BAD_SIZE, SIZE),
        (operates, [["grow", BAD_SIZE]], None),
    ],
    ids=["arrival", "activity", "orchestration", "entity"],
)
def test_an_item_that_alone_is_bad_ends_with_the_last_round_that_counts(
    orchestrator: Callable[..., Any], bad: Any, good: Any, hub: Hub, store: ScriptedStore
) -> None:
    """It counts only since the store serves the others meanwhile."""
    rounds: list[int] = []

    def check(payload: bytes) -> None:
        if BAD_SIZE <= len(payload) < BAD_SIZE + 10:
            rounds.append(len(payload))
            raise PayloadStoreUnavailableError("this one alone")

    # The ledger waits behind a bad batch.
    other = (returns, SIZE) if orchestrator is operates else (orchestrator, good)
    instance = hub.client.schedule_new_orchestration(orchestrator, input=bad)
    store.uploading = store.downloading = check
    hub.start()
    wait_until(lambda: len(rounds) >= 1, what="the first round")
    ended: list[Any] = []
    waiter = threading.Thread(target=lambda: ended.append(hub.end_of_raw(instance)), daemon=True)
    waiter.start()
    while waiter.is_alive():
        assert hub.run(*other).completed
    (outcome,) = ended
    if orchestrator is operates:  # it catches the error
        (text,) = hub.end_of(instance).output
    else:
        assert outcome.failed
        text = outcome.message
    assert "gave up after 3 deliveries" in text
    assert "this one alone" in text
    assert len(rounds) >= 3
    assert len(hub.backend.capabilities) == 1


# ---- the end, in the middle of it ----------------------------------------------------------------------------------


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait is the longest: a minute."""
    monkeypatch.setattr(_verdict, "_FIRST_DELAY_SECONDS", 60.0)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "not tried yet"])
@pytest.mark.parametrize("where", ["arrival", "activity", "orchestration", "entity"])
def test_stop_of_the_worker_ends_all_waiting(
    where: str, is_known: bool, hub: Hub, outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was held is delivered to the next worker."""
    orchestrator, value = {
        "arrival": (calls_digest, "x" * SIZE),
        "activity": (calls_produce, SIZE),
        "orchestration": (returns, SIZE),
        "entity": (operates, [["grow", SIZE]]),
    }[where]
    instance = hub.client.schedule_new_orchestration(cast("Callable[..., Any]", orchestrator), input=value)
    outage.begin(downloads_after=0 if where == "arrival" else 1_000)
    if is_known:
        monkeypatch.setattr(_verdict, "_FIRST_DELAY_SECONDS", 0.01)
    worker = hub.start()
    if is_known:
        wait_until(lambda: hub.backend.asked_to_abandon >= 1, what="the first answer")
        monkeypatch.setattr(_verdict, "_FIRST_DELAY_SECONDS", 60.0)
    failures = outage.failures
    wait_until(lambda: outage.failures > failures or (not is_known and failures > 0), what="a failure")
    started = time.monotonic()
    worker.stop()
    assert time.monotonic() - started < 30  # of a minute
    wait_until(lambda: not stream_threads(), what="the end of our threads")
    outage.end()
    hub.start()
    assert hub.end_of(instance).completed
    assert len(hub.backend.capabilities) == 2


def stream_threads() -> list[str]:
    """Our threads, but those of the pool that transfers payloads, which is the externalizer's."""
    names = ("durabletask-payloads-reader", "durabletask-payloads-deexternalize", "durabletask-payloads-abandoner")
    return [name for name in our_threads() if name.startswith(names)]


def large_activity() -> pb.ActivityResponse:
    return pb.ActivityResponse(
        instanceId="order-1", taskId=7, completionToken="token-1", result=StringValue(value="r" * SIZE)
    )


def large_orchestration() -> pb.OrchestratorResponse:
    response = pb.OrchestratorResponse(instanceId="order-1", completionToken="token-1")
    response.actions.add().completeOrchestration.result.value = "r" * SIZE
    return response


def large_entity() -> pb.EntityBatchResult:
    return pb.EntityBatchResult(completionToken="token-1", entityState=StringValue(value="r" * SIZE))


def activity_work() -> pb.WorkItem:
    instance = pb.OrchestrationInstance(instanceId="order-1")
    request = pb.ActivityRequest(name="digest", taskId=7, orchestrationInstance=instance)
    return pb.WorkItem(completionToken="token-1", activityRequest=request)


def orchestration_work() -> pb.WorkItem:
    return pb.WorkItem(completionToken="token-1", orchestratorRequest=pb.OrchestratorRequest(instanceId="order-1"))


def entity_work() -> pb.WorkItem:
    return pb.WorkItem(completionToken="token-1", entityRequest=pb.EntityBatchRequest(instanceId="@ledger@1"))


def refuse(request: Message, context: grpc.ServicerContext) -> Message:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("how", ["cancelled", "ended", "failed"])
@pytest.mark.parametrize(
    ("rpc", "abandon", "work", "completion"),
    [
        ("CompleteActivityTask", "AbandonTaskActivityWorkItem", activity_work, large_activity),
        ("CompleteOrchestratorTask", "AbandonTaskOrchestratorWorkItem", orchestration_work, large_orchestration),
        ("CompleteEntityTask", "AbandonTaskEntityWorkItem", entity_work, large_entity),
    ],
)
def test_a_completion_that_waits_ends_with_its_stream(
    rpc: str,
    abandon: str,
    work: Callable[[], pb.WorkItem],
    completion: Callable[[], Message],
    how: str,
    form: Form,
    server: ScriptedServer,
    outage: Outage,
) -> None:
    sender = Sender(work())
    server.answers["GetWorkItems"] = sender
    server.answers[abandon] = refuse
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    stream.next()
    outage.begin()
    raised: list[BaseException] = []

    def complete() -> None:
        try:
            form.call(rpc, completion())
        except BaseException as error:
            raised.append(error)

    completing = threading.Thread(target=complete, daemon=True)
    completing.start()
    wait_until(lambda: outage.failures >= 1, what="the failure")
    time.sleep(0.05)  # until it waits; if it does not yet, it finds the stream ended
    if how == "cancelled":
        stream.cancel()
    elif how == "failed":
        sender.code = grpc.StatusCode.UNAVAILABLE
    sender.ended.set()
    with pytest.raises((grpc.RpcError, StopIteration)):
        stream.next()
    completing.join(10)
    assert not completing.is_alive()
    (error,) = raised
    assert isinstance(error, PayloadStoreUnavailableError)
    wait_until(lambda: not stream_threads(), what="the end of our threads")
    assert server.named(rpc) == []


@pytest.mark.usefixtures("fast")
def test_a_first_abandonment_without_an_answer_loses_nothing(
    form: Form, server: ScriptedServer, outage: Outage
) -> None:
    """Whether the server can take items back is not known then: the completion stays until it is."""
    answers = iter([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])

    def no_answer(request: Message, context: grpc.ServicerContext) -> Message:
        context.abort(next(answers, grpc.StatusCode.UNIMPLEMENTED), "not now")

    server.answers["GetWorkItems"] = Sender(activity_work())
    server.answers["AbandonTaskActivityWorkItem"] = no_answer
    stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
    stream.next()
    outage.begin()
    completing = threading.Thread(target=form.call, args=("CompleteActivityTask", large_activity()), daemon=True)
    completing.start()
    wait_until(lambda: outage.failures >= 5, what="the outage")
    outage.end()
    completing.join(10)
    assert not completing.is_alive()
    assert len(server.named("CompleteActivityTask")) == 1
    assert len(server.named("AbandonTaskActivityWorkItem")) == 3
    stream.cancel()


def test_the_state_of_an_entity_stays_as_it_was_until_the_store_is_back(
    hub: Hub, outage: Outage, fast: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    hub.start()
    hub.put_state("before")
    outage.begin(downloads_after=1_000)
    instance = hub.client.schedule_new_orchestration(operates, input=[["swell", SIZE]])
    wait_until(lambda: outage.failures >= 5, what="the outage")
    assert hub.backend.state_of(LEDGER_ID) == '"before"'
    outage.end()
    assert hub.end_of(instance).output == [SIZE]
