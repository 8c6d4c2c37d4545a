"""What may become of the orchestrations of a soak, and what its workers may log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask.client import OrchestrationStatus
from tests.slow.soak.cases import LOST, TOO_LARGE, digest
from tests.slow.soak.server import LOST_ANSWER, TAKEN_BEFORE
from tests.slow.soak.worker import CONTAINER

from durabletask_payloads import PayloadStoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from durabletask.client import OrchestrationState
    from durabletask.task import FailureDetails
    from tests.slow.soak.cases import Case
    from tests.slow.soak.worker import Line


def judged(case: Case, state: OrchestrationState) -> tuple[str, list[str]]:
    """Return how an orchestration ended, and what is wrong with that, a line each."""
    how = "completed"
    wrong: list[str] = []
    if state.runtime_status is OrchestrationStatus.COMPLETED:
        if case.error is not None:
            wrong.append(f"completed, where it must fail with {case.error}")
        elif digest(state.get_output()) != case.output:
            wrong.append("its output is not what it must be")
        if case.custom_status is not None and digest(state.get_custom_status()) != case.custom_status:
            wrong.append("its custom status is not what it must be")
        if case.input_stays and digest(state.get_input()) != digest(case.input):
            wrong.append("its input is not what it was started with")
    else:
        error = _our_error(state.failure_details)
        how = f"failed with {error}"
        if state.runtime_status is not OrchestrationStatus.FAILED:
            wrong.append(f"it is {state.runtime_status}")
        # Neither an outage, nor a lost answer, nor an exit fails anything.
        if error == "" or error != case.error:
            wrong.append(f"it failed with {error or 'an error that is not ours'}: {state.failure_details}")
        if error == TOO_LARGE and "max_stored_payload_bytes" not in str(state.failure_details):
            wrong.append(f"its error does not name the setting: {state.failure_details}")
    if case.error == LOST and state.serialized_input != lost_token(case):
        wrong.append(f"its input, which is lost, is not shown as its token: {state.serialized_input}")
    return how, [f"{case.instance_id}: {line[:500]}" for line in wrong]


def lost_token(case: Case) -> str:
    """Return the token that a lost case is started with."""
    return f"blob:v1:{CONTAINER}:{case.input}"


def _our_error(failure: FailureDetails | None) -> str:
    """The name of the error of ours that `failure` comes from, or ""."""
    while failure is not None:
        module, _, name = failure.error_type.rpartition(".")
        if module == "durabletask_payloads":
            return name
        failure = failure.inner_failure
    return ""


def wrong_lines(lines: Iterable[Line], cases: Sequence[Case]) -> Iterator[str]:
    """Yield what the workers logged and should not have: failures of good work items, and errors of other classes."""
    bad = [case.instance_id for case in cases if case.error is not None]
    for line in lines:
        # No good one has a payload over the maximum; an entity whose stream has ended is not named.
        is_of_bad = any(instance in line.text for instance in bad) or "max_stored_payload_bytes" in line.text
        if line.kind.startswith("completing") and not is_of_bad:
            yield f"the worker failed a good work item: {line.text}"
        is_answer = LOST_ANSWER in line.text or TAKEN_BEFORE in line.text
        # Once its stream has ended, what a bad one is to fail with is not known any more: it is abandoned.
        is_bad = line.error == TOO_LARGE and is_of_bad
        if line.error not in ("", PayloadStoreUnavailableError.__name__) and not is_answer and not is_bad:
            yield f"the worker logged {line.error}: {line.text}"
