"""Orchestrations as work items."""

from __future__ import annotations

import itertools
from operator import methodcaller
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from durabletask_payloads.interceptors._protocol import FAILED, new
from durabletask_payloads.interceptors.worker._truncation import describe

from ._base import WorkItem, trace_parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.wrappers_pb2 import StringValue
    from typing_extensions import Self

    from durabletask_payloads.interceptors._protocol import AbandonRequestName
    from durabletask_payloads.observers._base import TraceParent, WorkItemKind

    from ._base import Completion, Holder, Key


class Lock(NamedTuple):
    """An entity that an orchestration holds locked."""

    critical_section_id: str
    entity_id: str


# In C: a history is asked once, when it arrives, and mostly has no locks.
_requests_locks = methodcaller("HasField", "entityLockRequested")


class Orchestration(WorkItem):
    """A turn of an orchestration. When it fails for good, the locks that it holds are released.

    Attributes:
        locks: what the history that arrived holds locked.
        next_id: the first action id that is free, where it holds something.
    """

    __slots__ = ("locks", "next_id")

    kind: ClassVar[WorkItemKind] = "orchestration"
    requests: ClassVar[tuple[str, ...]] = ("orchestratorRequest",)
    complete = "CompleteOrchestratorTask"
    abandon = "AbandonTaskOrchestratorWorkItem"
    abandonment: ClassVar[AbandonRequestName] = "AbandonOrchestrationTaskRequest"
    fails_by_arrival = True  # without its locks known, a failed orchestration would hold them for ever

    def __init__(self, instance_id: str, task_id: int, token: str, holder: Holder | None = None) -> None:
        super().__init__(instance_id, task_id, token, holder)
        self.locks: tuple[Lock, ...] = ()
        self.next_id: int = 0

    def receivers(self, completion: Completion) -> Iterator[tuple[StringValue, str]]:
        """Yield the events and the inputs of entity operations that are sent."""
        for action in cast("pb.OrchestratorResponse", completion).actions:
            match action.WhichOneof("orchestratorActionType"):
                case "sendEvent":
                    yield action.sendEvent.data, action.sendEvent.instance.instanceId
                case "sendEntityMessage":
                    sent = action.sendEntityMessage
                    called, signaled = sent.entityOperationCalled, sent.entityOperationSignaled
                    if sent.HasField("entityOperationCalled"):
                        yield called.input, called.targetInstanceId.value
                    elif sent.HasField("entityOperationSignaled"):
                        yield signaled.input, signaled.targetInstanceId.value
                case _:  # goes to nobody else, or to an instance that begins with it
                    pass

    @classmethod
    def arrived(cls, work: pb.WorkItem, holder: Holder) -> Self:
        """Note the instance, the completion token and the locks that the history holds."""
        request = work.orchestratorRequest
        item = cls(request.instanceId, 0, work.completionToken, holder)
        if any(map(_requests_locks, request.pastEvents)) or any(map(_requests_locks, request.newEvents)):
            events = (*request.pastEvents, *request.newEvents)
            item.locks = held_locks(events)
            item.next_id = 1 + max(event.eventId for event in events)
        return item

    @staticmethod
    def key_of(completion: Completion) -> Key:
        """Return the key of a turn: its instance and completion token."""
        response = cast("pb.OrchestratorResponse", completion)  # by its RPC, here and below
        return "orchestration", response.instanceId, 0, response.completionToken

    @property
    def key(self) -> Key:
        return "orchestration", self.instance_id, 0, self.token

    def __str__(self) -> str:
        return f"orchestration {self.instance_id}"

    @property
    def log_fields(self) -> str:
        return f"kind=orchestration instance={self.instance_id}"

    @staticmethod
    def trace_of(work: pb.WorkItem) -> TraceParent | None:
        """Return the SDK's span of the orchestration; before its first turn, which makes it, the parent of that."""
        request = work.orchestratorRequest
        for event in itertools.chain(request.pastEvents, request.newEvents):  # nearly always the second one
            if event.HasField("executionStarted"):
                parent = trace_parent(event.executionStarted.parentTraceContext)
                return _span_in(parent, request.orchestrationTraceContext)
        return None

    def trace_of_completion(self, completion: Completion) -> TraceParent | None:
        """Return the SDK's span of the orchestration, which its turns name."""
        return _span_in(self.trace, cast("pb.OrchestratorResponse", completion).orchestrationTraceContext)

    def failed_arrival(self, work: pb.WorkItem, error: BaseException) -> pb.OrchestratorResponse:
        """Make the response that completes the orchestration as failed and releases its locks."""
        request = work.orchestratorRequest
        trace = request.orchestrationTraceContext if request.HasField("orchestrationTraceContext") else None
        return self._failed(new(work, "OrchestratorResponse"), error, trace, ())

    def failures_in(self, completion: Completion) -> Iterator[pb.TaskFailureDetails]:
        """Yield the failure details of the action that completes the orchestration, if there is one."""
        for action in cast("pb.OrchestratorResponse", completion).actions:
            if action.HasField("completeOrchestration") and action.completeOrchestration.HasField("failureDetails"):
                yield action.completeOrchestration.failureDetails

    def substitute(self, completion: Completion, error: BaseException, threshold: int) -> pb.OrchestratorResponse:
        """Make the response that completes the orchestration as failed and releases its locks.

        Of `completion` its unlocks stay, and a custom status of up to `threshold` bytes.
        """
        response = cast("pb.OrchestratorResponse", completion)
        trace = response.orchestrationTraceContext if response.HasField("orchestrationTraceContext") else None
        failed = self._failed(type(response)(), error, trace, response.actions)
        if len(response.customStatus.value.encode()) <= threshold:
            failed.customStatus.CopyFrom(response.customStatus)
        return failed

    def _failed(
        self,
        response: pb.OrchestratorResponse,
        error: BaseException,
        trace_context: pb.OrchestrationTraceContext | None,
        actions: Iterable[pb.OrchestratorAction],
    ) -> pb.OrchestratorResponse:
        """Fill `response`: the unlocks among `actions` stay, and one is added for each lock that is still held."""
        response.instanceId = self.instance_id
        response.completionToken = self.token
        if trace_context is not None:
            response.orchestrationTraceContext.CopyFrom(trace_context)
        held = dict.fromkeys(self.locks)
        next_id = self.next_id
        completion_id = -1  # as in the SDK when its own code fails
        for action in actions:
            next_id = max(next_id, action.id + 1)
            if action.HasField("sendEntityMessage") and action.sendEntityMessage.HasField("entityUnlockSent"):
                unlock = action.sendEntityMessage.entityUnlockSent
                held.pop(Lock(unlock.criticalSectionId, unlock.targetInstanceId.value), None)
                response.actions.add().CopyFrom(action)
            elif action.HasField("completeOrchestration"):
                completion_id = action.id
        for action_id, lock in zip(itertools.count(next_id), held):
            added = response.actions.add(id=action_id).sendEntityMessage.entityUnlockSent
            added.criticalSectionId = lock.critical_section_id
            added.targetInstanceId.value = lock.entity_id
            added.parentInstanceId.value = self.instance_id
        completion = response.actions.add(id=completion_id).completeOrchestration
        completion.orchestrationStatus = FAILED
        describe(completion.failureDetails, error)
        return response


def held_locks(events: Iterable[pb.HistoryEvent]) -> tuple[Lock, ...]:
    """Return the entity locks that a history asked for and did not release, granted or not: the SDK releases both."""
    held: dict[Lock, None] = {}
    for event in events:
        kind = event.WhichOneof("eventType")
        if kind == "entityLockRequested":
            request = event.entityLockRequested
            held.update((Lock(request.criticalSectionId, entity), None) for entity in request.lockSet)
        elif kind == "entityUnlockSent":
            unlock = event.entityUnlockSent
            held.pop(Lock(unlock.criticalSectionId, unlock.targetInstanceId.value), None)
    return tuple(held)


def _span_in(parent: TraceParent | None, context: pb.OrchestrationTraceContext) -> TraceParent | None:
    """Return the span that `context` names, in the trace of `parent`; without one `parent` itself."""
    if parent is None or not context.spanID.value:
        return parent
    version, trace_id, _, flags = (*parent.traceparent.split("-"), "", "", "", "")[:4]
    return parent._replace(traceparent=f"{version}-{trace_id}-{context.spanID.value}-{flags}")
