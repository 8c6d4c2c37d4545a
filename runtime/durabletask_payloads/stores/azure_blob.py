"""Payloads in Azure Blob Storage, which the .NET, Java and Python SDKs read, and reads theirs. Needs [azure].

All requests go through one asynchronous client on an event loop of the store's own, whatever thread or event loop the
caller is on. The client belongs to one loop for life; so a store has one pool of connections, one set of rules for
errors, retries and deadlines, may be used by one `asyncio.run` after another, and has nothing to release when a
caller's loop ends. Compressing and inflating run in the caller's thread, or in one beside the caller's loop.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar, cast
from urllib.parse import quote

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
)
from durabletask_payloads._options import LargePayloadStorageOptions

from ._background_loop import BackgroundLoop
from ._base import PayloadStore
from ._codec import GZIP_MAGIC, check_size, checksum, decode, encode, longest_body, too_large
from ._tokens import (
    DEFAULT_CONTAINER,
    TOKEN_PREFIXES,
    PayloadToken,
    check_container_name,
    new_name,
    normal_account_url,
)

try:
    from aiohttp import ClientRequest, ClientSession, DummyCookieJar, Payload
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
    from azure.core.exceptions import (
        AzureError,
        ClientAuthenticationError,
        HttpResponseError,
        ResourceExistsError,
        ResourceNotFoundError,
    )
    from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpResponse, AsyncHttpTransport, HttpRequest
    from azure.storage.blob import ContentSettings, StorageErrorCode
    from azure.storage.blob.aio import BlobServiceClient
    from yarl import URL  # as aiohttp does
except ImportError as error:
    raise ImportError(
        f"BlobPayloadStore needs azure-storage-blob and aiohttp ({error}): pip install durabletask-payloads[azure]"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping
    from concurrent.futures import Future
    from types import TracebackType

    from aiohttp import ClientResponse
    from aiohttp.abc import AbstractStreamWriter
    from aiohttp.connector import Connection
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob.aio import ContainerClient
    from typing_extensions import Self

    AsyncCredential = str | dict[str, str] | AzureNamedKeyCredential | AzureSasCredential | AsyncTokenCredential
    Credential = AsyncCredential | TokenCredential

__all__ = ["BlobPayloadStore", "BlobPayloadStoreOptions"]

_T = TypeVar("_T")

# A wait before the n-th retry of 0.2, 0.4, 0.8 ... seconds, and not over the longest, less up to half of it by chance.
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0
# How much the kernel may hold of what is to be sent, in bytes, and how many of these a slow link sends in a second.
_KERNEL_BUFFER: Final = 4 * 1024 * 1024
_SLOW_LINK: Final = 1024 * 1024
# How much of a body goes to the connection at a time, in bytes.
_PART: Final = 64 * 1024
# All metadata of a blob may have 8 KiB, and an instance id 100 or 200 characters with the backends there are.
_LONGEST_INSTANCE_ID: Final = 4096
# Folders longer than this, in characters as they are written, are left out: a blob name may have 1,024.
_LONGEST_FOLDER: Final = 256


@dataclass
class BlobPayloadStoreOptions(LargePayloadStorageOptions):
    """Settings of a `BlobPayloadStore`; the first five have the names of the `durabletask` SDK's own.

    They can be pickled if the credential can, and show no secret in their repr.

    Attributes:
        container_name: the container that payloads are written to and read from: "durabletask-payloads" by default.
        connection_string: of the storage account. Either this or `account_url` has to be given.
        account_url: of the storage account, `https://<account>.blob.core.windows.net`, without a signature.
        credential: for `account_url`: an account key, a SAS (AzureSasCredential), or a token credential of
            azure-identity. It serves the synchronous and the asynchronous methods alike: a synchronous one is called
            in a thread; an asynchronous one is used on the store's own event loop, so do not share it with others.
            It is not closed with the store.
        api_version: of the Storage API, for an emulator or an appliance that does not know the client's.
        create_container: make the container when a payload is to be stored and it does not exist. The right to
            make one is never needed where it exists.
        trusted_locations: URLs of further containers, `https://<account>.blob.core.windows.net/<container>`, whose
            payloads may be read. Those of another account need a token credential, which is sent there.
        token_version: of the tokens that are written: 1, which all SDKs read, or 2, which .NET reads and has the
            account in it. Both are read.
        layout: "standard", which .NET and Java read, or "python-sdk" for workers that use the payload store of the
            Python SDK. Both are read.
        connect_timeout: how long to wait for a connection, in seconds: 3 by default.
        read_timeout: how long to wait for the next byte of an answer, in seconds: 10 by default.
        total_timeout: the longest that an upload or a download may take with all its retries, in seconds: 25 by
            default. Raise it for large payloads over a slow link.
        retries: how often a request is repeated after a transient failure: 4 by default.

    Raises:
        ValueError: a setting is out of its range, or two of them contradict each other.
    """

    container_name: str = DEFAULT_CONTAINER
    connection_string: str | None = field(default=None, repr=False)
    account_url: str | None = None
    credential: Credential | None = field(default=None, repr=False)
    api_version: str | None = None
    create_container: bool = True
    trusted_locations: tuple[str, ...] = ()
    token_version: Literal[1, 2] = 1
    layout: Literal["standard", "python-sdk"] = "standard"
    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    total_timeout: float = 25.0
    retries: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_container_name(self.container_name)
        if (self.connection_string is None) == (self.account_url is None):
            raise ValueError("either connection_string or account_url (with credential) must be given, and not both")
        if self.connection_string is not None and self.credential is not None:
            raise ValueError("credential goes with account_url: a connection_string has its own")
        if self.account_url is not None:
            normal_account_url(self.account_url)
        if self.token_version not in (1, 2):
            raise ValueError(f"token_version is {self.token_version}: it must be 1 or 2")
        if self.layout not in ("standard", "python-sdk"):
            raise ValueError(f'layout is {self.layout!r}: it must be "standard" or "python-sdk"')
        if self.layout == "python-sdk" and self.token_version != 1:
            raise ValueError('layout "python-sdk" needs token_version 1: the Python SDK reads no other')
        for name, value in (
            ("connect_timeout", self.connect_timeout),
            ("read_timeout", self.read_timeout),
            ("total_timeout", self.total_timeout),
        ):
            if not value > 0:
                raise ValueError(f"{name} is {value}: it must be more than 0 seconds")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}: it must be 0 (try once) or more")
        for location in self.trusted_locations:
            _location(location)


class BlobPayloadStore(PayloadStore):
    """Keeps payloads as blobs of one container.

    Made without any request. It may be used from any number of threads and event loops, and after a fork; `close`
    (or `aclose`, or leaving a context manager) ends its thread and closes its connections, whichever loops used it.

    Args:
        options: where and how.

    Raises:
        ValueError: the connection string is malformed, or a trusted location needs another kind of credential.
    """

    def __init__(self, options: BlobPayloadStoreOptions) -> None:
        self._options = options
        self._body_limit = longest_body(options.max_stored_payload_bytes)
        client = _service_client(options, None, _Transport(options))
        self._account_url = normal_account_url(f"{client.scheme}://{client.primary_hostname}")
        own = (self._account_url, options.container_name)
        self._readable = {own, *(_location(location) for location in options.trusted_locations)}
        for account_url, container in self._readable:
            if account_url != self._account_url and not hasattr(options.credential, "get_token"):
                raise ValueError(
                    f"the trusted location {account_url}/{container} is in another account than {self._account_url}: "
                    "reading it needs a token credential, since keys and signatures are good for one account only"
                )
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._closed = False

    @property
    def options(self) -> BlobPayloadStoreOptions:
        return self._options

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return TOKEN_PREFIXES

    def is_known_token(self, value: str) -> bool:
        return PayloadToken.parse(value) is not None

    # ---- the two forms of each operation: the work beside the requests, and how to wait for those -----------------

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        blob = self._packed(data, instance_id)
        self._wait(blob.token, self._put(blob))
        return str(blob.token)

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        blob = await asyncio.to_thread(self._packed, data, instance_id)
        await self._wait_async(blob.token, self._put(blob))
        return str(blob.token)

    def download(self, token: str) -> bytes:
        place = self._place(token)
        return self._unpacked(self._wait(place, self._get(place)))

    async def download_async(self, token: str) -> bytes:
        place = self._place(token)
        return await asyncio.to_thread(self._unpacked, await self._wait_async(place, self._get(place)))

    def delete(self, token: str) -> None:
        place = self._own_place(token)
        self._wait(place, self._remove(place))

    async def delete_async(self, token: str) -> None:
        place = self._own_place(token)
        await self._wait_async(place, self._remove(place))

    def stored_bytes(self, token: str) -> int:
        place = self._place(token)
        return self._wait(place, self._size(place))

    def close(self) -> None:
        """Close all connections and end the store's thread. What is still running fails as unavailable."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    # ---- tokens and bodies ----------------------------------------------------------------------------------------

    def _place(self, text: str) -> PayloadToken:
        """The token that `text` is, or PayloadTokenError where it points to what this store may not read."""
        token = PayloadToken.require(text)
        account_url = token.account_url or self._account_url
        if (account_url, token.container) not in self._readable:
            raise PayloadTokenError(
                f"{token} points to {account_url}/{token.container}, which this store may not read: client and workers "
                "must use the same account and container_name, or list the other one in trusted_locations"
            )
        return token

    def _own_place(self, text: str) -> PayloadToken:
        token = self._place(text)
        if token.account_url not in (None, self._account_url) or token.container != self._options.container_name:
            raise PayloadTokenError(f"{token} is in a trusted location: this store reads there, but does not delete")
        return token

    def _packed(self, data: bytes, instance_id: str | None) -> _Blob:
        options = self._options
        check_size(data, options)
        metadata = {"raw_bytes": str(len(data)), "sha256": checksum(data)}
        folder = ""
        if instance_id:
            # Not even as a percent-encoded path can "." and ".." be left as they are.
            quoted = quote(instance_id, safe="").replace(".", "%2E")
            if len(quoted) <= _LONGEST_INSTANCE_ID:
                metadata["instance_id"] = quoted
            if options.layout == "python-sdk" and len(quoted) <= _LONGEST_FOLDER:
                folder = f"{quoted}/"
        token = PayloadToken(
            options.container_name, folder + new_name(), self._account_url if options.token_version == 2 else None
        )
        if options.layout == "python-sdk":
            # The Python SDK expands what it reads as its own setting says, not as the bytes or headers do.
            body = encode(data, "always" if options.enable_compression else "never")
            return _Blob(token, body, metadata, None)
        body = encode(data, "if smaller" if options.enable_compression else "never")
        return _Blob(token, body, metadata, "gzip" if body.startswith(GZIP_MAGIC) else None)

    def _unpacked(self, blob: _Blob) -> bytes:
        if blob.content_encoding == "gzip" and not blob.body.startswith(GZIP_MAGIC):
            raise PayloadIntegrityError(f"what is stored under {blob.token} is marked as gzip, but is none")
        return decode(
            blob.body,
            token=str(blob.token),
            limit=self._options.max_stored_payload_bytes,
            sha256=blob.metadata.get("sha256"),
        )

    # ---- the requests, on the store's own event loop --------------------------------------------------------------

    def _put(self, blob: _Blob) -> _Request[None]:
        async def put(connection: _Connection) -> None:
            container = connection.container(None, blob.token.container)
            generation = connection.containers_made
            try:
                await self._upload(container, blob)
            except ResourceNotFoundError as error:
                if not (self._options.create_container and _code(error) == "ContainerNotFound"):
                    raise
                await connection.make_container(container, generation)
                await self._upload(container, blob)

        return put

    async def _upload(self, container: ContainerClient, blob: _Blob) -> None:
        await container.upload_blob(
            blob.token.name,
            blob.body,
            overwrite=True,  # or a repeated request finds the blob of the first one, whose answer was lost
            metadata=blob.metadata,
            content_settings=ContentSettings(content_encoding=blob.content_encoding),
            # It counts from when the kernel has taken all, which is long before all is sent.
            read_timeout=self._options.read_timeout + min(len(blob.body), _KERNEL_BUFFER) / _SLOW_LINK,
        )

    def _get(self, token: PayloadToken) -> _Request[_Blob]:
        async def get(connection: _Connection) -> _Blob:
            # By default the client expands what the headers call gzip, without any limit.
            stream = await self._container(connection, token).download_blob(token.name, decompress=False)
            if stream.size > self._body_limit:
                raise too_large(str(token), self._options.max_stored_payload_bytes)
            body = await stream.readall()
            properties = stream.properties
            return _Blob(token, body, properties.metadata, properties.content_settings.content_encoding)

        return get

    def _remove(self, token: PayloadToken) -> _Request[None]:
        async def remove(connection: _Connection) -> None:
            with suppress(ResourceNotFoundError):
                await self._container(connection, token).delete_blob(token.name, delete_snapshots="include")

        return remove

    def _size(self, token: PayloadToken) -> _Request[int]:
        async def size(connection: _Connection) -> int:
            blob = self._container(connection, token).get_blob_client(token.name)
            return (await blob.get_blob_properties()).size

        return size

    def _container(self, connection: _Connection, token: PayloadToken) -> ContainerClient:
        foreign = token.account_url if token.account_url != self._account_url else None
        return connection.container(foreign, token.container)

    # ---- deadline, retries, errors --------------------------------------------------------------------------------

    def _wait(self, token: PayloadToken, request: _Request[_T]) -> _T:
        future = self._start(token, request)
        try:
            return future.result()
        except BaseException:  # KeyboardInterrupt, above all
            future.cancel()
            raise

    async def _wait_async(self, token: PayloadToken, request: _Request[_T]) -> _T:
        return await asyncio.wrap_future(self._start(token, request))

    def _start(self, token: PayloadToken, request: _Request[_T]) -> Future[_T]:
        with self._lock:
            if self._closed:
                raise _was_closed(token)
            connection = self._connection
            if connection is None or not connection.is_of_this_process:
                connection = self._connection = _Connection(self._options)
                # Also when the store is forgotten, and at exit. It must not hold the store.
                weakref.finalize(self, connection.close)
            return connection.submit(self._perform(connection, token, request))

    async def _perform(self, connection: _Connection, token: PayloadToken, request: _Request[_T]) -> _T:
        limit = self._options.total_timeout
        try:
            return await asyncio.wait_for(self._attempts(connection, token, request), limit)
        except asyncio.TimeoutError as error:
            raise PayloadStoreUnavailableError(
                f"{token}: {self._account_of(token)} did not answer within total_timeout ({limit:g} s, all retries)"
            ) from error
        except asyncio.CancelledError:
            if self._closed:
                raise _was_closed(token) from None
            raise

    async def _attempts(self, connection: _Connection, token: PayloadToken, request: _Request[_T]) -> _T:
        for attempt in itertools.count(1):
            used: list[tuple[Connection, asyncio.Transport]] = []
            _used.set(used)
            try:
                return await request(connection)
            # ValueError: an answer without the headers of Blob Storage, from something that is no Blob Storage.
            except (AzureError, OSError, asyncio.TimeoutError, ValueError) as error:
                failure = _translated(error, token, self._account_of(token), attempt)
                if failure.permanent or attempt > self._options.retries:
                    raise failure from error
                wait = max(_FIRST_WAIT * 2 ** (attempt - 1), _retry_after(error))
            finally:
                _dispose(used)
            await asyncio.sleep(min(wait, _LONGEST_WAIT) * random.uniform(0.5, 1.0))
        raise AssertionError("count() has no end")

    def _account_of(self, token: PayloadToken) -> str:
        return token.account_url or self._account_url


