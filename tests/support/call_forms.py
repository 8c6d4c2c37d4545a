"""A channel with our interceptors, sync or aio, behind one interface. For tests/interceptors."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import ABC, abstractmethod
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
import grpc.aio
from tests.support.threads import our_threads

from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Sequence

    from google.protobuf.message import Message

    from durabletask_payloads import Externalizer, PayloadStoreLike

_Response = TypeVar("_Response")
_LIMIT = ("grpc.max_receive_message_length", 64 * 1024 * 1024)


class Stream(ABC):
    """A stream from the server."""

    @abstractmethod
    def next(self) -> Message:
        """The next message. Raises StopIteration at the end, or what the stream ended with."""

    @abstractmethod
    def cancel(self) -> None:
        """Cancel it, from any thread."""


class Form(ABC):
    """One way to call the service."""

    @abstractmethod
    def call(self, rpc: str, request: Message, *, timeout: float | None = None) -> Message:
        """Call a unary RPC."""

    @abstractmethod
    def stream(self, rpc: str, request: Message, *, timeout: float | None = None) -> Stream:
        """Call a streaming RPC."""

    @abstractmethod
    def left_over(self) -> list[str]:
        """Return the threads or tasks of ours that are still running."""


class _SyncStream(Stream):
    def __init__(self, call: Iterator[Message]) -> None:
        self._call = call

    def next(self) -> Message:
        return next(self._call)

    def cancel(self) -> None:
        cast("grpc.Call", self._call).cancel()  # a stream is both


class SyncForm(Form):
    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = stubs.TaskHubSidecarServiceStub(channel)

    def call(self, rpc: str, request: Message, *, timeout: float | None = None) -> Message:
        call = cast("Callable[..., Message]", getattr(self._stub, rpc))  # all of them are
        return call(request, timeout=timeout)

    def stream(self, rpc: str, request: Message, *, timeout: float | None = None) -> Stream:
        call = cast("Callable[..., Iterator[Message]]", getattr(self._stub, rpc))  # all of them are
        return _SyncStream(call(request, timeout=timeout))

    def left_over(self) -> list[str]:
        return our_threads()


class _AioStream(Stream):
    def __init__(self, loop: asyncio.AbstractEventLoop, call: AsyncIterator[Message]) -> None:
        self._loop = loop
        self._call = call
        self._messages = aiter_of(call)

    def next(self) -> Message:
        async def step() -> Message:
            try:
                return await anext_of(self._messages)
            except StopAsyncIteration:
                raise EOFError from None  # a coroutine cannot raise StopIteration
            except asyncio.CancelledError:
                raise InterruptedError from None

        try:
            return asyncio.run_coroutine_threadsafe(step(), self._loop).result(60)
        except EOFError:
            raise StopIteration from None

    def cancel(self) -> None:
        self._loop.call_soon_threadsafe(cast("grpc.aio.Call", self._call).cancel)  # a stream is both


def aiter_of(call: AsyncIterator[Message]) -> AsyncIterator[Message]:
    return call.__aiter__()


async def anext_of(messages: AsyncIterator[Message]) -> Message:
    return await messages.__anext__()


class AioForm(Form):
    """On an event loop of its own, in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="aio-form")
        self._thread.start()
        self.stub: Any = None  # the SDK has no stubs for its asynchronous form
        self._channel: grpc.aio.Channel | None = None

    def open(self, address: str, interceptors: Sequence[grpc.aio.ClientInterceptor]) -> None:
        async def connect() -> None:
            self._channel = grpc.aio.insecure_channel(address, interceptors=interceptors, options=[_LIMIT])
            self.stub = stubs.TaskHubSidecarServiceStub(self._channel)

        self.run(connect())

    def run(self, work: Coroutine[object, object, _Response]) -> _Response:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def call(self, rpc: str, request: Message, *, timeout: float | None = None) -> Message:
        call = cast("Callable[..., Awaitable[Message]]", getattr(self.stub, rpc))  # all of them are

        async def do() -> Message:
            return await call(request, timeout=timeout)

        return self.run(do())

    def stream(self, rpc: str, request: Message, *, timeout: float | None = None) -> Stream:
        call = cast("Callable[..., AsyncIterator[Message]]", getattr(self.stub, rpc))  # all of them are

        async def do() -> Stream:
            return _AioStream(self.loop, call(request, timeout=timeout))

        return self.run(do())

    def left_over(self) -> list[str]:
        async def tasks() -> list[str]:
            coroutines = [task.get_coro() for task in asyncio.all_tasks()]
            return [one.cr_code.co_filename for one in coroutines if isinstance(one, CoroutineType)]

        return [file for file in self.run(tasks()) if "durabletask_payloads" in file]

    def close(self) -> None:
        async def disconnect() -> None:
            if self._channel is not None:
                await self._channel.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:  # as asyncio.run does
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(disconnect())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextlib.contextmanager
def opened(
    form: str,
    address: str,
    store: PayloadStoreLike | Externalizer,
    *,
    max_deliveries: int = 10,
    unreadable: Literal["token", "raise"] = "token",
) -> Generator[Form]:
    """Open a channel of the form "sync" or "aio"."""
    if form == "sync":
        with grpc.insecure_channel(address, options=[_LIMIT]) as channel:
            interceptor = PayloadInterceptor(store, max_deliveries=max_deliveries, unreadable=unreadable)
            yield SyncForm(grpc.intercept_channel(channel, interceptor))
        return
    aio = AioForm()
    try:
        aio.open(address, async_payload_interceptors(store, unreadable=unreadable))
        yield aio
    finally:
        aio.close()
