"""`make soak ARGS="--minutes 60"`: rounds with new seeds until the minutes are over; `--seed N` alone runs one round.

No part of the default suite: a round takes half a minute to two minutes, by how busy the machine is. Exit code 1 if
an orchestration is lost, wrong or stuck, or anything is left behind.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
from functools import partial
from typing import TYPE_CHECKING

from tests.slow.soak.rounds import soak_for
from tests.slow.soak.run import soak

if TYPE_CHECKING:
    from tests.slow.soak.report import Report


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.slow.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="of the first round; any by default")
    parser.add_argument("--orchestrations", type=int, default=200, help="in a round; 200 by default")
    parser.add_argument("--minutes", type=float, help="by default one round")
    arguments = parser.parse_args()
    logging.getLogger().addHandler(logging.NullHandler())  # the clients meet trouble all the time
    seed: int = random.randrange(1_000_000) if arguments.seed is None else arguments.seed
    if arguments.minutes is None:
        report = soak(seed=seed, count=arguments.orchestrations)
        print(report.summary())
        return int(report.has_failed)

    def round_of(seed: int) -> Report:
        return soak(seed=seed, count=arguments.orchestrations)

    return soak_for(arguments.minutes, round_of, seed=seed, say=partial(print, flush=True))


if __name__ == "__main__":
    sys.exit(main())
