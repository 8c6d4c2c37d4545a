"""Azure's own client of Blob Storage, for callers on any thread.

It is the asynchronous one, on an event loop of its own, since a client belongs to one loop for life. Its synchronous
form keeps no deadline: a body that trickles in restarts the timeout of each read.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from concurrent.futures import CancelledError, Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast

from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKey, AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, ResourceExistsError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from durabletask_payloads._errors import PayloadError

from ._azure_errors import clear_locals, error_code, failure_of
from ._azure_options import connection_parts
from ._azure_transport import TrackedConnections, Transport
from ._background_loop import BackgroundLoop
from ._blob_client import (
    NO_THREADS,
    Attempt,
    BlobProperties,
    Body,
    ClientClosedError,
    RequestFailedError,
    is_of_shutdown,
    lacks_threads,
)
from ._codec import longest_body, too_large
from ._tokens import PayloadToken, normal_account_url

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from azure.core.credentials import AccessToken, TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential
    from azure.storage.blob import BlobProperties as AzureProperties
    from azure.storage.blob.aio import ContainerClient

    from ._azure_options import AsyncCredential, BlobPayloadStoreOptions, Credential

_T = TypeVar("_T")

# How much the kernel may hold of a body to send, in bytes, and how many bytes a slow link sends in a second.
_KERNEL_BUFFER: Final = 4 * 1024 * 1024
_SLOW_LINK: Final = 1024 * 1024
# The loop ends what takes too long. If a credential blocks the loop, its caller still goes on after this, in seconds.
_GRACE: Final = 1.0
# How many calls of a credential may hang at the same time.
_MOST_HANGING: Final = 32


class AzureClient:
    """Azure's client as a `BlobClient`: its requests run on an event loop in a thread of its own.

    Args:
        options: of the store.
        account_url: of the account that they name.
    """

    def __init__(self, options: BlobPayloadStoreOptions, account_url: str) -> None:
        self._options = options
        self._transport = Transport(options.connect_timeout, options.read_timeout)
        self._clients: dict[tuple[str, AzureNamedKey | None], BlobServiceClient] = {}
        self._account_url = account_url
        self._loop = BackgroundLoop("durabletask-payloads-blob", self._transport.close)

    @property
    def is_of_this_process(self) -> bool:
        """False in a forked child, where the thread does not exist."""
        return self._loop.is_of_this_process

    def close(self) -> None:
        """Close all connections and end the thread. What is under way fails with ClientClosedError."""
        self._loop.stop()

    def put(self, place: PayloadToken, body: Body, attempt: Attempt) -> None:
        async def put() -> None:
            await self._container(place).upload_blob(
                place.name,
                bytes(body.data),  # which copies no bytes
                overwrite=True,  # or a repeated request finds the blob of the first one, whose response was lost
                metadata=dict(body.metadata),
                content_settings=ContentSettings(content_encoding=body.content_encoding),
                # It counts from when the kernel has taken all, which is long before all is sent.
                read_timeout=self._options.read_timeout + min(len(body.data), _KERNEL_BUFFER) / _SLOW_LINK,
            )

        self._run(place, put, attempt)

    def get(self, place: PayloadToken, limit: int, attempt: Attempt) -> Body:
        async def get() -> Body:
            # By default the client expands what the headers call gzip, without any limit.
            stream = await self._container(place).download_blob(place.name, decompress=False)
            if stream.size > longest_body(limit):
                raise too_large(str(place), limit)
            body = await stream.readall()
            properties = stream.properties
            return Body(body, properties.metadata, properties.content_settings.content_encoding)

        return self._run(place, get, attempt)

    def head(self, place: PayloadToken, attempt: Attempt) -> BlobProperties:
        async def head() -> BlobProperties:
            return _properties(await self._container(place).get_blob_client(place.name).get_blob_properties())

        return self._run(place, head, attempt)

    def delete(self, place: PayloadToken, etag: str | None, attempt: Attempt) -> None:
        """Delete a blob, with its snapshots."""

        async def delete() -> None:
            if etag is None:
                await self._container(place).delete_blob(place.name, delete_snapshots="include")
            else:
                await self._container(place).delete_blob(
                    place.name, delete_snapshots="include", etag=etag, match_condition=MatchConditions.IfNotModified
                )

        self._run(place, delete, attempt)

    def list(self, place: PayloadToken, attempt: Attempt) -> Iterator[BlobProperties]:
        pages = self._container(place).list_blobs(place.name, include=["metadata"]).by_page()

        async def page() -> list[BlobProperties] | None:
            found = await anext(pages, None)
            return None if found is None else [_properties(blob) async for blob in found]

        while (blobs := self._run(place, page, attempt)) is not None:
            yield from blobs

    def create_container(self, place: PayloadToken, attempt: Attempt) -> None:
        async def create() -> None:
            try:
                await self._container(place).create_container()
            except ResourceExistsError as error:
                if error_code(error) != "ContainerAlreadyExists":  # but ContainerBeingDeleted
                    raise

        self._run(place, create, attempt)

    def token(self, credential: AsyncTokenCredential, *scopes: str) -> AccessToken:
        """Return what an asynchronous credential gives, which belongs to the loop of this client."""
        return self._loop.submit(GuardedCredential(credential).get_token(*scopes)).result()

    def _container(self, place: PayloadToken) -> ContainerClient:
        """Return the client of a token's container, in the store's own account or that of a trusted location."""
        url = place.account_url or self._account_url
        credential = self._options.credential
        # Of this kind, alone, the library keeps a copy, and does not see that it was renewed.
        copied = credential.named_key if isinstance(credential, AzureNamedKeyCredential) else None
        client = self._clients.get((url, copied))
        if client is None:
            foreign = url if url != self._account_url else None
            client = self._clients[url, copied] = _service_client(self._options, foreign, self._transport)
        return client.get_container_client(place.container)

    def _run(self, place: PayloadToken, request: Callable[[], Coroutine[None, None, _T]], attempt: Attempt) -> _T:
        """Run `request` on the loop, and say how it failed."""

        async def attempted() -> _T:
            try:
                with TrackedConnections():
                    return await request()
            except PayloadError:  # also a ValueError, where the payload is too large
                raise
            # ValueError: a response without the headers of Blob Storage, from something else.
            except (AzureError, OSError, asyncio.TimeoutError, ValueError) as error:
                raise failure_of(error, place.account_url or self._account_url) from error
            except RuntimeError as error:  # threads look for a proxy, resolve names and ask for tokens
                if is_of_shutdown(error):
                    raise asyncio.CancelledError from None  # as all that runs when the loop is stopped
                if lacks_threads(error):
                    raise RequestFailedError(trouble=NO_THREADS) from error
                raise

        async def within() -> _T:  # which makes nothing that is never awaited, if it never begins
            return await asyncio.wait_for(attempted(), attempt.seconds)

        try:
            future = self._loop.submit(within())
        except RuntimeError:
            raise ClientClosedError from None
        try:
            return future.result(attempt.seconds + _GRACE)
        except CancelledError:
            raise ClientClosedError from None
        except (asyncio.TimeoutError, FutureTimeoutError):  # other classes than TimeoutError before Python 3.11
            raise TimeoutError from None
        except RequestFailedError as failure:
            clear_locals(failure)
            raise
        except BaseException:  # KeyboardInterrupt, above all
            future.cancel()
            raise
        finally:
            del future  # or an error, this frame and the future would hold each other, and the payload


def account_url_of(options: BlobPayloadStoreOptions) -> str:
    """Return the URL of the account that `options` name, as tokens have it, or raise ValueError."""
    client = _service_client(options, None, Transport(options.connect_timeout, options.read_timeout))
    return normal_account_url(f"{client.scheme}://{client.primary_hostname}")


def _service_client(options: BlobPayloadStoreOptions, foreign: str | None, transport: Transport) -> BlobServiceClient:
    """Make a client of the store's own account, or of the `foreign` one at that URL. Makes no request."""
    make: Callable[..., BlobServiceClient]
    if options.connection_string is not None:
        parts = connection_parts(options.connection_string)
        signature = parts.get("SHAREDACCESSSIGNATURE")
        # As text, one with a parameter that the library does not know would be taken for a key.
        has_key = parts.get("ACCOUNTNAME") and parts.get("ACCOUNTKEY")
        credential = AzureSasCredential(signature) if signature and not has_key else None
        make = partial(BlobServiceClient.from_connection_string, options.connection_string, credential)
    else:
        assert options.account_url is not None  # the options have one where they have no connection string
        # In lower case, in which alone the library finds the name of the account.
        account_url = foreign or normal_account_url(options.account_url)
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


