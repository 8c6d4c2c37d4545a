"""Deletes the payloads that no instance and no entity of a task hub mentions.

Why nothing is deleted that is needed:

- The hub is read to its end before anything is deleted. A call that fails ends the sweep.
- Only what was written longer than the grace time before the reading began is judged. So a payload is safe whose
  message was sent after its place in the hub was read: no upload waits that long for its message.
- A token is never put into a second message later on, since each upload gets a name of its own. It only moves on inside
  of the hub, from a waiting message into a history. Waiting messages cannot be listed: so a payload is kept if its
  instance may still run, and has not done so since the payload was written and the grace time went by.
- The hub shows no delayed signal to an entity (`signal_time`) before it is due, and the entity may run meanwhile: that
  payload is safe only while the grace time is longer than the longest delay of a signal.
- Times of payloads are compared with the clock of the store's service alone.
- A payload is deleted with its ETag, and only if it is marked as managed.

A run that was broken off goes on where the state file says, partition by partition, if it is for the same store, hub,
age and mode, and began less than a day ago. The hub is read again if it was not read to its end, or over an hour ago.
What was deleted is not listed any more, so that nothing is deleted twice.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

from durabletask_payloads._errors import PayloadAccessDeniedError, PayloadNotFoundError

from ._hub import HubError
from ._hub_reading import HubReading, read_hub
from ._mentions import Run, SweepState, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from durabletask_payloads.stores._inventory import PayloadInventory, StoredPayload

_T = TypeVar("_T")

DEFAULT_GRACE: Final = timedelta(hours=24)
DEFAULT_RATE: Final = 200.0
# How long a run can be gone on with, and how long what was read of the hub is used again, in seconds.
_RECENT: Final = 24 * 3600.0
_HUB_IS_FRESH: Final = 3600.0
_CHUNK: Final = 500
_THREADS: Final = 16
_MANY: Final = 100_000_000
_ENOUGH: Final = 1000


@dataclass(frozen=True)
class SweepSettings:
    """What a sweep does.

    Attributes:
        age: how old garbage must be: the grace time, which must be longer than the longest delay of a signal to an
            entity, since the hub does not show one before it is due; without a hub, how long payloads are kept.
        delete: whether to delete; False for a dry run.
        rate: the most deletions in a second.

    Raises:
        ValueError: `age` is negative, or `rate` is not above 0.
    """

    age: timedelta = DEFAULT_GRACE
    delete: bool = False
    rate: float = DEFAULT_RATE

    def __post_init__(self) -> None:
        if self.age < timedelta(0):
            raise ValueError(f"the age is {self.age}: it must not be negative")
        if not self.rate > 0:
            raise ValueError(f"the rate is {self.rate:g}: it must be above 0 deletions a second")


class SweepProgress(NamedTuple):
    """How far a sweep is. While it reads the hub, the number of partitions that are done is 0."""

    phase: Literal["hub", "container"]
    instances: int
    entities: int
    partitions_done: int
    partitions: int
    tally: Tally


@dataclass(frozen=True)
class Estimate:
    """What 100 million payloads would take at the same pace and with the same shares, in seconds."""

    payloads: int
    hub_seconds: float
    listing_seconds: float
    deletion_seconds: float


@dataclass(frozen=True)
class SweepReport:
    """What a sweep did.

    Attributes:
        run: what it was about.
        resumed: whether a run that was broken off went on.
        mentions: how many payloads the hub mentions.
        tally: what was found; `garbage` was deleted, unless it is a dry run.
        clock: whose clock said how old a payload is; this machine's only in a dry run without the right to write.
        estimate: None where too little was found to tell.
    """

    run: Run
    resumed: bool
    mentions: int
    tally: Tally
    clock: Literal["service", "local"]
    estimate: Estimate | None


def sweep(
    inventory: PayloadInventory,
    hub: HubReading | None,
    state: SweepState,
    settings: SweepSettings,
    progress: Callable[[SweepProgress], None] = lambda progress: None,
) -> SweepReport:
    """Find the garbage of a store, and delete it if `settings` say so.

    Args:
        inventory: of the store.
        hub: whose instances use the store, all of them. None: age alone decides.
        state: where the run is kept. KeyboardInterrupt leaves it so that a next call goes on.
        settings: what to do.
        progress: is called now and then, on this thread.

    Raises:
        HubError: the hub could not be read to its end. Nothing was deleted since the hub was begun to be read.
        PayloadError: the store cannot be listed, or something cannot be deleted. The next call goes on.
    """
    now, clock = _service_time(inventory, settings)
    run, resumed = _resume_or_begin(state, inventory.location, hub, settings, now)
    if hub is not None and not (run.hub_read and now - run.hub_began < _HUB_IS_FRESH):
        run.hub_began, run.hub_read, run.instances, run.entities = now, False, 0, 0
        state.begin_hub(run)
        began = time.monotonic()
        for run.instances, run.entities in read_hub(hub, state):
            progress(SweepProgress("hub", run.instances, run.entities, 0, len(inventory.partitions), Tally()))
        if not run.instances and not run.entities:
            raise HubError(
                f"the task hub at {hub.location} has no instances and no entities, so that all payloads would be "
                "garbage: check its name, or sweep by age without a hub"
            )
        run.hub_seconds = time.monotonic() - began
        run.hub_read = True
        state.save(run)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="durabletask-payloads-sweep") as pool:
        total = _Container(inventory, state, run, pool, settings.rate).sweep(progress)
    return SweepReport(run, resumed, state.count_mentions(), total, clock, _estimate(run, total, settings.rate))


def _service_time(inventory: PayloadInventory, settings: SweepSettings) -> tuple[float, Literal["service", "local"]]:
    try:
        return inventory.service_time().timestamp(), "service"
    except PayloadAccessDeniedError:
        if settings.delete:
            raise
        return time.time(), "local"


def _resume_or_begin(
    state: SweepState, location: str, hub: HubReading | None, settings: SweepSettings, now: float
) -> tuple[Run, bool]:
    """Return the run to go on with, and whether it is one that was broken off."""
    new = Run(location, hub.location if hub else None, settings.age.total_seconds(), settings.delete, now, now)
    old = state.run()
    if old is not None and now - old.began < _RECENT:
        same = (old.location, old.hub, old.age, old.delete) == (new.location, new.hub, new.age, new.delete)
        if same and not old.finished:
            return old, True
    state.begin(new)
    return new, False


class _Container:
    """The part of a sweep that lists the container, judges and deletes."""

    def __init__(
        self, inventory: PayloadInventory, state: SweepState, run: Run, pool: ThreadPoolExecutor, rate: float
    ) -> None:
        self._inventory = inventory
        self._state = state
        self._run = run
        self._pool = pool
        self._pause = 1 / rate
        self._last_turn = 0.0
        self._stopping = threading.Event()
        self._newest = run.hub_began - run.age
        self._wait: float | None = None
        self._wait_is_known = False

    def sweep(self, progress: Callable[[SweepProgress], None]) -> Tally:
        """Do all partitions that are not done, and return what was found in all of them."""
        total = Tally()
        run, names = self._run, self._inventory.partitions
        for number, name in enumerate(names):
            done, tally = self._state.partition(name)
            if not done:
                tally = self._begun(tally)
                with self._timed():
                    for _ in self._partition(name, tally):
                        so_far = total + tally
                        progress(SweepProgress("container", run.instances, run.entities, number, len(names), so_far))
                self._state.save_partition(name, tally, done=True)
            total += tally
        run.finished = True
        self._state.save(run)
        return total

    def _begun(self, earlier: Tally) -> Tally:
        """Return what to begin a partition with: what an earlier attempt deleted in it is not listed any more."""
        if not self._run.delete:
            return Tally()
        return Tally(
            examined=earlier.garbage,
            garbage=earlier.garbage,
            examined_bytes=earlier.garbage_bytes,
            garbage_bytes=earlier.garbage_bytes,
        )

    @contextmanager
    def _timed(self) -> Generator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._run.listing_seconds += time.monotonic() - began
            self._state.save(self._run)

    def _partition(self, name: str, tally: Tally) -> Iterator[None]:
        """Do a partition, and add to `tally` chunk by chunk."""
        for chunk in _chunks(self._inventory.list_payloads(name)):
            tally.examined += len(chunk)
            tally.examined_bytes += sum(stored.stored_bytes for stored in chunk)
            garbage = self._judge(chunk, tally)
            if self._run.delete:
                self._delete(garbage, name, tally)
            else:
                tally.garbage += len(garbage)
                tally.garbage_bytes += sum(stored.stored_bytes for stored in garbage)
            yield

    def _judge(self, chunk: list[StoredPayload], tally: Tally) -> list[StoredPayload]:
        """Return the garbage among what was listed, and count the rest."""
        old: list[tuple[StoredPayload, bytes]] = []
        for stored in chunk:
            digits = stored.digits
            if digits is None:
                tally.foreign += 1
            elif stored.managed is False:
                tally.unmanaged += 1
            elif stored.modified.timestamp() > self._newest:
                tally.young += 1
            else:
                old.append((stored, bytes.fromhex(digits)))
        mentioned = self._state.mentioned([digits for _, digits in old])
        tally.mentioned += sum(digits in mentioned for _, digits in old)
        candidates = (stored for stored, digits in old if digits not in mentioned)
        return [stored for stored in self._with_metadata(candidates, tally) if not self._is_kept(stored, tally)]

    def _with_metadata(self, candidates: Iterable[StoredPayload], tally: Tally) -> Iterator[StoredPayload]:
        """Look at those that were listed without metadata, side by side."""

        def look(stored: StoredPayload) -> StoredPayload | None:
            try:
                return self._inventory.look(stored.token) if stored.managed is None else stored
            except PayloadNotFoundError:
                return None

        # Most stores list metadata: nothing to wait for.
        listed = list(candidates)
        looked_at = (
            map(look, listed) if all(stored.managed is not None for stored in listed) else self._pool.map(look, listed)
        )
        for stored in looked_at:
            if stored is None:
                tally.changed += 1
            else:
                yield stored

    def _is_kept(self, stored: StoredPayload, tally: Tally) -> bool:
        if not stored.managed:
            tally.unmanaged += 1
            return True
        if self._run.hub is None:
            return False
        # Other SDKs do not say whose a payload is: then it may be in a message to any instance.
        last_run = self._longest_wait() if stored.instance_id is None else self._state.last_run(stored.instance_id)
        waits = last_run is not None and last_run <= stored.modified.timestamp() + self._run.age
        tally.waiting += waits
        return waits

    def _longest_wait(self) -> float | None:
        if not self._wait_is_known:
            self._wait, self._wait_is_known = self._state.longest_wait(), True
        return self._wait

    def _delete(self, garbage: list[StoredPayload], partition: str, tally: Tally) -> None:
        """Delete, side by side and up to the rate. Whatever happens, the state says what was deleted."""
        deletions = [(stored, self._pool.submit(self._delete_one, stored, self._turn())) for stored in garbage]
        try:
            for _, deletion in deletions:
                deletion.result()
        finally:
            self._stopping.set()
            for stored, deletion in deletions:
                # What has begun ends.
                if deletion.cancel() or deletion.exception() is not None:
                    continue
                is_deleted = deletion.result()
                tally.garbage += is_deleted is True
                tally.garbage_bytes += stored.stored_bytes if is_deleted else 0
                tally.changed += is_deleted is False
            self._stopping.clear()
            self._state.save_partition(partition, tally, done=False)

    def _turn(self) -> float:
        """Return when the next deletion may begin, by the clock of `time.monotonic`."""
        self._last_turn = max(self._last_turn + self._pause, time.monotonic())
        return self._last_turn

    def _delete_one(self, stored: StoredPayload, turn: float) -> bool | None:
        """Delete one payload when it is its turn; return None if the sweep is being stopped."""
        if self._stopping.wait(max(turn - time.monotonic(), 0.0)):
            return None
        return self._inventory.delete_unchanged(stored)


def _chunks(items: Iterator[_T]) -> Iterator[list[_T]]:
    while chunk := list(islice(items, _CHUNK)):
        yield chunk


def _estimate(run: Run, total: Tally, rate: float) -> Estimate | None:
    if total.examined < _ENOUGH:  # too few to tell
        return None
    scale = _MANY / total.examined
    return Estimate(_MANY, run.hub_seconds * scale, run.listing_seconds * scale, total.garbage * scale / rate)
