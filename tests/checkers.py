"""Runs type checkers on what a user writes, against the wheel of this tree: `python -m tests.checkers`.

Each gets the code of the documentation's page "Type checking" in an environment that has the wheel with its extras
[sdk,azure,typing], and no stubs of ours. It has to report the lines that are marked as mistakes, and no others.
Without the extra [typing], mypy has to report one of them: so the others are found thanks to it.
pyright also has to find that the packages in the wheel are typed and documented completely.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.wheels import ROOT, Environment, FailedError, build, result

if TYPE_CHECKING:
    from collections.abc import Mapping

USER = ROOT / "tests" / "installed" / "user.txt"
WITHOUT_TYPING = "[sdk,azure]"
EXTRAS = "[sdk,azure,typing]"
STUBS = {"google-stubs", "grpc-stubs"}  # those of the extra, and none of ours
PACKAGES = ("durabletask_payloads", "durabletask_payloads_walkers", "durabletask_payloads_codegen")
# The SDK checks itself with pyright alone, in strict mode, as Python 3.10 runs it: so does this. It names no mypy, but
# mypy 1.6 to 2.3.0 crash on task.py of durabletask 1.12.0, whatever imports it: 2.3.1 is the oldest that serves its
# users. (0.991 to 1.5, tried by hand, report the same lines.)
PYTHON = "3.10"
OLDEST_MYPY = "2.3.1"
# An unused import is for linters, and the code has two. It is the only rule of the strict mode that is off.
PYRIGHT = {"typeCheckingMode": "strict", "pythonVersion": PYTHON, "reportUnusedImport": False}


class Checker(NamedTuple):
    """A type checker.

    Attributes:
        requirement: what pip installs; without a version that of dev.lock.
        command: its program and options, before the file.
        settings: its settings, by the name of their file.
        alone: in an environment of its own, from which it looks at the one with the wheel.
        is_optional: it may be missing where it has no wheel for the platform, which is then said.
    """

    name: str
    requirement: str
    command: tuple[str, ...]
    settings: Mapping[str, str] = {}
    alone: bool = False
    is_optional: bool = False


MYPY = Checker("mypy, the newest", "mypy", ("mypy", "--strict"))
PYRIGHT_STRICT = Checker("pyright", "pyright[nodejs]", ("pyright",), {"pyrightconfig.json": json.dumps(PYRIGHT)})
CHECKERS = (
    MYPY,
    Checker("mypy, the oldest", f"mypy=={OLDEST_MYPY}", ("mypy", "--strict", "--python-version", PYTHON), alone=True),
    PYRIGHT_STRICT,
    Checker(
        "pyrefly",
        "pyrefly==1.5.0",
        ("pyrefly", "check", "--preset", "strict", "--output-format", "min-text", "--python-version", PYTHON),
        is_optional=True,
    ),
    Checker(
        "ty",
        "ty==0.0.108",
        ("ty", "check", "--output-format", "concise", "--python-version", PYTHON),
        is_optional=True,
    ),
)


class Report(NamedTuple):
    """What a checker said: its exit code, the lines that it named as "file:line", and its output."""

    exit_code: int
    lines: frozenset[str]
    text: str


def marked_lines(mark: str = r"E\d") -> frozenset[str]:
    """Return the lines of the user's code that are marked E1, E2 and so on, as a report has them."""
    numbered = enumerate(USER.read_text(encoding="utf-8").splitlines(), start=1)
    return frozenset(f"user.py:{number}" for number, line in numbered if re.search(rf"# {mark}\b", line))


