"""Rounds of the soak until the minutes are over: a line each, a summary, and the seed of a round that fails."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.slow.soak.report import Report


def soak_for(
    minutes: float,
    round_of: Callable[[int], Report],
    *,
    seed: int,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run rounds, of `seed` and those that follow, as long as another one fits in; at least one. Return the exit code.

    Args:
        minutes: how long.
        round_of: runs a round by its seed.
        seed: of the first round.
        say: gets each line.
        clock: returns seconds.
    """
    end = clock() + 60 * minutes
    longest = 0.0
    reports: list[Report] = []
    while not reports or clock() + longest <= end:
        begun = clock()
        report = round_of(seed + len(reports))
        reports.append(report)
        longest = max(longest, clock() - begun)
        say(report.line())
        if report.has_failed:
            say(report.summary())
            say(f"repeat it: python -m tests.slow.soak --seed {report.seed} --orchestrations {report.count}")
            return 1
    total = sum(report.count for report in reports)
    say(f"{len(reports)} rounds, {total} orchestrations: none lost, wrong or stuck")
    found = Counter[str]()
    for report in reports:
        found.update(dict(_disturbances(report)))
    for what, number in found.items():
        say(f"  {what:<60} {number:>8}")
    missing = [what for what, number in found.items() if not number]
    if missing:
        say(f"it was no soak, there were no {', no '.join(missing)}")
    return 1 if missing else 0


def _disturbances(report: Report) -> Iterator[tuple[str, int]]:
    """Yield what makes a round a soak, and how often it happened."""
    yield "work items that a worker held when it was killed", sum(report.kills)
    yield "work items that a worker held when it exited", sum(exited.held for exited in report.exits)
    yield "restarts of the storage", len(report.downtimes)
    yield "requests to the storage that failed", report.failed_requests
    yield "deliveries that were abandoned", sum(work.abandoned for work in report.deliveries)
    yield "deliveries that a lost worker held", sum(work.lost for work in report.deliveries)
    answers = report.answers
    for rpc in ("StartInstance", "CompleteActivityTask", "CompleteOrchestratorTask", "CompleteEntityTask"):
        yield f"answers lost and refused afterwards, {rpc}", 0 if answers is None else answers.refused[rpc]
    yield "messages that gRPC sent again", 0 if answers is None else answers.resent
    yield "payloads that nothing refers to, for sweep", report.payloads.garbage
