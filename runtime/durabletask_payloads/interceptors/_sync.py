"""The interceptor for sync channels."""

from __future__ import annotations

import time
from threading import Thread
from typing import TYPE_CHECKING, TypeVar, cast

import grpc

from ._calls import TIMEOUT_USED_UP, CallDetails, EndedLocallyError, FinishedLater, remaining
from ._messages import (
    KIND_BY_COMPLETION,
    KIND_BY_PATH,
    abandonment,
    instance_of,
    rpc_name,
    with_large_payloads,
)
from ._policy import (
    OWN_TIMEOUT_SECONDS,
    REFUSED,
    Externalize,
    GiveBack,
    Policy,
    Rollback,
    Send,
    carry_out,
    log,
)
from ._streams import HistoryStream, WorkItemStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from google.protobuf.message import Message
    from typing_extensions import Self

    from durabletask_payloads.externalizer._externalizer import Externalizer, Receipt
    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._calls import CallFuture, CallIterator, StreamContinuation, UnaryContinuation
    from ._messages import Completion, Kind
    from ._policy import Step

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class PayloadInterceptor(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Externalizes and resolves the payloads of all calls of a sync channel to the Durable Task service.

    For `interceptors=[...]` of the SDK's worker and client, which may share one; or for `grpc.intercept_channel`.
    Requests are externalized, responses and work items resolved. What can not be transferred ends in a failure that
    the orchestration sees, or in an error for the caller:

    - A client gets our error, `PayloadError`. Its request is as it was after the call, whatever happened; while the
      call runs it is changed, so one request object is for one call at a time.
    - A completion whose payload the store refuses is sent as a failure instead. While the store is down the work
      item is given back, and delivered again: the worker sees a PayloadStoreUnavailableError, which it logs.
    - A work item whose payload is gone is completed as failed, and the worker never sees it.

    Safe for any number of threads and channels. `call.future(...)` uploads before it returns, and for a completion
    it waits for the end of the call.

    Args:
        store: a store of this package or one written for the `durabletask` SDK, or an Externalizer that others use
            too. With a store the interceptor makes an Externalizer of its own, which `close` ends.
        max_deliveries: after how many deliveries a work item is failed of which the store is down each time. They
            are some time apart: 10 of them take more than a minute.

    Raises:
        ValueError: `max_deliveries` is less than 1.
    """

    def __init__(self, store: PayloadStoreLike | Externalizer, *, max_deliveries: int = 10) -> None:
        self._policy = Policy(store, max_deliveries)

    def close(self) -> None:
        """End the threads of the Externalizer that was made for a store. One that was passed in stays open."""
        if self._policy.owns_externalizer:
            self._policy.externalizer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- unary calls ----------------------------------------------------------------------------------------

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], CallFuture[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> CallFuture[_Response]:
        kind = KIND_BY_PATH.get(client_call_details.method)
        if kind is not None and self._policy.is_plain(kind, request):  # nearly all that a worker sends
            done = continuation(client_call_details, request)
            if done.code() is grpc.StatusCode.OK:  # waits, also where the caller wanted a future
                self._policy.items.completed(kind, cast("Completion", request))  # by its kind
            return done
        name = rpc_name(client_call_details.method)
        if name is None or not self._policy.wants(request):
            return continuation(client_call_details, request)
        # A continuation takes and returns what the method in its details does, here and below.
        send = cast("UnaryContinuation", continuation)
        kind = KIND_BY_COMPLETION.get(name)  # also of a method in bytes, which grpc takes too
        if kind is not None:
            call = self._complete(kind, send, client_call_details, cast("Completion", request))
        else:
            call = self._call(send, client_call_details, request)
            self._policy.note_abandonment(name, request)
        return cast("CallFuture[_Response]", call)

    def _call(self, send: UnaryContinuation, details: grpc.ClientCallDetails, request: Message) -> CallFuture[Message]:
        policy = self._policy
        instance_id = instance_of(request)
        started = time.monotonic()
        receipt = policy.externalize(request, instance_id)
        if receipt:
            left = remaining(details.timeout, started)
            if left is not None and left <= 0:
                receipt.rollback()
                return _ended(grpc.StatusCode.DEADLINE_EXCEEDED, TIMEOUT_USED_UP)
            details = CallDetails(details, timeout=left)
        sent_bytes = 0
        try:
            call = send(details, request)
            is_done = call.done()
            if not is_done or call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                sent_bytes = request.ByteSize()
        finally:
            receipt.restore()

        def finish(response: Message | None, error: Exception | None) -> Exception | None:
            if isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                return policy.refused_as_too_large(request, sent_bytes, error)
            if error is not None:
                return error
            if policy.wants(response):
                try:
                    policy.deexternalize(response, instance_id)
                except Exception as reason:
                    return reason
            return None

        if not is_done:
            if receipt:
                call.add_done_callback(lambda done: _delete_if_refused(call, receipt))
            return cast("CallFuture[Message]", FinishedLater(call, finish))  # which is a type for the checkers only
        if call.code() in REFUSED:
            receipt.rollback()
        error = call.exception()
        ours = finish(None if error is not None else call.result(), error)
        if ours is not error and ours is not None:
            raise ours
        return call

    def _complete(
        self, kind: Kind, send: UnaryContinuation, details: grpc.ClientCallDetails, completion: Completion
    ) -> CallFuture[Message]:
        started = time.monotonic()

        def do(step: Step[CallFuture[Message]]) -> None:
            if isinstance(step, Externalize):
                step.receipt = self._policy.externalizer.externalize(step.message, instance_id=step.instance_id)
            elif isinstance(step, Send):
                left = OWN_TIMEOUT_SECONDS if step.is_own else remaining(details.timeout, started)
                if left is not None and left <= 0:
                    step.call = _ended(grpc.StatusCode.DEADLINE_EXCEEDED, TIMEOUT_USED_UP)
                else:
                    step.call = send(CallDetails(details, timeout=left), step.message)
                step.code = step.call.code()  # waits for it, also where the caller wanted a future
            elif isinstance(step, Rollback):
                step.receipt.rollback()
            elif isinstance(step, GiveBack):
                item = step.item
                if item.holder is None or not item.holder.give_back(item, step.delay):
                    own = CallDetails(details, timeout=OWN_TIMEOUT_SECONDS, rpc=item.kind.abandon)
                    code = send(own, abandonment(item.kind, step.like, item.token)).code()
                    if code is not grpc.StatusCode.OK:
                        log.warning("the %s could not be given back: %s", item, code)
            else:
                raise AssertionError(f"{step} is no step of a completion")

        return carry_out(self._policy.complete(kind, completion), do)

    # ---- streams --------------------------------------------------------------------------------------------

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], CallIterator[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> CallIterator[_Response]:
        name = rpc_name(client_call_details.method)
        if name is None or not self._policy.wants(request):
            return continuation(client_call_details, request)
        send = cast("StreamContinuation", continuation)  # as for unary calls
        details = client_call_details
        self._policy.externalizer.has_tokens(request)  # for the schema check, before any work item is here
        stream: WorkItemStream | HistoryStream
        if name == "GetWorkItems":
            asked = with_large_payloads(request)
            stream = WorkItemStream(send(details, asked), self._policy, details.timeout, send, details, request)
        else:
            stream = HistoryStream(send(details, request), self._policy, details.timeout, instance_of(request))
        return cast("CallIterator[_Response]", stream)  # as above, and a type for the checkers only


def _ended(code: grpc.StatusCode, details: str) -> CallFuture[Message]:
    return cast("CallFuture[Message]", EndedLocallyError(code, details))  # as for FinishedLater


def _delete_if_refused(call: CallFuture[Message], receipt: Receipt) -> None:
    # In a thread of its own: this one is gRPC's, and serves all calls of the channel.
    if call.code() in REFUSED:
        Thread(target=receipt.rollback, name="durabletask-payloads-rollback").start()
