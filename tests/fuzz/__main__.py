"""`make fuzz ARGS="--seconds 600 --seed N --processes 2 --only TARGET"`: inputs at random for what reads from outside.

The targets get the same time each. Case n of a target is the same for the same seed, whatever else runs: `--case n`
repeats it alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from tests.fuzz.engine import run_case
from tests.fuzz.targets import TARGETS
from tests.fuzz.work import Plan, Share, work

if TYPE_CHECKING:
    from collections.abc import Sequence


def report(shares: Sequence[Share], seconds: float) -> bool:
    """Print the failures, a table of the targets and the sum. Return whether there was no failure."""
    found = {(one.target, one.key): one for share in shares for one in share.failures}
    for failure in found.values():
        print(f"\n{failure}")
    print(f"\n{'target':<18} {'cases':>10} {'cases/s of CPU':>15}  property")
    for name in shares[0].cases:
        cases = sum(share.cases[name] for share in shares)
        cpu = sum(share.seconds[name] for share in shares)
        print(f"{name:<18} {cases:>10,} {cases / cpu if cpu else 0.0:>15,.0f}  {TARGETS[name].claim}")
    total = sum(sum(share.cases.values()) for share in shares)
    print(f"{'all':<18} {total:>10,} cases in {seconds:,.0f} s, {len(found)} failures")
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="600 by default")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="any by default")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="as many as cores by default")
    parser.add_argument("--only", choices=tuple(TARGETS), action="append", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--case", type=int, help="this case alone, of the target that --only names")
    arguments = parser.parse_args()
    names: tuple[str, ...] = tuple(arguments.only or TARGETS)
    if arguments.case is not None:
        failures = [run_case(TARGETS[name], arguments.seed, arguments.case) for name in names]
        print(*(failure or "no failure" for failure in failures), sep="\n")
        return int(any(failures))
    print(f"seed {arguments.seed}, {arguments.processes} processes, {arguments.seconds:g} s", flush=True)
    begin = time.monotonic()
    plans = [Plan(names, arguments.seed, arguments.seconds, n, arguments.processes) for n in range(arguments.processes)]
    # Not by fork, after which obstore hangs.
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        shares = list(pool.map(work, plans))
    return 0 if report(shares, time.monotonic() - begin) else 1


if __name__ == "__main__":
    sys.exit(main())
