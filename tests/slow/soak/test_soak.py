"""The soak as part of the suite, about 35 seconds. By itself: `python -m tests.slow.soak --seed N`."""

from __future__ import annotations

import sys

import pytest
from tests.slow.soak.run import EXITS, KILLS, RESTARTS, soak


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from /proc")
@pytest.mark.timeout(240)
def test_everything_ends_and_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    report = soak(seed=1)
    with capsys.disabled():
        print(f"\n{report.summary()}")
    assert not report.stuck
    assert not report.wrong
    assert not report.left
    assert report.ended.total() == report.count
    # It was a soak: everything happened, and in the middle of something.
    assert len(report.downtimes) == len(RESTARTS)
    assert len(report.kills) == len(KILLS)
    assert min(report.kills) > 0
    assert len(report.exits) == len(EXITS) + 1
    assert min(exited.held for exited in report.exits) > 0
    assert 0.15 < report.failed_requests / report.requests < 0.25
    assert sum(work.abandoned for work in report.deliveries) > 0
    assert sum(work.lost for work in report.deliveries) > 0
    answers = report.answers
    assert answers is not None
    for lost in ("StartInstance", "CompleteActivityTask", "CompleteOrchestratorTask", "CompleteEntityTask"):
        assert answers.refused[lost] > 0, lost
    assert answers.resent > 0
    # What nothing refers to stays for `sweep`; what something refers to is there, see `wrong`.
    assert report.payloads.garbage > 0
    assert report.payloads.missing == 0
