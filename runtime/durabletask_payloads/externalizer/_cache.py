"""Cache of payloads: what was uploaded or downloaded is not downloaded again."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Lock
from typing import TYPE_CHECKING, Final, NamedTuple

from cachetools import LRUCache

from durabletask_payloads._lifecycle import renewed_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable


# What an entry takes besides its payload: the token, two objects, and its places in the dicts of the cache. Measured
# with tracemalloc on Python 3.10 to 3.13: 240 to 350 bytes with the shortest tokens, and those with a URL are longer.
_ENTRY_BYTES: Final = 400


class CacheCounts(NamedTuple):
    """How the cache has served so far, and what it holds now. The bytes are those of the payloads."""

    hits: int
    misses: int
    evictions: int
    payloads: int
    bytes: int


class Flight:
    """A download of a token, of the caller or of somebody else."""

    __slots__ = ("future", "is_ours", "token")

    def __init__(self, token: str, future: Future[bytes], *, is_ours: bool) -> None:
        self.token = token
        self.future = future
        self.is_ours = is_ours

    def outcome(self, _: object = None) -> bytes:
        """Wait for the payload, or raise the error of its download. A second call has none."""
        try:
            return self.future.result()
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Forget the outcome. An error and the frames that hold this would hold each other, and payloads."""
        self.future = _NO_OUTCOME

    def was_interrupted(self) -> bool:
        """Wait for the end of the download, and return whether it ended without an outcome."""
        try:
            self.future.exception()
        except BaseException:
            if self.future.cancelled():
                return True
            raise
        return False


class PayloadCache:
    """Maps tokens to payloads: bounded in bytes, least recently used out first, one download of a token at a time.

    The payload of a token never changes, so an entry never goes stale. A payload larger than a quarter of the
    capacity is not kept: it would push out everything else. Each entry counts 400 bytes more than its payload, so that
    tiny ones are bounded too. Safe for any number of threads.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._largest = capacity_bytes // 4
        self._renew()
        renewed_after_fork(self, type(self)._renew)
        self._hits = self._misses = self._evictions = 0

    def _renew(self) -> None:
        self._lock = Lock()
        # Empty, also after a fork: a thread of the parent may have been half through a change.
        self._payloads: LRUCache[str, bytes] = LRUCache(self._capacity, getsizeof=_size)
        self._downloads: dict[str, Future[bytes]] = {}
        self._queued: set[str] = set()  # those of them that no thread has begun

    @property
    def counts(self) -> CacheCounts:
        with self._lock:
            held = self._payloads
            payload_bytes = int(held.currsize) - len(held) * _ENTRY_BYTES
            return CacheCounts(self._hits, self._misses, self._evictions, len(held), payload_bytes)

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
        When the other one was interrupted, which says nothing about the payload, a waiting caller takes over. It does
        so at once when the other one has not begun: its download may wait for the thread that this call would block.
        """
        while True:
            found = self.reserve(token, take_over=True)
            if isinstance(found, bytes):
                return found
            if found.is_ours:
                return self.fly(found, download)
            if not found.was_interrupted():
                return found.outcome()

    def reserve(self, token: str, *, take_over: bool = False) -> bytes | Flight:
        """Return the payload of `token`, or its download: if it is ours, the caller has to `fly` or `drop` it.

        Args:
            token: of the payload.
            take_over: make the download ours if somebody else has reserved it, but not begun it.
        """
        with self._lock:
            payload = self._payloads.get(token)
            if payload is not None:
                self._hits += 1
                return payload
            before = self._downloads.get(token)
            if before is None:
                self._misses += 1
            elif not (take_over and token in self._queued):
                self._hits += 1
                return Flight(token, before, is_ours=False)
            future: Future[bytes] = Future()
            self._downloads[token] = future
            self._queued.add(token)
        if before is not None:
            _interrupt(before)
        return Flight(token, future, is_ours=True)

    def fly(self, flight: Flight, download: Callable[[str], bytes]) -> bytes:
        """Do a download of ours, or wait for the caller that took it over."""
        with self._lock:
            is_ours = self._downloads.get(flight.token) is flight.future
            if is_ours:
                self._queued.discard(flight.token)
        if not is_ours:
            return self.get(flight.token, download)
        try:
            payload = download(flight.token)
        except Exception as error:
            with self._lock:
                self._downloads.pop(flight.token, None)
            flight.future.set_exception(error)
            flight.let_go()
            raise
        except BaseException:
            self.drop(flight)
            raise
        with self._lock:
            self._put(flight.token, payload)
            self._downloads.pop(flight.token, None)
        flight.future.set_result(payload)
        return payload

    def drop(self, flight: Flight) -> None:
        """Give up a download of ours, which somebody else may have to do."""
        with self._lock:
            if self._downloads.get(flight.token) is not flight.future:  # somebody else took it over
                return
            del self._downloads[flight.token]
            self._queued.discard(flight.token)
        _interrupt(flight.future)

    def _put(self, token: str, payload: bytes) -> None:
        if len(payload) <= self._largest and _size(payload) <= self._capacity:
            before = len(self._payloads) + (token not in self._payloads)
            self._payloads[token] = payload
            self._evictions += before - len(self._payloads)


def _size(payload: bytes) -> int:
    return len(payload) + _ENTRY_BYTES


def _interrupt(download: Future[bytes]) -> None:
    """Tell those who wait for `download` that it has no outcome."""
    download.cancel()
    download.set_running_or_notify_cancel()


_NO_OUTCOME: Final[Future[bytes]] = Future()
_interrupt(_NO_OUTCOME)
