"""A pytest plugin for runs on a copy of the tree: it proves what is imported, and writes down which tests fail.

`python -m pytest -p tests.mutation.failures`, with the variable FAILURES naming the file to write. pytest-xdist loads
it in each of its processes.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

FAILURES = "FAILURES"
PACKAGES = (
    "durabletask_payloads",
    "durabletask_payloads_codegen",
    "durabletask_payloads_protos",
    "durabletask_payloads_walkers",
)


def pytest_configure(config: pytest.Config) -> None:
    """End the run unless the packages are those of the copy: an editable install names another tree."""
    for package in PACKAGES:
        spec = find_spec(package)
        origin = None if spec is None else spec.origin
        if origin is None or not Path(origin).is_relative_to(config.rootpath):
            raise pytest.UsageError(f"{package} is imported from {origin}, not from {config.rootpath}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:  # the main process is told by the others
        with open(os.environ[FAILURES], "a", encoding="utf-8") as file:
            file.write(f"{report.nodeid}\n")