def _properties(found: AzureProperties) -> BlobProperties:
    etag = f'"{found.etag.strip(chr(34))}"'  # listings leave out the quotation marks that If-Match needs
    return BlobProperties(found.name, found.size, etag, found.last_modified.timestamp(), found.metadata or {})


class GuardedCredential:
    """A token credential as an asynchronous one that fails as those of azure-identity do.

    A synchronous one is called in a thread: it may ask a metadata service, or start a process. That is a daemon thread,
    since the end of the process would wait for one of a pool.
    """

    def __init__(self, credential: TokenCredential | AsyncTokenCredential) -> None:
        self._credential = credential
        self._running: set[threading.Thread] = set()

    async def get_token(
        self,
        *scopes: str,
        claims: str | None = None,
        tenant_id: str | None = None,
        enable_cae: bool = False,
        **kwargs: object,
    ) -> AccessToken:
        get_token = partial(
            self._credential.get_token, *scopes, claims=claims, tenant_id=tenant_id, enable_cae=enable_cae, **kwargs
        )
        try:
            # The two protocols differ in what get_token is, which no checker can tell from a test.
            if inspect.iscoroutinefunction(self._credential.get_token):
                token = await cast("Callable[[], Coroutine[None, None, AccessToken]]", get_token)()
            else:
                token = await self._in_thread(cast("Callable[[], AccessToken]", get_token))
        except (AzureError, OSError, asyncio.TimeoutError):
            raise
        # Some would end the loop, and with it all that waits for it.
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if isinstance(error, RuntimeError) and (is_of_shutdown(error) or lacks_threads(error)):
                raise  # which says nothing about the credential
            raise self._is_broken(f"raised {type(error).__name__}") from error
        # Anything can come from a class of somebody else, and would fail in the depths of the client.
        text: object = getattr(token, "token", None)
        if not (isinstance(text, str) and text.isascii() and text.isprintable()):
            raise self._is_broken(f"gave {type(token).__name__}, which has no token")
        if not isinstance(getattr(token, "expires_on", None), int | float):
            raise self._is_broken(f"gave {type(token).__name__}, which has no expires_on")
        return token

    async def _in_thread(self, get_token: Callable[[], AccessToken]) -> AccessToken:
        if len(self._running) >= _MOST_HANGING:
            raise asyncio.TimeoutError  # another class than TimeoutError before Python 3.11
        result: Future[AccessToken] = Future()

        def work() -> None:
            try:
                outcome = partial(result.set_result, get_token())
            except BaseException as error:
                outcome = partial(result.set_exception, error)
            self._running.discard(thread)
            with suppress(InvalidStateError):  # nobody waits for it any more
                outcome()

        thread = threading.Thread(target=work, name="durabletask-payloads-credential", daemon=True)
        self._running.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._running.discard(thread)
            raise
        return await asyncio.wrap_future(result)

    def _is_broken(self, what: str) -> ClientAuthenticationError:
        return ClientAuthenticationError(message=f"{type(self._credential).__name__} {what}")


def _asynchronous(credential: Credential | None) -> AsyncCredential | None:
    match credential:
        case None | str() | dict() | AzureNamedKeyCredential() | AzureSasCredential():
            return credential
        case _:
            # Of its surface the client uses get_token alone.
            return cast("AsyncTokenCredential", GuardedCredential(credential))