class WheelEnvironment:
    """An environment with the wheel and some of its extras, and nothing else but the checkers that are added.

    Args:
        folder: a new one.
        wheel: the file.
        extras: as pip wants them, in brackets.
    """

    def __init__(self, folder: Path, wheel: Path, extras: str = EXTRAS) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._environment = Environment(folder / "environment")
        self._environment.install(f"{wheel}{extras}")

    def add(self, *checkers: Checker) -> None:
        """Install checkers into the environment itself."""
        self._environment.install(*(checker.requirement for checker in checkers))

    @property
    def stubs(self) -> set[str]:
        """The names of its packages of stubs."""
        return {path.name for path in self._folder.rglob("site-packages/*-stubs")}

    def check(self, checker: Checker) -> Report:
        """Run a checker on a copy of the user's code, in a folder that has only its settings beside it."""
        folder = self._folder / checker.name
        folder.mkdir()
        (folder / "user.py").write_text(USER.read_text(encoding="utf-8"), encoding="utf-8")
        for name, text in checker.settings.items():
            (folder / name).write_text(text)
        program, *options = checker.command
        scripts = self._environment.scripts
        if checker.alone:
            environment = Environment(folder / "environment")
            environment.install(checker.requirement, locked=False)
            scripts = environment.scripts
            options.append(f"--python-executable={self._environment.python}")
        done = result(scripts / program, *options, "user.py", cwd=folder, environment=self._variables)
        text = done.stdout + done.stderr
        named = re.findall(r"(?:^|[\s/\\])([\w-]+\.pyi?):(\d+):", text, flags=re.MULTILINE)
        return Report(done.returncode, frozenset(f"{file}:{line}" for file, line in named), text)

    def incomplete(self, package: str) -> list[str]:
        """Let pyright look at the public names of a package: what is not typed completely, or has no docstring."""
        self._environment.install("pytest")  # durabletask_payloads.testing needs it; other users have none
        # The stubs of protobuf leave types out themselves: names from outside do not count.
        options = ("--ignoreexternal", "--verifytypes", package, "--outputjson")
        pyright = self._environment.scripts / "pyright"
        done = result(pyright, *options, cwd=self._folder, environment=self._variables)
        found = json.loads(done.stdout)["typeCompleteness"]
        faults = [
            f"{symbol['name']}: {fault['message']}" for symbol in found["symbols"] for fault in symbol["diagnostics"]
        ]
        if not faults and (done.returncode or found["completenessScore"] != 1):
            faults.append(done.stdout + done.stderr)
        return faults

    @property
    def _variables(self) -> dict[str, str]:
        """The variables of this process, as if the environment was activated, and without paths to this tree."""
        kept = {name: value for name, value in os.environ.items() if name not in ("MYPYPATH", "PYTHONPATH")}
        path = os.pathsep.join([str(self._environment.scripts), os.environ["PATH"]])
        return {**kept, "PATH": path, "VIRTUAL_ENV": str(self._environment.scripts.parent)}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="checkers-") as folder:
        wheel = build(Path(folder, "dist"), "--wheel")
        wheel_environment = WheelEnvironment(Path(folder, "with"), wheel)
        wheel_environment.add(*(one for one in CHECKERS if not one.alone and not one.is_optional))
        passed = [passes(checker, wheel_environment) for checker in CHECKERS]
        passed.append(wheel_environment.stubs == STUBS)
        passed.append(passes_without_typing(WheelEnvironment(Path(folder, "without"), wheel, WITHOUT_TYPING)))
        for package in PACKAGES:
            faults = wheel_environment.incomplete(package)
            print(f"{package}: {'FAILED' if faults else 'typed and documented completely'}", *faults, sep="\n    ")
            passed.append(not faults)
    return 0 if all(passed) else 1


def passes(checker: Checker, wheel_environment: WheelEnvironment) -> bool:
    started = time.monotonic()
    if checker.is_optional:
        try:
            wheel_environment.add(checker)
        except FailedError as error:
            reason = str(error).strip().splitlines()[-1]
            print(f"{checker.name}: NOT RUN, {checker.requirement} cannot be installed: {reason}", flush=True)
            return True
    report = wheel_environment.check(checker)
    expected = marked_lines()
    passed = report.exit_code == 1 and report.lines == expected
    said = f"{len(expected)} of {len(expected)} mistakes found" if passed else f"FAILED\n{report.text}"
    print(f"{checker.name}: {said}, {time.monotonic() - started:.0f} s", flush=True)
    return passed


def passes_without_typing(without: WheelEnvironment) -> bool:
    """Only a wrong type of ours is found without the stubs, whose lack mypy does not mention."""
    without.add(MYPY)
    report = without.check(MYPY)
    passed = (without.stubs, report.exit_code, report.lines) == (set(), 1, marked_lines("E2"))
    said = f"{len(report.lines)} of {len(marked_lines())} mistakes found" if passed else f"FAILED\n{report.text}"
    print(f"{MYPY.name}, without [typing]: {said}", flush=True)
    return passed


if __name__ == "__main__":
    sys.exit(main())