class _Blob(NamedTuple):
    """What is sent or was received."""

    token: PayloadToken
    body: bytes
    metadata: dict[str, str]
    content_encoding: str | None


_Request = Callable[["_Connection"], Awaitable[_T]]


class _Connection:
    """The event loop of a store, and the clients on it. `container` and `make_container` are for that loop only."""

    def __init__(self, options: BlobPayloadStoreOptions) -> None:
        self._options = options
        self._clients: dict[str | None, BlobServiceClient] = {}
        self._transport = _Transport(options)
        self._making = asyncio.Lock()
        self.containers_made = 0
        self._loop = BackgroundLoop("durabletask-payloads-blob", self._transport.close)

    @property
    def is_of_this_process(self) -> bool:
        return self._loop.is_of_this_process

    def submit(self, coroutine: Coroutine[None, None, _T]) -> Future[_T]:
        return self._loop.submit(coroutine)

    def close(self) -> None:
        self._loop.stop()

    def container(self, foreign: str | None, name: str) -> ContainerClient:
        """The client of a container in the store's own account (None) or in that of a trusted location (its URL)."""
        client = self._clients.get(foreign)
        if client is None:
            client = self._clients[foreign] = _service_client(self._options, foreign, self._transport)
        return client.get_container_client(name)

    async def make_container(self, container: ContainerClient, generation: int) -> None:
        """Make `container`, unless somebody has since `containers_made` was `generation`."""
        async with self._making:
            if self.containers_made != generation:
                return
            try:
                await container.create_container()
            except ResourceExistsError as error:
                if _code(error) != "ContainerAlreadyExists":  # but ContainerBeingDeleted
                    raise
            self.containers_made += 1


