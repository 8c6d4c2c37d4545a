"""A payload store of one's own: an SQLite file that the processes of one machine share.

    python custom_store.py

The asynchronous methods come with `PayloadStore`, which runs these in threads. `durabletask_payloads.testing` has the
suite for pytest that holds a store to what the interceptors rely on. Needs `durabletask-payloads` alone.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import threading
import uuid
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durabletask_payloads import (
    LargePayloadStorageOptions,
    PayloadNotFoundError,
    PayloadStore,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Generator


# SQLite does not survive a fork in the middle of a transaction: each fork waits until there is none.
_transaction = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_transaction.acquire, after_in_parent=_transaction.release, after_in_child=_transaction.release
    )


# --8<-- [start:main]
class SqlitePayloadStore(PayloadStore):
    """Keeps payloads in an SQLite file. Each call opens a connection of its own, and no thread or fork shares one."""

    def __init__(self, path: Path, options: LargePayloadStorageOptions | None = None) -> None:
        self._path = path
        self._options = options or LargePayloadStorageOptions()

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return (b"sqlite:v1:",)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        if len(data) > self._options.max_stored_payload_bytes:
            raise self._too_large("the payload", len(data))
        name = uuid.uuid4().hex  # 122 random bits: nobody guesses the token of another's payload
        owner = instance_id.encode(errors="backslashreplace") if instance_id is not None else None  # for operators
        with self._database() as database:
            database.execute("INSERT INTO payloads VALUES (?, ?, ?)", (name, owner, data))
        return f"sqlite:v1:{name}"

    def download(self, token: str) -> bytes:
        size = self.stored_bytes(token)
        if size > self._options.max_stored_payload_bytes:  # the writer may have another setting
            raise self._too_large(token, size)
        data: bytes = self._value("data", token)
        return data

    def is_known_token(self, value: str) -> bool:
        return re.fullmatch(r"sqlite:v1:[0-9a-f]{32}", value) is not None

    def delete(self, token: str) -> None:
        name = self._name_in(token)
        with self._database() as database:
            database.execute("DELETE FROM payloads WHERE name = ?", (name,))

    def stored_bytes(self, token: str) -> int:
        size: int = self._value("length(data)", token)
        return size

    # --8<-- [end:main]

    def _value(self, column: str, token: str) -> Any:
        name = self._name_in(token)
        with self._database() as database:
            row = database.execute(f"SELECT {column} FROM payloads WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise PayloadNotFoundError(f"{token}: payload not found in {self._path}")
        return row[0]

    @contextmanager
    def _database(self) -> Generator[sqlite3.Connection]:
        """Open the file for one transaction. What SQLite raises is about the file, so that trying again may help."""
        try:
            with _transaction, closing(sqlite3.connect(self._path)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS payloads (name TEXT PRIMARY KEY, owner BLOB, data BLOB)")
                yield database
        except sqlite3.Error as error:
            raise PayloadStoreUnavailableError(f"the payload store {self._path} is unavailable: {error}") from error

    def _name_in(self, token: str) -> str:
        if not self.is_known_token(token):
            raise PayloadTokenError("the text is no token of an SqlitePayloadStore")  # not shown: it may be a payload
        return token.rpartition(":")[2]

    def _too_large(self, what: str, size: int) -> PayloadTooLargeError:
        limit = self._options.max_stored_payload_bytes
        return PayloadTooLargeError(
            f"{what} has {size} bytes, which exceeds the maximum of max_stored_payload_bytes ({limit})"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, SqlitePayloadStore(Path(folder, "payloads.sqlite")) as store:
        # `PayloadInterceptor` takes it as any other, and makes these calls.
        token = store.upload(b"x" * 5_000_000, instance_id="order-17")
        print(f"{token}: {store.stored_bytes(token):,} bytes")
        print(f"{len(store.download(token)):,} bytes came back")
        store.delete(token)


if __name__ == "__main__":
    main()
