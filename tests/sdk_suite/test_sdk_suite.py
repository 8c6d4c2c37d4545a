"""The run of the SDK's own tests: what it counts and compares, on tests in their style."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest
from tests.sdk_suite.__main__ import MOVED_AT_LEAST, Suite, report
from tests.sdk_suite.comparison import Comparison, Difference, Outcome, Record, compare, read_known
from tests.sdk_suite.sources import Source
from tests.support.wheels import FailedError

PASSED, FAILED, SKIPPED = Outcome("passed"), Outcome("failed", "why"), Outcome("skipped", "no service")
SDK_TESTS = """
import asyncio
import grpc
import pytest
from durabletask import client, worker

def echo(ctx, text):
    return text

def test_client_and_worker():
    with worker.TaskHubGrpcWorker() as running:
        running.add_orchestrator(echo)
        running.start()
        with client.TaskHubGrpcClient() as hub:
            state = hub.wait_for_orchestration_completion(hub.schedule_new_orchestration(echo, input="x"), timeout=30)
            assert state.serialized_output == '"x"'

def test_async_client():
    async def main():
        async with client.AsyncTaskHubGrpcClient() as hub:
            state = await hub.get_orchestration_state(await hub.schedule_new_orchestration(echo, input="y"))
            assert state.serialized_input == '"y"'
    asyncio.run(main())

def has_ours(one):
    return any("durabletask_payloads" in type(used).__module__ for used in vars(one).get("_interceptors") or ())

def test_a_channel_of_its_own():
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        assert not has_ours(client.TaskHubGrpcClient(channel=channel))

def test_interceptors():
    assert not has_ours(client.TaskHubGrpcClient(interceptors=()))

def test_unsupported():
    raise RuntimeError("no such service")

@pytest.mark.skip(reason="not here")
def test_skipped(): ...
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Record]:
    """SDK_TESTS without and with interceptors."""
    folder = tmp_path_factory.mktemp("sdk_suite")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_sdk.py").write_text(SDK_TESTS, encoding="utf-8")
    suite = Suite(folder, Path(sys.executable), threshold=0)
    return suite.run("tests", interceptors=False), suite.run("tests", interceptors=True)


def test_all_clients_and_workers_have_interceptors(runs: tuple[Record, Record]) -> None:
    without, with_us = runs
    assert without.counts == {}
    # Both inputs and one output. A worker reads one input, the clients one state each: of the first both payloads.
    assert with_us.counts == {"with": 4, "without": 1, "externalized": 3, "deexternalized": 4}


def test_outcomes_are_recorded(runs: tuple[Record, Record]) -> None:
    without, with_us = runs
    outcomes = {name.partition("::")[2]: outcome for name, outcome in without.outcomes.items()}
    assert outcomes == {
        "test_client_and_worker": PASSED,
        "test_async_client": PASSED,
        "test_a_channel_of_its_own": PASSED,
        "test_interceptors": PASSED,
        "test_unsupported": Outcome("failed", "RuntimeError: no such service"),
        "test_skipped": Outcome("skipped", "Skipped: not here"),
    }
    differing = [
        name for name in outcomes if with_us.outcomes[f"tests/test_sdk.py::{name}"].word != outcomes[name].word
    ]
    assert differing == ["test_interceptors"]


