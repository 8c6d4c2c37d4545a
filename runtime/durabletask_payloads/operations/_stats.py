"""How many payloads a store has, of what size and age, for which instances, and what they cost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from itertools import islice
from typing import TYPE_CHECKING, Final

from durabletask_payloads._errors import PayloadNotFoundError

from ._tally import InstanceTally, TallyByInstance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from durabletask_payloads.stores._inventory import PayloadInventory, StoredPayload

GB: Final = 2**30
"""The bytes of a GB, as storage services bill it."""

_MONTH: Final = 30  # days
_LOOKS: Final = 16  # requests for the details of payloads, at a time


@dataclass(frozen=True, slots=True)
class DayTally:
    """What is still there of the payloads that were written on a day, in UTC. Bytes are after compression."""

    day: str
    payloads: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Growth:
    """Bytes, after compression, that were written in the last days and are still there."""

    of_7_days: int
    of_30_days: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What storing costs, in the currency of the price. Requests and transfers are not in it.

    Attributes:
        price_per_gb: for a GB and a month.
        per_month: for what is stored now.
        per_month_in_30_days: the same, once as much was added as in the last 30 days.
    """

    price_per_gb: float
    per_month: float
    per_month_in_30_days: float


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What is in a store. Sizes are in bytes.

    Attributes:
        compression: how many times smaller payloads are by it, of those whose size before is known; None if of none.
        unmanaged: how many payloads lack the mark without which nothing deletes them.
        others: how many blobs or files are no payloads. Nothing else here counts them.
        instances: how many orchestrations and entities have payloads.
        without_instance: how many payloads have no instance, or none that is known.
        undescribed: how many payloads were listed without instance, size before compression and mark.
        days: by the day on which they were written, the oldest first.
        largest: the instances with the most bytes.
    """

    location: str
    payloads: int
    stored_bytes: int
    raw_bytes: int | None
    compression: float | None
    oldest: datetime | None
    newest: datetime | None
    unmanaged: int
    others: int
    instances: int
    without_instance: int
    undescribed: int
    growth: Growth
    cost: Cost | None
    days: tuple[DayTally, ...]
    largest: tuple[InstanceTally, ...]


@dataclass(slots=True)
class _Totals:
    payloads: int = 0
    stored_bytes: int = 0
    sized_bytes: int = 0  # of what is stored and has a size before compression
    raw_bytes: int = 0
    unmanaged: int = 0
    others: int = 0
    without_instance: int = 0
    undescribed: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    days: dict[date, tuple[int, int]] = field(default_factory=dict[date, tuple[int, int]])

    def add(self, stored: StoredPayload) -> None:
        self.payloads += 1
        self.stored_bytes += stored.stored_bytes
        if stored.raw_bytes is not None:
            self.sized_bytes += stored.stored_bytes
            self.raw_bytes += stored.raw_bytes
        self.unmanaged += stored.managed is False
        self.without_instance += stored.instance_id is None
        self.undescribed += stored.managed is None
        self.oldest = min(self.oldest or stored.modified, stored.modified)
        self.newest = max(self.newest or stored.modified, stored.modified)
        day = stored.modified.astimezone(timezone.utc).date()
        payloads, held = self.days.get(day, (0, 0))
        self.days[day] = payloads + 1, held + stored.stored_bytes


def store_stats(
    inventory: PayloadInventory,
    *,
    largest: int = 10,
    price_per_gb: float | None = None,
    details: bool = False,
    now: datetime | None = None,
    on_partition: Callable[[int, int], None] | None = None,
) -> StoreStats:
    """Count what is in a store. Memory does not grow with it.

    Args:
        inventory: of the store.
        largest: how many instances to name.
        price_per_gb: what a GB costs in a month.
        details: whether to look at each payload that is listed without its instance, as in S3: one request each.
        now: the end of the last 30 days; the present by default.
        on_partition: called with the number of partitions that are counted, and of all.

    Raises:
        PayloadError: the store cannot be listed.
    """
    totals = _Totals()
    with TallyByInstance() as tally, ThreadPoolExecutor(_LOOKS) if details else nullcontext() as looks:
        for number, partition in enumerate(inventory.partitions, 1):
            listed = inventory.list_payloads(partition)
            for stored in listed if looks is None else _with_details(inventory, listed, looks):
                if not stored.token:
                    totals.others += 1
                    continue
                totals.add(stored)
                if stored.instance_id is not None:
                    tally.add(stored.instance_id, stored.stored_bytes)
            if on_partition is not None:
                on_partition(number, len(inventory.partitions))
        instances, named = tally.instances(), tally.largest(largest)
    growth = _growth(totals, now or datetime.now(timezone.utc))
    return StoreStats(
        location=inventory.location,
        payloads=totals.payloads,
        stored_bytes=totals.stored_bytes,
        raw_bytes=totals.raw_bytes if totals.sized_bytes else None,
        compression=round(totals.raw_bytes / totals.sized_bytes, 2) if totals.sized_bytes else None,
        oldest=totals.oldest,
        newest=totals.newest,
        unmanaged=totals.unmanaged,
        others=totals.others,
        instances=instances,
        without_instance=totals.without_instance,
        undescribed=totals.undescribed,
        growth=growth,
        cost=None if price_per_gb is None else _cost(totals, growth, price_per_gb),
        days=tuple(DayTally(day.isoformat(), *counted) for day, counted in sorted(totals.days.items())),
        largest=named,
    )


def _with_details(
    inventory: PayloadInventory, listed: Iterable[StoredPayload], threads: ThreadPoolExecutor
) -> Iterator[StoredPayload]:
    """Yield what is listed, looked at where the listing lacks the details; not what is deleted meanwhile."""

    def look(stored: StoredPayload) -> StoredPayload | None:
        if stored.managed is not None or not stored.token:
            return stored
        try:
            return inventory.look(stored.token)
        except PayloadNotFoundError:
            return None

    rest = iter(listed)
    while some := list(islice(rest, 16 * _LOOKS)):
        yield from filter(None, threads.map(look, some))


def _growth(totals: _Totals, now: datetime) -> Growth:
    def since(days: int) -> int:
        first = (now - timedelta(days)).date()
        return sum(held for day, (_, held) in totals.days.items() if day > first)

    return Growth(since(7), since(_MONTH))


def _cost(totals: _Totals, growth: Growth, price_per_gb: float) -> Cost:
    stored = totals.stored_bytes
    return Cost(price_per_gb, stored / GB * price_per_gb, (stored + growth.of_30_days) / GB * price_per_gb)
