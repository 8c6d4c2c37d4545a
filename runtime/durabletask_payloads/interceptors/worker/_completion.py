"""What is done with completions and work items, in which order, and when it fails.

Written as generators that yield steps and do no I/O: the interceptors carry the steps out, each in its own way, and
throw what a step raises back in. So there is one policy for sync and aio.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, cast

import grpc
from google.protobuf.message import Message

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError, PayloadTooLargeError
from durabletask_payloads.externalizer._externalizer import Externalizer, Receipt
from durabletask_payloads.externalizer._planning import plan_uploads
from durabletask_payloads.externalizer._walkers import walkers_by_class

from . import _failures as failures
from ._messages import (
    ACTIVITY,
    ENTITY,
    KIND_BY_ABANDON,
    ORCHESTRATION,
    copy_of,
    find_token,
    is_known,
    largest_field,
    new,
    operations_of,
)
from ._work_items import Backoff, FailedOperation, WorkItems

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from typing import TypeAlias, TypeGuard

    import durabletask.internal.orchestrator_service_pb2 as pb

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._messages import Completion, Kind
    from ._work_items import WorkItem

log = logging.getLogger("durabletask_payloads.interceptors")
_Result = TypeVar("_Result")
_Call = TypeVar("_Call")

# The RPC was refused and will be: what was uploaded for it is of no use. With any other code it may have been done.
REFUSED = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)

# RESOURCE_EXHAUSTED is also the code for a quota. No server refuses so little for its size, in bytes.
SMALL = 64 * 1024

# For a call of our own, in seconds.
OWN_TIMEOUT_SECONDS = 30.0

# Of the work items of one stream, how many wait for a transfer or to be given back; past that reading stops.
MOST_WAITING = 128

# How long the end of a stream waits for its items to be given back.
FAREWELL_SECONDS = 1.0

# What a completion is cut to when the limit of who refused it is not known: half of gRPC's smallest sensible one.
_GOAL = 1024 * 1024


# ---- steps ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Externalize:
    """Do it to `message`; the receipt is put here."""

    message: Message
    instance_id: str | None
    receipt: Receipt | None = None


@dataclass(slots=True)
class Rollback:
    """Delete what was uploaded."""

    receipt: Receipt


@dataclass(slots=True)
class Deexternalize:
    """Do it to `message`."""

    message: Message


@dataclass(slots=True)
class Send(Generic[_Call]):
    """Send `message` as RPC `name` and wait for its end; the call and its code are put here.

    `is_own`: it is ours, with a timeout of its own, not the one that was asked for.
    """

    name: str
    message: Message
    is_own: bool
    call: _Call | None = None
    code: grpc.StatusCode | None = None


@dataclass(slots=True)
class GiveBack:
    """Abandon `item` in `delay` seconds: by the stream that it is from, or now if that has ended."""

    item: WorkItem
    like: Message
    delay: float


Step: TypeAlias = "Externalize | Rollback | Deexternalize | Send[_Call] | GiveBack"


def carry_out(flow: Generator[Step[_Call], None, _Result], do: Callable[[Step[_Call]], None]) -> _Result:
    """Do the steps of `flow` one after the other. What one raises is raised in the flow, at its `yield`."""
    error: BaseException | None = None
    while True:
        try:
            step = next(flow) if error is None else flow.throw(error)
        except StopIteration as stop:
            return cast("_Result", stop.value)  # StopIteration has no type for it
        error = None
        try:
            do(step)
        except BaseException as reason:
            error = reason


async def carry_out_async(
    flow: Generator[Step[_Call], None, _Result], do: Callable[[Step[_Call]], Awaitable[None]]
) -> _Result:
    """`carry_out` where the steps are awaited."""
    error: BaseException | None = None
    while True:
        try:
            step = next(flow) if error is None else flow.throw(error)
        except StopIteration as stop:
            return cast("_Result", stop.value)  # as above
        error = None
        try:
            await do(step)
        except BaseException as reason:
            error = reason


class Verdict(Enum):
    """What becomes of a work item that arrived."""

    DELIVER = "deliver"
    DROP = "drop"  # it was completed
    ABANDON = "abandon"


class Resolution(NamedTuple):
    """A verdict, and in how many seconds the item is to be abandoned."""

    verdict: Verdict
    delay: float = 0.0


class _NotDeliveredError(Exception):
    """A completion did not get to the server, because of `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


# ---- the policy ----------------------------------------------------------------------------------------------------


class Policy:
    """The decisions, and what they need to know. Shared by everything that one interceptor intercepts.

    Safe for any number of threads.
    """

    def __init__(self, store: PayloadStoreLike | Externalizer, max_deliveries: int) -> None:
        if max_deliveries < 1:
            raise ValueError(f"max_deliveries is {max_deliveries}: an item has to be delivered at least once")
        self.owns_externalizer = not isinstance(store, Externalizer)
        self.externalizer = store if isinstance(store, Externalizer) else Externalizer(store)
        self.items = WorkItems(max_deliveries)
        self._plain_bytes = min(SMALL, self.externalizer.untouched_bytes)
        self._backoff = Backoff(self._transfers)

    def _transfers(self) -> int:
        stats = self.externalizer.stats
        return stats.uploads + stats.downloads

    # ---- what clients send and get --------------------------------------------------------------------------

    def wants(self, message: object) -> TypeGuard[Message]:
        """Whether there is something to do with a request or response: not where the walkers do not know it."""
        return isinstance(message, Message) and is_known(message)

    def externalize(self, request: Message, instance_id: str | None) -> Receipt:
        """Externalize a request, in place.

        Raises:
            PayloadError: it can not be; nothing is to be sent.
        """
        try:
            return self.externalizer.externalize(request, instance_id=instance_id)
        except PayloadError:
            raise
        except Exception as error:
            raise failures.as_payload_error(error, str(error)) from error

    async def externalize_async(self, request: Message, instance_id: str | None) -> Receipt:
        """`externalize` without blocking the event loop."""
        try:
            return await self.externalizer.externalize_async(request, instance_id=instance_id)
        except PayloadError:
            raise
        except Exception as error:
            raise failures.as_payload_error(error, str(error)) from error

    def deexternalize(self, response: Message, instance_id: str | None) -> None:
        """Resolve a response, in place.

        Raises:
            PayloadError: it can not be; with the instance and the field.
        """
        try:
            self.externalizer.deexternalize(response)
        except Exception as error:
            raise self._explained(error, response, instance_id) from error

    async def deexternalize_async(self, response: Message, instance_id: str | None) -> None:
        """`deexternalize` without blocking the event loop."""
        try:
            await self.externalizer.deexternalize_async(response)
        except Exception as error:
            raise self._explained(error, response, instance_id) from error

    def _explained(self, error: Exception, response: Message, instance_id: str | None) -> PayloadError:
        owner, path = find_token(response, str(error), self.externalizer.store.is_known_token)
        where = [f"instance {owner or instance_id}"] if owner or instance_id else []
        where += [path] if path else []
        return failures.as_payload_error(error, ": ".join([*where, str(error)]))

    def refused_as_too_large(self, request: Message, sent_bytes: int, error: Exception) -> Exception:
        """What the caller gets for an RPC that ended with RESOURCE_EXHAUSTED when `sent_bytes` were sent."""
        if sent_bytes <= SMALL:  # it was not about the request
            return error
        too_large = failures.too_large(request, sent_bytes, None, largest_field(request))
        too_large.__cause__ = error
        return too_large

    def note_abandonment(self, rpc: str, request: Message) -> None:
        """A unary call ended. If it gave a work item back, that is no longer under way."""
        kind = KIND_BY_ABANDON.get(rpc)
        if kind is not None:
            self.items.abandoned(kind, cast("pb.AbandonActivityTaskRequest", request).completionToken)  # as all three

    # ---- completions ----------------------------------------------------------------------------------------

    def is_plain(self, kind: Kind, completion: object) -> bool:
        """Whether a completion can be sent as it is: it is so small that nothing of it has to be stored, nor is it
        refused for its size, and nothing of it was taken out. Otherwise `complete` has to send it.
        """
        if type(completion) not in walkers_by_class:  # not a message, not known, or the first of its kind
            return False
        message = cast("Completion", completion)  # by its kind
        if message.ByteSize() > self._plain_bytes:
            return False
        return kind is not ENTITY or not self.items.find(kind, message).failed

    def complete(self, kind: Kind, completion: Completion) -> Generator[Step[_Call], None, _Call]:
        """Send a completion, or what the orchestration is to see in its place; returns the call that ended it.

        Raises:
            PayloadStoreUnavailableError: the store can not take it now. The work item was given back.
        """
        item = self.items.find(kind, completion)
        message: Message = completion
        if item.failed:
            message = _with_failed(cast("pb.EntityBatchResult", completion), item)  # only a batch has some
        try:
            flow: Generator[Step[_Call], None, _Call] = self._deliver(kind, item, message, is_own=False)
            return (yield from flow)
        except _NotDeliveredError as reason:
            error = reason.error
        if failures.is_transient(error):
            deliveries = self.items.failed_again(item)
            if not self.items.is_last(deliveries):
                self.items.given_back(item)
                yield GiveBack(item, completion, self._backoff.delay(deliveries))
                raise PayloadStoreUnavailableError(
                    f"the {item} could not be completed, its work item was given back: {error}"
                ) from error
            error = _gave_up(error, deliveries)
        max_payload = self.externalizer.store.options.max_stored_payload_bytes
        smaller = failures.reduced(
            kind,
            message,
            error,
            goal=min(_GOAL, self._limit),
            smallest_bytes=self.externalizer.smallest_bytes,
            max_payload=max_payload,
            # Stack traces are externalized from messages over the budget only.
            max_trace=max_payload if message.ByteSize() > self._limit else failures.LONGEST_TEXT,
        )
        if smaller is not None:
            log.warning("the %s is completed with less than it sent: %s", item, error)
            with contextlib.suppress(_NotDeliveredError):
                flow = self._deliver(kind, item, smaller, is_own=True)
                return (yield from flow)
        if kind is ENTITY and not item.is_known:
            # Without the state as it arrived a failed batch would delete it.
            yield GiveBack(item, completion, self._backoff.delay(1))
            raise error
        log.error("the %s is completed as failed: %s", item, error)
        send: Send[_Call] = Send(kind.complete, self._failed(item, message, error), is_own=True)
        yield send
        if send.code is grpc.StatusCode.OK:
            self.items.done(item)
        return _call_of(send)

    @property
    def _limit(self) -> int:
        budget = self.externalizer.message_budget_bytes
        return 1 << 62 if budget is None else budget

    def _deliver(
        self, kind: Kind, item: WorkItem, message: Message, *, is_own: bool
    ) -> Generator[Step[_Call], None, _Call]:
        """Externalize and send `message`; returns the call. Raises _NotDeliveredError where nothing came of it."""
        self._check_size(message)
        step = Externalize(message, item.instance_id or None)
        try:
            yield step
        except Exception as error:
            raise _NotDeliveredError(error) from error
        receipt = step.receipt
        assert receipt is not None
        send: Send[_Call] = Send(kind.complete, message, is_own)
        try:
            yield send
            sent_bytes = message.ByteSize() if send.code is grpc.StatusCode.RESOURCE_EXHAUSTED else 0
        finally:
            receipt.restore()
        if sent_bytes > SMALL:
            yield Rollback(receipt)
            raise _NotDeliveredError(failures.too_large(message, sent_bytes, None, largest_field(message)))
        if send.code in REFUSED:
            yield Rollback(receipt)
        elif send.code is grpc.StatusCode.OK:
            self.items.done(item)
        return _call_of(send)

    def _check_size(self, message: Message) -> None:
        """Raise _NotDeliveredError if `message` is over the budget with all taken out of it that can be stored."""
        budget = self.externalizer.message_budget_bytes
        if budget is None or (size := message.ByteSize()) <= budget:
            return
        try:
            plan_uploads(message, self.externalizer.store, size, None)
        except PayloadTooLargeError as error:
            raise _NotDeliveredError(error) from error
        smallest = self.externalizer.smallest_bytes(message)
        if smallest > budget:
            raise _NotDeliveredError(failures.too_large(message, smallest, budget, largest_field(message)))

    def _failed(self, item: WorkItem, message: Message, error: Exception) -> Message:
        if item.kind is ACTIVITY:
            return failures.failed_activity(message, item.instance_id, item.task_id, item.token, error)
        if item.kind is ORCHESTRATION:
            response = cast("pb.OrchestratorResponse", message)  # by its kind
            failed = failures.failed_orchestration(
                message,
                item.instance_id,
                item.token,
                error,
                locks=item.locks,
                next_id=item.next_id,
                trace_context=_trace_context(response),
                actions=response.actions,
            )
            if len(response.customStatus.value.encode()) <= self.externalizer.store.options.threshold_bytes:
                failed.customStatus.CopyFrom(response.customStatus)
            return failed
        batch = cast("pb.EntityBatchResult", message)  # by its kind
        return failures.failed_batch(
            message,
            item.token,
            error,
            operations=len(batch.results),
            infos=batch.operationInfos,
            state=item.state,
        )

    # ---- work items -----------------------------------------------------------------------------------------

    def resolve(self, item: WorkItem, message: pb.WorkItem) -> Generator[Step[_Call], None, Resolution]:
        """Resolve a work item that arrived; one that can not be is completed as failed, or to be abandoned."""
        try:
            try:
                yield Deexternalize(message)
            except Exception as error:
                if item.kind is not ENTITY or failures.is_transient(error):
                    raise
                yield from self._take_out(item, message, error)
            return Resolution(Verdict.DELIVER)
        except Exception as error:
            reason = error
        if failures.is_transient(reason):
            deliveries = self.items.failed_again(item)
            if not self.items.is_last(deliveries):
                log.warning("the %s is given back: %s", item, reason)
                return Resolution(Verdict.ABANDON, self._backoff.delay(deliveries))
            reason = _gave_up(reason, deliveries)
        log.error("the %s is completed as failed, its payload can not be had: %s", item, reason)
        send: Send[_Call] = Send(item.kind.complete, self._failed_arrival(item, message, reason), is_own=True)
        yield send
        if send.code is grpc.StatusCode.OK:
            self.items.done(item)
            return Resolution(Verdict.DROP)
        log.warning("the %s could not be completed as failed (%s) and is given back", item, send.code)
        return Resolution(Verdict.ABANDON, self._backoff.delay(self.items.failed_again(item)))

    def _take_out(self, item: WorkItem, message: pb.WorkItem, error: Exception) -> Generator[Step[_Call], None, None]:
        """Resolve an entity batch part by part, and take out the operations that can not be. Raises if none can."""
        request = message.entityRequest if message.HasField("entityRequest") else message.entityRequestV2
        state = type(request)()
        state.entityState.CopyFrom(request.entityState)
        yield Deexternalize(state)
        failed: list[FailedOperation] = []
        operations = operations_of(message)
        for position, operation in enumerate(operations):
            try:
                yield Deexternalize(operation.message)
            except Exception as reason:
                if failures.is_transient(reason):
                    raise
                failed.append(FailedOperation(position, operation, reason))
        if len(failed) == len(operations):
            raise error
        if request.HasField("entityState"):
            request.entityState.CopyFrom(state.entityState)
        for taken_out in reversed(failed):
            if message.HasField("entityRequest"):
                del message.entityRequest.operations[taken_out.operation.place]
            else:
                del message.entityRequestV2.operationRequests[taken_out.operation.place]
            log.error("operation %d of the %s is failed: %s", taken_out.position, item, taken_out.error)
        item.failed = failed

    def _failed_arrival(self, item: WorkItem, message: pb.WorkItem, error: Exception) -> Message:
        if item.kind is ACTIVITY:
            return failures.failed_activity(message, item.instance_id, item.task_id, item.token, error)
        if item.kind is ORCHESTRATION:
            request = message.orchestratorRequest
            return failures.failed_orchestration(
                message,
                item.instance_id,
                item.token,
                error,
                locks=item.locks,
                next_id=item.next_id,
                trace_context=_trace_context(request),
            )
        operations = operations_of(message)
        return failures.failed_batch(
            message,
            item.token,
            error,
            operations=len(operations),
            infos=[operation.info for operation in operations if operation.info is not None],
            state=item.state,
        )


def _with_failed(batch: pb.EntityBatchResult, item: WorkItem) -> pb.EntityBatchResult:
    """A copy of `batch` with the operations that were taken out at their place."""
    copy = copy_of(batch)
    results, infos = list(batch.results), list(batch.operationInfos)
    for position, operation, error in item.failed:
        part = new(batch, "EntityBatchResult")
        failure = part.results.add().failure
        failure.startTimeUtc.GetCurrentTime()
        failure.endTimeUtc.GetCurrentTime()
        failures.describe(failure.failureDetails, error)
        results.insert(position, part.results[0])
        if operation.info is not None:
            infos.insert(position, operation.info)
    del copy.results[:], copy.operationInfos[:]
    copy.results.extend(results)
    copy.operationInfos.extend(infos)
    return copy


def _trace_context(message: pb.OrchestratorRequest | pb.OrchestratorResponse) -> pb.OrchestrationTraceContext | None:
    return message.orchestrationTraceContext if message.HasField("orchestrationTraceContext") else None


def _gave_up(error: Exception, deliveries: int) -> Exception:
    return failures.as_payload_error(error, f"gave up after {deliveries} deliveries: {error}")


def _call_of(send: Send[_Call]) -> _Call:
    assert send.call is not None, "a step is carried out before the next one is asked for"
    return send.call


def log_if_exhausted(error: BaseException | None) -> None:
    """Say what can be done when GetWorkItems ended because a work item was too large for the worker."""
    if isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        log.error(
            "GetWorkItems ended with RESOURCE_EXHAUSTED (%s): a history is larger than the worker may receive, since "
            "many payloads that are each under the threshold add up. Raise the limit, as "
            "GrpcChannelOptions(max_receive_message_length=...) of the worker's channel_options, or lower "
            "threshold_bytes of the store",
            error.details(),
        )
