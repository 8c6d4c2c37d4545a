"""Races planted into the package, to show that the scenarios find such."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.interleavings.explore import explore, warm_up
from tests.interleavings.primitives import Semaphore

from durabletask_payloads.externalizer import _transfers
from durabletask_payloads.externalizer._cache import Flight, PayloadCache
from durabletask_payloads.externalizer._transfers import Transfers
from durabletask_payloads.interceptors._calls import FinishedLater
from durabletask_payloads.interceptors.worker._registry import Registry
from durabletask_payloads.interceptors.worker._stream import WorkItemStream
from durabletask_payloads.stores._background_loop import BackgroundLoop
from durabletask_payloads.stores._remote import RemoteStore
from durabletask_payloads.stores._threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pytest

    Plant = Callable[[pytest.MonkeyPatch], None]


class Planted(NamedTuple):
    """A race.

    Attributes:
        scenario: which finds it.
        plant: puts it there.
        finding: a part of what is reported.
    """

    scenario: str
    plant: Plant
    finding: str


class _NoLock(Semaphore):
    """A lock, or slots, for any number."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        return True

    def release(self, n: int = 1) -> None:
        """Release nothing."""


def _no_lock(self: object) -> _NoLock:
    return _NoLock()


def _false(self: object) -> bool:
    return False


def _set_nothing(self: object, value: object) -> None: ...


def _without_lock(owner: type[Any], name: str = "_lock") -> Plant:
    """Return what takes a lock away that the `__init__` of `owner` makes."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, property(_no_lock, _set_nothing), raising=False)

    return plant


def _single_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each caller downloads by itself."""

    def get(self: PayloadCache, token: str, download: Callable[[str], bytes]) -> bytes:
        payload = self.find(token)
        if payload is None:
            payload = download(token)
            self.put(token, payload)
        return payload

    monkeypatch.setattr(PayloadCache, "get", get)


def _waits_for_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the pool waits for a download that waits for a thread of the pool."""
    reserve = PayloadCache.reserve

    def without_taking_over(self: PayloadCache, token: str, *, take_over: bool = False) -> bytes | Flight:
        return reserve(self, token)

    monkeypatch.setattr(PayloadCache, "reserve", without_taking_over)


def _slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of transfers at a time."""
    renew = Transfers._renew  # pyright: ignore[reportPrivateUsage]  # this is what such a defect would change

    def without_limit(self: Transfers) -> None:
        renew(self)
        setattr(self, "slots", _NoLock(self._concurrency))  # noqa: B010 # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(Transfers, "_renew", without_limit)


def _undo_of_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cancelled task had uploaded stays."""

    def nothing(future: object, undo: object) -> None: ...

    monkeypatch.setattr(_transfers, "_undo_late", nothing)


def _undo_of_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way beside a failed upload is not waited for."""
    finish = _transfers._finish  # pyright: ignore[reportPrivateUsage]

    def at_once(results: Any, others: Any, undo: Any) -> None:
        finish(results, [other for other in others if other.done()], undo)

    monkeypatch.setattr(_transfers, "_finish", at_once)


def _end_abandons_what_is_being_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a stream abandons what an abandonment is under way for."""
    wind_up = WorkItemStream._wind_up  # pyright: ignore[reportPrivateUsage]

    def forgetting(self: WorkItemStream, error: Exception | None) -> None:
        self._finishing.clear()  # pyright: ignore[reportPrivateUsage]
        wind_up(self, error)

    monkeypatch.setattr(WorkItemStream, "_wind_up", forgetting)


def _end_forgets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry keeps the work items of a stream that has ended."""

    def nothing(self: Registry, holder: object) -> None: ...

    monkeypatch.setattr(Registry, "stream_ended", nothing)


def _close_without_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` leaves its pool running."""

    def close(self: Transfers, *, wait: bool = True) -> None:
        self._closed = True  # pyright: ignore[reportPrivateUsage]

    monkeypatch.setattr(Transfers, "close", close)


def _stop_before_the_last_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that stops takes coroutines until its thread has ended."""
    monkeypatch.setattr(BackgroundLoop, "_ended", property(_false, _set_nothing), raising=False)


def _no_one_is_told_of_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends takes no notice of what was put into the queue before."""
    monkeypatch.setattr(DaemonThreads, "_closed", property(_false, _set_nothing), raising=False)


PLANTED: Final[dict[str, Planted]] = {
    "single flight has no lock": Planted("one_download_for_many", _without_lock(PayloadCache), "repeats it"),
    "single flight is gone": Planted("one_download_for_many", _single_flight, "downloads of one token at a time"),
    "a thread waits for what waits for it": Planted(
        "one_download_for_many", _waits_for_what_has_not_begun, "deadlock at"
    ),
    "no slots": Planted("one_download_for_many", _slots, "transfers at a time"),
    "uploads of a cancelled task stay": Planted("commit_against_cancel", _undo_of_cancelled, "are left"),
    "uploads beside a failed one stay": Planted("commit_against_cancel", _undo_of_failed, "are left"),
    "close leaves threads": Planted("close_against_everything", _close_without_wait, "threads are left"),
    "abandoned twice at the end of the stream": Planted(
        "work_items_against_the_end_of_the_stream", _end_abandons_what_is_being_sent, "answered before"
    ),
    "the registry outlives the stream": Planted(
        "work_items_against_the_end_of_the_stream", _end_forgets_nothing, "left in the registry"
    ),
    "a response is finished twice": Planted("a_response_that_many_ask_for", _without_lock(FinishedLater), "repeats it"),
    "a coroutine is never begun": Planted("a_loop_that_stops", _stop_before_the_last_begins, "deadlock at"),
    "threads outlive their close": Planted("calls_that_hang", _no_one_is_told_of_close, "repeats it"),
    "a container is made twice": Planted(
        "a_remote_store_that_closes", _without_lock(RemoteStore, "_creating"), "the container was made"
    ),
}


def planted(name: str, seeds: Iterable[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Explore the scenario of a race that was planted. Raises ScheduleError when it is found."""
    warm_up()
    PLANTED[name].plant(monkeypatch)
    try:
        explore(PLANTED[name].scenario, seeds)
    finally:
        gc.collect()  # a run that failed leaves coroutines that never ended, of which asyncio warns
