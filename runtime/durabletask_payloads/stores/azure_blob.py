"""Payloads in Azure Blob Storage, readable by the .NET, Java and Python SDKs and vice versa. Needs [azure]."""

from __future__ import annotations

import threading
import weakref
from typing import Final
from urllib.parse import quote

from durabletask_payloads._errors import PayloadIntegrityError, PayloadTokenError
from durabletask_payloads._lifecycle import renewed_after_fork

from ._azure_options import BlobPayloadStoreOptions, parse_location
from ._base import TokenStore
from ._codec import GZIP_MAGIC, check_size, checksum, decode, encode
from ._tokens import PayloadToken, new_name

try:
    from ._azure_client import Blob, BlobClient, account_url_of, was_closed
except ImportError as _error:
    raise ImportError(
        f"BlobPayloadStore needs azure-storage-blob and aiohttp ({_error}): pip install durabletask-payloads[azure]"
    ) from _error

__all__ = ["BlobPayloadStore", "BlobPayloadStoreOptions"]

# All metadata of a blob may have 8 KiB, and an instance id 100 or 200 characters with the backends there are.
_LONGEST_INSTANCE_ID: Final = 4096
# Folders longer than this, in characters as they are written, are left out: a blob name may have 1,024.
_LONGEST_FOLDER: Final = 256


class BlobPayloadStore(TokenStore):
    """Keeps payloads as blobs of one container.

    Constructing it makes no request. It may be used from any number of threads and event loops, and after a fork;
    `close` (or `aclose`, or leaving a context manager) ends its thread and closes its connections.

    Args:
        options: where and how.

    Raises:
        ValueError: a trusted location needs another kind of credential.
        TypeError: `options` are something else, as a connection string.
    """

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
        self._client: BlobClient | None = None
        self._closed = False
        self._renew()
        renewed_after_fork(self, type(self)._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()

    @property
    def options(self) -> BlobPayloadStoreOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Store `data` as a new blob and return its token.

        Args:
            data: the UTF-8 bytes of a payload.
            instance_id: stored as metadata of the blob, and as its folder with `layout="python-sdk"`; left out where
                it is too long for that.

        Raises:
            PayloadTooLargeError, PayloadAccessDeniedError, PayloadStoreUnavailableError: as for
                `PayloadStore.upload`. A closed store is unavailable.
        """
        blob = self._packed(data, instance_id)
        self._client_for(blob.token).put(blob)
        return str(blob.token)

    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`, decompressed and verified.

        Raises:
            PayloadTokenError: `token` is malformed, or points to neither the container nor a trusted location.
            PayloadError: the other errors of `PayloadStore.download`.
        """
        place = self._place(token)
        return self._unpacked(self._client_for(place).get(place))

    def delete(self, token: str) -> None:
        """Delete the blob stored under `token`, if there is one.

        Raises:
            PayloadTokenError: it is in a trusted location: those are only read.
            PayloadAccessDeniedError, PayloadStoreUnavailableError: as for `download`.
        """
        place = self._place(token)
        if place.account_url not in (None, self._account_url) or place.container != self._options.container_name:
            raise PayloadTokenError(f"{place} is in a trusted location: this store reads there, but does not delete")
        self._client_for(place).delete(place)

    def stored_bytes(self, token: str) -> int:
        """Return the size of the blob, in bytes, after compression. Raises as `download` does."""
        place = self._place(token)
        return self._client_for(place).size(place)

    def close(self) -> None:
        """Close all connections and end the store's thread. What is still running fails as unavailable."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _client_for(self, token: PayloadToken) -> BlobClient:
        """Return the client of this process, made on first need."""
        with self._lock:
            if self._closed:
                raise was_closed(token)
            client = self._client
            if client is None or not client.is_of_this_process:
                client = self._client = BlobClient(self._options)
                # Also when the store is forgotten, and at exit. It must not hold the store.
                weakref.finalize(self, client.close)
            return client

    # ---- tokens and bodies ------------------------------------------------------------------------------------

    def _place(self, text: str) -> PayloadToken:
        """Return the token that `text` is; PayloadTokenError if it points to what this store may not read."""
        token = PayloadToken.require(text)
        account_url = token.account_url or self._account_url
        if (account_url, token.container) not in self._readable:
            raise PayloadTokenError(
                f"{token} points to {account_url}/{token.container}, which this store may not read: client and workers "
                "must use the same account and container_name, or list the other one in trusted_locations"
            )
        return token

    def _packed(self, data: bytes, instance_id: str | None) -> Blob:
        options = self._options
        check_size(data, options)
        metadata = {"raw_bytes": str(len(data)), "sha256": checksum(data)}
        folder = ""
        if instance_id:
            # "." and ".." cannot stay as they are, not even in a percent-encoded path.
            # And a lone surrogate, which has no UTF-8 form, is kept as what its three bytes would be.
            quoted = quote(instance_id, safe="", errors="surrogatepass").replace(".", "%2E")
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
            return Blob(token, body, metadata, None)
        body = encode(data, "if smaller" if options.enable_compression else "never")
        return Blob(token, body, metadata, "gzip" if body.startswith(GZIP_MAGIC) else None)

    def _unpacked(self, blob: Blob) -> bytes:
        if blob.content_encoding == "gzip" and not blob.body.startswith(GZIP_MAGIC):
            raise PayloadIntegrityError(f"what is stored under {blob.token} is marked as gzip, but is none")
        return decode(
            blob.body,
            token=str(blob.token),
            limit=self._options.max_stored_payload_bytes,
            sha256=blob.metadata.get("sha256"),
        )


def _check_options(options: object) -> None:
    if not isinstance(options, BlobPayloadStoreOptions):
        kind = type(options)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        raise TypeError(
            f"BlobPayloadStore takes the BlobPayloadStoreOptions of this package, not {name}: "
            "BlobPayloadStore(BlobPayloadStoreOptions(connection_string=...))"
        )
