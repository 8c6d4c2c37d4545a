"""Requests to Azure Blob Storage, with retries and deadlines, for callers on any thread.

They go through one asynchronous client on an event loop of its own, since a client belongs to one loop for life. So a
store has one pool of connections and one set of rules for errors, retries and deadlines.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError

from ._azure_errors import error_code, is_missing, retry_after, translated
from ._azure_transport import TrackedConnections, Transport
from ._background_loop import BackgroundLoop
from ._codec import longest_body, too_large
from ._tokens import PayloadToken, normal_account_url

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken, TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob.aio import ContainerClient

    from ._azure_options import AsyncCredential, BlobPayloadStoreOptions, Credential

_T = TypeVar("_T")
_Request = Callable[[], Awaitable[_T]]

# The wait before the n-th retry: 0.2, 0.4, 0.8 ... seconds up to the longest, less up to half of it at random.
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0
# How much the kernel may hold of a body to send, in bytes, and how many bytes a slow link sends in a second.
_KERNEL_BUFFER: Final = 4 * 1024 * 1024
_SLOW_LINK: Final = 1024 * 1024


class Blob(NamedTuple):
    """A blob to send, or one that was received."""

    token: PayloadToken
    body: bytes
    metadata: dict[str, str]
    content_encoding: str | None


class BlobClient:
    """The requests of a store: blocking, for any number of threads of one process. `close` ends its thread.

    Every request raises errors of the `PayloadError` tree, PayloadStoreUnavailableError once this was closed.
    """

    def __init__(self, options: BlobPayloadStoreOptions) -> None:
        self._options = options
        self._transport = Transport(options.connect_timeout, options.read_timeout)
        self._clients: dict[str | None, BlobServiceClient] = {}
        self.account_url = account_url_of(options)
        self._creating = asyncio.Lock()
        self._containers_created = 0
        self._closed = False
        self._loop = BackgroundLoop("durabletask-payloads-blob", self._transport.close)

    @property
    def is_of_this_process(self) -> bool:
        """False in a forked child, where the thread does not exist."""
        return self._loop.is_of_this_process

    def close(self) -> None:
        """Close all connections and end the thread. What is running fails as unavailable."""
        self._closed = True
        self._loop.stop()

    def put(self, blob: Blob) -> None:
        """Store `blob`; create its container if that is missing and the options say so."""

        async def put() -> None:
            container = self._container(blob.token)
            created = self._containers_created
            try:
                await self._upload(container, blob)
            except ResourceNotFoundError as error:
                if not (self._options.create_container and error_code(error) == "ContainerNotFound"):
                    raise
                await self._create_container(container, created)
                await self._upload(container, blob)

        self._perform(blob.token, put)

    def get(self, token: PayloadToken) -> Blob:
        """Download a blob. Raises PayloadTooLargeError before it has read more than the options allow."""
        limit = self._options.max_stored_payload_bytes

        async def get() -> Blob:
            # By default the client expands what the headers call gzip, without any limit.
            stream = await self._container(token).download_blob(token.name, decompress=False)
            if stream.size > longest_body(limit):
                raise too_large(str(token), limit)
            body = await stream.readall()
            properties = stream.properties
            return Blob(token, body, properties.metadata, properties.content_settings.content_encoding)

        return self._perform(token, get)

    def delete(self, token: PayloadToken) -> None:
        """Delete a blob, with its snapshots, if there is one."""

        async def delete() -> None:
            try:
                await self._container(token).delete_blob(token.name, delete_snapshots="include")
            except ResourceNotFoundError as error:
                if not is_missing(error):
                    raise

        self._perform(token, delete)

    def size(self, token: PayloadToken) -> int:
        """Return the size of a blob in bytes."""

        async def size() -> int:
            blob = self._container(token).get_blob_client(token.name)
            return (await blob.get_blob_properties()).size

        return self._perform(token, size)

    # ---- on the event loop ------------------------------------------------------------------------------------

    def _container(self, token: PayloadToken) -> ContainerClient:
        """Return the client of a token's container, in the store's own account or that of a trusted location."""
        foreign = token.account_url if token.account_url != self.account_url else None
        client = self._clients.get(foreign)
        if client is None:
            client = self._clients[foreign] = _service_client(self._options, foreign, self._transport)
        return client.get_container_client(token.container)

    async def _create_container(self, container: ContainerClient, created: int) -> None:
        """Create `container`, unless another request has since `_containers_created` was `created`."""
        async with self._creating:
            if self._containers_created != created:
                return
            try:
                await container.create_container()
            except ResourceExistsError as error:
                if error_code(error) != "ContainerAlreadyExists":  # but ContainerBeingDeleted
                    raise
            self._containers_created += 1

    async def _upload(self, container: ContainerClient, blob: Blob) -> None:
        await container.upload_blob(
            blob.token.name,
            blob.body,
            overwrite=True,  # or a repeated request finds the blob of the first one, whose response was lost
            metadata=blob.metadata,
            content_settings=ContentSettings(content_encoding=blob.content_encoding),
            # It counts from when the kernel has taken all, which is long before all is sent.
            read_timeout=self._options.read_timeout + min(len(blob.body), _KERNEL_BUFFER) / _SLOW_LINK,
        )

    # ---- deadline, retries, errors ----------------------------------------------------------------------------

    def _perform(self, token: PayloadToken, request: _Request[_T]) -> _T:
        try:
            future = self._loop.submit(self._within_deadline(token, request))
        except RuntimeError:
            raise was_closed(token) from None
        try:
            return future.result()
        except BaseException:  # KeyboardInterrupt, above all
            future.cancel()
            raise

    async def _within_deadline(self, token: PayloadToken, request: _Request[_T]) -> _T:
        limit = self._options.total_timeout
        try:
            return await asyncio.wait_for(self._attempts(token, request), limit)
        except asyncio.TimeoutError as error:
            raise PayloadStoreUnavailableError(
                f"{token}: {self._account_of(token)} did not answer within total_timeout ({limit:g} s, all retries)"
            ) from error
        except asyncio.CancelledError:
            if self._closed:
                raise was_closed(token) from None
            raise

    async def _attempts(self, token: PayloadToken, request: _Request[_T]) -> _T:
        for attempt in itertools.count(1):
            try:
                with TrackedConnections():
                    return await request()
            except PayloadError:  # also a ValueError, where the payload is too large
                raise
            # ValueError: a response without the headers of Blob Storage, from something else.
            except (AzureError, OSError, asyncio.TimeoutError, ValueError) as error:
                failure = translated(error, token, self._account_of(token), attempt)
                if failure.permanent or attempt > self._options.retries:
                    raise failure from error
                wait = max(_FIRST_WAIT * 2 ** (attempt - 1), retry_after(error))
            await asyncio.sleep(min(wait, _LONGEST_WAIT) * random.uniform(0.5, 1.0))
        raise AssertionError("count() has no end")

    def _account_of(self, token: PayloadToken) -> str:
        return token.account_url or self.account_url


def was_closed(token: PayloadToken) -> PayloadStoreUnavailableError:
    return PayloadStoreUnavailableError(f"{token}: this BlobPayloadStore was closed")


def account_url_of(options: BlobPayloadStoreOptions) -> str:
    """Return the URL of the account that `options` name, as tokens have it, or raise ValueError."""
    client = _service_client(options, None, Transport(options.connect_timeout, options.read_timeout))
    return normal_account_url(f"{client.scheme}://{client.primary_hostname}")


def _service_client(options: BlobPayloadStoreOptions, foreign: str | None, transport: Transport) -> BlobServiceClient:
    """Make a client of the store's own account, or of the `foreign` one at that URL. Makes no request."""
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


def _asynchronous(credential: Credential | None) -> AsyncCredential | None:
    match credential:
        case None | str() | dict() | AzureNamedKeyCredential() | AzureSasCredential():
            return credential
        # The two protocols differ in what get_token is, which no checker can tell from a test.
        case _ if inspect.iscoroutinefunction(credential.get_token):
            return cast("AsyncTokenCredential", credential)
        case _:
            # Of its surface the client uses get_token alone.
            return cast("AsyncTokenCredential", _ThreadedCredential(cast("TokenCredential", credential)))
