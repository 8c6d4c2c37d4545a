"""Runs the tests on each Python of this machine, with the oldest and the newest dependencies.

Each run has a new environment in build/python-matrix: the wheel of this tree, its extras, and what the tests need, as
pyproject.toml names them. What those need in turn is always the newest. `python -m tests.python_matrix --help` has the
options.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from xml.etree import ElementTree

from packaging.version import Version
from tests.support import interpreters
from tests.support.project import Project
from tests.support.wheels import ROOT, Environment, FailedError, build, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HOME: Final = ROOT / "build" / "python-matrix"
# Of the group dev, what no test that runs here needs.
DEVELOPMENT_ONLY: Final = frozenset({"build", "editables", "hatchling", "matplotlib", "mypy", "pyright", "uv"})
# What looks at this tree and at its tools, and not at the package as it is installed.
LEFT_OUT: Final = (
    "tests/benchmarks",
    "tests/cli/test_demo.py::test_an_azurite_that_cannot_be_installed",
    "tests/cli/test_demo.py::test_the_demo_on_an_azurite_of_its_own",
    "tests/examples/sdk_adoption",
    "tests/examples/test_documents.py",
    "tests/examples/test_observability.py",
    "tests/generated/test_mistakes.py",
    "tests/installed",
    "tests/mutation",
    "tests/sdk_suite",
    "tests/slow",
    "tests/support",
    "tests/test_house.py",
)
# All other warnings are errors. These are raised by releases of others that are no longer the newest.
OF_OTHERS: Final = (
    # typer 0.19 exports what click has deprecated since.
    r"ignore:'click\.[\w.]+' is deprecated:DeprecationWarning:typer",
    # The classes of protobuf 4.25 are made in a way that Python 3.12 deprecates.
    r"ignore:Type google\._upb\._message\.\w+ uses PyType_Spec:DeprecationWarning",
    # In grpcio 1.65 an asynchronous call that an interceptor let fail raises that once more when it is collected.
    "ignore:Exception ignored in. <function InterceptedCall.__del__:pytest.PytestUnraisableExceptionWarning",
)
HEAD: Final = ("Python", "dependencies", "grpcio", "protobuf", "azure-storage-blob", "obstore", "durabletask")
SHOWN: Final = HEAD[2:]


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a run has installed, and what it runs.

    Attributes:
        name: its value of the option --dependencies.
        resolution: of uv. "lowest-direct" takes the floors of pyproject.toml.
        ends: what it runs with --ends, but for LEFT_OUT and `left_out`: nothing is all of `tests`.
        tests: what it runs without.
        without: extras that are not installed.
        variables: of the environment of the tests, beside those of this process.
    """

    name: str
    resolution: Literal["lowest-direct", "highest"]
    ends: tuple[str, ...]
    tests: tuple[str, ...] = ("tests",)
    left_out: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict[str, str])


