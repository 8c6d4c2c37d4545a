"""Azure Blob Storage by obstore, as far as that can be relied on, and by Azure's own client for the rest."""

from __future__ import annotations

import inspect
import threading
import time
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from obstore.store import AzureStore

from ._azure_client import AzureClient
from ._azure_options import connection_parts
from ._blob_client import Attempt, BlobProperties, Body, RequestFailedError
from ._obstore_client import NO_RETRIES, NoAnswerError, ObstoreClient, client_options
from ._tokens import PayloadToken, is_bare_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azure.core.credentials import AccessToken, TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential
    from obstore.store import AzureCredential, AzureCredentialProvider

    from ._azure_options import BlobPayloadStoreOptions

_T = TypeVar("_T")

_SCOPE: Final = "https://storage.azure.com/.default"
_NOWHERE: Final = "http://127.0.0.1:0"


class FastAzureClient:
    """A `BlobClient`: the first attempt at an upload or a download is obstore's, all else is Azure's client's.

    obstore tells less of an answer that is not a success: no code to HEAD, no Retry-After, no reason of a credential.
    So only its success counts. After another answer, or where it cannot connect, the same attempt goes to Azure's
    client, which finds the same and says why. After no answer, or one that asks for time, the next attempt does.

    Args:
        options: of the store.
        account_url: of the account that they name.
    """

    def __init__(self, options: BlobPayloadStoreOptions, account_url: str) -> None:
        self._options = options
        self._account_url = account_url
        self._lock = threading.Lock()
        self._stores: dict[tuple[str, str, str], AzureStore] = {}
        self._made: AzureClient | None = None
        self._closed = False
        self._fast = ObstoreClient("durabletask-payloads-obstore", self._store_for, options.read_timeout)

    @property
    def is_of_this_process(self) -> bool:
        return self._fast.is_of_this_process

    def put(self, place: PayloadToken, body: Body, attempt: Attempt) -> None:
        self._first(
            place, attempt, lambda: self._fast.put(place, body, attempt), lambda n: self._azure.put(place, body, n)
        )

    def get(self, place: PayloadToken, limit: int, attempt: Attempt) -> Body:
        return self._first(
            place, attempt, lambda: self._fast.get(place, limit, attempt), lambda n: self._azure.get(place, limit, n)
        )

    def head(self, place: PayloadToken, attempt: Attempt) -> BlobProperties:
        return self._azure.head(place, attempt)

    def delete(self, place: PayloadToken, etag: str | None, attempt: Attempt) -> None:
        self._azure.delete(place, etag, attempt)

    def list(self, place: PayloadToken, attempt: Attempt) -> Iterator[BlobProperties]:
        return self._azure.list(place, attempt)

    def create_container(self, place: PayloadToken, attempt: Attempt) -> None:
        self._azure.create_container(place, attempt)

    def close(self) -> None:
        """Close both. What is under way fails with ClientClosedError. In a forked child, do nothing."""
        if not self.is_of_this_process:
            return  # the lock may be held by a thread that does not exist here
        with self._lock:
            self._closed = True
            made = self._made
            self._stores.clear()  # and so their connections, of which each has a pool
        self._fast.close()
        if made is not None:
            made.close()

    @property
    def _azure(self) -> AzureClient:
        """Azure's client, made on first need."""
        with self._lock:
            if self._made is None:
                self._made = AzureClient(self._options, self._account_url)
                if self._closed:
                    self._made.close()
            return self._made

    def _first(
        self, place: PayloadToken, attempt: Attempt, fast: Callable[[], _T], slow: Callable[[Attempt], _T]
    ) -> _T:
        """Make an attempt: by obstore if it is the first, and if both clients write the name of the blob alike."""
        end = time.monotonic() + attempt.seconds
        if attempt.number == 1 and is_bare_name(place.name):
            try:
                return fast()
            except NoAnswerError:
                raise
            except RequestFailedError as failure:
                if failure.status is not None and (failure.status in (408, 429) or failure.status >= 500):
                    raise
        return slow(Attempt(attempt.number, max(end - time.monotonic(), 0.0)))

    # ---- stores of obstore ------------------------------------------------------------------------------------

    def _store_for(self, place: PayloadToken, use: Literal["read", "write"]) -> AzureStore:
        key = (place.account_url or self._account_url, place.container, use)
        with self._lock:
            store = self._stores.get(key)
            if store is None:
                store = self._stores[key] = self._new_store(*key)
            return store

    def _new_store(self, account_url: str, container: str, use: Literal["read", "write"]) -> AzureStore:
        options = self._options
        host = urlsplit(account_url).hostname or ""
        if _is_proxied(account_url, host):
            raise RequestFailedError(trouble="is behind a proxy")  # so that Azure's client serves
        read_timeout = options.read_timeout if use == "read" else None
        client = client_options(options.connect_timeout, read_timeout, options.total_timeout)
        client["allow_http"] = account_url.startswith("http:")
        # obstore follows redirects, and tells the other host the URL it comes from, with its signature. A proxy at an
        # address that nothing can listen at keeps it from all hosts but this one.
        client["proxy_url"] = _NOWHERE
        client["proxy_excludes"] = host
        account, provider = self._credential(account_url)
        return AzureStore(
            container_name=container,
            # All that it would otherwise take from variables of the environment, of which it reads many.
            config={"account_name": account, "endpoint": account_url, "skip_signature": False, "use_emulator": False},
            client_options=client,
            retry_config=NO_RETRIES,
            credential_provider=provider,
        )

    def _credential(self, account_url: str) -> tuple[str, AzureCredentialProvider]:
        """Return the name of the account, and what obstore asks how to identify itself: before its environment."""
        name = _account_of(account_url)
        if self._options.connection_string is not None:
            parts = connection_parts(self._options.connection_string)
            if signature := parts.get("SHAREDACCESSSIGNATURE"):
                return name, partial(_signature, signature)
            if key := parts.get("ACCOUNTKEY"):
                return parts["ACCOUNTNAME"], partial(_key, key)
            raise RequestFailedError(trouble="is an emulator with a key of its own")  # so that Azure's client serves
        match self._options.credential:
            case str() as text if "sig=" in text:
                return name, partial(_signature, text)
            case str() as key:
                return name, partial(_key, key)
            case dict() as pair:
                return pair["account_name"], partial(_key, pair["account_key"])
            case AzureNamedKeyCredential() as credential:
                return credential.named_key.name, lambda: _key(credential.named_key.key, _now())
            case AzureSasCredential() as credential:
                return name, lambda: _signature(credential.signature, _now())
            case None:
                raise AssertionError("the options have a credential where they have no connection string")
            case credential:
                return name, partial(self._token, credential)

    def _token(self, credential: TokenCredential | AsyncTokenCredential) -> AzureCredential:
        token: AccessToken
        if inspect.iscoroutinefunction(credential.get_token):
            token = self._azure.token(cast("AsyncTokenCredential", credential), _SCOPE)
        else:
            token = cast("TokenCredential", credential).get_token(_SCOPE)
        return {"token": token.token, "expires_at": datetime.fromtimestamp(token.expires_on, timezone.utc)}


def _key(key: str, until: datetime | None = None) -> AzureCredential:
    return {"access_key": key, "expires_at": until}


def _signature(text: str, until: datetime | None = None) -> AzureCredential:
    return {"sas_token": text.lstrip("?"), "expires_at": until}


def _now() -> datetime:
    """Return until when that is good which may be renewed at any time: obstore asks again for each request."""
    return datetime.now(timezone.utc)


def _is_proxied(account_url: str, host: str) -> bool:
    """Return whether the environment, or the system, names a proxy for the account, as Azure's client takes it."""
    return urlsplit(account_url).scheme in getproxies() and not proxy_bypass(host)


def _account_of(account_url: str) -> str:
    """Return the name of an account: the path of an emulator's URL, or the first part of the host."""
    parts = urlsplit(account_url)
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]
