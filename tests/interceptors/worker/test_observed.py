"""What an observer, and a person who greps the log, see of work items that do not complete as usual."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.interceptors.worker.test_table import (
    LARGE,
    TOO_LARGE,
    TOO_LARGE_FOR_GRPC,
    activity_response,
    deliver,
    down,
    failing,
    text,
)
from tests.support.call_forms import Form, opened
from tests.support.observer import Seen
from tests.support.scripted_store import MAXIMUM, prove
from tests.support.waiting import wait_until

from durabletask_payloads import (
    Abandonment,
    Externalizer,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTooLargeError,
    Substitution,
    TraceParent,
    Transfer,
    TransferFailure,
)
from durabletask_payloads.interceptors.worker.kinds import Orchestration

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.message import Message
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = TraceParent(f"00-{TRACE_ID}-b7ad6b7169203331-01", "vendor=1")


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def observed(address: str, store: ScriptedStore, seen: Seen) -> Generator[Form]:
    """A sync channel to `server`, with an observer, on a store that is proven."""
    with Externalizer(store, cache_bytes=0, message_budget_bytes=None, observer=seen) as externalizer:
        prove(externalizer, store)
        seen.events.clear()
        with opened("sync", address, externalizer) as form:
            yield form


def trace_context() -> pb.TraceContext:
    return pb.TraceContext(traceParent=PARENT.traceparent, traceState=text(PARENT.tracestate))


def activity(token: str) -> pb.WorkItem:
    work = pb.WorkItem(completionToken="token-1")
    work.activityRequest.CopyFrom(
        pb.ActivityRequest(name="bill", taskId=7, input=text(token), parentTraceContext=trace_context())
    )
    work.activityRequest.orchestrationInstance.instanceId = "order-1"
    return work


def turn(token: str, *, span_id: str | None) -> pb.WorkItem:
    work = pb.WorkItem(completionToken="token-2")
    request = work.orchestratorRequest
    request.instanceId = "order-1"
    request.newEvents.add().orchestratorStarted.SetInParent()
    started = request.newEvents.add().executionStarted
    started.input.value = token
    started.parentTraceContext.CopyFrom(trace_context())
    if span_id is not None:
        request.orchestrationTraceContext.spanID.value = span_id
    return work


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_completion_that_is_abandoned(
    observed: Form, store: ScriptedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    failing(store, down())
    with pytest.raises(PayloadStoreUnavailableError):
        observed.call("CompleteActivityTask", activity_response(LARGE))
    failure, abandonment = seen.events
    assert isinstance(failure, TransferFailure)
    assert isinstance(abandonment, Abandonment)
    assert (failure.direction, failure.path) == ("upload", "ActivityResponse.result")
    assert (abandonment.kind, abandonment.instance_id) == ("activity", "order-1")
    assert abandonment.error is failure.error
    (line,) = lines(caplog)
    assert line == (
        f"abandoning work item kind=activity instance=order-1 task=7 delay={abandonment.delay:.2g} "
        "error=the store is down"
    )


def test_a_completion_that_is_sent_as_a_failure(observed: Form, seen: Seen, caplog: pytest.LogCaptureFixture) -> None:
    observed.call("CompleteActivityTask", activity_response(TOO_LARGE))
    (substitution,) = seen.events
    assert isinstance(substitution, Substitution)
    assert substitution[:3] == ("activity", "order-1", "failed")
    assert isinstance(substitution.error, PayloadTooLargeError)
    (line,) = lines(caplog)
    assert line.startswith("completing work item as failed kind=activity instance=order-1 task=7 error=")


def test_a_completion_that_is_truncated(
    observed: Form, server: ScriptedServer, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse_large(request: Message, context: grpc.ServicerContext) -> pb.CompleteTaskResponse:
        if request.ByteSize() > MAXIMUM:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE_FOR_GRPC)
        return pb.CompleteTaskResponse()

    server.answers["CompleteActivityTask"] = refuse_large
    request = pb.ActivityResponse(instanceId="order-1", taskId=7, completionToken="token-1")
    request.failureDetails.errorMessage = TOO_LARGE
    observed.call("CompleteActivityTask", request)
    (substitution,) = seen.of(Substitution)
    assert substitution.outcome == "truncated"
    assert lines(caplog)[0].startswith("truncating completion kind=activity instance=order-1 task=7 error=")


def test_a_substitute_that_is_refused_is_none(
    observed: Form, server: ScriptedServer, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    """The work item is abandoned, with the code of the answer as the reason."""

    def refuse(request: Message, context: grpc.ServicerContext) -> pb.CompleteTaskResponse:
        context.abort(grpc.StatusCode.UNAVAILABLE, "no")

    server.answers["CompleteActivityTask"] = refuse
    with pytest.raises(grpc.RpcError):
        observed.call("CompleteActivityTask", activity_response(TOO_LARGE))
    (abandonment,) = seen.events
    assert isinstance(abandonment, Abandonment)
    assert "UNAVAILABLE" in str(abandonment.error)


def test_an_arrival_that_is_completed_as_failed(
    observed: Form, server: ScriptedServer, store: ScriptedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    token = store.upload(LARGE.encode())
    store.delete(token)
    small = pb.WorkItem(completionToken="token-3", activityRequest=pb.ActivityRequest(name="small"))
    stream = deliver(observed, server, activity(token), small)
    assert stream.next() == small
    wait_until(lambda: bool(seen.of(Substitution)), what="the substitute")
    stream.cancel()
    failure, substitution = seen.events
    assert isinstance(failure, TransferFailure)
    assert failure.trace == PARENT
    assert isinstance(substitution, Substitution)
    assert substitution == Substitution("activity", "order-1", "failed", failure.error)
    assert isinstance(substitution.error, PayloadNotFoundError)
    assert lines(caplog)[0].startswith("completing work item as failed kind=activity instance=order-1 task=7 error=")


def test_an_operation_that_is_taken_out(
    observed: Form, server: ScriptedServer, store: ScriptedStore, seen: Seen, caplog: pytest.LogCaptureFixture
) -> None:
    gone = store.upload(LARGE.encode())
    store.delete(gone)
    work = pb.WorkItem(completionToken="token-4")
    work.entityRequest.instanceId = "@ledger@1"
    for name, value in (("put", "small"), ("get", gone)):
        work.entityRequest.operations.add(operation=name, input=text(value), traceContext=trace_context())
    stream = deliver(observed, server, work)
    stream.next()
    stream.cancel()
    (substitution,) = seen.of(Substitution)
    assert substitution[:3] == ("entity", "@ledger@1", "operation failed")
    assert isinstance(substitution.error, PayloadNotFoundError)
    assert {failure.trace for failure in seen.of(TransferFailure)} == {PARENT}
    assert lines(caplog)[0].startswith("failing entity operation kind=entity instance=@ledger@1 operation=1 error=")


@pytest.mark.parametrize("span_id", [None, "00f067aa0ba902b7"], ids=["first turn", "later turn"])
def test_transfers_of_a_turn_belong_to_its_span(
    observed: Form, server: ScriptedServer, store: ScriptedStore, seen: Seen, span_id: str | None
) -> None:
    """A completion names the span that the SDK made for the orchestration."""
    work = turn(store.upload(LARGE.encode()), span_id=span_id)
    stream = deliver(observed, server, work)
    stream.next()
    response = pb.OrchestratorResponse(instanceId="order-1", completionToken="token-2")
    response.orchestrationTraceContext.spanID.value = "00f067aa0ba902b8"
    response.customStatus.CopyFrom(StringValue(value=LARGE))
    observed.call("CompleteOrchestratorTask", response)
    stream.cancel()
    download, upload = seen.of(Transfer)
    expected = PARENT if span_id is None else PARENT._replace(traceparent=f"00-{TRACE_ID}-{span_id}-01")
    assert download.trace == expected
    assert upload.trace == PARENT._replace(traceparent=f"00-{TRACE_ID}-00f067aa0ba902b8-01")


def test_a_schema_without_traces_is_fine(
    observed: Form, server: ScriptedServer, store: ScriptedStore, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(work: pb.WorkItem) -> TraceParent | None:
        raise AttributeError("parentTraceContext")

    monkeypatch.setattr(Orchestration, "trace_of", staticmethod(lacks))
    stream = deliver(observed, server, turn(store.upload(LARGE.encode()), span_id=None))
    stream.next()
    stream.cancel()
    (transfer,) = seen.of(Transfer)
    assert transfer.trace is None


def test_without_an_observer_nothing_is_read_of_traces(
    form: Form, server: ScriptedServer, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[pb.WorkItem] = []
    monkeypatch.setattr(Orchestration, "trace_of", asked.append)
    stream = deliver(form, server, turn(store.upload(LARGE.encode()), span_id=None))
    stream.next()
    stream.cancel()
    assert store.downloads == 1
    assert asked == []
