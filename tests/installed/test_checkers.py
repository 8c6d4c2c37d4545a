"""What `python -m tests.checkers`, which `make check` runs, says of a checker that has no wheel here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.checkers import Checker, WheelEnvironment, passes

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_checker_that_cannot_be_installed_is_named(
    dist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (wheel,) = dist.glob("*.whl")
    wheel_environment = WheelEnvironment(tmp_path, wheel, "")
    requirement = str(tmp_path / "other-1.0-py3-none-any.whl")
    assert passes(Checker("other", requirement, ("other",), is_optional=True), wheel_environment)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"other: NOT RUN, {requirement} cannot be installed: ERROR: ")
