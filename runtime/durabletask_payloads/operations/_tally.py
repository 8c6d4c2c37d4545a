"""Counts payloads by instance in an SQLite file, so that memory does not grow with the number of instances."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing_extensions import Self

_HELD: Final = 10_000  # instances that are counted in memory before they are added to the file
_ADD: Final = """INSERT INTO tally VALUES (?, ?, ?) ON CONFLICT (instance)
    DO UPDATE SET payloads = payloads + excluded.payloads, bytes = bytes + excluded.bytes"""


@dataclass(frozen=True, slots=True)
class InstanceTally:
    """How many payloads an orchestration or entity has, and how many bytes, after compression."""

    instance_id: str
    payloads: int
    stored_bytes: int


class TallyByInstance:
    """A counter by instance, as a context manager. It is of one thread."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="durabletask-payloads-")
        self._file = sqlite3.connect(Path(self._folder.name) / "tally.sqlite")
        self._file.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE tally (instance BLOB PRIMARY KEY, payloads INTEGER, bytes INTEGER) WITHOUT ROWID"
        )
        self._held: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._folder.cleanup()

    def add(self, instance_id: str, stored_bytes: int) -> None:
        """Count a payload."""
        payloads, held = self._held.get(instance_id, (0, 0))
        self._held[instance_id] = payloads + 1, held + stored_bytes
        if len(self._held) >= _HELD:
            self._flush()

    def instances(self) -> int:
        """Return how many instances there are."""
        self._flush()
        (count,) = self._file.execute("SELECT count(*) FROM tally").fetchone()
        return int(count)

    def largest(self, number: int) -> tuple[InstanceTally, ...]:
        """Return the instances with the most bytes, the first one with most of all."""
        self._flush()
        rows = self._file.execute("SELECT * FROM tally ORDER BY bytes DESC, instance LIMIT ?", (number,))
        return tuple(InstanceTally(_text(instance), int(payloads), int(held)) for instance, payloads, held in rows)

    def _flush(self) -> None:
        rows = [(_bytes(instance), payloads, held) for instance, (payloads, held) in sorted(self._held.items())]
        with self._file:
            self._file.executemany(_ADD, rows)
        self._held.clear()


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # SQLite takes no lone surrogates in a text


def _text(data: bytes) -> str:
    return data.decode(errors="surrogatepass")
