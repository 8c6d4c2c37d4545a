"""The interceptors for channels of grpc.aio."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast

import grpc
import grpc.aio

from ._aio_streams import AsyncHistoryStream, AsyncWorkItemStream
from ._calls import TIMEOUT_USED_UP, aio_details, remaining
from ._messages import KIND_BY_COMPLETION, abandonment, instance_of, rpc_name, with_large_payloads
from ._policy import (
    OWN_TIMEOUT_SECONDS,
    REFUSED,
    Externalize,
    GiveBack,
    Policy,
    Rollback,
    Send,
    carry_out_async,
    log,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator
    from typing import TypeAlias

    from google.protobuf.message import Message

    from durabletask_payloads.externalizer._externalizer import Externalizer
    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._calls import AioStreamContinuation, AioUnaryContinuation
    from ._messages import Completion, Kind
    from ._policy import Step

    UnaryCall: TypeAlias = grpc.aio.UnaryUnaryCall[Message, Message]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


def async_payload_interceptors(
    store: PayloadStoreLike | Externalizer, *, max_deliveries: int = 10
) -> list[grpc.aio.UnaryUnaryClientInterceptor | grpc.aio.UnaryStreamClientInterceptor]:
    """What `PayloadInterceptor` does, for channels of grpc.aio: `interceptors=async_payload_interceptors(store)`.

    They are two, since grpc.aio uses an interceptor for one kind of calls only. They may serve any number of
    channels and event loops. The calls that we make in a stream, to give a work item back or to fail it, carry the
    metadata of the stream: the SDK adds its own to unary calls only.

    Args:
        store: a store of this package or one written for the `durabletask` SDK, or an Externalizer that others use
            too. With a store an Externalizer is made, which has no threads in this form and needs no `close`.
        max_deliveries: as for `PayloadInterceptor`.

    Raises:
        ValueError: `max_deliveries` is less than 1.
    """
    policy = Policy(store, max_deliveries)
    return [_UnaryInterceptor(policy), _StreamInterceptor(policy)]


class _UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request], Awaitable[grpc.aio.UnaryUnaryCall[_Request, _Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> _Response | grpc.aio.UnaryUnaryCall[_Request, _Response]:
        name = rpc_name(client_call_details.method)
        if name is None or not self._policy.wants(request):
            return await continuation(client_call_details, request)
        # A continuation takes and returns what the method in its details does, here and below.
        send = cast("AioUnaryContinuation", continuation)
        kind = KIND_BY_COMPLETION.get(name)
        if kind is not None:
            call = await self._complete(kind, send, client_call_details, cast("Completion", request))
        else:
            call = await self._call(send, client_call_details, request)
            self._policy.note_abandonment(name, request)
        return cast("grpc.aio.UnaryUnaryCall[_Request, _Response]", call)

    async def _call(
        self, send: AioUnaryContinuation, details: grpc.aio.ClientCallDetails, request: Message
    ) -> UnaryCall:
        policy = self._policy
        instance_id = instance_of(request)
        started = time.monotonic()
        receipt = await policy.externalize_async(request, instance_id)
        if receipt:
            left = remaining(details.timeout, started)
            if left is not None and left <= 0:
                await receipt.rollback_async()
                raise _timeout_used_up()
            details = aio_details(details, timeout=left)
        sent_bytes = 0
        try:
            outcome = await _sent(send, details, request)
            if outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                sent_bytes = request.ByteSize()
        finally:
            receipt.restore()
        if outcome.code in REFUSED:
            await receipt.rollback_async()
        if outcome.error is not None:
            error = policy.refused_as_too_large(request, sent_bytes, outcome.error) if sent_bytes else outcome.error
            if error is not outcome.error:
                raise error
        elif policy.wants(outcome.response):
            await policy.deexternalize_async(outcome.response, instance_id)
        return outcome.the_call()

    async def _complete(
        self, kind: Kind, send: AioUnaryContinuation, details: grpc.aio.ClientCallDetails, completion: Completion
    ) -> UnaryCall:
        started = time.monotonic()

        async def do(step: Step[_Outcome]) -> None:
            if isinstance(step, Externalize):
                step.receipt = await self._policy.externalizer.externalize_async(
                    step.message, instance_id=step.instance_id
                )
            elif isinstance(step, Send):
                left = OWN_TIMEOUT_SECONDS if step.is_own else remaining(details.timeout, started)
                if left is not None and left <= 0:
                    raise _timeout_used_up()
                step.call = await _sent(send, aio_details(details, timeout=left), step.message)
                step.code = step.call.code
            elif isinstance(step, Rollback):
                await step.receipt.rollback_async()
            elif isinstance(step, GiveBack):
                item = step.item
                if item.holder is None or not item.holder.give_back(item, step.delay):
                    own = aio_details(details, timeout=OWN_TIMEOUT_SECONDS, rpc=item.kind.abandon)
                    code = (await _sent(send, own, abandonment(item.kind, step.like, item.token))).code
                    if code is not grpc.StatusCode.OK:
                        log.warning("the %s could not be given back: %s", item, code)
            else:
                raise AssertionError(f"{step} is no step of a completion")

        flow: Generator[Step[_Outcome], None, _Outcome] = self._policy.complete(kind, completion)
        return (await carry_out_async(flow, do)).the_call()


class _Outcome(NamedTuple):
    """How a call ended. There is none where an interceptor below raised instead of returning one."""

    call: UnaryCall | None
    code: grpc.StatusCode
    response: Message | None = None
    error: grpc.aio.AioRpcError | None = None

    def the_call(self) -> UnaryCall:
        if self.call is None:
            raise self.error or asyncio.CancelledError
        return self.call


async def _sent(send: AioUnaryContinuation, details: grpc.aio.ClientCallDetails, request: Message) -> _Outcome:
    call: UnaryCall | None = None
    try:
        call = await send(details, request)
        return _Outcome(call, grpc.StatusCode.OK, response=await call)
    except grpc.aio.AioRpcError as error:
        return _Outcome(call, error.code(), error=error)


def _timeout_used_up() -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, none, none, TIMEOUT_USED_UP)


class _StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    async def intercept_unary_stream(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request], Awaitable[grpc.aio.UnaryStreamCall[_Request, _Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> AsyncIterator[_Response] | grpc.aio.UnaryStreamCall[_Request, _Response]:
        name = rpc_name(client_call_details.method)
        if name is None or not self._policy.wants(request):
            return await continuation(client_call_details, request)
        send = cast("AioStreamContinuation", continuation)  # as for unary calls
        details = client_call_details
        self._policy.externalizer.has_tokens(request)  # for the schema check, before any work item is here
        stream: AsyncWorkItemStream | AsyncHistoryStream
        if name == "GetWorkItems":
            call = await send(details, with_large_payloads(request))
            stream = AsyncWorkItemStream(call, self._policy, send, details, request)
        else:
            call = await send(details, request)
            stream = AsyncHistoryStream(call, self._policy, details.timeout, instance_of(request))
        return cast("grpc.aio.UnaryStreamCall[_Request, _Response]", stream)  # as for unary calls
