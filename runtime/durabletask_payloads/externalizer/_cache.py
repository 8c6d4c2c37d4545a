"""Cache of payloads: what was uploaded or downloaded is not downloaded again."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from durabletask_payloads._lifecycle import renewed_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable


class CacheCounts(NamedTuple):
    """How the cache has served so far, and what it holds now."""

    hits: int
    misses: int
    evictions: int
    payloads: int
    bytes: int


class PayloadCache:
    """Maps tokens to payloads: bounded in bytes, least recently used out first, one download of a token at a time.

    The payload of a token never changes, so an entry never goes stale. A payload larger than a quarter of the
    capacity is not kept: it would push out everything else. Safe for any number of threads.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._largest = capacity_bytes // 4
        self._payloads: LRUCache[str, bytes] = LRUCache(capacity_bytes, getsizeof=len)
        self._renew()
        renewed_after_fork(self._renew)
        self._hits = self._misses = self._evictions = 0

    def _renew(self) -> None:
        self._lock = Lock()
        self._downloads: dict[str, Future[bytes]] = {}

    @property
    def counts(self) -> CacheCounts:
        with self._lock:
            held = self._payloads
            return CacheCounts(self._hits, self._misses, self._evictions, len(held), int(held.currsize))

    def put(self, token: str, payload: bytes) -> None:
        """Keep `payload`, unless it is too large to be kept."""
        with self._lock:
            self._put(token, payload)

    def discard(self, token: str) -> None:
        """Forget `token`, which was deleted from the store."""
        with self._lock:
            self._payloads.pop(token, None)

    def find(self, token: str) -> bytes | None:
        """Return the payload of `token` if it is kept."""
        with self._lock:
            payload = self._payloads.get(token)
            self._hits += payload is not None
            return payload

    def get(self, token: str, download: Callable[[str], bytes]) -> bytes:
        """Return the payload of `token`, from the cache or by `download`.

        A caller that asks while another one downloads the same token waits for that download and shares its error.
        When the other one was interrupted, which says nothing about the payload, a waiting caller takes over.
        """
        while True:
            with self._lock:
                payload = self._payloads.get(token)
                other = self._downloads.get(token)
                ours = Future[bytes]()
                if payload is None and other is None:
                    self._misses += 1
                    self._downloads[token] = ours
                else:
                    self._hits += 1
            if payload is not None:
                return payload
            if other is None:
                return self._fly(token, ours, download)
            if not _was_interrupted(other):
                return other.result()

    def _fly(self, token: str, flight: Future[bytes], download: Callable[[str], bytes]) -> bytes:
        try:
            payload = download(token)
        except BaseException as error:
            with self._lock:
                del self._downloads[token]
            if isinstance(error, Exception):
                flight.set_exception(error)
            else:
                flight.cancel()
                flight.set_running_or_notify_cancel()
            raise
        with self._lock:
            self._put(token, payload)
            del self._downloads[token]
        flight.set_result(payload)
        return payload

    def _put(self, token: str, payload: bytes) -> None:
        if len(payload) <= self._largest:
            before = len(self._payloads) + (token not in self._payloads)
            self._payloads[token] = payload
            self._evictions += before - len(self._payloads)


def _was_interrupted(flight: Future[bytes]) -> bool:
    try:
        flight.exception()
    except BaseException:
        if flight.cancelled():
            return True
        raise
    return False
