"""Payloads in Azure Blob Storage, readable by the .NET, Java and Python SDKs and vice versa. Needs [azure]."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal

from durabletask_payloads._errors import PayloadStoreUnavailableError, PayloadTokenError

from . import _engines
from ._azure_options import BlobPayloadStoreOptions, parse_location
from ._blob_client import BLOB_STORAGE
from ._codec import encode
from ._remote import RemoteStore
from ._tokens import TOKEN_PREFIXES, PayloadToken, new_name

try:
    from ._azure_client import AzureClient, account_url_of
except ImportError as _error:
    raise ImportError(
        f"BlobPayloadStore needs azure-storage-blob and aiohttp ({_error}): pip install durabletask-payloads[azure]"
    ) from _error

if TYPE_CHECKING:
    from ._blob_client import BlobClient

__all__ = ["BlobPayloadStore", "BlobPayloadStoreOptions"]

_log: Final = logging.getLogger("durabletask_payloads.stores")
# Folders longer than this, in characters as they are written, are left out: a blob name may have 1,024.
_LONGEST_FOLDER: Final = 256


class BlobPayloadStore(RemoteStore[PayloadToken]):
    """Keeps payloads as blobs of one container.

    Constructing it makes no request. It may be used from any number of threads and event loops, and after a fork;
    `close` (or `aclose`, or leaving a context manager) ends its thread and closes its connections.

    Args:
        options: where and how.

    Raises:
        ValueError: a trusted location needs another kind of credential.
        TypeError: `options` are something else, as a connection string.
    """

    _lists_metadata = True

    def __init__(self, options: BlobPayloadStoreOptions) -> None:
        _check_options(options)
        self._options = options
        self._account_url = account_url_of(options)
        own = (self._account_url, options.container_name)
        self._readable = {own, *(parse_location(location) for location in options.trusted_locations)}
        for account_url, container in self._readable:
            if account_url != self._account_url and not hasattr(options.credential, "get_token"):
                raise ValueError(
                    f"the trusted location {account_url}/{container} is in another account than {self._account_url}: "
                    "reading it needs a token credential, since keys and signatures are good for one account only"
                )
        if options.engine == "obstore":
            _engines.require('engine "obstore"', "fast")
        super().__init__(options, BLOB_STORAGE)

    def __repr__(self) -> str:
        """Show where it stores, and what serves. No secret is in it."""
        return f"BlobPayloadStore({self._location()}, engine={self.engine!r})"

    @property
    def engine(self) -> Literal["obstore", "azure-storage-blob"]:
        """The client that serves in this process."""
        options = self._options
        if options.engine == "obstore":
            return "obstore"
        serves = options.engine == "auto" and options.api_version is None and _engines.is_installed()
        return "obstore" if serves and _engines.works_here() else "azure-storage-blob"

    @property
    def options(self) -> BlobPayloadStoreOptions:
        return self._options

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return TOKEN_PREFIXES

    def is_known_token(self, value: str) -> bool:
        """Return whether `value`, as a whole, is a token of either version, of whichever container."""
        return PayloadToken.parse(value) is not None

    # ---- what the core asks -----------------------------------------------------------------------------------

    def _make_client(self) -> BlobClient[PayloadToken]:
        engine = self.engine
        _log.info(
            "payload store opened engine=%s account=%s container=%s",
            engine,
            self._account_url,
            self._options.container_name,
        )
        if engine == "azure-storage-blob":
            return AzureClient(self._options, self._account_url)
        if not _engines.works_here():
            raise PayloadStoreUnavailableError(
                f"{self!r} cannot serve: obstore was used before this process was forked, and hangs in it: use "
                'engine="auto", or start processes by spawn'
            )
        from ._azure_fast import FastAzureClient  # on first use: see _engines

        return FastAzureClient(self._options, self._account_url)

    def _where(self, place: PayloadToken) -> str:
        return place.account_url or self._account_url

    def _is_own(self, place: PayloadToken) -> bool:
        return self._where(place) == self._account_url and place.container == self._options.container_name

    def _place(self, token: str) -> PayloadToken:
        place = PayloadToken.require(token)
        if (self._where(place), place.container) not in self._readable:
            raise PayloadTokenError(
                f"{place} points to {self._where(place)}/{place.container}, which this store may not read: client and "
                "workers must use the same account and container_name, or list the other one in trusted_locations"
            )
        return place

    def _new_place(self, instance_id: str | None) -> PayloadToken:
        options = self._options
        has_folder = options.layout == "python-sdk" and instance_id and len(instance_id) <= _LONGEST_FOLDER
        return self._at(f"{instance_id}/{new_name()}" if has_folder else new_name())

    def _at(self, name: str) -> PayloadToken:
        options = self._options
        # A v2 token has no folder.
        account_url = self._account_url if options.token_version == 2 and "/" not in name else None
        return PayloadToken(options.container_name, name, account_url)

    def _location(self) -> str:
        return f"{self._account_url}/{self._options.container_name}"

    def _encoded(self, data: bytes) -> bytes:
        if self._options.layout == "standard":
            return super()._encoded(data)
        # The Python SDK expands what it reads as its own setting says, not as the bytes or headers do.
        return encode(data, "always" if self._options.enable_compression else "never")

    def _content_encoding(self, body: bytes) -> str | None:
        return super()._content_encoding(body) if self._options.layout == "standard" else None


def _check_options(options: object) -> None:
    if not isinstance(options, BlobPayloadStoreOptions):
        kind = type(options)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise TypeError(
            f"BlobPayloadStore takes the BlobPayloadStoreOptions of this package, not {name}: "
            "BlobPayloadStore(BlobPayloadStoreOptions(connection_string=...))"
        )
