"""The state of a sweep in an SQLite file: which payloads the hub mentions, which instances it has, how far the run is.

A payload is known by the 32 random hex digits that its name and each token for it end with, not by container or
account: one account may have several URLs, and no two payloads have the same digits.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from durabletask_payloads._errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence
    from pathlib import Path

# The prefix of a token of any version, and then, within the longest name there is as JSON escapes it, what a name ends
# with. Text may hold more than tokens, which may be escaped for JSON or for a URL.
_PREFIX: Final = re.compile(rb"(?:blob|object)(?::|%3[aA]|\\u003[aA])v[0-9]")
_DIGITS: Final = re.compile(rb"(?:[:/]|%2[fF]|%3[aA]|\\u00(?:2[fF]|3[aA]))([0-9a-f]{32})")
_WINDOW: Final = 8192
_OVERLAP: Final = 40

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS run (one INTEGER PRIMARY KEY CHECK (one = 1), description TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS mentions (digits BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS instances (hash BLOB PRIMARY KEY, updated REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS partitions (name TEXT PRIMARY KEY, done INTEGER NOT NULL, tally TEXT NOT NULL) WITHOUT ROWID;
"""
# 64 MiB of pages, whatever the size of the file. With a write-ahead log, what is committed last is whole or not there.
_SETTINGS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -65536",
)
_MOST_PARAMETERS: Final = 500


def mentions_in(data: bytes) -> set[bytes]:
    """Return the digits, as 16 bytes, of all tokens in a serialized message: each a whole text, or a part of one."""
    found: set[bytes] = set()
    scanned = 0
    for match in _PREFIX.finditer(data):
        start, end = max(match.end(), scanned - _OVERLAP), match.end() + _WINDOW
        found.update(bytes.fromhex(digits.decode()) for digits in _DIGITS.findall(data, start, end))
        scanned = end
    return found


@dataclass
class Tally:
    """What a sweep found, in payloads and in stored bytes.

    Attributes:
        examined: all that is in the container.
        foreign: what no token can name: never deleted.
        unmanaged: without the mark that allows a deletion (`managed_by`): never deleted.
        young: within the grace time.
        mentioned: by an instance or an entity.
        waiting: mentioned by none, but its instance or entity has not run since, and may have a message to come.
        garbage: all others. Deleted, unless it is a dry run.
        changed: garbage that was written again, or deleted by others, before it was deleted here.
    """

    examined: int = 0
    foreign: int = 0
    unmanaged: int = 0
    young: int = 0
    mentioned: int = 0
    waiting: int = 0
    garbage: int = 0
    changed: int = 0
    examined_bytes: int = 0
    garbage_bytes: int = 0

    def __add__(self, other: Tally) -> Tally:
        mine, others = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + others[name] for name in mine})


@dataclass
class Run:
    """What a run is about. Times are in seconds since 1970, by the clock of the store's service.

    Attributes:
        location: of the store.
        hub: of the task hub; None for a run by age alone.
        age: how old garbage must be, in seconds.
        delete: whether it deletes.
        began: when it began.
        hub_began: when the hub was begun to be read; what was written later than `age` before that is not judged.
        hub_read: whether the hub was read to its end.
        finished: whether all partitions are done.
        instances, entities: how many the hub has.
        hub_seconds, listing_seconds: how long reading and listing took.
    """

    location: str
    hub: str | None
    age: float
    delete: bool
    began: float
    hub_began: float
    hub_read: bool = False
    finished: bool = False
    instances: int = 0
    entities: int = 0
    hub_seconds: float = 0.0
    listing_seconds: float = 0.0


