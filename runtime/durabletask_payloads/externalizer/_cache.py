"""Payloads that were moved before: what was uploaded or downloaded is not downloaded again."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from cachetools import LRUCache

from ._slots import settled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class CacheCounts(NamedTuple):
    """How the cache has served so far, and what it holds now."""

    hits: int
    misses: int
    evictions: int
    payloads: int
    bytes: int


class PayloadCache:
    """Token -> payload: bounded by bytes, least recently used out first, one download for all who ask at once.

    What a token names never changes, so an entry never goes stale. A payload larger than a quarter of the
    capacity is not kept: it would push out everything else. Safe for any number of threads and event loops.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._lock = Lock()
        self._largest = capacity_bytes // 4
        self._payloads: LRUCache[str, bytes] = LRUCache(capacity_bytes, getsizeof=len)
        self._downloads: dict[str, Future[bytes]] = {}
        self._hits = self._misses = self._evictions = 0

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
        """The payload under `token` if it is kept."""
        with self._lock:
            payload = self._payloads.get(token)
            self._hits += payload is not None
            return payload

    def get(self, token: str, download: Callable[[str], bytes]) -> bytes:
        """The payload under `token`, from the cache or by `download`.

        Whoever asks while a download of the same token is under way waits for that one, and shares its error.
        """
        while True:
            found = self._look_up(token)
            if isinstance(found, bytes):
                return found
            flight, is_ours = found
            if is_ours:
                try:
                    payload = download(token)
                except BaseException as error:
                    self._fail(token, flight, error)
                    raise
                self._land(token, flight, payload)
                return payload
            if not _was_given_up(flight):
                return flight.result()

    async def get_async(self, token: str, download: Callable[[str], Awaitable[bytes]]) -> bytes:
        """`get` without blocking the event loop. A download that is cancelled is taken over by who waits for it."""
        while True:
            found = self._look_up(token)
            if isinstance(found, bytes):
                return found
            flight, is_ours = found
            if is_ours:
                try:
                    payload = await download(token)
                except BaseException as error:
                    self._fail(token, flight, error)
                    raise
                self._land(token, flight, payload)
                return payload
            await settled(flight)
            if not _was_given_up(flight):
                return flight.result()

    def _look_up(self, token: str) -> bytes | tuple[Future[bytes], bool]:
        """The payload, or the download that brings it and whether it is the caller who has to do it."""
        with self._lock:
            payload = self._payloads.get(token)
            if payload is not None:
                self._hits += 1
                return payload
            flight = self._downloads.get(token)
            if flight is not None:
                self._hits += 1
                return flight, False
            self._misses += 1
            flight = self._downloads[token] = Future()
            return flight, True

    def _put(self, token: str, payload: bytes) -> None:
        if len(payload) <= self._largest:
            before = len(self._payloads) + (token not in self._payloads)
            self._payloads[token] = payload
            self._evictions += before - len(self._payloads)

    def _land(self, token: str, flight: Future[bytes], payload: bytes) -> None:
        with self._lock:
            self._put(token, payload)
            del self._downloads[token]
        flight.set_result(payload)

    def _fail(self, token: str, flight: Future[bytes], error: BaseException) -> None:
        with self._lock:
            del self._downloads[token]
        if isinstance(error, Exception):
            flight.set_exception(error)
        else:  # cancelled or interrupted: that says nothing about the payload, so another one tries
            flight.cancel()
            flight.set_running_or_notify_cancel()


def _was_given_up(flight: Future[bytes]) -> bool:
    try:
        flight.exception()
    except BaseException:
        if flight.cancelled():
            return True
        raise
    return False
