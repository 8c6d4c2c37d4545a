"""The SDK's in-memory backend, with the trace contexts and times that it drops and the Scheduler passes on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from durabletask.testing import InMemoryOrchestrationBackend
from tests.support.sdk_backend import sdk_backend

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    import durabletask.internal.orchestrator_service_pb2 as pb
    import grpc


class _TracingBackend(InMemoryOrchestrationBackend):
    """Needs instance ids that the client chose. Knows orchestrations and activities."""

    def __init__(self, port: int) -> None:
        super().__init__(port=port)
        self._parents: dict[str, pb.TraceContext] = {}
        self._turns: dict[str, pb.OrchestrationTraceContext] = {}
        self._activities: dict[tuple[str, int], pb.TraceContext] = {}
        self._times: dict[tuple[str, str, int], int] = {}  # of events, in ns

    def StartInstance(
        self, request: pb.CreateInstanceRequest, context: grpc.ServicerContext
    ) -> pb.CreateInstanceResponse:
        self._parents[request.instanceId] = request.parentTraceContext
        return super().StartInstance(request, context)

    def GetWorkItems(self, request: pb.GetWorkItemsRequest, context: grpc.ServicerContext) -> Iterator[pb.WorkItem]:
        for item in super().GetWorkItems(request, context):
            turn = item.orchestratorRequest
            for event in (*turn.pastEvents, *turn.newEvents):
                self._complete_event(turn.instanceId, event)
            if turn.instanceId in self._turns:
                turn.orchestrationTraceContext.CopyFrom(self._turns[turn.instanceId])
            if item.HasField("activityRequest"):
                activity = item.activityRequest
                key = activity.orchestrationInstance.instanceId, activity.taskId
                activity.parentTraceContext.CopyFrom(self._activities[key])
            yield item

    def _complete_event(self, instance_id: str, event: pb.HistoryEvent) -> None:
        if event.HasField("executionStarted"):
            event.executionStarted.parentTraceContext.CopyFrom(self._parents[instance_id])
        elif event.HasField("taskScheduled"):
            event.taskScheduled.parentTraceContext.CopyFrom(self._activities[instance_id, event.eventId])
            event.timestamp.FromNanoseconds(self._times["scheduled", instance_id, event.eventId])
        elif event.HasField("taskCompleted"):
            at = self._times["completed", instance_id, event.taskCompleted.taskScheduledId]
            event.timestamp.FromNanoseconds(at)

    def CompleteActivityTask(
        self, request: pb.ActivityResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        self._times["completed", request.instanceId, request.taskId] = time.time_ns()
        return super().CompleteActivityTask(request, context)

    def CompleteOrchestratorTask(
        self, request: pb.OrchestratorResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        self._turns[request.instanceId] = request.orchestrationTraceContext
        for action in request.actions:
            if action.HasField("scheduleTask"):
                self._activities[request.instanceId, action.id] = action.scheduleTask.parentTraceContext
                self._times["scheduled", request.instanceId, action.id] = time.time_ns()
        return super().CompleteOrchestratorTask(request, context)


def tracing_backend() -> AbstractContextManager[str]:
    """Start it on a free port; yields its address."""
    return sdk_backend(_TracingBackend)
