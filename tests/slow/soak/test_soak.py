"""The judge and the rounds of the soak. The soak itself is no part of the suite: `make soak ARGS="--minutes 3"`."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from durabletask.client import OrchestrationState, OrchestrationStatus
from durabletask.task import FailureDetails
from tests.slow.soak import application
from tests.slow.soak.cases import LOST, TOO_LARGE, Case, cases_of, digest
from tests.slow.soak.judge import judged, lost_token, wrong_lines
from tests.slow.soak.report import Deliveries, Exit, Payloads, Report
from tests.slow.soak.rounds import soak_for
from tests.slow.soak.server import LostAnswers
from tests.slow.soak.worker import Line

if TYPE_CHECKING:
    from typing import Any

GOOD = Case("one echo", "good-1", application.echo, "in", output=digest("out"), custom_status=digest("half"))
BAD = Case("activity result too large", "bad-1", application.chain, "in", error=TOO_LARGE)
GONE = Case("input lost", "gone-1", application.echo, "0" * 32, error=LOST, input_stays=False)

DONE: Any = {"runtime_status": OrchestrationStatus.COMPLETED}
FAILED: Any = {"runtime_status": OrchestrationStatus.FAILED, "serialized_output": None}


def state(case: Case, **changed: Any) -> OrchestrationState:
    """Return how `case` ends well, but for what is `changed`."""
    now = datetime.now(timezone.utc)
    fields: dict[str, Any] = {
        "serialized_input": json.dumps(case.input),
        "serialized_output": json.dumps("out"),
        "serialized_custom_status": json.dumps("half"),
        "failure_details": None,
        **DONE,
        **changed,
    }
    return OrchestrationState(case.instance_id, "name", created_at=now, last_updated_at=now, **fields)


def failure(error: str, text: str = "over max_stored_payload_bytes") -> FailureDetails:
    inner = FailureDetails(text, f"durabletask_payloads.{error}", None)
    return FailureDetails("the activity failed", "TaskFailedError", None, inner)


def test_what_ended_well() -> None:
    assert judged(GOOD, state(GOOD)) == ("completed", [])
    ended = state(BAD, **FAILED, failure_details=failure(TOO_LARGE))
    assert judged(BAD, ended) == (f"failed with {TOO_LARGE}", [])
    ended = state(GONE, **FAILED, failure_details=failure(LOST), serialized_input=lost_token(GONE))
    assert judged(GONE, ended) == (f"failed with {LOST}", [])


@pytest.mark.parametrize(
    ("case", "changed", "wrong"),
    [
        (GOOD, {"serialized_output": '"other"'}, "its output is not what it must be"),
        (GOOD, {"serialized_custom_status": None}, "its custom status is not what it must be"),
        (GOOD, {"serialized_input": '"blob:v1:soak:0"'}, "its input is not what it was started with"),
        (GOOD, {**FAILED, "failure_details": failure("PayloadStoreUnavailableError")}, "it failed with PayloadStore"),
        (GOOD, {**FAILED, "failure_details": None}, "it failed with an error that is not ours"),
        (GOOD, {"runtime_status": OrchestrationStatus.TERMINATED}, "it is "),
        (BAD, {}, f"completed, where it must fail with {TOO_LARGE}"),
        (BAD, {**FAILED, "failure_details": failure(LOST)}, f"it failed with {LOST}"),
        (BAD, {**FAILED, "failure_details": failure(TOO_LARGE, "")}, "its error does not name the setting"),
        (GONE, {**FAILED, "failure_details": failure(LOST)}, "its input, which is lost, is not shown as its token"),
    ],
)
def test_what_ended_badly(case: Case, changed: dict[str, Any], wrong: str) -> None:
    found = judged(case, state(case, **changed))[1]
    assert any(line.startswith(f"{case.instance_id}: {wrong}") for line in found), found


def test_what_a_worker_may_log() -> None:
    fine = [
        Line("abandoning work item ...", "", "abandoning work item instance=good-1"),
        Line("completing work item as failed ...", "", "completing work item as failed instance=bad-1"),
        Line("sdk", "PayloadStoreUnavailableError", "good-1 could not be completed"),
        Line("sdk", "_InactiveRpcError", "the answer was lost"),
        Line("sdk", TOO_LARGE, "bad-1"),
    ]
    assert list(wrong_lines(fine, [GOOD, BAD])) == []
    wrong = [
        Line("completing work item as failed ...", "", "completing work item as failed instance=good-1"),
        Line("sdk", "KeyError", "good-1"),
        Line("sdk", TOO_LARGE, "good-1"),
    ]
    assert len(list(wrong_lines(wrong, [GOOD, BAD]))) == len(wrong)


def test_a_seed_decides_the_orchestrations() -> None:
    assert cases_of(7, 60) == cases_of(7, 60) != cases_of(8, 60)
    assert len({case.kind for case in cases_of(7, 60)}) == 11


# ---- rounds --------------------------------------------------------------------------------------------------------


class Rounds:
    """Rounds of a minute each, of which one may fail."""

    def __init__(self, **failing: dict[str, Any]) -> None:
        self.now = 0.0
        self.seeds: list[int] = []
        self.lines: list[str] = []
        self._failing = failing

    def run(self, minutes: float) -> int:
        return soak_for(minutes, self._round_of, seed=7, say=self.lines.append, clock=lambda: self.now)

    def _round_of(self, seed: int) -> Report:
        self.now += 60.0
        self.seeds.append(seed)
        answers = LostAnswers(seed, losing=True)
        answers.refused.update(
            ["StartInstance", "CompleteActivityTask", "CompleteOrchestratorTask", "CompleteEntityTask"]
        )
        answers.resent = 1
        report = Report(seed, 10, 60.0, kills=[2], exits=[Exit(1, True)], downtimes=[3.0], answers=answers)
        report.ended["one echo", "completed"] = 10
        report.faults = Counter({"answered 503": 4})
        report.deliveries = [Deliveries("activity", 10, 12, 1, 1, 2)]
        report.payloads = Payloads(12, 10, 0)
        for name, value in self._failing.get(f"seed{seed}", {}).items():
            setattr(report, name, value)
        return report


@pytest.mark.parametrize(("minutes", "count"), [(0.0, 1), (1.5, 1), (2.0, 2), (60.0, 60)])
def test_rounds_fill_the_minutes(minutes: float, count: int) -> None:
    rounds = Rounds()
    assert rounds.run(minutes) == 0
    assert rounds.seeds == list(range(7, 7 + count))
    assert rounds.lines[0] == "soak, seed 7: 10 orchestrations in 60 s: 10 ended, 0 stuck, 0 wrong; 0 left behind"
    assert rounds.lines[count].startswith(f"{count} rounds, {10 * count} orchestrations: none lost")


@pytest.mark.parametrize(
    "failing",
    [{"stuck": ["order-1"]}, {"wrong": ["order-1"]}, {"left": ["a thread"]}, {"ended": Counter({("one", "ok"): 9})}],
)
def test_a_round_that_fails_ends_it_with_its_seed(failing: dict[str, Any]) -> None:
    rounds = Rounds(seed8=failing)
    assert rounds.run(60) == 1
    assert rounds.seeds == [7, 8]
    assert rounds.lines[-1] == "repeat it: python -m tests.slow.soak --seed 8 --orchestrations 10"


@pytest.mark.parametrize("missing", [{"kills": [0]}, {"answers": None}, {"faults": Counter[str]()}])
def test_rounds_in_which_nothing_happened_are_no_soak(missing: dict[str, Any]) -> None:
    rounds = Rounds(seed7=missing)
    assert rounds.run(1) == 1
    assert rounds.lines[-1].startswith("it was no soak")
    assert Rounds(seed7=missing).run(2) == 0  # the next round had it
