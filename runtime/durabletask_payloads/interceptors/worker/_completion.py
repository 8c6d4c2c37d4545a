"""Completions: sent as they are, with their payloads externalized, or replaced by a substitute."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import grpc

from durabletask_payloads._errors import PayloadStoreUnavailableError, PayloadTooLargeError, SchemaMismatchError
from durabletask_payloads.externalizer._walkers import is_known
from durabletask_payloads.interceptors._calls import EndedLocallyError
from durabletask_payloads.interceptors._protocol import SMALL_BYTES, log, refused_for_size, too_large
from durabletask_payloads.interceptors._verdict import Final
from durabletask_payloads.observers._safe import within

from ._truncation import LONGEST_TEXT, NotAcceptedError, cut_texts, drop_properties, with_inner

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from durabletask_payloads.externalizer._externalizer import Externalizer
    from durabletask_payloads.externalizer._planning import UploadPlan
    from durabletask_payloads.interceptors._calls import CallFuture
    from durabletask_payloads.interceptors._verdict import Abandon

    from ._registry import Registry
    from .kinds import WorkItem
    from .kinds._base import Completion

# The size that a completion is cut to, in bytes, when the limit of the server that refused it is not known.
_GOAL = 1024 * 1024

# Answers to a substitute after which the work item may still be ours. INTERNAL: an interceptor below raised, too.
_NOT_SENT = frozenset(
    {
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)


class CompletionCalls(Protocol):
    """gRPC, as the completion of a work item sees it."""

    def send(self, completion: Message, *, is_own: bool) -> CallFuture[Message]:
        """Send `completion` and wait for the end of the call.

        Args:
            completion: a request of the intercepted RPC.
            is_own: it is a substitute, with a timeout of its own.
        """
        ...

    def abandon(self, item: WorkItem, abandon: Abandon) -> bool:
        """Abandon `item` after its delay; False, after the delay, if it is to be completed again in place.

        That is where the server cannot take work items back, and as long as it is not known whether it can.
        """
        ...


class _Undelivered(NamedTuple):
    """A completion did not reach the server, because of `error`."""

    error: BaseException


class Completions:
    """Sends the completions of a worker. Safe for any number of threads."""

    def __init__(self, externalizer: Externalizer, registry: Registry) -> None:
        self._externalizer = externalizer
        self._registry = registry
        # A completion of up to this size is sent as it is: nothing in it has to be stored, no server refuses it for
        # its size. With `strict` its schema has to be checked first.
        threshold = externalizer.store.options.threshold_bytes
        self._small_bytes = None if externalizer.strict else min(SMALL_BYTES, threshold)

    def is_plain(self, kind: type[WorkItem], completion: object) -> bool:
        """Return whether `completion` can be sent as it is, so that only its end has to be noted."""
        if self._small_bytes is None or not is_known(completion):
            return False
        message = cast("Completion", completion)  # by its RPC
        if message.ByteSize() > self._small_bytes:
            return False
        return not kind.has_parts or not self._registry.find(kind, message).failed

    def complete(self, kind: type[WorkItem], completion: Completion, calls: CompletionCalls) -> CallFuture[Message]:
        """Send `completion`, or a substitute that the orchestration sees in its place. Return the call that ended it.

        Raises:
            PayloadStoreUnavailableError: the payloads cannot be stored now. The work item was abandoned.
        """
        item = self._registry.find(kind, completion)
        message = item.whole(completion) if item.failed else completion
        while True:
            plan = self._plan(message)
            if isinstance(plan, _Undelivered):
                outcome: CallFuture[Message] | _Undelivered = plan
            else:
                outcome = self._deliver(item, message, plan, calls, is_own=False)
            if not isinstance(outcome, _Undelivered):
                return outcome
            verdict = self._registry.judge(item, outcome.error, "upload")
            if isinstance(verdict, Final):
                return self._fail(item, message, verdict.error, calls)
            self._registry.abandoning(item, verdict.delay, outcome.error)
            if calls.abandon(item, verdict):
                self._registry.abandoned(item)
                raise PayloadStoreUnavailableError(
                    f"{item} could not be completed, its work item was abandoned: {outcome.error}"
                ) from outcome.error
            # The server did not take it back: the completion is sent again.

    def _plan(self, message: Completion) -> UploadPlan | _Undelivered:
        try:
            return self._externalizer.plan(message)
        except (KeyboardInterrupt, SchemaMismatchError):
            raise
        except BaseException as error:  # of the store's is_known_token
            return _Undelivered(error)

    def _deliver(
        self, item: WorkItem, message: Completion, plan: UploadPlan, calls: CompletionCalls, *, is_own: bool
    ) -> CallFuture[Message] | _Undelivered:
        """Externalize `message` by `plan`, and send it."""
        budget = self._externalizer.message_budget_bytes
        if plan.error is None and plan.over_budget is not None and budget is not None:
            smallest = plan.over_budget.smallest
            if smallest > budget:
                return _Undelivered(too_large(message, smallest, budget))
        try:
            with within(None if item.trace is None else item.trace_of_completion(message)):
                receivers: dict[int, str] = {}
                if plan.uploads:
                    with suppress(AttributeError):  # older schemas do not have all of the fields
                        receivers.update((id(field), receiver) for field, receiver in item.receivers(message))
                receipt = self._externalizer.carry_out(plan, instance_id=item.instance_id or None, receivers=receivers)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a store raises concerns this item alone
            return _Undelivered(error)
        too_large_for_grpc: PayloadTooLargeError | None = None
        try:
            call = calls.send(message, is_own=is_own)
            code = call.code()
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED and refused_for_size(call.details(), message.ByteSize()):
                too_large_for_grpc = too_large(message, message.ByteSize(), None)  # as sent, with its tokens
        finally:
            receipt.restore()
        # From here on the payloads stay, whatever the answer: the server may have taken the message before.
        if too_large_for_grpc is not None:
            return _Undelivered(too_large_for_grpc)
        if isinstance(call, EndedLocallyError):  # it was not sent
            receipt.rollback()
        self._ended(item, code)
        return call

    def _ended(self, item: WorkItem, code: grpc.StatusCode) -> None:
        if code is grpc.StatusCode.OK:
            self._registry.done(item)
        else:
            self._registry.abandoned(item)

    def _fail(
        self, item: WorkItem, message: Completion, error: BaseException, calls: CompletionCalls
    ) -> CallFuture[Message]:
        """Send what is left of `message` when it is truncated, or the failure of its work item."""
        truncated = self._truncated(item, message, error)
        if truncated is not None:
            log.warning("truncating completion %s error=%s", item.log_fields, error)
            outcome = self._deliver(item, *truncated, calls, is_own=True)
            if not isinstance(outcome, _Undelivered):
                if outcome.code() is grpc.StatusCode.OK:
                    self._registry.completed_truncated(item, error)
                return outcome
        if item.fails_by_arrival and item.holder is None:
            later = self._registry.retry_later(item)
            self._registry.abandoning(item, later.delay, error)
            calls.abandon(item, later)
            raise error
        log.error("completing work item as failed %s error=%s", item.log_fields, error)
        threshold = self._externalizer.store.options.threshold_bytes
        substitute = item.substitute(message, error, threshold)
        while True:
            call = calls.send(substitute, is_own=True)
            code = call.code()
            # The SDK does not know of this call, so it is for us to see that the work item is not held for ever.
            if code in _NOT_SENT:
                later = self._registry.retry_later(item)
                self._registry.abandoning(item, later.delay, NotAcceptedError(code))
                if not calls.abandon(item, later):
                    continue
            self._ended(item, code)
            if code is grpc.StatusCode.OK:
                self._registry.completed_as_failed(item, error)
            return call

    def _truncated(
        self, item: WorkItem, message: Completion, error: BaseException
    ) -> tuple[Completion, UploadPlan] | None:
        """Return a smaller copy of `message` that keeps what fits, and its plan; None if there is nothing to cut."""
        budget = self._externalizer.message_budget_bytes
        goal = _GOAL if budget is None else min(_GOAL, budget)
        maximum = self._externalizer.store.options.max_stored_payload_bytes
        copy = deepcopy(message)
        failures = list(with_inner(item.failures_in(copy)))
        changed = item.has_parts and item.fail_large_results(copy, error, maximum)
        # Stack traces are externalized from messages over their budget only.
        changed |= cut_texts(failures, maximum if copy.ByteSize() > goal else LONGEST_TEXT)
        if not changed and not failures:
            return None
        plan = self._externalizer.plan(copy, budget_bytes=goal)
        over = plan.over_budget
        if over is not None:
            dropped = drop_properties(failures, over.smallest - goal)
            changed |= dropped > 0
            plan = plan._replace(over_budget=over._replace(size=over.size - dropped, smallest=over.smallest - dropped))
        return (copy, plan) if changed else None
