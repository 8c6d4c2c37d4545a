"""Processes that fork or end amid transfers. `python -m tests.interleavings.ends --seeds 500` runs more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SEEDS = 10
_ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_processes_end_well_at_any_moment() -> None:
    command = [sys.executable, "-m", "tests.interleavings.ends", "--seeds", str(_SEEDS)]
    ran = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=110)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{_SEEDS} processes ended well\n", ""), ran.stdout
