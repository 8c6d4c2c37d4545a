"""What is sent where a completion can not be sent: the same failure, cut, or one that says what went wrong.

Nothing here does I/O, and no message that is passed in is changed, unless it says so.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError, PayloadTooLargeError

from ._messages import ENTITY, copy_of, failed_status, failures_in, new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message

    from ._messages import Kind, Lock

# Of a text that can not be externalized, in bytes.
LONGEST_TEXT = 32 * 1024
_AZURE_ERRORS = "azure.core.exceptions"


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help. Errors of stores that are not of this package count too; unknown ones do not."""
    if isinstance(error, PayloadError):
        return not error.permanent
    if isinstance(error, OSError):  # TimeoutError is one
        return True
    azure = sys.modules.get(_AZURE_ERRORS)  # an error of its client was raised only if it is imported
    if azure is None:
        return False
    if isinstance(error, (azure.ServiceRequestError, azure.ServiceResponseError)):
        return True
    if isinstance(error, azure.HttpResponseError):
        status = getattr(error, "status_code", None)
        return isinstance(status, int) and (status in (408, 429) or status >= 500)
    return False


def as_payload_error(error: Exception, text: str) -> PayloadError:
    """`error` with `text` in its place: of the same class if it is ours, to be raised from `error`."""
    if isinstance(error, PayloadError):
        return type(error)(text)
    return PayloadStoreUnavailableError(text) if is_transient(error) else PayloadError(text)


def too_large(message: Message, size: int, limit: int | None, largest: str) -> PayloadTooLargeError:
    """The error for a message that gRPC does not take."""
    allowed = "gRPC takes" if limit is None else f"message_budget_bytes allows ({limit})"
    return PayloadTooLargeError(
        f"{message.DESCRIPTOR.full_name} has {size} bytes after its payloads were taken out, more than {allowed}: "
        f"its largest field is {largest}. Send less, or raise the limit of the server"
    )


# ---- cut -----------------------------------------------------------------------------------------------------------


def cut_failures(completion: Message, *, goal: int, smallest_bytes: Callable[[Message], int], max_trace: int) -> bool:
    """Cut the failures in `completion`, in place, so that it has `goal` bytes after its payloads are taken out.

    The text of an error moves into its stack trace, which can be externalized; properties go, largest first.

    Args:
        max_trace: the most that a stack trace may have, in bytes; a longer one is cut, too.

    Returns:
        Whether anything was cut.
    """
    failures = list(failures_in(completion))
    changed = False
    for failure in failures:
        text, trace = failure.errorMessage, failure.stackTrace.value
        size = len(text.encode())
        if size > LONGEST_TEXT and text not in trace:
            trace = f"{text}\n{trace}"
        is_whole = len(trace.encode()) <= max_trace
        if size > LONGEST_TEXT:
            failure.errorMessage = cut(text, f" [cut: {size} bytes{', whole in stackTrace' * is_whole}]")
            failure.stackTrace.value = trace if is_whole else cut(trace)
            changed = True
        elif not is_whole:
            failure.stackTrace.value = cut(trace)
            changed = True
    while smallest_bytes(completion) > goal:
        properties = [(len(key) + value.ByteSize(), key, f) for f in failures for key, value in f.properties.items()]
        if not properties:
            break
        size, key, failure = max(properties, key=lambda entry: entry[0])
        del failure.properties[key]
        failure.errorMessage += f" [property {key[:100]} dropped: {size} bytes]"
        changed = True
    return changed


def cut(text: str, end: str = "") -> str:
    """The first 32 KiB of `text` in UTF-8, `end` included."""
    data = text.encode()
    if len(data) <= LONGEST_TEXT:
        return text
    return data[: LONGEST_TEXT - len(end.encode())].decode(errors="ignore") + end


def without_large_results(batch: pb.EntityBatchResult, error: Exception, max_payload: int) -> bool:
    """Put a failure in the place of each result that is over the maximum, in place.

    Returns:
        Whether there was one.
    """
    changed = False
    for result in batch.results:
        if result.HasField("success") and len(result.success.result.value.encode()) > max_payload:
            success = result.success
            failure = new(batch, "EntityBatchResult").results.add().failure
            failure.startTimeUtc.CopyFrom(success.startTimeUtc)
            failure.endTimeUtc.CopyFrom(success.endTimeUtc)
            describe(failure.failureDetails, error)
            result.failure.CopyFrom(failure)
            changed = True
    return changed


