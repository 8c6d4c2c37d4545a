"""A measurement in a process of its own: what other measurements left behind in memory and threads is not in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_TIMEOUT_SECONDS = 600


def command(module: str, job: DataclassInstance) -> list[str]:
    """The program that does `job`: `module`, which gets it as JSON and prints what came out of it as JSON."""
    return [sys.executable, "-m", module, json.dumps(asdict(job))]


def run(module: str, job: DataclassInstance, *, first_in_path: str | None = None) -> dict[str, Any]:
    """Do `job` in a process of its own, and return what came out.

    Args:
        module, job: see `command`.
        first_in_path: a folder whose packages stand before the installed ones.

    Raises:
        RuntimeError: it did not end well; with what it wrote.
    """
    environment = os.environ if first_in_path is None else {**os.environ, "PYTHONPATH": first_in_path}
    done = subprocess.run(
        command(module, job), env=environment, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode} for {job}:\n{done.stderr[-4_000:]}")
    outcome: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return outcome
