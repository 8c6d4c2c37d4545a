"""Receipts and figures: what an Externalizer did to one message, and what it has done in all."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from durabletask_payloads._lifecycle import renewed_after_fork
from durabletask_payloads.observers._base import Transfer, TransferFailure
from durabletask_payloads.observers._safe import trace_at_hand

from ._placing import put

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    from durabletask_payloads.observers._safe import SafeObserver

    from ._cache import CacheCounts
    from ._plan import PlannedUpload

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class PayloadStats(NamedTuple):
    """What an `Externalizer` has done since it was made: counts, and bytes before compression."""

    uploads: int
    uploaded_bytes: int
    downloads: int
    downloaded_bytes: int
    deletions: int
    failures: int
    cache_hits: int
    cache_misses: int
    cache_evictions: int
    cached_payloads: int
    cached_bytes: int


class Counters:
    """The counts behind `PayloadStats`, and the transfers for an observer. Safe for any number of threads."""

    def __init__(self, observer: SafeObserver | None) -> None:
        self._observer = observer
        self._counts: Counter[str] = Counter()
        self._renew()
        renewed_after_fork(self, type(self)._renew)

    def _renew(self) -> None:
        self._lock = Lock()

    def moved(
        self, direction: Literal["upload", "download", "cached"], path: str, token: str, raw_bytes: int, seconds: float
    ) -> None:
        """Count a `Transfer`, and tell the observer."""
        self.count(direction)
        self.count(f"{direction} bytes", raw_bytes)
        if self._observer is not None:
            transfer = Transfer(direction, path, token, raw_bytes, seconds, trace_at_hand.get())
            self._observer.tell(lambda observer: observer.transferred, transfer)

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self._counts[what] += number

    def counted(
        self, direction: Literal["upload", "download"], path: str, transfer: Callable[[_Item], _Result], item: _Item
    ) -> _Result:
        """Call `transfer`, and count it as a failure if it raises."""
        started = time.perf_counter()
        try:
            return transfer(item)
        except Exception as error:
            self.count("failure")
            if self._observer is not None:
                seconds = time.perf_counter() - started
                # Never in a local variable: the error and this frame would hold each other.
                self._observer.tell(
                    lambda observer: observer.failed,
                    TransferFailure(direction, path, error, seconds, trace_at_hand.get()),
                )
            raise

    def stats(self, cache: CacheCounts) -> PayloadStats:
        with self._lock:
            count = self._counts
            uploads, downloads = count["upload"], count["download"]
            moved = (uploads, count["upload bytes"], downloads, count["download bytes"])
            return PayloadStats(*moved, count["deletion"], count["failure"], *cache)


class ExternalizedPayload(NamedTuple):
    """A payload that left a message: its field, its token, and its size in bytes before compression."""

    path: str
    token: str
    raw_bytes: int


class Receipt:
    """What one `externalize` did, to be taken back when the message was not sent. False when it did nothing.

    Belongs to one message; not thread-safe.

    Attributes:
        payloads: what was externalized.
    """

    __slots__ = ("_delete", "_fields", "payloads")
    payloads: tuple[ExternalizedPayload, ...]

    def __init__(
        self,
        payloads: tuple[ExternalizedPayload, ...],
        fields: list[PlannedUpload],
        delete: Callable[[Iterable[str]], None],
    ) -> None:
        self.payloads = payloads
        self._fields = fields
        self._delete = delete

    def __bool__(self) -> bool:
        return bool(self.payloads)

    def restore(self) -> None:
        """Put the original values back into the message. The uploaded payloads stay in the store."""
        while self._fields:
            field, _, data = self._fields.pop()
            put(field, data)

    def rollback(self) -> None:
        """Restore the message, then delete the uploaded payloads. A failed deletion is logged, not raised."""
        self.restore()
        self._delete(self._take_tokens())

    async def rollback_async(self) -> None:
        """Do the same as `rollback` without blocking the event loop."""
        self.restore()
        tokens = self._take_tokens()
        if tokens:
            await asyncio.to_thread(self._delete, tokens)

    def _take_tokens(self) -> list[str]:
        tokens = [payload.token for payload in self.payloads]
        self.payloads = ()
        return tokens