# The connections that this task has used in its attempt.
_used: ContextVar[list[tuple[Connection, asyncio.Transport]]] = ContextVar("used")


class _TrackedRequest(ClientRequest):
    async def send(self, conn: Connection) -> ClientResponse:
        if isinstance(conn.transport, asyncio.Transport):
            _used.get().append((conn, conn.transport))
        return await super().send(conn)


def _dispose(used: list[tuple[Connection, asyncio.Transport]]) -> None:
    """Close the connections of an attempt that did not go back into the pool in order."""
    for connection, transport in used:
        connection.close()  # the client forgets to after a body that stalled, and takes a new one
        if transport.is_closing() and transport.get_write_buffer_size():
            transport.abort()  # it would wait, to send the rest to a peer that may never read it


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


class _Transport(AsyncHttpTransport[HttpRequest, AsyncHttpResponse]):
    """aiohttp, with the store's timeouts. It belongs to the loop of the first request."""

    def __init__(self, options: BlobPayloadStoreOptions) -> None:
        self._options = options
        self._aiohttp: AsyncHttpTransport[HttpRequest, AsyncHttpResponse] | None = None

    async def send(self, request: HttpRequest, **kwargs: object) -> AsyncHttpResponse:
        transport = self._aiohttp
        if transport is None:
            transport = self._aiohttp = AioHttpTransport(
                session=ClientSession(
                    request_class=_TrackedRequest, trust_env=True, cookie_jar=DummyCookieJar(), auto_decompress=False
                ),
                connection_timeout=self._options.connect_timeout,
                read_timeout=self._options.read_timeout,
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
        """Nothing: `send` does it."""

    async def close(self) -> None:
        if self._aiohttp is not None:
            await self._aiohttp.close()

    async def sleep(self, duration: float) -> None:
        await asyncio.sleep(duration)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


class _ThreadedCredential:
    """A synchronous token credential as an asynchronous one: it may ask a metadata service, or start a process."""

    def __init__(self, credential: TokenCredential) -> None:
        self._credential = credential

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: object,
    ) -> AccessToken:
        return await asyncio.to_thread(
            self._credential.get_token, *scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae, **kwargs
        )

    async def close(self) -> None:
        """Nothing: it is the caller's."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


def _service_client(options: BlobPayloadStoreOptions, foreign: str | None, transport: _Transport) -> BlobServiceClient:
    """A client of the store's own account, or of the `foreign` one at that URL. Makes no request."""
    make: Callable[..., BlobServiceClient]
    if options.connection_string is not None:
        make = partial(BlobServiceClient.from_connection_string, options.connection_string)
    else:
        account_url = foreign or options.account_url
        assert account_url is not None  # the options have one where they have no connection string
        make = partial(BlobServiceClient, account_url, _asynchronous(options.credential))
    return make(
        transport=transport,
        api_version=options.api_version,
        # The store repeats requests by itself: the client's rules leave out 429, and know no deadline.
        retry_total=0,
        retry_connect=0,
        retry_read=0,
        retry_status=0,
        permit_redirects=False,
        # All of any payload in one request. One byte over shows that a blob is too large.
        max_single_get_size=longest_body(options.max_stored_payload_bytes) + 1,
    )


