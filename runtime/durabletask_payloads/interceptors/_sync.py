"""The interceptor for sync channels: gRPC's surface, and the calls that workers and streams make through it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from google.protobuf import message_factory

from durabletask_payloads._lifecycle import Closing
from durabletask_payloads.externalizer._externalizer import Externalizer
from durabletask_payloads.externalizer._walkers import is_known

from ._calls import TIMEOUT_USED_UP, EndedLocallyError, FinishedLater, remaining
from ._client import ClientPayloads, refusal
from ._history import HistoryStream
from ._protocol import OWN_TIMEOUT_SECONDS, SERVICE, instance_of, log, rpc_name, with_large_payloads
from ._read_ahead import HeldStream
from .worker import Completions, Registry, WorkItemStream
from .worker.kinds import KIND_BY_ABANDON, KIND_BY_COMPLETION, KIND_BY_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._calls import CallFuture, CallIterator, StreamContinuation, UnaryContinuation
    from ._client import Unreadable
    from ._verdict import Abandon
    from .worker.kinds import WorkItem
    from .worker.kinds._base import Completion

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class PayloadInterceptor(Closing, grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Externalizes and deexternalizes the payloads of all calls of a sync channel to the Durable Task service.

    For `interceptors=[...]` of the SDK's worker and client, which may share one, or for `grpc.intercept_channel`.
    Requests are externalized; responses and work items are deexternalized. A payload that cannot be transferred ends
    in a failure that the orchestration sees, or in an error for the caller:

    - A client gets our error, `PayloadError`, or what can be read of a response: see `unreadable`. Its request is as
      it was after the call, whatever happened; while the call runs it is changed, so use one request object for one
      call at a time.
    - A completion whose payload the store refuses is sent as a failure instead. While the store is unavailable the
      work item is abandoned, to be delivered again: the worker sees a PayloadStoreUnavailableError, which it logs.
    - A work item whose payload is gone is completed as failed, and the worker never sees it.

    Safe for any number of threads and channels. `call.future(...)` uploads before it returns, and for a completion
    it waits for the end of the call.

    For sync channels only. `AsyncTaskHubGrpcClient` and other channels of grpc.aio refuse it with a ValueError, and
    type checkers before that; mypy only with the stubs of gRPC, which the extra `[typing]` installs.

    Args:
        store: a store of this package or one written for the `durabletask` SDK, or an Externalizer to share. With a
            store the interceptor makes an Externalizer of its own, which `close` ends.
        max_deliveries: after how many deliveries that met an unavailable store a work item is completed as failed.
            The deliveries are some time apart: 10 of them take more than a minute.
        unreadable: what becomes of a payload in a response that is not found, elsewhere, damaged or too large. With
            "token" the rest of the response is returned, and the token stays in the payload's place, with a warning,
            once for each token. Three things raise all the same: a history, the output of a completed instance asked
            for by itself, and any other error, which may be about the store as a whole: it is unavailable, refuses
            the credential, or was written for the SDK and raises errors of its own. With "raise" all of them raise.

    Raises:
        ValueError: `max_deliveries` is less than 1, or `unreadable` is neither "token" nor "raise".
    """

    def __init__(
        self, store: PayloadStoreLike | Externalizer, *, max_deliveries: int = 10, unreadable: Unreadable = "token"
    ) -> None:
        self._owns_externalizer = not isinstance(store, Externalizer)
        self._externalizer = externalizer = store if isinstance(store, Externalizer) else Externalizer(store)
        self._client = ClientPayloads(externalizer, unreadable)
        self._registry = Registry(max_deliveries, lambda: externalizer.stats, observer=externalizer.observer)
        self._completions = Completions(externalizer, self._registry)

    def close(self) -> None:
        """End the threads of the Externalizer that was made for a store. One that was passed in stays open."""
        if self._owns_externalizer:
            self._externalizer.close()

    # ---- unary calls ------------------------------------------------------------------------------------------

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], CallFuture[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> CallFuture[_Response]:
        """Make a unary call for gRPC, which calls this: with the payloads of request and response moved.

        Calls of other services, and with messages that hold no payloads, go through as they are.

        Raises:
            PayloadError: a payload of the request or the response could not be transferred. Instead of raising,
                the future of a call that was not done yet ends in it.
        """
        details = client_call_details
        kind = KIND_BY_PATH.get(details.method)
        if kind is not None and self._completions.is_plain(kind, request):  # nearly all that a worker sends
            done = continuation(details, request)
            accepted = done.code() is grpc.StatusCode.OK  # waits, also where the caller wanted a future
            self._registry.completed(kind, cast("Completion", request), accepted=accepted)  # by its kind
            return done
        name = rpc_name(details.method) if kind is None else kind.complete
        if name is None or not is_known(request):
            return continuation(details, request)
        # A continuation takes and returns what the method in its details does, here and below.
        send = cast("UnaryContinuation", continuation)
        kind = kind or KIND_BY_COMPLETION.get(name)  # also of a method in bytes, which grpc accepts too
        if kind is not None:
            completion = cast("Completion", request)  # by its kind
            call = self._completions.complete(kind, completion, _CompletionCalls(send, details, request))
        else:
            call = self._call(send, details, request)
            abandoned = KIND_BY_ABANDON.get(name)
            if abandoned is not None:
                token = cast("pb.AbandonActivityTaskRequest", request).completionToken  # as in all three
                self._registry.abandoned_by_worker(abandoned, token)
        return cast("CallFuture[_Response]", call)

    def _call(self, send: UnaryContinuation, details: grpc.ClientCallDetails, request: Message) -> CallFuture[Message]:
        client = self._client
        instance_id = instance_of(request)
        started = time.monotonic()
        receipt = client.externalize(request, instance_id)
        if receipt:
            left = remaining(details.timeout, started)
            if left is not None and left <= 0:
                receipt.rollback()
                return _timed_out()
            details = _CallDetails(details, timeout=left)
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
                return refusal(request, sent_bytes, error)
            if error is None and is_known(response):
                try:
                    client.deexternalize(response, instance_id)
                except Exception as reason:
                    return reason
            return error

        if not is_done:
            return cast("CallFuture[Message]", FinishedLater(call, finish))  # which is a type for the checkers only
        error = call.exception()
        ours = finish(None if error is not None else call.result(), error)
        if ours is not error and ours is not None:
            raise ours
        return call

    # ---- streams ----------------------------------------------------------------------------------------------

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], CallIterator[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> CallIterator[_Response]:
        """Make a streaming call for gRPC, which calls this: work items or a history, with payloads in place of tokens.

        Calls of other services, and with messages that hold no payloads, go through as they are.

        Raises:
            SchemaMismatchError: the request has fields that the walkers do not know, and the Externalizer is strict.
        """
        name = rpc_name(client_call_details.method)
        if name is None or not is_known(request):
            return continuation(client_call_details, request)
        send = cast("StreamContinuation", continuation)  # as for unary calls
        details = client_call_details
        self._externalizer.has_tokens(request)  # for the schema check, before any work item is here
        stream: object
        if name == "GetWorkItems":
            call = send(details, with_large_payloads(request))
            calls = _StreamCalls(send, details, request)
            work = WorkItemStream(call, details.timeout, self._externalizer, self._registry, calls)
            stream = HeldStream(call, work)
        else:
            call = send(details, request)
            stream = HeldStream(call, HistoryStream(call, self._client, details.timeout, instance_of(request)))
        return cast("CallIterator[_Response]", stream)  # as above, and a type for the checkers only


class _CallDetails(grpc.ClientCallDetails):
    """A copy of `like` with another timeout or RPC. Details made by other interceptors may lack attributes."""

    def __init__(self, like: grpc.ClientCallDetails, *, timeout: float | None, rpc: str | None = None) -> None:
        self.method = like.method if rpc is None else SERVICE + rpc
        self.timeout = timeout
        self.metadata = like.metadata
        self.credentials = like.credentials
        self.wait_for_ready = getattr(like, "wait_for_ready", None)
        self.compression = getattr(like, "compression", None)


class _CompletionCalls:
    """The calls that a completion makes: through the continuation of the call that was intercepted."""

    def __init__(self, send: UnaryContinuation, details: grpc.ClientCallDetails, like: Message) -> None:
        self._send = send
        self._details = details
        self._like = like
        self._started = time.monotonic()

    def send(self, completion: Message, *, is_own: bool) -> CallFuture[Message]:
        details = self._details
        if is_own:
            details = _CallDetails(details, timeout=OWN_TIMEOUT_SECONDS)
        elif details.timeout is not None:
            left = remaining(details.timeout, self._started)
            if left is not None and left <= 0:
                return _timed_out()
            details = _CallDetails(details, timeout=left)
        call = self._send(details, completion)
        call.code()  # waits, also where the caller wanted a future
        return call

    def abandon(self, item: WorkItem, abandon: Abandon) -> bool:
        holder = item.holder
        if holder is None:
            self._abandon(item)
            return True
        # Only an answer tells whether the server can take it back, and until then nothing may be lost. At the end of
        # the stream it is the stream that abandons the item: afterwards the channel may be closed, where to begin a
        # call can crash gRPC.
        if holder.can_abandon or not holder.wait(abandon):
            if holder.can_abandon is not False:
                holder.abandon_later(item, abandon)
            return True
        if holder.can_abandon is False:
            return False
        code = self._abandon(item)
        if code in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED):  # others say nothing about what it can do
            holder.can_abandon = code is grpc.StatusCode.OK
        return code is grpc.StatusCode.OK

    def _abandon(self, item: WorkItem) -> grpc.StatusCode:
        details = _CallDetails(self._details, timeout=OWN_TIMEOUT_SECONDS, rpc=item.abandon)
        try:
            code = self._send(details, _abandonment(item, self._like)).code()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of an interceptor below, or the channel is closed
            log.warning("work item not abandoned %s error=%s", item.log_fields, error)
            return grpc.StatusCode.UNKNOWN
        if code not in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED):
            log.warning("work item not abandoned %s code=%s", item.log_fields, code.name)
        return code


