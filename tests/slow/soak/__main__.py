"""`python -m tests.slow.soak [--seed N] [--orchestrations N]`: the soak by itself, and its summary."""

from __future__ import annotations

import argparse
import random
import sys

from tests.slow.soak.run import soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.slow.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="any by default")
    parser.add_argument("--orchestrations", type=int, default=200, help="200 by default")
    arguments = parser.parse_args()
    report = soak(seed=arguments.seed, count=arguments.orchestrations)
    print(report.summary())
    return 1 if report.stuck or report.wrong or report.left else 0


if __name__ == "__main__":
    sys.exit(main())