# ---- in place of a completion --------------------------------------------------------------------------------------


def describe(failure: pb.TaskFailureDetails, error: Exception) -> None:
    """Write `error` into `failure`."""
    module = "durabletask_payloads" if isinstance(error, PayloadError) else type(error).__module__
    failure.errorType = f"{module}.{type(error).__qualname__}"
    failure.errorMessage = cut(str(error)) or failure.errorType
    failure.isNonRetriable = True


def failed_activity(like: Message, instance_id: str, task_id: int, token: str, error: Exception) -> pb.ActivityResponse:
    """The completion of an activity that failed with `error`."""
    response = new(like, "ActivityResponse")
    response.instanceId = instance_id
    response.taskId = task_id
    response.completionToken = token
    describe(response.failureDetails, error)
    return response


def failed_orchestration(
    like: Message,
    instance_id: str,
    token: str,
    error: Exception,
    *,
    locks: Sequence[Lock],
    next_id: int,
    trace_context: pb.OrchestrationTraceContext | None,
    actions: Iterable[pb.OrchestratorAction] = (),
) -> pb.OrchestratorResponse:
    """The completion of an orchestration that failed with `error`: of `actions` the unlocks stay, and `locks` go.

    Args:
        locks: what the history that came in holds locked.
        next_id: the first id that an action may have which is added.
    """
    response = new(like, "OrchestratorResponse")
    response.instanceId = instance_id
    response.completionToken = token
    if trace_context is not None:
        response.orchestrationTraceContext.CopyFrom(trace_context)
    held = dict.fromkeys(locks)
    completion_id = -1  # as the SDK has it where its own code fails
    for action in actions:
        next_id = max(next_id, action.id + 1)
        if action.HasField("sendEntityMessage") and action.sendEntityMessage.HasField("entityUnlockSent"):
            unlock = action.sendEntityMessage.entityUnlockSent
            for lock in tuple(held):
                if lock == (unlock.criticalSectionId, unlock.targetInstanceId.value):
                    del held[lock]
            response.actions.add().CopyFrom(action)
        elif action.HasField("completeOrchestration"):
            completion_id = action.id
    for action_id, lock in enumerate(held, next_id):
        action = response.actions.add()
        action.id = action_id
        unlock = action.sendEntityMessage.entityUnlockSent
        unlock.criticalSectionId = lock.critical_section_id
        unlock.targetInstanceId.value = lock.entity_id
        unlock.parentInstanceId.value = instance_id
    action = response.actions.add()
    action.id = completion_id
    action.completeOrchestration.orchestrationStatus = failed_status(like)
    describe(action.completeOrchestration.failureDetails, error)
    return response


def failed_batch(
    like: Message,
    token: str,
    error: Exception,
    *,
    operations: int,
    infos: Iterable[pb.OperationInfo],
    state: str | None,
) -> pb.EntityBatchResult:
    """The completion of an entity batch of which every operation failed with `error`, and the state is `state`."""
    batch = new(like, "EntityBatchResult")
    batch.completionToken = token
    for _ in range(operations):
        failure = batch.results.add().failure
        failure.startTimeUtc.GetCurrentTime()
        failure.endTimeUtc.GetCurrentTime()
        describe(failure.failureDetails, error)
    for info in infos:
        batch.operationInfos.add().CopyFrom(info)
    if state is not None:
        batch.entityState.value = state
    describe(batch.failureDetails, error)
    return batch


def reduced(
    kind: Kind,
    completion: Message,
    error: Exception,
    *,
    goal: int,
    smallest_bytes: Callable[[Message], int],
    max_payload: int,
    max_trace: int,
) -> Message | None:
    """A smaller copy of `completion` that keeps what fits, None if there is nothing to leave out."""
    copy = copy_of(completion)
    changed = False
    if kind is ENTITY and isinstance(error, PayloadTooLargeError):
        changed = without_large_results(cast("pb.EntityBatchResult", copy), error, max_payload)  # by its kind
    changed |= cut_failures(copy, goal=goal, smallest_bytes=smallest_bytes, max_trace=max_trace)
    return copy if changed else None
