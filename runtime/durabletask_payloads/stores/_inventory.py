"""The inventory of a store: what is stored, listed by partition, looked at one by one, and deleted if unchanged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

REST: Final = ""
"""The partition of the names that begin with anything but a lower-case hex digit, which no name of ours does."""

# Each takes a request at least: with more of them, a small container would take long; with fewer, more of a large one
# is listed again when a sweep that was broken off goes on.
PARTITIONS: Final = (*"0123456789abcdef", REST)

_DIGITS_OF_NAME: Final = re.compile(r"(?:^|/)([0-9a-f]{32})\Z")


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """What a store has under one name.

    Attributes:
        name: of the blob in its container, or of the object below the prefix.
        token: a token for it, as this store writes them; "" if no token can name it, so that it is not a payload.
        stored_bytes: its size, after compression.
        modified: when it was written, by the clock of the service; in UTC.
        etag: changes when it is written again.
        managed: whether the service, or this package, marked it as a payload: only those may be deleted. None if the
            listing does not tell: `look` does.
        instance_id: the orchestration or entity that it was stored for; None if unknown, or if the listing does not
            tell. So are the next two.
        raw_bytes: its size before compression.
        sha256: the checksum of the payload, as hex digits.
    """

    name: str
    token: str
    stored_bytes: int
    modified: datetime
    etag: str
    managed: bool | None
    instance_id: str | None
    raw_bytes: int | None
    sha256: str | None

    @property
    def compressed(self) -> bool:
        """Whether it is known to be stored compressed."""
        return self.raw_bytes is not None and self.raw_bytes != self.stored_bytes

    @property
    def digits(self) -> str | None:
        """The 32 random hex digits that its name ends with, which each token for it has; None if it has no token."""
        match = _DIGITS_OF_NAME.search(self.name) if self.token else None
        return match[1] if match else None


class PayloadInventory(Protocol):
    """Lists, looks at and deletes what a store has. All methods may be called from any number of threads.

    Methods that do I/O raise errors of the `PayloadError` tree.
    """

    @property
    def location(self) -> str:
        """Where the payloads are, for texts and state files. No secret is in it."""
        ...

    @property
    def partitions(self) -> Sequence[str]:
        """The parts that the store is listed by. Each name is in exactly one of them."""
        ...

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        """Yield what is stored in a partition, one page in memory at a time. After an error it has to begin again."""
        ...

    def look(self, token: str) -> StoredPayload:
        """Return what is stored under `token`, with all that is known of it. Raises as `PayloadStore.stored_bytes`."""
        ...

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        """Delete what was listed or looked at, if it is managed and still has its ETag.

        Returns:
            False if it was changed, is gone, or is not managed: then nothing is deleted.
        """
        ...

    def name_of(self, token: str) -> str | None:
        """Return the name that `token` has in this store; None if it is no token, or of another place."""
        ...

    def service_time(self) -> datetime:
        """Return the time by the service's clock, in UTC: that of a small payload, which is stored and deleted."""
        ...


@runtime_checkable
class ListedStore(Protocol):
    """A store that can be listed."""

    def inventory(self) -> PayloadInventory:
        """Return the inventory of this store. Makes no request."""
        ...


def inventory_of(store: object) -> PayloadInventory:
    """Return the inventory of `store`.

    Raises:
        TypeError: it cannot be listed, as a store written for the `durabletask` SDK.
    """
    if isinstance(store, ListedStore):
        return store.inventory()
    raise TypeError(
        f"{type(store).__name__} cannot be listed: it has no method inventory(). BlobPayloadStore, "
        "ObjectStorePayloadStore, DirectoryPayloadStore and InMemoryPayloadStore have one"
    )


def is_in(name: str, partition: str) -> bool:
    """Return whether a name belongs to a partition."""
    return name.startswith(partition) if partition else not name.startswith(PARTITIONS[:-1])