class _StreamCalls:
    """The calls that a stream of work items makes: as streams too, since its continuation makes no others."""

    def __init__(self, send: StreamContinuation, details: grpc.ClientCallDetails, like: Message) -> None:
        self._send = send
        self._details = details
        self._like = like

    def send(self, item: WorkItem, completion: Message, timeout: float) -> CallIterator[Message]:
        return self._send(_CallDetails(self._details, timeout=timeout, rpc=item.complete), completion)

    def abandon(self, item: WorkItem, timeout: float) -> CallIterator[Message]:
        details = _CallDetails(self._details, timeout=timeout, rpc=item.abandon)
        return self._send(details, _abandonment(item, self._like))


def _abandonment(item: WorkItem, like: Message) -> Message:
    # It accepts the descriptors of both implementations; types-protobuf knows of one. All three requests are alike.
    descriptor = cast("Descriptor", like.DESCRIPTOR.file.message_types_by_name[item.abandonment])
    request = cast("pb.AbandonActivityTaskRequest", message_factory.GetMessageClass(descriptor)())
    request.completionToken = item.token
    return request


def _timed_out() -> CallFuture[Message]:
    error = EndedLocallyError(grpc.StatusCode.DEADLINE_EXCEEDED, TIMEOUT_USED_UP)
    return cast("CallFuture[Message]", error)  # as for FinishedLater
