"""The command `sweep`."""

import re
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from ._errors import CommandError
from ._options import (
    AsJson,
    Credential,
    Debug,
    HubAddress,
    Secure,
    StoreUrl,
    TaskHubAddress,
    finite,
    open_hub,
    open_store,
)
from ._output import Cell, Facts, print_result, progress, size

if TYPE_CHECKING:
    from rich.progress import Progress

    from durabletask_payloads.operations._mentions import SweepState, Tally
    from durabletask_payloads.operations._sweep import Estimate, SweepProgress, SweepReport, SweepSettings

__all__ = ["sweep"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_OLDEST = timedelta(days=36_500)

Delete = Annotated[bool, typer.Option("--delete", help="Delete what is found. Without it, nothing is deleted.")]
OlderThan = Annotated[
    str | None,
    typer.Option(
        "--older-than",
        metavar="AGE",
        show_default=False,
        help="Without a hub: what is older than this is garbage, as 90d. For those whose instances are all purged "
        "sooner.",
    ),
]
Grace = Annotated[
    str | None,
    typer.Option(
        "--grace",
        metavar="AGE",
        show_default=False,
        help="How old a payload must be to be judged, as 24h (the default) or 7d: longer than an upload ever waits for "
        "its message, and than the longest delay of a signal to an entity, which the hub does not show before it is "
        "due.",
    ),
]
Rate = Annotated[
    float, typer.Option("--rate", metavar="N", min=0.01, callback=finite, help="The most deletions in a second.")
]
StateFile = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="FILE",
        show_default=False,
        help="Keep the state of the run here: a run that was broken off goes on where it was.",
    ),
]


@dataclass(frozen=True)
class _Result:
    """What is printed. Times are those of the store's service; sizes are in bytes, times to come in seconds."""

    store: str
    hub: str | None
    deleted: bool
    resumed: bool
    written_before: datetime
    clock: str
    instances: int
    entities: int
    mentions: int
    found: "Tally"
    estimate: "Estimate | None"


