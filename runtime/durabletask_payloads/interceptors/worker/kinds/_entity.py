"""Batches of entity operations as work items."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from durabletask_payloads._errors import PayloadTooLargeError
from durabletask_payloads.interceptors._protocol import new
from durabletask_payloads.interceptors.worker._truncation import describe

from ._base import FailedOperation, WorkItem, trace_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue
    from typing_extensions import Self

    from durabletask_payloads.interceptors._protocol import AbandonRequestName
    from durabletask_payloads.observers._base import TraceParent, WorkItemKind

    from ._base import Completion, Holder, Key


class _Operation(NamedTuple):
    """One operation of a batch.

    Attributes:
        place: its index in the repeated field, where other things may stand too.
        message: the operation, which can be deexternalized by itself.
        info: what a completion has to say about it; None for a batch of the first version.
    """

    place: int
    message: pb.OperationRequest | pb.HistoryEvent
    info: pb.OperationInfo | None


class Entity(WorkItem):
    """A batch of operations on one entity.

    Attributes:
        state: the state of the entity as it arrived: mostly a token.
    """

    __slots__ = ("failed", "held_bytes", "state")

    kind: ClassVar[WorkItemKind] = "entity"
    requests: ClassVar[tuple[str, ...]] = ("entityRequest", "entityRequestV2")
    complete = "CompleteEntityTask"
    abandon = "AbandonTaskEntityWorkItem"
    abandonment: ClassVar[AbandonRequestName] = "AbandonEntityTaskRequest"
    has_parts = True
    fails_by_arrival = True  # without the state as it arrived, a failed batch would delete the state
    state: str | None
    failed: Sequence[FailedOperation]
    held_bytes: int

    def __init__(
        self, instance_id: str, task_id: int, token: str, holder: Holder | None = None, state: str | None = None
    ) -> None:
        super().__init__(instance_id, task_id, token, holder)
        self.state = state
        self.held_bytes = 0 if state is None else len(state)
        self.failed = ()

    def receivers(self, completion: Completion) -> Iterator[tuple[StringValue, str]]:
        """Yield the inputs of signals that are sent, and the results of operations that were called."""
        batch = cast("pb.EntityBatchResult", completion)
        for action in batch.actions:
            if action.HasField("sendSignal"):
                yield action.sendSignal.input, action.sendSignal.instanceId
        for result, info in zip(batch.results, batch.operationInfos, strict=False):  # the first version has no infos
            if result.HasField("success") and info.HasField("responseDestination"):
                yield result.success.result, info.responseDestination.instanceId

    @classmethod
    def arrived(cls, work: pb.WorkItem, holder: Holder) -> Self:
        """Note the instance, the completion token and the state of an entity, as it arrived."""
        batch = _batch_in(work)
        state = batch.entityState.value if batch.HasField("entityState") else None
        return cls(batch.instanceId, 0, work.completionToken, holder, state)

    @staticmethod
    def key_of(completion: Completion) -> Key:
        """Return the key of a batch: its completion token alone, since the completion does not name the entity."""
        return "entity", "", 0, completion.completionToken

    @property
    def key(self) -> Key:
        return "entity", "", 0, self.token

    def __str__(self) -> str:
        return f"entity {self.instance_id}" if self.instance_id else "an entity whose stream has ended"

    @property
    def log_fields(self) -> str:
        return f"kind=entity instance={self.instance_id or 'unknown'}"

    @staticmethod
    def trace_of(work: pb.WorkItem) -> TraceParent | None:
        """Return the parent of the SDK's span of the first operation that has one. The second version has none."""
        contexts = [operation.traceContext for operation in work.entityRequest.operations]
        return next(filter(None, map(trace_parent, contexts)), None)

    # ---- arrival ----------------------------------------------------------------------------------------------

    def take_out(
        self,
        work: pb.WorkItem,
        deexternalize: Callable[[Message], None],
        is_final: Callable[[BaseException], bool],
    ) -> bool:
        """Deexternalize `work` part by part, in place, and take out the operations that fail for good.

        Returns:
            Whether anything is left: False if the state or all operations failed for good.

        Raises:
            BaseException: the error of a part, if it is not final. Nothing was taken out.
        """
        batch = _batch_in(work)
        state = type(batch)()
        state.entityState.CopyFrom(batch.entityState)
        try:
            deexternalize(state)
        except BaseException as error:
            if not is_final(error):
                raise
            return False
        failed: list[FailedOperation] = []
        places: list[int] = []
        operations = _operations_in(work)
        for position, operation in enumerate(operations):
            try:
                deexternalize(operation.message)
            except BaseException as error:
                if not is_final(error):
                    raise
                failed.append(FailedOperation(position, operation.info, error))
                places.append(operation.place)
        if len(failed) == len(operations):
            return False
        if batch.HasField("entityState"):
            batch.entityState.CopyFrom(state.entityState)
        for place in reversed(places):
            if work.HasField("entityRequest"):
                del work.entityRequest.operations[place]
            else:
                del work.entityRequestV2.operationRequests[place]
        self.failed = failed
        return True

    def failed_arrival(self, work: pb.WorkItem, error: BaseException) -> pb.EntityBatchResult:
        """Make the result that reports all operations of the batch as failed, with the state as it arrived."""
        operations = _operations_in(work)
        infos = [operation.info for operation in operations if operation.info is not None]
        return self._failed(new(work, "EntityBatchResult"), error, len(operations), infos)

    # ---- completion -------------------------------------------------------------------------------------------

    def whole(self, completion: Completion) -> Completion:
        """Return `completion` with the failures of the operations that were taken out, at their places."""
        batch = cast("pb.EntityBatchResult", completion)  # by its RPC, here and below
        copy = deepcopy(batch)
        results, infos = list(batch.results), list(batch.operationInfos)
        for position, info, error in self.failed:
            results.insert(position, _failure(batch, error))
            if info is not None:
                infos.insert(position, info)
        del copy.results[:], copy.operationInfos[:]
        copy.results.extend(results)
        copy.operationInfos.extend(infos)
        return copy

    def failures_in(self, completion: Completion) -> Iterator[pb.TaskFailureDetails]:
        """Yield the failure details of each operation that failed, and those of the batch."""
        batch = cast("pb.EntityBatchResult", completion)
        for result in batch.results:
            if result.HasField("failure"):
                yield result.failure.failureDetails
        if batch.HasField("failureDetails"):
            yield batch.failureDetails

    def fail_large_results(self, completion: Completion, error: BaseException, maximum: int) -> bool:
        """Replace the results of operations that are over `maximum` bytes by failures, in place.

        Returns:
            Whether there was one. False if `error` is no PayloadTooLargeError.
        """
        if not isinstance(error, PayloadTooLargeError):
            return False
        batch = cast("pb.EntityBatchResult", completion)
        changed = False
        for result in batch.results:
            if result.HasField("success") and len(result.success.result.value.encode()) > maximum:
                failed = _failure(batch, error)
                failed.failure.startTimeUtc.CopyFrom(result.success.startTimeUtc)
                failed.failure.endTimeUtc.CopyFrom(result.success.endTimeUtc)
                result.CopyFrom(failed)
                changed = True
        return changed

    def substitute(self, completion: Completion, error: BaseException, threshold: int) -> pb.EntityBatchResult:
        """Make the result that reports all operations of the batch as failed, with the state as it arrived."""
        batch = cast("pb.EntityBatchResult", completion)
        return self._failed(type(batch)(), error, len(batch.results), batch.operationInfos)

    def _failed(
        self, batch: pb.EntityBatchResult, error: BaseException, operations: int, infos: Iterable[pb.OperationInfo]
    ) -> pb.EntityBatchResult:
        """Fill `batch`: all operations failed, and the state is as it arrived."""
        batch.completionToken = self.token
        batch.results.extend(_failure(batch, error) for _ in range(operations))
        batch.operationInfos.extend(infos)
        if self.state is not None:
            batch.entityState.value = self.state
        describe(batch.failureDetails, error)
        return batch


