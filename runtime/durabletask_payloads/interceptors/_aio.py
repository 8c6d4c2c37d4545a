"""The interceptors for channels of grpc.aio. They serve clients: the SDK has no asynchronous worker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

import grpc
import grpc.aio

from durabletask_payloads.externalizer._externalizer import Externalizer
from durabletask_payloads.externalizer._walkers import is_known

from ._aio_history import AsyncHistoryStream
from ._calls import TIMEOUT_USED_UP, remaining
from ._client import ClientPayloads, refusal
from ._protocol import instance_of, rpc_name
from .worker.kinds import KIND_BY_ABANDON, KIND_BY_COMPLETION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    from google.protobuf.message import Message

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._calls import AioStreamContinuation, AioUnaryContinuation
    from ._client import Unreadable

    UnaryCall: TypeAlias = grpc.aio.UnaryUnaryCall[Message, Message]

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_OF_WORKERS: Final = KIND_BY_COMPLETION.keys() | KIND_BY_ABANDON.keys()


def async_payload_interceptors(
    store: PayloadStoreLike | Externalizer, *, unreadable: Unreadable = "token"
) -> list[grpc.aio.UnaryUnaryClientInterceptor | grpc.aio.UnaryStreamClientInterceptor]:
    """Return the interceptors for a client on grpc.aio: `interceptors=async_payload_interceptors(store)`.

    Requests are externalized and responses deexternalized, as by `PayloadInterceptor`. They are two, since grpc.aio
    uses an interceptor for one kind of calls only. They may serve any number of channels and event loops.

    Workers need the synchronous `PayloadInterceptor`: GetWorkItems raises TypeError here, and the calls that complete
    or abandon a work item pass through untouched.

    Args:
        store: a store of this package or one written for the `durabletask` SDK, or an Externalizer to share. With a
            store an Externalizer is made, whose threads end when the interceptors are forgotten.
        unreadable: what becomes of a payload in a response that cannot be read, as for `PayloadInterceptor`.

    Raises:
        ValueError: `unreadable` is neither "token" nor "raise".
    """
    client = ClientPayloads(store if isinstance(store, Externalizer) else Externalizer(store), unreadable)
    return [_UnaryInterceptor(client), _StreamInterceptor(client)]


class _UnaryInterceptor(grpc.aio.UnaryUnaryClientInterceptor):
    def __init__(self, client: ClientPayloads) -> None:
        self._client = client

    async def intercept_unary_unary(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request], Awaitable[grpc.aio.UnaryUnaryCall[_Request, _Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> _Response | grpc.aio.UnaryUnaryCall[_Request, _Response]:
        name = rpc_name(client_call_details.method)
        if name is None or name in _OF_WORKERS or not is_known(request):
            return await continuation(client_call_details, request)
        # A continuation takes and returns what the method in its details does, here and below.
        call = await self._call(cast("AioUnaryContinuation", continuation), client_call_details, request)
        return cast("grpc.aio.UnaryUnaryCall[_Request, _Response]", call)

    async def _call(
        self, send: AioUnaryContinuation, details: grpc.aio.ClientCallDetails, request: Message
    ) -> UnaryCall:
        client = self._client
        instance_id = instance_of(request)
        started = time.monotonic()
        receipt = await client.externalize_async(request, instance_id)
        if receipt:
            left = remaining(details.timeout, started)
            if left is not None and left <= 0:
                await receipt.rollback_async()
                raise _timed_out()
            details = grpc.aio.ClientCallDetails(
                details.method, left, details.metadata, details.credentials, details.wait_for_ready
            )
        sent_bytes = 0
        try:
            outcome = await _sent(send, details, request)
            if outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                sent_bytes = request.ByteSize()
        finally:
            receipt.restore()
        if outcome.error is not None:
            error = refusal(request, sent_bytes, outcome.error)
            if error is not outcome.error:
                raise error
        elif is_known(outcome.response):
            await client.deexternalize_async(outcome.response, instance_id)
        return outcome.the_call()


class _Outcome(NamedTuple):
    """How a call ended. There is no call if an interceptor below raised instead of returning one."""

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


def _timed_out() -> grpc.aio.AioRpcError:
    none = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, none, none, TIMEOUT_USED_UP)


class _StreamInterceptor(grpc.aio.UnaryStreamClientInterceptor):
    def __init__(self, client: ClientPayloads) -> None:
        self._client = client

    async def intercept_unary_stream(
        self,
        continuation: Callable[
            [grpc.aio.ClientCallDetails, _Request], Awaitable[grpc.aio.UnaryStreamCall[_Request, _Response]]
        ],
        client_call_details: grpc.aio.ClientCallDetails,
        request: _Request,
    ) -> AsyncIterator[_Response] | grpc.aio.UnaryStreamCall[_Request, _Response]:
        name = rpc_name(client_call_details.method)
        if name == "GetWorkItems":
            raise TypeError(
                "async_payload_interceptors serve clients only, and their worker would see tokens in place of "
                "payloads: for GetWorkItems use PayloadInterceptor on a synchronous channel"
            )
        if name is None or not is_known(request):
            return await continuation(client_call_details, request)
        call = await cast("AioStreamContinuation", continuation)(client_call_details, request)  # as for unary calls
        stream = AsyncHistoryStream(call, self._client, client_call_details.timeout, instance_of(request))
        return cast("grpc.aio.UnaryStreamCall[_Request, _Response]", stream)  # as for unary calls
