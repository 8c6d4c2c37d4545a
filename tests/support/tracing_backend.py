"""The SDK's in-memory backend, with the trace contexts that it drops and the Durable Task Scheduler passes on."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from durabletask.testing import InMemoryOrchestrationBackend

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    import durabletask.internal.orchestrator_service_pb2 as pb
    import grpc


class _TracingBackend(InMemoryOrchestrationBackend):
    """Needs instance ids that the client chose."""

    def __init__(self, port: int) -> None:
        super().__init__(port=port)
        self._parents: dict[str, pb.TraceContext] = {}
        self._turns: dict[str, pb.OrchestrationTraceContext] = {}
        self._activities: dict[tuple[str, int], pb.TraceContext] = {}

    def StartInstance(
        self, request: pb.CreateInstanceRequest, context: grpc.ServicerContext
    ) -> pb.CreateInstanceResponse:
        self._parents[request.instanceId] = request.parentTraceContext
        return super().StartInstance(request, context)

    def GetWorkItems(self, request: pb.GetWorkItemsRequest, context: grpc.ServicerContext) -> Iterator[pb.WorkItem]:
        for item in super().GetWorkItems(request, context):
            turn = item.orchestratorRequest
            for event in (*turn.pastEvents, *turn.newEvents):
                if event.HasField("executionStarted") and turn.instanceId in self._parents:
                    event.executionStarted.parentTraceContext.CopyFrom(self._parents[turn.instanceId])
                if event.HasField("taskScheduled"):
                    parent = self._activities[turn.instanceId, event.eventId]
                    event.taskScheduled.parentTraceContext.CopyFrom(parent)
            if turn.instanceId in self._turns:
                turn.orchestrationTraceContext.CopyFrom(self._turns[turn.instanceId])
            if item.HasField("activityRequest"):
                activity = item.activityRequest
                key = activity.orchestrationInstance.instanceId, activity.taskId
                activity.parentTraceContext.CopyFrom(self._activities[key])
            yield item

    def CompleteOrchestratorTask(
        self, request: pb.OrchestratorResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        self._turns[request.instanceId] = request.orchestrationTraceContext
        for action in request.actions:
            if action.HasField("scheduleTask"):
                self._activities[request.instanceId, action.id] = action.scheduleTask.parentTraceContext
        return super().CompleteOrchestratorTask(request, context)


@contextlib.contextmanager
def tracing_backend() -> Generator[str]:
    """Start it on a free port; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    running = _TracingBackend(port)
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop()
