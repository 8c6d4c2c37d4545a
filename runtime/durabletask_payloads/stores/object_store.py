"""Payloads in Amazon S3 and what speaks S3, Google Cloud Storage, and Azure, by obstore. Needs [object-store]."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from durabletask_payloads._errors import PayloadStoreUnavailableError, PayloadTokenError

from . import _engines
from ._blob_client import BLOB_STORAGE, Dialect
from ._object_options import ObjectStorePayloadStoreOptions
from ._object_tokens import OBJECT_TOKEN_PREFIX, ObjectToken
from ._remote import RemoteStore
from ._tokens import new_name

if TYPE_CHECKING:
    from ._blob_client import BlobClient

__all__ = ["ObjectStorePayloadStore", "ObjectStorePayloadStoreOptions"]

_engines.require("ObjectStorePayloadStore", "object-store")

_log: Final = logging.getLogger("durabletask_payloads.stores")

_S3: Final = Dialect(
    service="S3",
    container="bucket",
    missing=frozenset({"NoSuchKey"}),
    missing_container=frozenset({"NoSuchBucket"}),
    busy=frozenset({"OperationAborted", "RequestTimeout"}),
    create="create it, or use the same URL on the client and on every worker",
    rights="check the credential and the region; s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket are "
    "needed (without the last one, S3 refuses access to an object that is missing)",
    container_may_come=True,
    denied=frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"}),
    blob="object",
    elsewhere="behind another endpoint",
    address="endpoint",
    longest_instance_id=1024,  # S3 takes 2 KB of metadata in all
)
_GCS: Final = _S3._replace(
    service="Google Cloud Storage",
    busy=frozenset[str](),
    rights="check the credential; it needs the role Storage Object User",
    denied=frozenset[str](),
    longest_instance_id=4096,
)
_AZURE: Final = BLOB_STORAGE._replace(create=_S3.create, container_may_come=True)
_DIALECTS: Final = {"s3": _S3, "gs": _GCS, "az": _AZURE}


class ObjectStorePayloadStore(RemoteStore[ObjectToken]):
    """Keeps payloads as objects below one prefix of one bucket, which has to exist.

    Constructing it makes no request. It may be used from any number of threads and event loops. In a child that was
    forked after obstore was imported it is unavailable: import obstore, and use the store, after the fork only.
    `close` (or `aclose`, or leaving a context manager) ends its threads and closes its connections.

    No other SDK reads its tokens: for orchestrations that are shared with .NET or Java, use a `BlobPayloadStore`.

    Args:
        options: where and how.

    Raises:
        TypeError: `options` are something else, as a URL.
    """

    _lists_metadata = False

    def __init__(self, options: ObjectStorePayloadStoreOptions) -> None:
        _check_options(options)
        self._options = options
        self._root = options.location
        dialect = _DIALECTS[self._root.scheme]
        endpoint = str(options.config.get("endpoint") or options.config.get("base_url") or "")
        try:
            address = urlsplit(endpoint).netloc.rpartition("@")[2]
        except ValueError:  # whose text quotes what is in brackets; obstore refuses it too
            address = ""
        self._service = f"{dialect.service} at {address}" if address else dialect.service
        super().__init__(options, dialect)

    def __repr__(self) -> str:
        """Show where it stores. No secret is in it."""
        return f"ObjectStorePayloadStore({self._root})"

    @property
    def options(self) -> ObjectStorePayloadStoreOptions:
        return self._options

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return (OBJECT_TOKEN_PREFIX,)

    def is_known_token(self, value: str) -> bool:
        """Return whether `value`, as a whole, is a token of an object store, of whichever bucket."""
        return ObjectToken.parse(value) is not None

    # ---- what the core asks -----------------------------------------------------------------------------------

    def _make_client(self) -> BlobClient[ObjectToken]:
        if not _engines.works_here():
            raise PayloadStoreUnavailableError(
                f"{self!r} cannot serve: obstore was used before this process was forked, and hangs in it: use it only "
                "after the fork, or start processes by spawn"
            )
        from ._object_client import object_client  # on first use: see _engines

        _log.info("payload store opened engine=obstore location=%s", self._root)
        return object_client(self._options)

    def _where(self, place: ObjectToken) -> str:
        return self._service

    def _is_own(self, place: ObjectToken) -> bool:
        return place.location == self._root

    def _place(self, token: str) -> ObjectToken:
        place = ObjectToken.require(token)
        if place.location != self._root:
            raise PayloadTokenError(
                f"{place} points to {place.location}, which this store may not read: it is of {self._root}, and "
                "client and workers must use the same URL"
            )
        return place

    def _new_place(self, instance_id: str | None) -> ObjectToken:
        return self._at(new_name())

    def _at(self, name: str) -> ObjectToken:
        return ObjectToken(self._root, name)

    def _location(self) -> str:
        return str(self._root)

    def _content_encoding(self, body: bytes) -> str | None:
        # Google Cloud Storage would expand it for a client that does not ask for gzip, without regard to ranges.
        return None if self._root.scheme == "gs" else super()._content_encoding(body)


def _check_options(options: object) -> None:
    if not isinstance(options, ObjectStorePayloadStoreOptions):
        raise TypeError(
            f"ObjectStorePayloadStore takes ObjectStorePayloadStoreOptions, not {type(options).__name__}: "
            'ObjectStorePayloadStore(ObjectStorePayloadStoreOptions(url="s3://<bucket>/<prefix>"))'
        )