def _asynchronous(credential: Credential | None) -> AsyncCredential | None:
    match credential:
        case None | str() | dict() | AzureNamedKeyCredential() | AzureSasCredential():
            return credential
        # The two protocols differ in what get_token is, which no checker can tell from a test.
        case _ if inspect.iscoroutinefunction(credential.get_token):
            return cast("AsyncTokenCredential", credential)
        case _:
            return _ThreadedCredential(cast("TokenCredential", credential))


def _location(url: str) -> tuple[str, str]:
    """The account URL and the container of a trusted location, or ValueError."""
    if "?" in url or "#" in url:  # not quoted: there may be a signature in it
        raise ValueError("a trusted location must be the URL of a container, without query or fragment")
    account_url, _, container = url.rstrip("/").rpartition("/")
    account_url = normal_account_url(account_url)
    check_container_name(container)
    return account_url, container


def _code(error: Exception) -> str:
    """The error code of Blob Storage: "BlobNotFound", or ""."""
    code = getattr(error, "error_code", None)
    return str(code.value if isinstance(code, StorageErrorCode) else code or "")


def _retry_after(error: Exception) -> float:
    """How many seconds the service asks to wait, 0 if it does not."""
    response = error.response if isinstance(error, HttpResponseError) else None
    # The type of a response leaves its headers out; there is none if the answer broke off.
    text = cast("Mapping[str, str]", getattr(response, "headers", {})).get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def _was_closed(token: PayloadToken) -> PayloadStoreUnavailableError:
    return PayloadStoreUnavailableError(f"{token}: this BlobPayloadStore was closed")


