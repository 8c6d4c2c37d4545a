"""Runs scenarios with many seeds, and says how to repeat one that fails."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.interleavings import calls, stores, streams, transfers
from tests.interleavings.controlled import controlled
from tests.interleavings.quiet import quiet
from tests.interleavings.scheduler import ScheduleError, Scheduler
from tests.interleavings.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.interleavings.world import Scenario

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.__name__: scenario
    for scenario in (
        transfers.one_download_for_many,
        transfers.commit_against_cancel,
        transfers.close_against_everything,
        transfers.helpers_that_are_cancelled,
        streams.work_items_until_all_are_done,
        streams.work_items_against_the_end_of_the_stream,
        streams.histories_against_cancel,
        streams.async_histories_against_cancel,
        calls.a_response_that_many_ask_for,
        stores.calls_that_hang,
        stores.a_loop_that_stops,
        stores.a_remote_store_that_closes,
    )
}


@dataclass
class Figures:
    """What was run.

    Attributes:
        seeds: how many seeds.
        switches: how often another thread went on.
        seconds: of CPU.
    """

    seeds: int = 0
    switches: int = 0
    seconds: float = 0.0

    def __add__(self, other: Figures) -> Figures:
        return Figures(self.seeds + other.seeds, self.switches + other.switches, self.seconds + other.seconds)


def run(name: str, seed: int) -> Scheduler:
    """Run a scenario once, in a `controlled` process. Raises ScheduleError, with the command that repeats it."""
    scheduler = Scheduler(f"{name} {seed}")
    world = World(scheduler)
    try:
        scheduler.run(lambda: SCENARIOS[name](world))
    except ScheduleError as error:
        command = f"python -m tests.interleavings --scenario {name} --seed {seed}"
        raise ScheduleError(f"{name} fails with seed {seed}; {command} repeats it\n{error}") from None
    return scheduler


@cache
def warm_up() -> None:
    """Run everything some times: what the package does once in a process would make the first run another one."""
    with controlled(), quiet():
        for name in SCENARIOS:
            for seed in range(-5, 0):
                run(name, seed)


def explore(name: str, seeds: Iterable[int]) -> Figures:
    """Run a scenario with each of `seeds`. Raises as `run` does, for the first that fails."""
    figures = Figures()
    warm_up()
    started = time.process_time()
    with controlled(), quiet():
        for seed in seeds:
            scheduler = run(name, seed)
            figures.seeds += 1
            figures.switches += scheduler.choices
    figures.seconds = time.process_time() - started
    return figures


class Share(NamedTuple):
    """Seeds of a scenario that one process runs."""

    scenario: str
    seeds: range


def explore_share(share: Share) -> tuple[str, Figures | str]:
    """Return the scenario, and its figures or why it fails."""
    try:
        return share.scenario, explore(share.scenario, share.seeds)
    except ScheduleError as error:
        return share.scenario, str(error)
