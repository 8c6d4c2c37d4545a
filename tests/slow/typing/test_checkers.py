"""What mypy and pyright report of the documented example, with the wheel and its extras alone.

`python -m tests.checkers`, which `make check` runs, does the same with more checkers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.checkers import MYPY, PACKAGES, PYRIGHT_STRICT, USER, Checker, WheelEnvironment, marked_lines, passes
from tests.support.wheels import FailedError, build

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("dist"), "--wheel")


@pytest.fixture(scope="module")
def wheel_environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> WheelEnvironment:
    made = WheelEnvironment(tmp_path_factory.mktemp("typing"), wheel)
    made.add(MYPY, PYRIGHT_STRICT)
    return made


@pytest.mark.parametrize("checker", [MYPY, PYRIGHT_STRICT], ids=lambda checker: checker.command[0])
def test_the_marked_lines_are_reported_and_no_others(checker: Checker, wheel_environment: WheelEnvironment) -> None:
    assert wheel_environment.stubs == {"google-stubs", "grpc-stubs"}, "those of the extra, and none of ours"
    report = wheel_environment.check(checker)
    assert (report.exit_code, report.lines) == (1, marked_lines()), report.text


def test_without_the_extra_mypy_reports_one_mistake(wheel: Path, tmp_path: Path) -> None:
    """So the test above also proves that the extra has the stubs, which mypy misses in silence."""
    without = WheelEnvironment(tmp_path, wheel, "[sdk,azure]")
    without.add(MYPY)
    assert without.stubs == set()
    report = without.check(MYPY)
    wrong_plan = frozenset(line for line in marked_lines() if "# E2" in line_of_user(line))
    assert (report.exit_code, report.lines) == (1, wrong_plan), report.text


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_typed_and_documented(package: str, wheel_environment: WheelEnvironment) -> None:
    assert wheel_environment.incomplete(package) == []


def test_a_checker_that_cannot_be_installed_is_named(
    wheel_environment: WheelEnvironment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    requirement = str(tmp_path / "other-1.0-py3-none-any.whl")
    assert passes(Checker("other", requirement, ("other",), is_optional=True), wheel_environment)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"other: NOT RUN, {requirement} cannot be installed: ERROR: ")
    with pytest.raises(FailedError):
        wheel_environment.add(Checker("other", requirement, ("other",)))


def line_of_user(line: str) -> str:
    return USER.read_text(encoding="utf-8").splitlines()[int(line.partition(":")[2]) - 1]


def test_the_marks_are_e1_to_e4() -> None:
    marks = sorted(line_of_user(line).partition("# ")[2][:2] for line in marked_lines())
    assert marks == ["E1", "E2", "E3", "E4"]
