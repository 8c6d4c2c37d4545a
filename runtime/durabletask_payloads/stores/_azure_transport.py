"""The HTTP transport of Azure's asynchronous client: aiohttp, with timeouts, and connections that are tracked."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, cast

from aiohttp import ClientRequest, ClientResponse, ClientSession, DummyCookieJar, Payload
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpResponse, AsyncHttpTransport, HttpRequest
from yarl import URL  # as aiohttp does

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection

# How much of a body goes to the connection at a time, in bytes.
_PART: Final = 64 * 1024

# The connections that this task has used in its attempt, and the responses that came by them.
_used: ContextVar[list[tuple[Connection, asyncio.Transport]]] = ContextVar("used")
_answered: ContextVar[list[ClientResponse]] = ContextVar("answered")


class TrackedConnections:
    """A context manager for one attempt: closes the connections that did not go back into the pool in order."""

    def __enter__(self) -> None:
        _used.set([])
        _answered.set([])

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for response in _answered.get():
            response.close()  # one that is given up in its body would say so when it is forgotten
        for connection, transport in _used.get():
            connection.close()  # the client forgets to after a body that stalled, and takes a new one
            if transport.is_closing() and transport.get_write_buffer_size():
                transport.abort()  # it would wait, to send the rest to a peer that may never read it


class _TrackedRequest(ClientRequest):
    async def send(self, conn: Connection) -> ClientResponse:
        if isinstance(conn.transport, asyncio.Transport):
            _used.get().append((conn, conn.transport))
        response = await super().send(conn)
        _answered.get().append(response)
        return response


class _Body(Payload):
    """Bytes as a request body that shares their memory. aiohttp's own for bytes warns over 1 MiB, and copies them at
    once; the one for io.BytesIO copies them when it asks for their size (3.14).
    """

    _autoclose = True  # there is nothing to close

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._size = len(data)
        self._data = data

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._data.decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self._data

    async def write(self, writer: AbstractStreamWriter) -> None:
        view = memoryview(self._data)
        for start in range(0, len(view), _PART):
            await writer.write(view[start : start + _PART])


class Transport(AsyncHttpTransport[HttpRequest, AsyncHttpResponse]):
    """aiohttp, with the store's timeouts in seconds. It belongs to the loop of the first request."""

    def __init__(self, connect_timeout: float, read_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._aiohttp: AsyncHttpTransport[HttpRequest, AsyncHttpResponse] | None = None
        self._closed = False

    async def send(self, request: HttpRequest, **kwargs: object) -> AsyncHttpResponse:
        if self._closed:
            raise asyncio.CancelledError  # as what ran when the loop was stopped
        transport = self._aiohttp
        if transport is None:
            transport = self._aiohttp = AioHttpTransport(
                session=ClientSession(
                    request_class=_TrackedRequest, trust_env=True, cookie_jar=DummyCookieJar(), auto_decompress=False
                ),
                connection_timeout=self._connect_timeout,
                read_timeout=self._read_timeout,
            )
        if isinstance(request.data, bytes):
            request.data = cast("bytes", _Body(request.data))  # which the type of the attribute does not know
        url = request.url
        # As it was signed: of a text, aiohttp would write the path anew, with "@" for "%40".
        request.url = cast("str", URL(url, encoded=True))
        try:
            return await transport.send(request, **kwargs)
        finally:
            request.url = url

    async def open(self) -> None:
        """Do nothing: `send` opens it."""

    async def close(self) -> None:
        self._closed = True
        if self._aiohttp is not None:
            await self._aiohttp.close()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()
