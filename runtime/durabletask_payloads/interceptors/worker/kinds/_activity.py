"""Activities as work items."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from durabletask_payloads.interceptors._protocol import new
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


class Activity(WorkItem):
    """An activity, keyed by its task id too: a backend may give all activities of a turn one completion token."""

    __slots__ = ()

    kind: ClassVar[WorkItemKind] = "activity"
    requests: ClassVar[tuple[str, ...]] = ("activityRequest",)
    complete = "CompleteActivityTask"
    abandon = "AbandonTaskActivityWorkItem"
    abandonment: ClassVar[AbandonRequestName] = "AbandonActivityTaskRequest"

    def receivers(self, completion: Completion) -> Iterable[tuple[StringValue, str]]:
        """Return nothing: the orchestration gets the result."""
        return ()

    @classmethod
    def arrived(cls, work: pb.WorkItem, holder: Holder) -> Self:
        """Note the instance, the task id and the completion token of an activity."""
        request = work.activityRequest
        return cls(request.orchestrationInstance.instanceId, request.taskId, work.completionToken, holder)

    @staticmethod
    def key_of(completion: Completion) -> Key:
        """Return the key of an activity: with its instance and task id, which its completion names."""
        response = cast("pb.ActivityResponse", completion)  # by its RPC, here and below
        return "activity", response.instanceId, response.taskId, response.completionToken

    @property
    def key(self) -> Key:
        return "activity", self.instance_id, self.task_id, self.token

    def __str__(self) -> str:
        return f"activity {self.task_id} of {self.instance_id}"

    @property
    def log_fields(self) -> str:
        return f"kind=activity instance={self.instance_id} task={self.task_id}"

    @staticmethod
    def trace_of(work: pb.WorkItem) -> TraceParent | None:
        """Return the parent of the SDK's span of the activity."""
        return trace_parent(work.activityRequest.parentTraceContext)

    def failed_arrival(self, work: pb.WorkItem, error: BaseException) -> pb.ActivityResponse:
        """Make the response that reports the activity as failed, with `error` as the reason."""
        return self._failed(new(work, "ActivityResponse"), error)

    def failures_in(self, completion: Completion) -> Iterator[pb.TaskFailureDetails]:
        """Yield the failure details of the response, if it has any."""
        response = cast("pb.ActivityResponse", completion)
        if response.HasField("failureDetails"):
            yield response.failureDetails

    def substitute(self, completion: Completion, error: BaseException, threshold: int) -> pb.ActivityResponse:
        """Make the response that reports the activity as failed: nothing of `completion` stays in it."""
        return self._failed(type(cast("pb.ActivityResponse", completion))(), error)

    def _failed(self, response: pb.ActivityResponse, error: BaseException) -> pb.ActivityResponse:
        response.instanceId = self.instance_id
        response.taskId = self.task_id
        response.completionToken = self.token
        describe(response.failureDetails, error)
        return response
