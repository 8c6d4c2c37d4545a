"""The core of the stores behind a network: bodies, deadline, retries, errors, a container on first need.

A `BlobClient` speaks to the service: it makes one attempt at one operation. The rules above that are here, once, for
all services and all clients.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import weakref
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final, Generic, Protocol, TypeVar
from urllib.parse import quote

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
)
from durabletask_payloads._lifecycle import renewed_after_fork

from ._base import PayloadStore
from ._blob_client import MANAGED, Attempt, BlobClient, Body, ClientClosedError, Dialect, Place, RequestFailedError
from ._codec import check_size, checksum, decode, encode, is_gzip
from ._remote_inventory import RemoteAccess, RemoteInventory
from ._tokens import is_bare_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._inventory import PayloadInventory

_T = TypeVar("_T")
_P = TypeVar("_P", bound=Place)

# The wait before the n-th retry: 0.2, 0.4, 0.8 ... seconds up to the longest, less up to half of it at random.
_FIRST_WAIT: Final = 0.2
_LONGEST_WAIT: Final = 5.0


class RemoteSettings(Protocol):
    """The settings of a remote store that say how long it tries. Times are in seconds."""

    @property
    def create_container(self) -> bool: ...
    @property
    def total_timeout(self) -> float: ...
    @property
    def retries(self) -> int: ...


class RemoteStore(PayloadStore, Generic[_P]):
    """A store over a `BlobClient`. Constructing it makes no request.

    It may be used from any number of threads and event loops, and after a fork. `close` (or `aclose`, or leaving a
    context manager) ends its threads and closes its connections.
    """

    _lists_metadata: ClassVar[bool]

    def __init__(self, settings: RemoteSettings, dialect: Dialect) -> None:
        self._settings = settings
        self._dialect = dialect
        self._client: BlobClient[_P] | None = None
        self._containers_created = 0
        self._closing = threading.Event()
        self._renew()
        renewed_after_fork(self, type(self)._renew)

    def _renew(self) -> None:
        closed = self._closing.is_set()
        self._lock = threading.Lock()
        self._creating = threading.Lock()
        self._closing = threading.Event()
        if closed:
            self._closing.set()

    # ---- what a kind of store says ----------------------------------------------------------------------------

    @abstractmethod
    def _new_place(self, instance_id: str | None) -> _P:
        """Return where a new payload of that instance goes. The instance id is percent-encoded."""

    @abstractmethod
    def _place(self, token: str) -> _P:
        """Return the place that a token names; PayloadTokenError if this store may not read there."""

    @abstractmethod
    def _is_own(self, place: _P) -> bool:
        """Return whether this store writes there. It only reads anywhere else."""

    @abstractmethod
    def _at(self, name: str) -> _P:
        """Return the place of a name where this store writes."""

    @abstractmethod
    def _location(self) -> str:
        """Return where this store writes, for texts."""

    @abstractmethod
    def _make_client(self) -> BlobClient[_P]:
        """Return a new client. Makes no request."""

    @abstractmethod
    def _where(self, place: _P) -> str:
        """Return the account or the service that `place` is in, for errors."""

    def _encoded(self, data: bytes) -> bytes:
        """Return the body to store for `data`."""
        return encode(data, "if smaller" if self.options.enable_compression else "never")

    def _content_encoding(self, body: bytes) -> str | None:
        return "gzip" if is_gzip(body) else None

    # ---- the surface of a store -------------------------------------------------------------------------------

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Store `data` as a new blob and return its token.

        Args:
            data: the UTF-8 bytes of a payload.
            instance_id: stored as metadata of the blob; left out where it is too long for that.

        Raises:
            PayloadTooLargeError, PayloadAccessDeniedError, PayloadStoreUnavailableError: as for
                `PayloadStore.upload`. A closed store is unavailable.
        """
        check_size(data, self.options)
        metadata = {"raw_bytes": str(len(data)), "sha256": checksum(data), **MANAGED}
        # "." and ".." cannot stay as they are, not even in a percent-encoded path.
        # And a lone surrogate, which has no UTF-8 form, is kept as what its three bytes would be.
        quoted = quote(instance_id or "", safe="", errors="surrogatepass").replace(".", "%2E")
        if quoted and len(quoted) <= self._dialect.longest_instance_id:
            metadata["instance_id"] = quoted
        place = self._new_place(quoted or None)
        body = self._encoded(data)
        self._put(place, Body(body, metadata, self._content_encoding(body)))
        return str(place)

    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`, decompressed and verified.

        Raises:
            PayloadTokenError: `token` is malformed, or points to where this store may not read.
            PayloadError: the other errors of `PayloadStore.download`.
        """
        place = self._place(token)
        limit = self.options.max_stored_payload_bytes
        body = self._perform(place, lambda client, attempt: client.get(place, limit, attempt))
        if body.content_encoding == "gzip" and not is_gzip(body.data):
            raise PayloadIntegrityError(f"what is stored under {place} is marked as gzip, but is none")
        return decode(body.data, token=str(place), limit=limit, sha256=body.metadata.get("sha256"))

    def delete(self, token: str) -> None:
        """Delete the blob stored under `token`, if there is one.

        Raises:
            PayloadTokenError: it is in a trusted location: those are only read.
            PayloadAccessDeniedError, PayloadStoreUnavailableError: as for `download`.
        """
        place = self._place(token)
        if not self._is_own(place):
            raise PayloadTokenError(f"{place} is in a trusted location: this store reads there, but does not delete")

        def delete(client: BlobClient[_P], attempt: Attempt) -> None:
            try:
                client.delete(place, None, attempt)
            except RequestFailedError as failure:
                if failure.code not in self._dialect.missing | self._dialect.missing_container:
                    raise

        self._perform(place, delete)

    def stored_bytes(self, token: str) -> int:
        """Return the size of the blob, in bytes, after compression. Raises as `download` does."""
        place = self._place(token)
        return self._perform(place, lambda client, attempt: client.head(place, attempt).size)

    def inventory(self) -> PayloadInventory:
        """Return the inventory of this store, for operators: it lists and deletes. Makes no request."""
        return RemoteInventory(
            RemoteAccess(
                self._location(),
                self._lists_metadata,
                self._dialect.missing | self._dialect.missing_container,
                self._dialect.missing_container,
                self._perform,
                self._place,
                self._is_own,
                self._at,
            )
        )

    def close(self) -> None:
        """Close all connections and end the store's threads. What is still running fails as unavailable."""
        with self._lock:
            self._closing.set()
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _client_for(self, place: _P) -> BlobClient[_P]:
        """Return the client of this process, made on first need."""
        with self._lock:
            if self._closing.is_set():
                raise self._was_closed(place)
            client = self._client
            if client is None or not client.is_of_this_process:
                client = self._client = self._make_client()
                # Also when the store is forgotten, and at exit. It must not hold the store.
                weakref.finalize(self, client.close)
            return client

    # ---- attempts ---------------------------------------------------------------------------------------------

    def _put(self, place: _P, body: Body) -> None:
        """Store `body`; make the container if that is missing and the settings say so."""

        def put(client: BlobClient[_P], attempt: Attempt) -> None:
            end = time.monotonic() + attempt.seconds
            created = self._containers_created
            try:
                client.put(place, body, attempt)
            except RequestFailedError as failure:
                if not (self._settings.create_container and failure.code in self._dialect.missing_container):
                    raise
                self._create_container(client, place, created, end)
                client.put(place, body, Attempt(attempt.number, _until(end)))

        self._perform(place, put)

    def _create_container(self, client: BlobClient[_P], place: _P, created: int, end: float) -> None:
        """Make the container of `place`, unless another call has since `_containers_created` was `created`."""
        if not self._creating.acquire(timeout=_until(end)):
            raise TimeoutError
        try:
            if self._containers_created == created:
                client.create_container(place, Attempt(1, _until(end)))
                self._containers_created += 1
        finally:
            self._creating.release()

    def _perform(self, place: _P, operation: Callable[[BlobClient[_P], Attempt], _T]) -> _T:
        """Try `operation` until it succeeds, fails for good, or the time or the retries are used up."""
        end = time.monotonic() + self._settings.total_timeout
        for number in itertools.count(1):
            try:
                return operation(self._client_for(place), Attempt(number, _until(end)))
            except RequestFailedError as failure:
                self._wait_for_next(failure, place, number, end)
            except TimeoutError as timeout:
                raise self._out_of_time(place) from timeout
            except ClientClosedError:
                raise self._was_closed(place) from None
        raise AssertionError("count() has no end")

    def _wait_for_next(self, failure: RequestFailedError, place: _P, number: int, end: float) -> None:
        """Wait as long as is due after attempt `number`, or raise what its `failure` means if that was the last one."""
        last = failure.__cause__ or failure
        error = self._error(failure, place, number)
        error.status = failure.status
        try:
            if error.permanent or number > self._settings.retries:
                raise error from last
        finally:
            del error  # or it and this frame would hold each other, and the payload
        wait = max(_FIRST_WAIT * 2 ** min(number - 1, 10), failure.retry_after)  # no float has 2 ** 1024
        wait = min(wait, _LONGEST_WAIT) * random.uniform(0.5, 1.0)
        if self._closing.wait(min(wait, _until(end))):
            raise self._was_closed(place) from None
        if not _until(end):
            raise self._out_of_time(place) from last

    # ---- errors -----------------------------------------------------------------------------------------------

    def _was_closed(self, place: _P) -> PayloadStoreUnavailableError:
        return PayloadStoreUnavailableError(f"{_subject(place)}this {type(self).__name__} was closed")

    def _out_of_time(self, place: _P) -> PayloadStoreUnavailableError:
        limit = self._settings.total_timeout
        return PayloadStoreUnavailableError(
            f"{_subject(place)}{self._where(place)} did not answer within total_timeout ({limit:g} s, all retries)"
        )

    def _error(self, failure: RequestFailedError, place: _P, attempts: int) -> PayloadError:
        """Return the error of this package for an attempt that failed."""
        dialect, status, code, where = self._dialect, failure.status, failure.code, self._where(place)
        container = f"{dialect.container} {place.container!r}"
        answer, of = f"{status} {code}".strip(), _subject(place)
        if failure.credential is not None:
            return PayloadAccessDeniedError(f"{of}there is no valid credential for {where}: {failure.credential}")
        match status:
            case 404 if code in dialect.missing_container:
                text = f"{of}the {container} does not exist in {where}: {dialect.create}"
                return PayloadStoreUnavailableError(text) if dialect.container_may_come else PayloadNotFoundError(text)
            case 404 if code in dialect.missing:
                return PayloadNotFoundError(
                    f"{of}{where} has no such {dialect.blob}: it was deleted, or stored {dialect.elsewhere}"
                )
            case int() if status in (401, 403) or code in dialect.denied:
                return PayloadAccessDeniedError(
                    f"{of}{where} refused access to {container} ({answer}): {dialect.rights}"
                )
            case 412:
                return PayloadIntegrityError(f"{of}the blob was changed while it was read ({answer})")
            case int() if 300 <= status < 500 and status not in (404, 408, 429) and code not in dialect.busy:
                text = f"{of}{where} refused the request ({answer})"
                return PayloadError(f"{text}: {failure.advice}" if failure.advice else text)
            case _:
                return PayloadStoreUnavailableError(f"{of}{where} {self._trouble(failure, attempts)}")

    def _trouble(self, failure: RequestFailedError, attempts: int) -> str:
        """Say what is wrong with a service, or with the way to it, that may be right later."""
        dialect, status, code = self._dialect, failure.status, failure.code
        times = f", {attempts} times" if attempts > 1 else ""
        if status is None:
            return f"{failure.trouble}{times}" + (f": {failure.advice}" if failure.advice else "")
        answered = f"answered {f'{status} {code}'.strip()}{times}"
        if status != 404:
            return answered
        return (
            f"{answered}, but not as {dialect.service} does where a {dialect.blob} or {dialect.container} "
            f"is missing: check the {dialect.address} URL, and what is between it and here"
        )


def _until(end: float) -> float:
    """Return the seconds until `end` on the clock of `time.monotonic`, at least 0."""
    return max(end - time.monotonic(), 0.0)


def _subject(place: Place) -> str:
    """Return how an error begins: with a token, except for a listing, whose place is a prefix."""
    return f"{place}: " if is_bare_name(place.name.rpartition("/")[2]) else ""
