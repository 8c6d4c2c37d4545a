"""Downloads of an Externalizer: from the cache, by a download that somebody else has begun, or from the store."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError

from ._transfers import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._cache import Flight, PayloadCache
    from ._plan import PlannedDownload
    from ._receipt import Counters
    from ._transfers import Transfers

    OnUnreadable: TypeAlias = Callable[[PlannedDownload, Exception], None]


class Downloads:
    """Fetches payloads, each token once at a time. Safe for any number of threads and event loops."""

    def __init__(self, store: PayloadStoreLike, cache: PayloadCache, transfers: Transfers, counters: Counters) -> None:
        self._store = store
        self._cache = cache
        self._transfers = transfers
        self._counters = counters

    def fetch(self, planned: Sequence[PlannedDownload], on_unreadable: OnUnreadable | None) -> dict[str, bytes]:
        """Return the payloads of `planned` by token, without those that `on_unreadable` lets pass."""
        payloads, missing = self._from_cache(planned)
        payloads.update(self._download_all(missing, on_unreadable))
        return payloads

    async def fetch_async(
        self, planned: Sequence[PlannedDownload], on_unreadable: OnUnreadable | None
    ) -> dict[str, bytes]:
        """Do the same as `fetch` without blocking the event loop."""
        payloads, missing = self._from_cache(planned)
        payloads.update(await self._download_all_async(missing, on_unreadable))
        return payloads

    def _from_cache(self, planned: Sequence[PlannedDownload]) -> tuple[dict[str, bytes], list[PlannedDownload]]:
        """Return what the cache has of `planned`, and one download for each token that it does not have."""
        payloads: dict[str, bytes] = {}
        missing: dict[str, PlannedDownload] = {}
        for item in planned:
            if item.token in payloads or item.token in missing:
                continue
            payload = self._cache.find(item.token)
            if payload is None:
                missing[item.token] = item
                continue
            payloads[item.token] = payload
            self._counters.moved("cached", item.path, item.token, len(payload), 0.0)
        return payloads, list(missing.values())

    def _download_all(
        self, planned: Sequence[PlannedDownload], on_unreadable: OnUnreadable | None
    ) -> Iterator[tuple[str, bytes]]:
        def download(item: PlannedDownload) -> bytes:
            return self._cache.get(item.token, partial(self._download, item.path))

        payloads = self._transfers.each(partial(self._readable, download, on_unreadable), planned)
        return ((i.token, payload) for i, payload in zip(planned, payloads, strict=True) if payload is not None)

    async def _download_all_async(
        self, planned: Sequence[PlannedDownload], on_unreadable: OnUnreadable | None
    ) -> dict[str, bytes]:
        """Download in threads what nobody else is downloading, and await the rest, which takes no thread."""
        payloads: dict[str, bytes] = {}
        ours: list[tuple[PlannedDownload, Flight]] = []
        theirs: list[tuple[PlannedDownload, Flight]] = []
        for item in planned:
            found = self._cache.reserve(item.token)
            if isinstance(found, bytes):
                payloads[item.token] = found
            else:
                (ours if found.is_ours else theirs).append((item, found))
        if ours:
            payloads.update(await self._fly_async(ours, on_unreadable))
        again: list[PlannedDownload] = []
        for item, flight in theirs:
            await settled(flight.future)
            if flight.was_interrupted():
                again.append(item)
                continue
            payload = self._readable(flight.outcome, on_unreadable, item)
            if payload is not None:
                payloads[item.token] = payload
        if again:
            payloads.update(await self._download_all_async(again, on_unreadable))
        return payloads

    async def _fly_async(
        self, ours: Sequence[tuple[PlannedDownload, Flight]], on_unreadable: OnUnreadable | None
    ) -> Iterator[tuple[str, bytes]]:
        items = [item for item, _ in ours]
        flights = {item.token: flight for item, flight in ours}

        def drop() -> None:
            for flight in flights.values():
                self._cache.drop(flight)

        def download(item: PlannedDownload) -> bytes:
            return self._cache.fly(flights[item.token], partial(self._download, item.path))

        def download_all() -> list[bytes | None]:
            try:
                return self._transfers.each(partial(self._readable, download, on_unreadable), items)
            finally:
                drop()

        try:
            payloads = await self._transfers.in_thread(download_all, dropped=drop)
        except PayloadStoreUnavailableError:
            drop()  # where it was refused, nothing has begun
            raise
        return ((i.token, payload) for i, payload in zip(items, payloads, strict=True) if payload is not None)

    def _readable(
        self,
        download: Callable[[PlannedDownload], bytes],
        on_unreadable: OnUnreadable | None,
        item: PlannedDownload,
    ) -> bytes | None:
        """Return the payload of `item`, None if `on_unreadable` lets its token stay."""
        try:
            return self._counters.counted("download", item.path, download, item)
        except Exception as error:
            if on_unreadable is None:
                raise
            on_unreadable(item, error)
            return None

    def _download(self, path: str, token: str) -> bytes:
        started = time.perf_counter()
        with self._transfers.slots:
            payload = self._checked_payload(self._store.download(token), path)
        self._counters.moved("download", path, token, len(payload), time.perf_counter() - started)
        return payload

    def _checked_payload(self, payload: object, path: str) -> bytes:
        """Return `payload` if it is one: a store may be somebody else's."""
        if isinstance(payload, bytes):
            return payload
        raise PayloadError(f"{path}: {name_of(self._store)}.download returned {type(payload).__name__}, not bytes")


def name_of(store: PayloadStoreLike) -> str:
    """Return the name of a store's class, for an error."""
    return f"{type(store).__module__}.{type(store).__qualname__}"