MESSAGES: Final = ("tests/end_to_end", "tests/externalizer", "tests/generated", "tests/interceptors", "tests/purge")
STORES: Final = ("tests/stores/test_codec.py", "tests/stores/test_contract.py")
COMMANDS: Final = ("tests/cli/test_doctor.py", "tests/cli/test_output.py", "tests/cli/test_sessions.py")
RUNTIME: Final = (*MESSAGES, *STORES, *COMMANDS, "tests/observers")
GENERATOR: Final = ("tests/codegen/test_classes.py", "tests/codegen/test_cli.py")
OLDEST: Final = Dependencies(
    "oldest",
    "lowest-direct",
    RUNTIME,
    left_out=("tests/codegen", "tests/examples/test_examples.py::test_proto_upgrade"),
    without=frozenset({"codegen"}),
)
# The generator needs a newer protobuf than the runtime, so that its floors are a run of their own.
OLDEST_CODEGEN: Final = Dependencies("oldest-codegen", "lowest-direct", GENERATOR, ("tests/codegen", "tests/generated"))
NEWEST: Final = Dependencies("newest", "highest", (*RUNTIME, "tests/stores/test_object_contract.py", *GENERATOR))
PURE_PYTHON: Final = Dependencies(
    "pure-python",
    "highest",
    ("tests/end_to_end", "tests/externalizer/test_externalizer.py", "tests/generated"),
    MESSAGES,
    variables={"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"},
)
KINDS: Final = (OLDEST, OLDEST_CODEGEN, NEWEST, PURE_PYTHON)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: what was installed for which Python, and how the tests ended.

    Attributes:
        versions: of all packages in the environment; empty where there is none.
        remarks: for the lines below the table.
    """

    python: str
    dependencies: str
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    remarks: Sequence[str] = ()

    @property
    def cells(self) -> list[str]:
        if not self.versions:
            return [self.python, self.dependencies]
        counts = (self.passed, self.failed, self.skipped, round(self.seconds))
        return [self.python, self.dependencies, *(self.versions.get(name, "-") for name in SHOWN), *map(str, counts)]


class Matrix:
    """Runs the tests in new environments, one after the other.

    Args:
        wheel: what is tested.
        seed: of the order of the tests.
    """

    def __init__(self, wheel: Path, seed: int) -> None:
        self._project = Project.read()
        self._wheel = wheel
        self._seed = seed

    def row(self, version: str, python: Path, kind: Dependencies, tests: Sequence[str]) -> Row:
        """Run tests on one Python. What pytest prints goes where the output of this process goes."""
        started = time.monotonic()
        print(f"\nPython {version}, dependencies: {kind.name}", flush=True)
        name = f"{version}-{kind.name}"
        try:
            environment = self._environment(HOME / name, python, kind)
        except FailedError as error:
            print(error, flush=True)
            return Row(version, kind.name, failed=1, remarks=["cannot be installed: see above"])
        versions = _installed(environment)
        report = HOME / f"{name}.xml"
        exit_code = self._pytest(environment, kind, tests, report)
        passed, failed, skipped = _counts(report) if report.exists() else (0, 0, 0)
        remarks = self._above_floors(version, kind, versions)
        crashed = _crashed(report) if report.exists() else []
        if (
            failed
            and failed == len(crashed)
            and not self._pytest(environment, kind, crashed, HOME / f"{name}-again.xml")
        ):
            exit_code, passed, failed = 0, passed + failed, 0
            remarks.append(f"Python itself crashed, and what it ran then passes by itself: {', '.join(crashed)}")
        if exit_code:
            failed = failed or 1  # no test failed where pytest itself did
            remarks.append(f'again: ARGS="--python {version} --dependencies {kind.name} --seed {self._seed}"')
        return Row(version, kind.name, versions, passed, failed, skipped, time.monotonic() - started, remarks)

    def _environment(self, folder: Path, python: Path, kind: Dependencies) -> Environment:
        environment = Environment(folder, python)
        extras = [f"--extra={extra}" for extra in self._extras(kind)]
        tools = [str(one) for one in self._project.development if one.name not in DEVELOPMENT_ONLY]
        options = ("--no-build", "--resolution", kind.resolution, "-r", "pyproject.toml", *extras, *tools)
        _uv(environment, "install", *options)
        _uv(environment, "install", "--no-deps", str(self._wheel))
        _uv(environment, "check")
        return environment

    def _pytest(self, environment: Environment, kind: Dependencies, tests: Sequence[str], report: Path) -> int:
        left_out = (f"--{'deselect' if '::' in test else 'ignore'}={test}" for test in (*LEFT_OUT, *kind.left_out))
        command = [
            *(str(environment.python), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", f"--junitxml={report}"),
            *("--numprocesses", "2", "--dist", "worksteal", f"--randomly-seed={self._seed}"),
            "--override-ini=filterwarnings=" + "\n".join(("error", *OF_OTHERS)),
            *("-m", "not slow and not tools", *left_out, *tests),
        ]
        return subprocess.run(command, cwd=ROOT, env={**os.environ, **kind.variables}, check=False).returncode

    def _above_floors(self, version: str, kind: Dependencies, versions: Mapping[str, str]) -> list[str]:
        if kind.resolution != "lowest-direct":
            return []
        floors = self._project.floors(version, self._extras(kind))
        return [
            f"{name} {versions[name]}, not {floor}: that has no wheel here, or another package needs a newer one"
            for name, floor in floors.items()
            if name in versions and Version(versions[name]).release[: len(floor.release)] > floor.release
        ]

    def _extras(self, kind: Dependencies) -> list[str]:
        return sorted(self._project.extras.keys() - kind.without)


def _uv(environment: Environment, command: str, *arguments: str) -> str:
    """Run a command of `uv pip`, which knows the oldest releases that can be installed together."""
    uv = (sys.executable, "-m", "uv", "pip", command, "--quiet", "--python", environment.python)
    return run(*uv, *arguments, cwd=ROOT)


def _installed(environment: Environment) -> dict[str, str]:
    packages: list[dict[str, str]] = json.loads(_uv(environment, "list", "--format=json"))
    return {package["name"]: package["version"] for package in packages}


def _counts(report: Path) -> tuple[int, int, int]:
    """Return how many tests passed, failed and were skipped, of a report in the form of JUnit."""
    suite = ElementTree.parse(report).getroot().find("testsuite")
    assert suite is not None, report
    tests, failures, errors, skipped = (int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped"))
    return tests - failures - errors - skipped, failures + errors, skipped


def _crashed(report: Path) -> list[str]:
    """Return the tests in which Python itself crashed: gRPC and protobuf are compiled, and nothing of ours is."""
    texts = (part.get("message", "") + (part.text or "") for part in ElementTree.parse(report).iter("error"))
    return [test for text in texts for test in re.findall(r"worker '\w+' crashed while running '(.+?)'", text)[:1]]


def table(rows: Sequence[Row]) -> str:
    """Return the rows in columns, and below them what is to be said of single ones."""
    lines = [[*HEAD, "passed", "failed", "skipped", "seconds"], *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines if column < len(line)) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip() for line in lines]
    text += [f"{row.python} {row.dependencies}: {remark}" for row in rows for remark in row.remarks]
    return "\n".join(text)


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments, _Options())
    wanted = [version for version in Project.read().pythons if version in options.python or not options.python]
    found = {version: python for version in wanted if (python := interpreters.find(version))}
    shutil.rmtree(HOME, ignore_errors=True)
    matrix = Matrix(build(HOME / "dist", "--wheel"), options.seed)
    rows: list[Row] = []
    for version in wanted:
        if version not in found:
            rows.append(Row(version, "not on this machine"))
            continue
        for kind in KINDS:
            if _is_due(kind, version, list(found), options):
                tests = options.tests or (kind.ends if options.ends else kind.tests)
                rows.append(matrix.row(version, found[version], kind, tests))
    print(f"\n{table(rows)}", flush=True)
    # One that is asked for by its version may be alone, and so may the oldest and newest that are there.
    if len(found) < min(1 if options.ends else 2, len(wanted)):
        print(f"found {len(found)} of the interpreters {', '.join(wanted)}: install more, on PATH or with pyenv")
        return 1
    return 1 if any(row.failed for row in rows) else 0


class _Options(argparse.Namespace):
    """The command line."""

    python: Sequence[str]
    dependencies: Sequence[str]
    ends: bool
    seed: int
    tests: Sequence[str]


def _is_due(kind: Dependencies, version: str, found: Sequence[str], options: _Options) -> bool:
    if options.dependencies:
        return kind.name in options.dependencies
    is_oldest, is_newest = version == found[0], version == found[-1]
    if kind is PURE_PYTHON or (options.ends and kind is NEWEST):
        return is_newest
    return is_oldest if options.ends else True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.python_matrix", description=__doc__)
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        choices=Project.read().pythons,
        help="may be repeated; default: all that are there",
    )
    parser.add_argument(
        "--dependencies",
        action="append",
        default=[],
        choices=[kind.name for kind in KINDS],
        help="may be repeated; default: all, and pure-python, with Python's own protobuf, on the newest interpreter",
    )
    parser.add_argument(
        "--ends",
        action="store_true",
        help="the oldest dependencies on the oldest interpreter that is there and the newest on the newest, with what "
        "depends on either: messages, gRPC, the contract of the stores, commands and the generator",
    )
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the order of the tests")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="files and folders to run in place of the usual ones")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