def test_a_module_that_cannot_be_imported_is_an_error_and_keeps_none_from_running(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_away.py").write_text("import durabletask.away", encoding="utf-8")
    (tmp_path / "tests" / "test_here.py").write_text("def test(): ...", encoding="utf-8")
    outcomes = Suite(tmp_path, Path(sys.executable), threshold=0).run("tests", interceptors=False).outcomes
    away = Outcome("error", "ModuleNotFoundError: No module named 'durabletask.away'")
    assert outcomes == {"tests/test_away.py": away, "tests/test_here.py::test": PASSED}


def test_a_run_without_tests_fails(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="pytest ended with 4"):
        Suite(tmp_path, Path(sys.executable), threshold=0).run("test_gone.py", interceptors=False)


def never(name: str, interceptors: bool) -> Outcome:
    raise AssertionError(f"{name} was run again")


def test_what_ends_alike_is_not_run_again() -> None:
    outcomes = {"passes": PASSED, "fails": FAILED, "is skipped": SKIPPED}
    compared = compare(outcomes, {**outcomes, "fails": Outcome("failed", "why else")}, {}, never)
    assert compared == Comparison(passed=1, not_runnable={"fails": FAILED, "is skipped": SKIPPED})


def test_a_difference_that_stays_is_one() -> None:
    asked: Counter[tuple[str, bool]] = Counter()

    def again(name: str, interceptors: bool) -> Outcome:
        asked[name, interceptors] += 1
        return FAILED if interceptors else PASSED

    outcomes = {"known": PASSED, "unknown": PASSED, "gone": PASSED}
    compared = compare(outcomes, {"known": FAILED, "unknown": FAILED}, {"known": "a reason"}, again)
    assert compared == Comparison(
        known=[Difference("known", PASSED, FAILED)],
        unknown=[Difference("gone", PASSED, Outcome("not run")), Difference("unknown", PASSED, FAILED)],
    )
    assert asked == {(name, interceptors): 2 for name in outcomes for interceptors in (False, True)}


@pytest.mark.parametrize("way", [False, True])
def test_a_difference_that_goes_away_once_is_flaky(way: bool) -> None:
    answers = iter([FAILED, PASSED] if way else [PASSED, FAILED])

    def again(name: str, interceptors: bool) -> Outcome:
        return next(answers) if interceptors is way else (FAILED if interceptors else PASSED)

    compared = compare({"test": PASSED}, {"test": FAILED}, {"test": "a reason"}, again)
    assert compared == Comparison(flaky=[Difference("test", PASSED, FAILED)])


def test_an_entry_that_does_not_differ_is_stale_if_its_test_ran() -> None:
    known = {"test": "a reason", "of another release": "a reason"}
    assert compare({"test": FAILED}, {"test": FAILED}, known, never).stale == ["test"]


@pytest.mark.parametrize(
    ("compared", "moved", "line"),
    [
        (Comparison(passed=1), MOVED_AT_LEAST, ""),
        (Comparison(known=[Difference("test", PASSED, FAILED)]), MOVED_AT_LEAST, ""),
        (Comparison(flaky=[Difference("test", PASSED, FAILED)]), MOVED_AT_LEAST, ""),
        (Comparison(unknown=[Difference("test", PASSED, FAILED)]), MOVED_AT_LEAST, "DIFFERS: test: passed without"),
        (Comparison(stale=["test"]), MOVED_AT_LEAST, "OUT OF DATE: differences.toml lists test"),
        (Comparison(passed=1), MOVED_AT_LEAST - 1, "TOO FEW payloads moved"),
    ],
)
def test_verdict(compared: Comparison, moved: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    counts = Counter({"externalized": moved, "deexternalized": MOVED_AT_LEAST})
    assert report(compared, Record(counts=counts)) is (line == "")
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    "entries",
    [
        '[[difference]]\nname = "test"\n',
        '[[difference]]\nreason = "why"\n',
        '[[difference]]\nname = "test"\nreason = "why"\n' * 2,
    ],
)
def test_an_entry_needs_a_name_and_a_reason(entries: str, tmp_path: Path) -> None:
    path = tmp_path / "differences.toml"
    path.write_text(entries, encoding="utf-8")
    with pytest.raises(ValueError, match="needs a name that is listed once, and a reason"):
        read_known(path)


def test_the_list_of_differences_can_be_read() -> None:
    assert all(read_known(Path(__file__).parent / "differences.toml").values())


def test_a_source_without_tests_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    with pytest.raises(FailedError, match="no tests in"):
        Source(tmp_path, "", ()).copy_tests(tmp_path / "copy")
