"""The differential tests at full length: `python -m tests.differential --messages 1000000 --schemas 2000 --seed N`.

The cases have the seeds from N on, one each. Prints cases per second and what occurred. Ends at the first case that
fails, with its seed and the command that repeats it, and exit code 1.
"""

from __future__ import annotations

import argparse
import sys

from tests.differential.runner import FailedCaseError, Outcome, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000, help="random messages of the SDK's schema")
    parser.add_argument("--schemas", type=int, default=200, help="random schemas")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first case of either kind")
    chosen = parser.parse_args()
    try:
        show(run("messages", chosen.seed, chosen.messages, show))
        show(run("schemas", chosen.seed, chosen.schemas, show))
    except FailedCaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def show(outcome: Outcome) -> None:
    # The names of fields are many, and of interest only as the number of those that moved.
    fields = sum(1 for what in outcome.seen if what.startswith("moved ") and "." in what)
    facts = [f"{what} {count:,}" for what, count in sorted(outcome.seen.items()) if "." not in what]
    print(f"{outcome}; {fields} fields moved; {', '.join(facts)}" if outcome.cases else outcome, flush=True)


if __name__ == "__main__":
    sys.exit(main())
