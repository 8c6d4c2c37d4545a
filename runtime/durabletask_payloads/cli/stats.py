"""The command `stats`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from ._options import AsJson, Debug, StoreUrl, finite, open_store
from ._output import Cell, Column, Facts, Rows, print_result, progress, size

if TYPE_CHECKING:
    from durabletask_payloads.operations._stats import StoreStats

__all__ = ["stats"]

_DAYS = 14  # that are shown

Top = Annotated[int, typer.Option("--top", metavar="N", min=0, max=10_000, help="How many instances to name.")]
Price = Annotated[
    float | None,
    typer.Option(
        "--price-per-gb",
        metavar="PRICE",
        min=0,
        max=1e9,
        callback=finite,
        show_default=False,
        help="What a GB (2^30 bytes) costs in a month, in any currency.",
    ),
]
Details = Annotated[
    bool,
    typer.Option(
        "--details",
        help="Look at each object, a request each, where the listing has no instances and sizes: S3 and Google Cloud "
        "Storage.",
    ),
]


def stats(
    store: StoreUrl = None,
    top: Top = 10,
    price_per_gb: Price = None,
    details: Details = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Count payloads and bytes by day and by instance, what compression saves, growth and cost.

    Reads the listing of the whole container. --json has all days, the text the last 14 on which something was written.
    """
    from durabletask_payloads.operations._stats import store_stats
    from durabletask_payloads.stores._inventory import inventory_of

    with open_store(store) as opened, progress() as bar:
        task = bar.add_task("listing")
        found = store_stats(
            inventory_of(opened),
            largest=top,
            price_per_gb=price_per_gb,
            details=details,
            on_partition=lambda done, of: bar.update(task, completed=done, total=of),
        )
    print_result(found, _text, as_json=as_json)
    return 0


def _text(found: "StoreStats") -> Iterator[RenderableType]:
    yield Facts(_facts(found))
    if found.days:
        yield ""
        numbers = (Column("payloads", right=True), Column("stored", right=True))
        days: list[list[Cell]] = [[day.day, day.payloads, size(day.stored_bytes)] for day in found.days[-_DAYS:]]
        yield Rows([Column("written on"), *numbers], days)
        if found.largest:
            yield ""
            rows: list[list[Cell]] = [[one.instance_id, one.payloads, size(one.stored_bytes)] for one in found.largest]
            yield Rows([Column("instance", fold=True), *numbers], rows)
    if found.undescribed:
        yield ""
        yield f"{found.undescribed:,} payloads are listed without instance and size: --details asks for each."


def _facts(found: "StoreStats") -> Iterator[tuple[str, Cell]]:
    yield "store", found.location
    yield "payloads", found.payloads
    yield "stored", size(found.stored_bytes)
    if found.raw_bytes is not None and found.compression is not None:
        yield "payload bytes", f"{size(found.raw_bytes)}, compression {found.compression:.1f} to 1"
    yield "oldest", found.oldest
    yield "newest", found.newest
    yield "instances", found.instances
    if found.without_instance:
        yield "without instance", found.without_instance
    if found.unmanaged:
        yield "not managed", f"{found.unmanaged:,}: nothing deletes those"
    if found.others:
        yield "other blobs", f"{found.others:,}: not counted above"
    yield "last 7 days", size(found.growth.of_7_days)
    yield "last 30 days", size(found.growth.of_30_days)
    if found.cost is not None:
        yield "cost a month", f"{found.cost.per_month:,.2f} at {found.cost.price_per_gb:g} a GB"
        yield "cost in 30 days", f"{found.cost.per_month_in_30_days:,.2f}, if it grows as in the last 30"
