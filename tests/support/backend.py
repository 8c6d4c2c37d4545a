"""A backend that redelivers, with the SDK's worker and clients on it. For tests/interceptors and tests/slow/soak.

The SDK's own in-memory backend forgets an activity that is abandoned, never redelivers what a worker that died held,
and assigns one completion token to all activities of a turn. This one does as the Durable Task Scheduler does: a work
item that was delivered is redelivered, under another token, until it is completed.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections import Counter
from concurrent import futures
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
from durabletask import client, worker
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.testing import in_memory_backend as sdk
from tests.support.sdk_backend import quiet, without_idle_second

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    Completion = pb.ActivityResponse | pb.OrchestratorResponse | pb.EntityBatchResult

_THREADS = 40  # each stream and each waiting client takes one


class Work(NamedTuple):
    """What identifies a work item across its deliveries. Kinds: "activity", "orchestration", "entity"."""

    kind: str
    instance_id: str
    task_id: int


class _Delivery(NamedTuple):
    work: Work
    stream: int
    activity: sdk.ActivityWorkItem | None


class RedeliveringBackend(sdk.InMemoryOrchestrationBackend):
    """The SDK's in-memory backend with redelivery. Start it with `start`, or use `running`.

    Args:
        options, interceptors: of the gRPC server.
        interceptors: of the gRPC server.

    Attributes:
        deliveries: how often each work item was delivered.
        abandonments: how often each was abandoned by its worker.
        completions: what workers sent to complete work items, as it arrived, tokens included; the newest last.
        capabilities: those of each GetWorkItems request.
        refuse: returns the status to refuse a completion with, or None to accept it.
        refusal: the details of that status.
        asked_to_abandon: how many calls to abandon a work item arrived, whatever the answer.

    Args:
        options, interceptors: of the gRPC server.
        can_abandon: false, as with the sidecar written in Go: it answers these calls with UNIMPLEMENTED.
    """

    def __init__(
        self,
        *,
        options: Sequence[tuple[str, int]] = (),
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        can_abandon: bool = True,
    ) -> None:
        super().__init__()
        self.deliveries: Counter[Work] = Counter()
        self.abandonments: Counter[Work] = Counter()
        self.completions: list[Completion] = []
        self.capabilities: list[list[int]] = []
        self.refuse: Callable[[Completion], grpc.StatusCode | None] = lambda completion: None
        self.refusal = "refused by the test"
        self.asked_to_abandon = 0
        self._options = list(options)
        self._can_abandon = can_abandon
        self._interceptors = list(interceptors)
        self._numbers = itertools.count(1)
        self._delivered: dict[tuple[str, str], _Delivery] = {}

    def start(self) -> str:
        """Start it on a free port, and return its address."""
        self._shutdown_event.clear()
        executor = futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="backend")
        # SO_REUSEPORT, gRPC's default, lets two backends start on one port.
        options = [("grpc.so_reuseport", 0), *self._options]
        self._server = grpc.server(executor, interceptors=self._interceptors, options=options)
        add = cast("Callable[[object, grpc.Server], None]", stubs.add_TaskHubSidecarServiceServicer_to_server)
        add(self, self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return f"127.0.0.1:{self._port}"

    @property
    def is_idle(self) -> bool:
        """Whether no work item is in flight."""
        with self._lock:
            return not self._delivered

    def input_of(self, instance_id: str) -> str | None:
        """The input of an orchestration as it is stored: perhaps a token."""
        with self._lock:
            return self._instances[instance_id].input

    def state_of(self, entity_id: str) -> str | None:
        """The state of an entity as it is stored: perhaps a token."""
        with self._lock:
            entity = self._entities.get(entity_id)
            return entity.serialized_state if entity else None

    def kept(self) -> str:
        """All that it keeps of orchestrations and entities, tokens included, as text."""
        with self._lock:
            return repr([vars(one) for one in (*self._instances.values(), *self._entities.values())])

    def holder_of(self, entity_id: str) -> str | None:
        """The instance that holds the lock of an entity."""
        with self._lock:
            entity = self._entities.get(entity_id)
            return entity.locked_by if entity else None

    # ---- deliver ----------------------------------------------------------------------------------------------

    def GetWorkItems(
        self, request: pb.GetWorkItemsRequest, context: grpc.ServicerContext
    ) -> Generator[pb.WorkItem, None, None]:
        self.capabilities.append(list(request.capabilities))
        stream = next(self._numbers)
        try:
            for item in super().GetWorkItems(request, context):
                with self._lock:
                    self._note(item, stream)
                yield item
        finally:
            with self._lock:
                for key, delivery in tuple(self._delivered.items()):
                    if delivery.stream == stream:
                        self._requeue(key)

    def _note(self, item: pb.WorkItem, stream: int) -> None:
        activity: sdk.ActivityWorkItem | None = None
        if item.HasField("activityRequest"):
            request = item.activityRequest
            work = Work("activity", request.orchestrationInstance.instanceId, request.taskId)
            text = request.input.value if request.HasField("input") else None
            token = next(self._numbers)
            activity = sdk.ActivityWorkItem(work.instance_id, request.name, work.task_id, text, token)
            item.completionToken = f"activity-{token}"
        elif item.HasField("orchestratorRequest"):
            work = Work("orchestration", item.orchestratorRequest.instanceId, 0)
        else:
            work = Work("entity", item.entityRequestV2.instanceId, 0)
        self._delivered[work.kind, item.completionToken] = _Delivery(work, stream, activity)
        self.deliveries[work] += 1

    def _requeue(self, key: tuple[str, str]) -> bool:
        delivery = self._delivered.pop(key, None)
        if delivery is None:
            return False
        work, _, activity = delivery
        if activity is not None:
            self._activity_queue.append(activity)
        elif work.kind == "orchestration":
            instance = self._instances.get(work.instance_id)
            if instance is not None:
                instance.pending_events = [*instance.dispatched_events, *instance.pending_events]
                instance.dispatched_events = []
                instance.completion_token = self._next_completion_token  # a completion with the old one is late
                self._next_completion_token += 1
                self._orchestration_in_flight.discard(work.instance_id)
                self._enqueue_orchestration(work.instance_id)
        else:
            entity = self._entities[work.instance_id]
            entity.pending_operations = [*entity.dispatched_operations, *entity.pending_operations]
            entity.dispatched_operations = []
            entity.completion_token = self._next_completion_token
            self._next_completion_token += 1
            self._entity_in_flight.discard(work.instance_id)
            self._enqueue_entity(work.instance_id)
        self._work_available.set()
        return True

    # ---- complete and abandon ---------------------------------------------------------------------------------

    def _accepts(self, kind: str, request: Completion, context: grpc.ServicerContext) -> bool:
        code = self.refuse(request)
        if code is not None:
            context.abort(code, self.refusal)
        with self._lock:
            self.completions.append(request)
            return self._delivered.pop((kind, request.completionToken), None) is not None

    def CompleteActivityTask(
        self, request: pb.ActivityResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        is_new = self._accepts("activity", request, context)
        return super().CompleteActivityTask(request, context) if is_new else pb.CompleteTaskResponse()

    def CompleteOrchestratorTask(
        self, request: pb.OrchestratorResponse, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        is_new = self._accepts("orchestration", request, context)
        return super().CompleteOrchestratorTask(request, context) if is_new else pb.CompleteTaskResponse()

    def CompleteEntityTask(
        self, request: pb.EntityBatchResult, context: grpc.ServicerContext
    ) -> pb.CompleteTaskResponse:
        is_new = self._accepts("entity", request, context)
        return super().CompleteEntityTask(request, context) if is_new else pb.CompleteTaskResponse()

    def _abandoned(self, kind: str, token: str, context: grpc.ServicerContext) -> None:
        with self._lock:
            self.asked_to_abandon += 1
        if not self._can_abandon:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server cannot take work items back")
        with self._lock:
            delivery = self._delivered.get((kind, token))
            if delivery is not None:
                self.abandonments[delivery.work] += 1
                self._requeue((kind, token))

    def AbandonTaskActivityWorkItem(
        self, request: pb.AbandonActivityTaskRequest, context: grpc.ServicerContext
    ) -> pb.AbandonActivityTaskResponse:
        self._abandoned("activity", request.completionToken, context)
        return pb.AbandonActivityTaskResponse()

    def AbandonTaskOrchestratorWorkItem(
        self, request: pb.AbandonOrchestrationTaskRequest, context: grpc.ServicerContext
    ) -> pb.AbandonOrchestrationTaskResponse:
        self._abandoned("orchestration", request.completionToken, context)
        return pb.AbandonOrchestrationTaskResponse()

    def AbandonTaskEntityWorkItem(
        self, request: pb.AbandonEntityTaskRequest, context: grpc.ServicerContext
    ) -> pb.AbandonEntityTaskResponse:
        self._abandoned("entity", request.completionToken, context)
        return pb.AbandonEntityTaskResponse()

    def SkipGracefulOrchestrationTerminations(
        self, request: pb.SkipGracefulOrchestrationTerminationsRequest, context: grpc.ServicerContext
    ) -> pb.SkipGracefulOrchestrationTerminationsResponse:
        return pb.SkipGracefulOrchestrationTerminationsResponse()


# ---- worker and client ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(backend: RedeliveringBackend) -> Generator[str]:
    """Start `backend`; yields its address."""
    address = backend.start()
    try:
        yield address
    finally:
        backend.stop()


def worker_on(
    address: str,
    functions: Iterable[Callable[..., Any]],
    interceptors: Sequence[object] = (),
    **arguments: Any,
) -> worker.TaskHubGrpcWorker:
    """Make a worker with `functions`, see `register`. It is not started."""
    of = worker.TaskHubGrpcWorker
    arguments.setdefault("channel_options", GrpcChannelOptions(max_receive_message_length=64 * 1024 * 1024))
    # Any: the SDK's alias for interceptors is of grpc's classes, which a list of mixed ones is not for the checkers.
    made = of(host_address=address, interceptors=cast("Any", list(interceptors)), **{**quiet(of), **arguments})
    without_idle_second(made)
    register(made, functions)
    return made


def register(hub_worker: worker.TaskHubGrpcWorker, functions: Iterable[Callable[..., Any]]) -> None:
    """Add `functions`. The name of the first parameter tells the kind: `orchestration`, `entity`, else an activity."""
    for function in functions:
        first = next(iter(inspect.signature(function).parameters))
        if first == "orchestration":
            hub_worker.add_orchestrator(function)
        elif first == "entity":
            hub_worker.add_entity(function)
        else:
            hub_worker.add_activity(function)


def client_on(address: str, interceptors: Sequence[object] = (), **arguments: Any) -> client.TaskHubGrpcClient:
    """Make a client. The caller closes it."""
    of = client.TaskHubGrpcClient
    # Any: as above.
    return of(host_address=address, interceptors=cast("Any", list(interceptors)), **{**quiet(of), **arguments})
