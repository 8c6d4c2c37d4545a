"""What one process of `make fuzz` does."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from tests.fuzz.engine import Failure, run_case, shrunk
from tests.fuzz.targets import TARGETS

_BATCH: Final = 20
# A target that fails in as many ways has said enough.
_MOST_FAILURES: Final = 5


class Plan(NamedTuple):
    """What one of `processes` does: case `number`, `number + processes` and so on of each target in `names`."""

    names: tuple[str, ...]
    seed: int
    seconds: float
    number: int
    processes: int


class Share(NamedTuple):
    """What one process did: the cases of each target, the seconds of CPU for them, and a failure of each kind."""

    cases: dict[str, int]
    seconds: dict[str, float]
    failures: tuple[Failure, ...]


def work(plan: Plan) -> Share:
    """Run cases until the time is over, always of the target that had the least time."""
    end = time.monotonic() + plan.seconds
    cases = dict.fromkeys(plan.names, 0)
    spent = dict.fromkeys(plan.names, 0.0)
    failures: dict[tuple[str, str], Failure] = {}
    while time.monotonic() < end:
        name = min(plan.names, key=lambda one: spent[one])
        begin = time.process_time()
        for _ in range(_BATCH):
            failure = run_case(TARGETS[name], plan.seed, plan.number + plan.processes * cases[name])
            cases[name] += 1
            if failure is None or (name, failure.key) in failures:
                continue
            failures[name, failure.key] = shrunk(TARGETS[name], failure)
            if sum(target == name for target, _ in failures) >= _MOST_FAILURES:
                spent[name] = float("inf")
        spent[name] += time.process_time() - begin
        if min(spent.values()) == float("inf"):
            break
    return Share(cases, spent, tuple(failures.values()))
