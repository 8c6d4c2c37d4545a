"""Signs that the other side has no interceptor: told once, and only where they are certain."""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from durabletask.serialization import JsonDataConverter
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import InMemoryPayloadStore
from durabletask_payloads.interceptors import _peers

if TYPE_CHECKING:
    from collections.abc import Callable

from_json = JsonDataConverter().deserialize  # with which workers and clients of the SDK read payloads
LIMIT = 1024 * 1024
STORE = InMemoryPayloadStore()
TOKEN = STORE.upload(b"1")


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What was told: nothing, at the start of each test."""
    told: set[str] = set()
    monkeypatch.setattr(_peers, "_told", told)
    return told


def work(event: pb.HistoryEvent) -> pb.WorkItem:
    return pb.WorkItem(orchestratorRequest=pb.OrchestratorRequest(instanceId="order-17", newEvents=[event]))


def started(size: int) -> pb.WorkItem:
    return work(pb.HistoryEvent(executionStarted=pb.ExecutionStartedEvent(input=StringValue(value="x" * size))))


def raised(size: int) -> pb.WorkItem:
    return work(pb.HistoryEvent(eventRaised=pb.EventRaisedEvent(input=StringValue(value="x" * size))))


@pytest.mark.parametrize(("make", "payload"), [(started, "input"), (raised, "event")])
def test_a_payload_that_no_interceptor_sends_inline(
    make: Callable[[int], pb.WorkItem], payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    _peers.look_for_client_without(make(LIMIT - 100))  # some client's threshold_bytes may be 1 MiB
    assert caplog.messages == []
    for _ in range(2):
        _peers.look_for_client_without(make(LIMIT + 1))
    (line,) = caplog.messages
    assert f"instance=order-17 payload={payload} bytes=10485" in line


def test_another_large_payload_tells_nothing_of_a_client(caplog: pytest.LogCaptureFixture) -> None:
    result = pb.TaskCompletedEvent(result=StringValue(value="x" * 2 * LIMIT))
    _peers.look_for_client_without(work(pb.HistoryEvent(taskCompleted=result)))
    assert caplog.messages == []


def failed(parse: Callable[[str], object], text: str, payload: str) -> pb.GetInstanceResponse:
    """An instance with `payload` as its input that failed when `parse` was called with `text`."""
    try:
        parse(text)
    except ValueError as error:
        details = pb.TaskFailureDetails(
            errorType=type(error).__name__,
            errorMessage=str(error),
            stackTrace=StringValue(value="".join(traceback.format_exception(error))),
        )
    else:
        raise AssertionError(text)
    state = pb.OrchestrationState(
        instanceId="order-17",
        orchestrationStatus=pb.ORCHESTRATION_STATUS_FAILED,
        input=StringValue(value=payload),
        failureDetails=details,
    )
    return pb.GetInstanceResponse(exists=True, orchestrationState=state)


def test_a_token_that_the_sdk_parsed(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        _peers.look_for_worker_without(failed(from_json, TOKEN, TOKEN), STORE.is_known_token)
    (line,) = caplog.messages
    assert "instance=order-17" in line


@pytest.mark.parametrize(
    ("parse", "text", "payload"),
    [
        (json.loads, "<html>", TOKEN),  # the application, of something else: the same text, but not by the SDK
        (from_json, "<html>", "<html>"),  # the input was no token
        (from_json, "[<html>", TOKEN),  # another text: no token begins so
    ],
    ids=["application", "no token", "another error"],
)
def test_a_failure_that_tells_nothing_of_a_worker(
    parse: Callable[[str], object], text: str, payload: str, caplog: pytest.LogCaptureFixture
) -> None:
    _peers.look_for_worker_without(failed(parse, text, payload), STORE.is_known_token)
    assert caplog.messages == []


def test_other_responses_tell_nothing(caplog: pytest.LogCaptureFixture) -> None:
    _peers.look_for_worker_without(pb.QueryInstancesResponse(), STORE.is_known_token)
    _peers.look_for_worker_without(pb.GetInstanceResponse(), STORE.is_known_token)
    assert caplog.messages == []