def _batch_in(work: pb.WorkItem) -> pb.EntityBatchRequest | pb.EntityRequest:
    return work.entityRequest if work.HasField("entityRequest") else work.entityRequestV2


def _operations_in(work: pb.WorkItem) -> list[_Operation]:
    """Return the operations of a batch, in order."""
    if work.HasField("entityRequest"):
        return [_Operation(place, operation, None) for place, operation in enumerate(work.entityRequest.operations)]
    found: list[_Operation] = []
    for place, event in enumerate(work.entityRequestV2.operationRequests):
        if event.HasField("entityOperationSignaled"):
            info = new(work, "OperationInfo")
            info.requestId = event.entityOperationSignaled.requestId
            found.append(_Operation(place, event, info))
        elif event.HasField("entityOperationCalled"):
            called = event.entityOperationCalled
            info = new(work, "OperationInfo")
            info.requestId = called.requestId
            info.responseDestination.instanceId = called.parentInstanceId.value
            info.responseDestination.executionId.CopyFrom(called.parentExecutionId)
            found.append(_Operation(place, event, info))
    return found


def _failure(batch: pb.EntityBatchResult, error: BaseException) -> pb.OperationResult:
    """Make the result of an operation that failed with `error`, of the descriptor pool of `batch`."""
    result = type(batch)().results.add()
    result.failure.startTimeUtc.GetCurrentTime()
    result.failure.endTimeUtc.GetCurrentTime()
    describe(result.failure.failureDetails, error)
    return result
