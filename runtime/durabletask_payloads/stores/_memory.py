"""A payload store in the memory of this process, for tests."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from durabletask_payloads._errors import PayloadNotFoundError
from durabletask_payloads._options import LargePayloadStorageOptions

from ._base import TokenStore
from ._codec import check_size, checksum, decode, encode
from ._inventory import PARTITIONS, StoredPayload, is_in
from ._tokens import (
    DEFAULT_CONTAINER,
    PayloadToken,
    check_container_name,
    name_in_container,
    new_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._inventory import PayloadInventory


class _Stored(NamedTuple):
    body: bytes
    sha256: str
    instance_id: str | None
    raw_bytes: int
    modified: float


class InMemoryPayloadStore(TokenStore):
    """Keeps payloads in memory, for tests in which client and worker share one store object.

    `len(store)` is the number of stored payloads. Bodies are encoded and tokens checked as in the other stores.

    Args:
        options: thresholds and compression; the defaults of LargePayloadStorageOptions if None.
        container_name: the container that its tokens name.

    Raises:
        ValueError: `container_name` is not a valid container name.
    """

    def __init__(
        self, options: LargePayloadStorageOptions | None = None, *, container_name: str = DEFAULT_CONTAINER
    ) -> None:
        check_container_name(container_name)
        self._options = options or LargePayloadStorageOptions()
        self._container = container_name
        # Each method does one dict operation, which is atomic: no lock is needed.
        self._stored: dict[str, _Stored] = {}

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of all payloads in the store, oldest first."""
        return tuple(str(PayloadToken(self._container, name)) for name in tuple(self._stored))

    def __len__(self) -> int:
        return len(self._stored)

    def __bool__(self) -> bool:
        """Return True even while the store is empty, so that `store or default` keeps it."""
        return True

    def instance_id(self, token: str) -> str | None:
        """Return the instance that `token` was stored for, None if unknown. Raises as `download` does."""
        return self._find(token).instance_id

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Keep `data` in memory and return its token. Raises PayloadTooLargeError, as `PayloadStore.upload`."""
        check_size(data, self._options)
        body = encode(data, "if smaller" if self._options.enable_compression else "never")
        name = new_name()
        self._stored[name] = _Stored(body, checksum(data), instance_id, len(data), time.time())
        return str(PayloadToken(self._container, name))

    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`.

        Raises:
            PayloadTokenError, PayloadNotFoundError, PayloadTooLargeError: as for `PayloadStore.download`.
        """
        stored = self._find(token)
        return decode(stored.body, token=token, limit=self._options.max_stored_payload_bytes, sha256=stored.sha256)

    def delete(self, token: str) -> None:
        """Forget the payload stored under `token`, if there is one. Raises PayloadTokenError, as `download` does."""
        self._stored.pop(name_in_container(token, self._container), None)

    def stored_bytes(self, token: str) -> int:
        """Return the size of what is stored under `token`, in bytes, after compression. Raises as `download` does."""
        return len(self._find(token).body)

    def inventory(self) -> PayloadInventory:
        """Return the inventory of this store, as operators see it. Its clock is that of this process."""
        return _Inventory(self._container, self._stored, self._find)

    def _find(self, token: str) -> _Stored:
        stored = self._stored.get(name_in_container(token, self._container))
        if stored is None:
            raise PayloadNotFoundError(
                f"{token}: payload not found in this process: it was deleted, or stored by another store or process"
            )
        return stored


class _Inventory:
    """The inventory of a container in memory. See `PayloadInventory`."""

    def __init__(self, container: str, stored: dict[str, _Stored], find: Callable[[str], _Stored]) -> None:
        self._container = container
        self._stored = stored
        self._find = find

    @property
    def location(self) -> str:
        return f"memory:{self._container}"

    @property
    def partitions(self) -> Sequence[str]:
        return PARTITIONS

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        for name, stored in tuple(self._stored.items()):
            if is_in(name, partition):
                yield self._described(name, stored)

    def look(self, token: str) -> StoredPayload:
        return self._described(name_in_container(token, self._container), self._find(token))

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        return self._stored.pop(stored.name, None) is not None  # nothing is written twice here

    def name_of(self, token: str) -> str | None:
        found = PayloadToken.parse(token)
        return found.name if found and found.account_url is None and found.container == self._container else None

    def service_time(self) -> datetime:
        return datetime.now(timezone.utc)

    def _described(self, name: str, stored: _Stored) -> StoredPayload:
        return StoredPayload(
            name=name,
            token=str(PayloadToken(self._container, name)),
            stored_bytes=len(stored.body),
            modified=datetime.fromtimestamp(stored.modified, timezone.utc),
            etag=stored.sha256,
            managed=True,
            instance_id=stored.instance_id,
            raw_bytes=stored.raw_bytes,
            sha256=stored.sha256,
        )