def sweep(
    store: StoreUrl = None,
    hub: HubAddress = None,
    taskhub: TaskHubAddress = None,
    credential: Credential = "none",
    secure: Secure = None,
    delete: Delete = False,
    older_than: OlderThan = None,
    grace: Grace = None,
    rate: Rate = 200.0,
    state: StateFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Find the payloads that no instance and no entity of the hub mentions, and delete them with --delete.

    All instances that use the store must be in that one task hub. Nothing is deleted if it cannot be read to its end.
    A hub shows no delayed signal to an entity before it is due: --grace must be longer than the longest delay.
    """
    from durabletask_payloads.operations import _sweep as operation
    from durabletask_payloads.stores._inventory import inventory_of

    settings = _settings(hub, older_than, grace, delete, rate)
    with open_store(store) as opened, _state(state) as kept, progress() as bar:
        show = _shown_by(bar)
        if hub is None:
            report = operation.sweep(inventory_of(opened), None, kept, settings, show)
        else:
            with open_hub(hub, taskhub=taskhub, credential=credential, secure=secure) as reader:
                report = operation.sweep(inventory_of(opened), reader, kept, settings, show)
    print_result(_result(report), _text, as_json=as_json)
    return 0


def _settings(hub: str | None, older_than: str | None, grace: str | None, delete: bool, rate: float) -> "SweepSettings":
    from durabletask_payloads.operations._sweep import DEFAULT_GRACE, SweepSettings

    if hub is None and older_than is None:
        raise CommandError(
            "no hub is named: pass --hub HOST[:PORT], or set DURABLETASK_PAYLOADS_HUB, to the task hub whose instances "
            "use the store; without a hub, pass --older-than AGE, which no instance reaches",
            exit_code=2,
        )
    if older_than is not None and (hub is not None or grace is not None):
        raise CommandError(
            "--older-than is for a sweep without a hub: leave out --hub and --grace, and unset "
            "DURABLETASK_PAYLOADS_HUB",
            exit_code=2,
        )
    text, option = (grace, "--grace") if older_than is None else (older_than, "--older-than")
    return SweepSettings(DEFAULT_GRACE if text is None else _age(text, option), delete, rate)


def _age(text: str, option: str) -> timedelta:
    match = re.fullmatch(r"([0-9]{1,6})([smhdw])", text)
    if match is None:
        raise CommandError(f"{option} is {text!r}: it must be a number and a unit, as 36h, 90m or 30d", exit_code=2)
    age = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if age > _OLDEST:  # a time so long ago has no date
        raise CommandError(f"{option} is {text!r}: it must be at most {_OLDEST.days}d, a hundred years", exit_code=2)
    return age


@contextmanager
def _state(path: Path | None) -> "Generator[SweepState]":
    """Open the state file, or one that is deleted afterwards."""
    from durabletask_payloads.operations._mentions import SweepState

    with tempfile.TemporaryDirectory(prefix="durabletask-payloads-") as folder:
        state = SweepState(path or Path(folder) / "sweep.state")
        try:
            yield state
        finally:
            state.close()


def _shown_by(bar: "Progress") -> "Callable[[SweepProgress], None]":
    reading, listing = bar.add_task("reading the hub", total=None), bar.add_task("listing", total=None, visible=False)

    def show(now: "SweepProgress") -> None:
        if now.phase == "hub":
            bar.update(reading, description=f"reading the hub: {now.instances:,} instances")
            return
        bar.update(reading, visible=False)
        done = f"listing: {now.tally.examined:,} payloads, {now.tally.garbage:,} garbage"
        bar.update(listing, description=done, completed=now.partitions_done, total=now.partitions, visible=True)

    return show


def _result(report: "SweepReport") -> _Result:
    run = report.run
    return _Result(
        store=run.location,
        hub=run.hub,
        deleted=run.delete,
        resumed=report.resumed,
        written_before=datetime.fromtimestamp(run.hub_began - run.age, timezone.utc),
        clock=report.clock,
        instances=run.instances,
        entities=run.entities,
        mentions=report.mentions,
        found=report.tally,
        estimate=report.estimate,
    )


def _text(result: _Result) -> Iterator[RenderableType]:
    yield Facts(_facts(result))
    yield ""
    if not result.deleted:
        yield "Dry run: nothing was deleted. --delete deletes the garbage."
    if result.clock == "local":
        yield "The store refuses to write: the age of payloads is by the clock of this machine."
    if result.estimate is not None:
        one = result.estimate
        hub = f"{_duration(one.hub_seconds)} to read the hub, " if result.hub else ""
        yield (
            f"{one.payloads:,} payloads would take {hub}{_duration(one.listing_seconds)} to list and judge, and "
            f"{_duration(one.deletion_seconds)} to delete the garbage at this rate."
        )


def _facts(result: _Result) -> Iterator[tuple[str, Cell]]:
    found = result.found
    yield "store", result.store
    if result.hub is not None:
        yield "task hub", result.hub
        yield "instances", result.instances
        yield "entities", result.entities
        yield "mentioned by them", f"{result.mentions:,} payloads"
    if result.resumed:
        yield "resumed", "a run that was broken off"
    yield "judged", f"what was written before {result.written_before:%Y-%m-%d %H:%M:%S} UTC"
    yield "examined", f"{found.examined:,} payloads, {size(found.examined_bytes)}"
    yield "younger", found.young
    if result.hub is not None:
        yield "mentioned", found.mentioned
        yield "may be in a message", found.waiting
    yield "not managed", f"{found.unmanaged:,}: never deleted"
    yield "other names", f"{found.foreign:,}: never deleted"
    if found.changed:
        yield "changed meanwhile", found.changed
    yield "deleted" if result.deleted else "garbage", f"{found.garbage:,} payloads, {size(found.garbage_bytes)}"


def _duration(seconds: float) -> str:
    """Return a duration in the two largest of its units."""
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
