"""Random messages and random schemas: ours against the reference walker of the SDK's wheel and against the oracle.

`python -m tests.differential` runs as many as one likes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from tests.differential import __main__ as command
from tests.differential import runner
from tests.differential.runner import FailedCaseError, run

from durabletask_payloads_codegen import render
from durabletask_payloads_walkers import FIELDS

if TYPE_CHECKING:
    from dataclasses import dataclass


def test_messages() -> None:
    outcome = run("messages", seed=0, count=2_400)
    seen = outcome.seen
    moved = {what.removeprefix("moved ") for what in seen if what.startswith("moved ")}
    assert {field for field, kind in FIELDS.items() if kind != "metadata"} <= moved
    assert not {field for field, kind in FIELDS.items() if kind == "metadata"} & moved
    # The reference must have something to be wrong in, and ours something to do in each way.
    for what, least in {
        "moved by the reference: payload": 1_000,
        "moved by the reference: diagnostic": 100,
        "moved by the reference: metadata": 100,
        "moved for the budget": 50,
        "does not fit": 20,
        "over the threshold in bytes alone": 100,
        "tokens in the original": 100,
        "there and back": 2_000,
        "too large": 20,
        "unreadable": 10,
        "async": 50,
        "prefix not said": 100,
    }.items():
        assert seen[what] >= least, what


def test_schemas() -> None:
    seen = run("schemas", seed=0, count=20).seen
    for what in ("proto2", "proto3", "editions", "no package", "package back.is", "printed"):
        assert seen[what], what
    for what in ("map", "oneof", "ways to payload", "ways to diagnostic", "ways to metadata", "moved"):
        assert seen[what] > 50, what
    assert sum(count for what, count in seen.items() if what.startswith("refused")) < 5
