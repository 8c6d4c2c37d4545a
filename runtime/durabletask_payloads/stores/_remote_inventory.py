"""The inventory of a remote store."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import dropwhile, islice
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar
from urllib.parse import unquote

from durabletask_payloads._errors import PayloadNotFoundError, PayloadTokenError, PayloadTooLargeError

from ._blob_client import MANAGED, Attempt, BlobClient, BlobProperties, Body, Place, RequestFailedError
from ._inventory import PARTITIONS, StoredPayload, is_in
from ._notes import LONGEST_NOTE, NOTE, checked_note
from ._tokens import new_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_T = TypeVar("_T")
_P = TypeVar("_P", bound=Place)
_Q = TypeVar("_Q", bound=Place, contravariant=True)

# How many names are held at a time. Azure lists 5,000 in a page, S3 1,000.
_CHUNK: Final = 5000


class Perform(Protocol[_Q]):
    """Tries an operation with retries, within the store's deadline. Raises errors of the `PayloadError` tree."""

    def __call__(self, place: _Q, operation: Callable[[BlobClient[_Q], Attempt], _T], /) -> _T: ...


@dataclass(frozen=True)
class RemoteAccess(Generic[_P]):
    """What an inventory needs of its store.

    Attributes:
        location: where the store writes, for texts. No secret is in it.
        lists_metadata: whether the service lists the metadata of blobs.
        gone: the codes of a blob or container that does not exist.
        no_container: those of a container alone.
        perform: see `Perform`.
        place: returns the place that a token names; PayloadTokenError if the store may not read there.
        is_own: returns whether the store writes there.
        at: returns the place of a name where the store writes.
    """

    location: str
    lists_metadata: bool
    gone: frozenset[str]
    no_container: frozenset[str]
    perform: Perform[_P]
    place: Callable[[str], _P]
    is_own: Callable[[_P], bool]
    at: Callable[[str], _P]


class RemoteInventory(Generic[_P]):
    """The inventory of a container or bucket. See `PayloadInventory`."""

    def __init__(self, access: RemoteAccess[_P]) -> None:
        self._access = access

    @property
    def location(self) -> str:
        return self._access.location

    @property
    def partitions(self) -> Sequence[str]:
        return PARTITIONS

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        """Yield what is stored in a partition. For the last partition, all names are listed and most are left out."""
        for found in self._list(self._access.at(partition)):
            if is_in(found.name, partition):
                yield self._described(found, self._access.at(found.name), has_metadata=self._access.lists_metadata)

    def _list(self, prefix: _P) -> Iterator[BlobProperties]:
        """Yield blobs, in the order of their names. A listing that fails begins again behind the last one."""
        rest: Iterator[BlobProperties] | None = None
        last = ""

        def chunk(client: BlobClient[_P], attempt: Attempt) -> list[BlobProperties]:
            nonlocal rest
            if rest is None:
                rest = dropwhile(lambda found: found.name <= last, client.list(prefix, attempt))
            try:
                return list(islice(rest, _CHUNK))
            except BaseException:
                rest = None
                raise

        while blobs := self._access.perform(prefix, chunk):
            yield from blobs
            last = blobs[-1].name

    def look(self, token: str) -> StoredPayload:
        """Return what is stored under `token`, also in a trusted location."""
        place = self._access.place(token)
        found = self._access.perform(place, lambda client, attempt: client.head(place, attempt))
        return self._described(found._replace(name=place.name), place, has_metadata=True)

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        place = self._own_place(stored.token)
        if place is None or stored.managed is False:
            return False

        def delete(client: BlobClient[_P], attempt: Attempt) -> bool:
            try:
                if stored.managed is None:
                    found = client.head(place, attempt)
                    if found.etag != stored.etag or not _is_managed(found):
                        return False
                client.delete(place, stored.etag, attempt)
            except RequestFailedError as failure:
                if failure.status == 412:
                    return False
                if failure.code not in self._access.gone:
                    raise
                return attempt.number > 1  # deleted by an attempt whose answer was lost
            return True

        return self._access.perform(place, delete)

    def name_of(self, token: str) -> str | None:
        place = self._own_place(token)
        return None if place is None else place.name

    def service_time(self) -> datetime:
        place = self._access.at(new_name())
        # Not by the store's upload, which may create the container.
        empty = Body(b"", MANAGED, None)
        self._access.perform(place, lambda client, attempt: client.put(place, empty, attempt))
        stored = self.look(str(place))
        self.delete_unchanged(stored)
        return stored.modified

    def has_container(self) -> bool:
        place = self._access.at("00")

        def ask(client: BlobClient[_P], attempt: Attempt) -> bool:
            try:
                next(iter(client.list(place, attempt)), None)
            except RequestFailedError as failure:
                if failure.code not in self._access.no_container:
                    raise
                return False
            return True

        return self._access.perform(place, ask)

    def notes(self) -> Iterator[tuple[str, bytes]]:
        for found in self._list(self._access.at(NOTE)):
            place = self._access.at(found.name)
            with suppress(PayloadNotFoundError, PayloadTooLargeError):
                body = self._access.perform(place, partial(_get, place))
                yield found.name, bytes(body.data)

    def leave_note(self, name: str, content: bytes) -> None:
        place = self._access.at(checked_note(name))
        # Without the mark of what may be deleted.
        body = Body(content, {}, None)
        self._access.perform(place, lambda client, attempt: client.put(place, body, attempt))

    def _own_place(self, token: str) -> _P | None:
        try:
            place = self._access.place(token)
        except PayloadTokenError:
            return None
        return place if self._access.is_own(place) else None

    def _described(self, found: BlobProperties, place: _P, *, has_metadata: bool) -> StoredPayload:
        token = str(place) if self._own_place(str(place)) is not None else ""
        return StoredPayload(
            name=found.name,
            token=token,
            stored_bytes=found.size,
            modified=datetime.fromtimestamp(found.last_modified, timezone.utc),
            etag=found.etag,
            managed=_is_managed(found) if has_metadata else None,
            instance_id=_instance_id(found),
            raw_bytes=_raw_bytes(found),
            sha256=found.metadata.get("sha256"),
        )


def _get(place: _P, client: BlobClient[_P], attempt: Attempt) -> Body:
    return client.get(place, LONGEST_NOTE, attempt)


def _is_managed(found: BlobProperties) -> bool:
    return MANAGED.items() <= found.metadata.items()


def _raw_bytes(found: BlobProperties) -> int | None:
    """Return the size in the metadata. Anybody may have written those: int() refuses thousands of digits."""
    text = found.metadata.get("raw_bytes", "")
    return int(text) if re.fullmatch("[0-9]{1,19}", text) else None


def _instance_id(found: BlobProperties) -> str | None:
    """Return the instance in the metadata, or the folder that the Python SDK makes for it."""
    quoted = found.metadata.get("instance_id")
    if quoted is not None:
        return unquote(quoted, errors="replace")
    return found.name.rpartition("/")[0] or None