class SweepState:
    """The state of a sweep in a file, for one thread of one process.

    Args:
        path: of the file, which is created. It holds no secret and no payload.

    Raises:
        PayloadError: the file is something else, another sweep has it open, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._translated():
            self._database = sqlite3.connect(path, timeout=0.0, isolation_level=None, check_same_thread=False)
            try:
                for setting in _SETTINGS:
                    self._database.execute(setting)
                self._database.executescript(_SCHEMA)
            except BaseException:
                self._database.close()
                raise

    def close(self) -> None:
        self._database.close()

    # ---- the run ----------------------------------------------------------------------------------------------

    def run(self) -> Run | None:
        """Return the run that was begun in this file."""
        with self._translated():
            row: tuple[str] | None = self._database.execute("SELECT description FROM run").fetchone()
            try:
                return Run(**json.loads(row[0])) if row else None
            except (TypeError, ValueError):  # of another version
                return None

    def begin(self, run: Run) -> None:
        """Forget whatever is in the file, and begin a run."""
        with self._transaction():
            for table in ("run", "mentions", "instances", "partitions"):
                self._database.execute(f"DELETE FROM {table}")
            self._save(run)

    def begin_hub(self, run: Run) -> None:
        """Forget what was read of the hub."""
        with self._transaction():
            for table in ("mentions", "instances"):
                self._database.execute(f"DELETE FROM {table}")
            self._save(run)

    def save(self, run: Run) -> None:
        with self._transaction():
            self._save(run)

    def _save(self, run: Run) -> None:
        self._database.execute("INSERT OR REPLACE INTO run VALUES (1, ?)", (json.dumps(asdict(run)),))

    # ---- what the hub has -------------------------------------------------------------------------------------

    def add_instances(self, updated: Iterable[tuple[str, float | None]]) -> list[bool]:
        """Add orchestrations and entities: when each that may still run did last, None for one that has ended.

        Returns:
            for each whether it is new.
        """
        with self._transaction():
            return [
                self._database.execute("INSERT OR IGNORE INTO instances VALUES (?, ?)", (_hash(name), time)).rowcount
                > 0
                for name, time in updated
            ]

    def add_mentions(self, digits: Iterable[bytes]) -> None:
        with self._transaction():
            self._database.executemany("INSERT OR IGNORE INTO mentions VALUES (?)", ((one,) for one in sorted(digits)))

    def mentioned(self, digits: Sequence[bytes]) -> set[bytes]:
        """Return those of `digits` that are mentioned."""
        found: set[bytes] = set()
        with self._translated():
            for start in range(0, len(digits), _MOST_PARAMETERS):
                part = digits[start : start + _MOST_PARAMETERS]
                marks = ",".join("?" * len(part))
                rows = self._database.execute(f"SELECT digits FROM mentions WHERE digits IN ({marks})", part)
                found.update(row[0] for row in rows)
        return found

    def last_run(self, instance_id: str) -> float | None:
        """Return when an instance that may still run did last; None for one that has ended or is not in the hub."""
        with self._translated():
            query = self._database.execute("SELECT updated FROM instances WHERE hash = ?", (_hash(instance_id),))
            row: tuple[float | None] | None = query.fetchone()
        return row[0] if row else None

    def longest_wait(self) -> float | None:
        """Return when the instance did last that has not run for longest, of those that may still run."""
        with self._translated():
            row: tuple[float | None] = self._database.execute("SELECT min(updated) FROM instances").fetchone()
        return row[0]

    def count_mentions(self) -> int:
        with self._translated():
            row: tuple[int] = self._database.execute("SELECT count(*) FROM mentions").fetchone()
        return row[0]

    # ---- how far the container is -----------------------------------------------------------------------------

    def partition(self, name: str) -> tuple[bool, Tally]:
        """Return whether a partition is done, and what was found in it so far."""
        with self._translated():
            query = self._database.execute("SELECT done, tally FROM partitions WHERE name = ?", (name,))
            row: tuple[int, str] | None = query.fetchone()
        return (bool(row[0]), Tally(**json.loads(row[1]))) if row else (False, Tally())

    def save_partition(self, name: str, tally: Tally, *, done: bool) -> None:
        with self._transaction():
            row = (name, done, json.dumps(asdict(tally)))
            self._database.execute("INSERT OR REPLACE INTO partitions VALUES (?, ?, ?)", row)

    # ---- SQLite -----------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Generator[None]:
        with self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = "another sweep may be using it" if "locked" in str(error) else "name another one, or delete it"
            raise PayloadError(f"the state file {self._path} cannot be used ({error}): {hint}") from error


def _hash(instance_id: str) -> bytes:
    return hashlib.blake2b(instance_id.encode(errors="surrogatepass"), digest_size=16).digest()
