"""`python -m tests.interleavings --seeds 100000` runs many schedules, `--scenario NAME --seed N` one of them again."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.interleavings.explore import SCENARIOS, Figures, Share, explore_share

_SHARE = 250  # seeds that a process runs at a time
_REPORT = 10_000  # seeds, after which a line says how far it has come


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interleavings", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1_000, help="in all, over the scenarios; 1,000 by default")
    parser.add_argument("--first", type=int, default=0, help="the first seed; 0 by default")
    parser.add_argument("--scenario", choices=SCENARIOS, action="append", help="all by default")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; one for each core by default")
    arguments = parser.parse_args()
    names: list[str] = arguments.scenario or list(SCENARIOS)
    each = -(-arguments.seeds // len(names))
    seeds = range(arguments.first, arguments.first + each)
    if arguments.seed is not None:
        seeds = range(arguments.seed, arguments.seed + 1)
    parts = [seeds[place : place + _SHARE] for place in range(0, len(seeds), _SHARE)]
    shares = [Share(name, part) for part in parts for name in names]
    totals = {name: Figures() for name in names}
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        for number, (name, found) in enumerate(pool.map(explore_share, shares), 1):
            if isinstance(found, str):
                print(found)
                pool.shutdown(wait=False, cancel_futures=True)
                return 1
            totals[name] += found
            if number * _SHARE // _REPORT > (number - 1) * _SHARE // _REPORT:
                print(f"{sum(each.seeds for each in totals.values())} seeds, none fails", flush=True)
    for name, figures in totals.items():
        print(f"{name:<36} {figures.seeds:>8} seeds {figures.switches:>12} switches {figures.seconds:>8.1f} s of CPU")
    return 0


if __name__ == "__main__":
    sys.exit(main())