def _translated(error: Exception, token: PayloadToken, account_url: str, attempts: int) -> PayloadError:
    """The error of this package for one of the client. The client's own text stays out: it may show signatures."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code = _code(error)
    answer = f"{status} {code}".strip()
    match status:
        case 404 if code == "ContainerNotFound":
            return PayloadNotFoundError(
                f"{token}: the container {token.container!r} does not exist in {account_url}: set create_container, or "
                "make it, or use the same account on the client and on every worker"
            )
        case 404:
            return PayloadNotFoundError(
                f"{token}: {account_url} has no such blob: it was deleted, or stored in another account"
            )
        case 401 | 403:
            return PayloadAccessDeniedError(
                f"{token}: {account_url} refused access to container {token.container!r} ({answer}): check the "
                "credential; an identity needs the role Storage Blob Data Contributor"
            )
        case 412:
            return PayloadIntegrityError(f"{token}: the blob was changed while it was read ({answer})")
        case int() if 300 <= status < 500 and status not in (408, 429) and code != "ContainerBeingDeleted":
            return PayloadError(f"{token}: {account_url} refused the request ({answer})")
        case None if isinstance(error, ClientAuthenticationError):
            return PayloadAccessDeniedError(
                f"{token}: there is no valid credential for {account_url}: {type(error).__name__}"
            )
        case _:
            # With a status of success, what followed broke off.
            what = f"answered {answer}" if status is not None and status >= 300 else f"failed with {_cause(error)}"
            return PayloadStoreUnavailableError(
                f"{token}: {account_url} {what}, {attempts} times" if attempts > 1 else f"{token}: {account_url} {what}"
            )


def _cause(error: Exception) -> str:
    inner = error.inner_exception if isinstance(error, AzureError) else None
    return type(inner or error).__name__
