"""The base of the kinds of work items: what the interceptor has to know of one that is in flight."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol

from durabletask_payloads.observers._base import TraceParent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue
    from typing_extensions import Self

    from durabletask_payloads.interceptors._protocol import AbandonRequestName
    from durabletask_payloads.interceptors._verdict import Abandon
    from durabletask_payloads.observers._base import WorkItemKind

    Completion: TypeAlias = pb.ActivityResponse | pb.OrchestratorResponse | pb.EntityBatchResult
    # Kind, instance id (empty for an entity: its completion does not name it), task id and completion token.
    Key: TypeAlias = tuple[str, str, int, str]


def trace_parent(context: pb.TraceContext) -> TraceParent | None:
    """Return `context` as an observer gets it; None if it is empty."""
    return TraceParent(context.traceParent, context.traceState.value) if context.traceParent else None


class Holder(Protocol):
    """The stream that a work item arrived on."""

    @property
    def can_abandon(self) -> bool | None:
        """Whether the server can take a work item back; None until that was tried."""
        ...

    @can_abandon.setter
    def can_abandon(self, can_abandon: bool | None) -> None: ...

    def abandon_later(self, item: WorkItem, abandon: Abandon) -> bool:
        """Abandon `item` after its delay, or when the stream ends. Return False if it has ended."""
        ...

    def wait(self, abandon: Abandon) -> bool:
        """Wait as long as `abandon` says. Return False at once when the stream ends."""
        ...


class FailedOperation(NamedTuple):
    """An operation that was taken out of an entity batch: its position, what to report of it, and why."""

    position: int
    info: pb.OperationInfo | None
    error: BaseException


class WorkItem(ABC):
    """A work item in flight. Each kind is a subclass: how it arrives, is keyed, completed, failed and abandoned.

    Attributes:
        kind: the word for logs and errors.
        requests: the members of `WorkItem.request` that carry this kind.
        complete, abandon: the RPCs that end it.
        abandonment: the request message of `abandon`.
        has_parts: whether parts of it can fail while the rest is handed over and completed.
        fails_by_arrival: whether its arrival has to be known to complete it as failed.
        held_bytes: how much it keeps of what arrived, in bytes.
        instance_id: the orchestration or entity that it belongs to.
        task_id: the number of an activity in its orchestration; 0 of the other kinds.
        token: the completion token.
        holder: the stream it arrived on; None if its arrival is not known any more.
        failed: the operations that were taken out of an entity batch.
        trace: the span that it belongs to, if the interceptor has an observer and the work item carries one.
    """

    __slots__ = ("holder", "instance_id", "task_id", "token", "trace")

    kind: ClassVar[WorkItemKind]
    requests: ClassVar[tuple[str, ...]]
    complete: ClassVar[str]
    abandon: ClassVar[str]
    abandonment: ClassVar[AbandonRequestName]
    has_parts: ClassVar[bool] = False
    fails_by_arrival: ClassVar[bool] = False
    failed: Sequence[FailedOperation] = ()
    held_bytes: int = 0
    instance_id: str
    task_id: int
    token: str
    holder: Holder | None

    def __init__(self, instance_id: str, task_id: int, token: str, holder: Holder | None = None) -> None:
        self.instance_id = instance_id
        self.task_id = task_id
        self.token = token
        self.holder = holder
        self.trace: TraceParent | None = None

    @classmethod
    @abstractmethod
    def arrived(cls, work: pb.WorkItem, holder: Holder) -> Self:
        """Note what has to be known of `work` when it is completed."""

    @staticmethod
    @abstractmethod
    def key_of(completion: Completion) -> Key:
        """Return the key of the work item that `completion` is for."""

    @property
    @abstractmethod
    def key(self) -> Key:
        """The key of this work item in the registry."""

    @property
    @abstractmethod
    def log_fields(self) -> str:
        """What identifies it in a log line, as key=value pairs."""

    # ---- trace ------------------------------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def trace_of(work: pb.WorkItem) -> TraceParent | None:
        """Return the span that `work` belongs to, if it carries one."""

    def trace_of_completion(self, completion: Completion) -> TraceParent | None:
        """Return the span that the uploads of `completion` belong to."""
        return self.trace

    # ---- completion -------------------------------------------------------------------------------------------

    @abstractmethod
    def receivers(self, completion: Completion) -> Iterable[tuple[StringValue, str]]:
        """Yield each payload of `completion` that waits in another instance until that runs, with its id.

        Such a payload is stored as one of the receiver: whoever cleans up asks whether that may still need it.
        """

    # ---- arrival ----------------------------------------------------------------------------------------------

    def take_out(
        self,
        work: pb.WorkItem,
        deexternalize: Callable[[Message], None],
        is_final: Callable[[BaseException], bool],
    ) -> bool:
        """Take out the parts of `work` that fail for good. Return whether anything is left to hand over."""
        return False

    @abstractmethod
    def failed_arrival(self, work: pb.WorkItem, error: BaseException) -> Completion:
        """Make the completion that reports `work`, which cannot be deexternalized, as failed."""

    # ---- completion -------------------------------------------------------------------------------------------

    def whole(self, completion: Completion) -> Completion:
        """Return `completion`, in a copy if something has to be added to it."""
        return completion

    @abstractmethod
    def failures_in(self, completion: Completion) -> Iterator[pb.TaskFailureDetails]:
        """Yield the failure details in `completion`, without inner ones."""

    def fail_large_results(self, completion: Completion, error: BaseException, maximum: int) -> bool:
        """Replace results over `maximum` bytes by failures, in place. Return whether there was one."""
        return False

    @abstractmethod
    def substitute(self, completion: Completion, error: BaseException, threshold: int) -> Completion:
        """Make the completion that reports this work item as failed, in place of `completion`.

        Args:
            completion: what cannot be sent.
            error: why.
            threshold: how large a payload may be to stay in the substitute, in bytes.
        """
