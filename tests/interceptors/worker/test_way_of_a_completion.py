"""The way of a completion through the interceptors: few modules, and one walk."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.scripted_store import MAXIMUM
from tests.support.senders import Sender
from tests.support.waiting import wait_until

from durabletask_payloads import ExternalizePlan, Externalizer, PayloadStoreUnavailableError, interceptors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from google.protobuf.message import Message
    from tests.support.call_forms import Form, Stream
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

ROOT = Path(interceptors.__file__).parent
SMALL, LARGE, TOO_LARGE = "x", "x" * 5_000, "x" * (MAXIMUM + 1)
BUDGET = 200_000


def text(value: str) -> StringValue:
    return StringValue(value=value)


def activity_response(result: str) -> pb.ActivityResponse:
    return pb.ActivityResponse(instanceId="order-1", taskId=7, result=text(result), completionToken="token-1")


def turn(*inputs: str) -> pb.OrchestratorResponse:
    """A turn of an orchestration that schedules an activity for each of `inputs`."""
    return pb.OrchestratorResponse(
        instanceId="order-1",
        completionToken="token-1",
        actions=[pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=text(value))) for value in inputs],
    )


def batch_result(state: str) -> pb.EntityBatchResult:
    """A batch of which the state may fail: where a result does, it is replaced alone, and the rest passes."""
    return pb.EntityBatchResult(
        completionToken="token-1",
        entityState=text(state),
        results=[pb.OperationResult(success=pb.OperationResultSuccess(result=text(SMALL)))],
        operationInfos=[pb.OperationInfo(requestId="request-1")],
    )


class Kind(NamedTuple):
    """A kind of work item: how one arrives, and its completion with given results."""

    name: str
    rpc: str
    abandon: str
    work: pb.WorkItem
    completion: Callable[[str], Message]

    def __repr__(self) -> str:
        return self.name


ACTIVITY = Kind(
    "activity",
    "CompleteActivityTask",
    "AbandonTaskActivityWorkItem",
    pb.WorkItem(
        completionToken="token-1",
        activityRequest=pb.ActivityRequest(
            taskId=7, orchestrationInstance=pb.OrchestrationInstance(instanceId="order-1")
        ),
    ),
    activity_response,
)
ORCHESTRATION = Kind(
    "orchestration",
    "CompleteOrchestratorTask",
    "AbandonTaskOrchestratorWorkItem",
    pb.WorkItem(completionToken="token-1", orchestratorRequest=pb.OrchestratorRequest(instanceId="order-1")),
    turn,
)
ENTITY = Kind(
    "entity",
    "CompleteEntityTask",
    "AbandonTaskEntityWorkItem",
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
    batch_result,
)
all_kinds = pytest.mark.parametrize("kind", [ACTIVITY, ORCHESTRATION, ENTITY], ids=repr)


@pytest.fixture
def externalizer(store: ScriptedStore) -> Generator[Externalizer]:
    with Externalizer(store, cache_bytes=0, message_budget_bytes=BUDGET) as externalizer:
        yield externalizer


@pytest.fixture
def delivered(form: Form, server: ScriptedServer) -> Generator[Callable[[Kind], None]]:
    """Lets a work item of a kind arrive, on a stream that stays open."""
    streams: list[Stream] = []

    def deliver(kind: Kind) -> None:
        server.answers["GetWorkItems"] = Sender(kind.work)
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        assert stream.next() == kind.work
        streams.append(stream)

    yield deliver
    for stream in streams:
        stream.cancel()


def modules_of(call: Callable[[], object]) -> list[str]:
    """Return the modules of the interceptors in which `call` runs functions, in this thread."""
    seen: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            seen.add(frame.f_code.co_filename)

    before = sys.getprofile()
    gc.disable()  # what it would collect ends in modules of ours, too
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
        gc.enable()
    return sorted(str(Path(file).relative_to(ROOT)) for file in seen if Path(file).is_relative_to(ROOT))


# ---- modules -------------------------------------------------------------------------------------------------------


@all_kinds
@pytest.mark.parametrize("result", [SMALL, LARGE], ids=["small", "large"])
def test_a_completion_that_passes_goes_through_four_modules(
    result: str, kind: Kind, form: Form, server: ScriptedServer, store: ScriptedStore, delivered: Callable[[Kind], None]
) -> None:
    delivered(kind)
    modules = modules_of(lambda: form.call(kind.rpc, kind.completion(result)))
    assert len(server.named(kind.rpc)) == 1
    assert len(store) == (result is LARGE)
    assert modules == ["_sync.py", "worker/_completion.py", "worker/_registry.py", f"worker/kinds/_{kind.name}.py"]


@all_kinds
def test_a_completion_that_fails_goes_through_six_modules(
    kind: Kind, form: Form, server: ScriptedServer, delivered: Callable[[Kind], None]
) -> None:
    delivered(kind)
    modules = modules_of(lambda: form.call(kind.rpc, kind.completion(TOO_LARGE)))
    (sent,) = server.named(kind.rpc)
    assert "max_stored_payload_bytes" in str(sent)
    assert len(modules) <= 6, modules


@all_kinds
def test_a_completion_that_is_abandoned_goes_through_six_modules(
    kind: Kind, form: Form, server: ScriptedServer, store: ScriptedStore, delivered: Callable[[Kind], None]
) -> None:
    def fail(payload: bytes) -> None:
        raise PayloadStoreUnavailableError("the store is down")

    delivered(kind)
    store.uploading = fail

    def call() -> None:
        with pytest.raises(PayloadStoreUnavailableError, match="abandoned"):
            form.call(kind.rpc, kind.completion(LARGE))

    modules = modules_of(call)
    wait_until(lambda: len(server.named(kind.abandon)) >= 1, what="the abandonment")
    assert server.named(kind.rpc) == []
    assert len(modules) <= 6, modules


# ---- walks ---------------------------------------------------------------------------------------------------------


def test_a_completion_over_the_budget_is_walked_once(
    form: Form, server: ScriptedServer, store: ScriptedStore, walks: list[ExternalizePlan]
) -> None:
    form.call("CompleteOrchestratorTask", turn(*["x" * 900] * 300))
    (sent,) = server.named("CompleteOrchestratorTask")
    assert sent.ByteSize() <= BUDGET
    assert len(store) > 0
    assert len(walks) == 1


@pytest.mark.parametrize("inputs", [["x" * 400] * 700, ["x" * 900] * 300 + [TOO_LARGE]], ids=["budget", "maximum"])
def test_a_completion_over_the_budget_that_fails_is_walked_once(
    inputs: list[str],
    form: Form,
    server: ScriptedServer,
    store: ScriptedStore,
    walks: list[ExternalizePlan],
    delivered: Callable[[Kind], None],
) -> None:
    delivered(ORCHESTRATION)
    form.call("CompleteOrchestratorTask", turn(*inputs))
    (sent,) = server.named("CompleteOrchestratorTask")
    assert isinstance(sent, pb.OrchestratorResponse)
    assert sent.actions[0].completeOrchestration.failureDetails.isNonRetriable
    assert len(store) == 0
    assert len(walks) == 1
