"""The messages that are measured: as gRPC hands them over, that is parsed, with payloads of order-like JSON."""

from __future__ import annotations

import json
import random
from functools import lru_cache
from typing import TYPE_CHECKING

from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INSTANCE = "f3c1b7d2a9e84c6db5a0e1f2d3c4b5a6"


def payload(size: int, *, seed: int = 0) -> str:
    """`size` bytes of JSON: a list of orders."""
    dice = random.Random(seed * 1_000_003 + size)
    orders: list[str] = []
    written = 1
    while written < size:
        order = {
            "id": dice.randrange(1_000_000),
            "customer": f"customer-{dice.randrange(997)}",
            "items": [f"item-{dice.randrange(5_000):04}" for _ in range(4)],
            "total": round(dice.random() * 1_000, 2),
        }
        orders.append(json.dumps(order))
        written += len(orders[-1]) + 1
    return "[" + ",".join(orders)[: size - 2] + "]"


@lru_cache(maxsize=4)
def lines(size: int) -> str:
    """`size` bytes of orders as lines of text, which is as quickly read as JSON that holds one string can be."""
    dice = random.Random(size)
    orders: list[str] = []
    written = 0
    while written < size:
        items = "+".join(f"item-{dice.randrange(5_000):04}" for _ in range(4))
        orders.append(
            f"{dice.randrange(1_000_000)};customer-{dice.randrange(997)};{items};{dice.random() * 1_000:.2f}|"
        )
        written += len(orders[-1])
    return "".join(orders)[:size]


def texts(values: Sequence[str]) -> Iterator[StringValue]:
    return (StringValue(value=value) for value in values)


def payloads(count: int, size: int) -> list[str]:
    """`count` payloads. Past the first hundred they repeat: a message copies them, so that changes no time."""
    different = [payload(size, seed=seed) for seed in range(min(count, 100))]
    return [different[i % len(different)] for i in range(count)]


def orchestrator_response(values: Sequence[str]) -> pb.OrchestratorResponse:
    """What a worker sends at the end of a turn: one task for each payload."""
    message = pb.OrchestratorResponse(
        instanceId=_INSTANCE,
        completionToken=_INSTANCE,
        actions=[
            pb.OrchestratorAction(id=i, scheduleTask=pb.ScheduleTaskAction(name="enrich", input=text))
            for i, text in enumerate(texts(values))
        ],
    )
    return pb.OrchestratorResponse.FromString(message.SerializeToString())


def orchestrator_request(values: Sequence[str]) -> pb.OrchestratorRequest:
    """A history as a worker gets it at each turn: one event for each payload, tasks and their results in turn."""
    events: list[pb.HistoryEvent] = []
    for i, text in enumerate(texts(values)):
        timestamp = Timestamp(seconds=1_700_000_000 + i, nanos=123_456_000)
        if i % 2:
            completed = pb.TaskCompletedEvent(taskScheduledId=i - 1, result=text)
            events.append(pb.HistoryEvent(eventId=-1, timestamp=timestamp, taskCompleted=completed))
        else:
            scheduled = pb.TaskScheduledEvent(name="enrich", input=text)
            events.append(pb.HistoryEvent(eventId=i, timestamp=timestamp, taskScheduled=scheduled))
    message = pb.OrchestratorRequest(instanceId=_INSTANCE, pastEvents=events[:-2], newEvents=events[-2:])
    return pb.OrchestratorRequest.FromString(message.SerializeToString())


def activity_request(value: str) -> pb.ActivityRequest:
    message = pb.ActivityRequest(
        name="enrich",
        taskId=7,
        input=StringValue(value=value),
        orchestrationInstance=pb.OrchestrationInstance(
            instanceId=_INSTANCE, executionId=StringValue(value=_INSTANCE[::-1])
        ),
    )
    return pb.ActivityRequest.FromString(message.SerializeToString())


def activity_response(value: str) -> pb.ActivityResponse:
    message = pb.ActivityResponse(
        instanceId=_INSTANCE, taskId=7, completionToken=_INSTANCE, result=StringValue(value=value)
    )
    return pb.ActivityResponse.FromString(message.SerializeToString())


def query_response(values: Sequence[str]) -> pb.QueryInstancesResponse:
    """A page of orchestrations: each payload is the input of one and the output of the next."""
    states: list[pb.OrchestrationState] = []
    for i, value in enumerate(values):
        state = pb.OrchestrationState(
            instanceId=f"{_INSTANCE}-{i}",
            name="settle",
            orchestrationStatus=pb.ORCHESTRATION_STATUS_COMPLETED,
            createdTimestamp=Timestamp(seconds=1_700_000_000 + i),
            lastUpdatedTimestamp=Timestamp(seconds=1_700_000_060 + i),
            input=StringValue(value=value),
            output=StringValue(value=values[i - 1]),
        )
        states.append(state)
    message = pb.QueryInstancesResponse(orchestrationState=states)
    return pb.QueryInstancesResponse.FromString(message.SerializeToString())
