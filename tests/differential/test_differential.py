"""Random messages and random schemas: ours against the reference walker of the SDK's wheel, and against the oracle.

`python -m tests.differential` runs as many as one likes.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
from tests.differential import __main__ as command
from tests.differential.runner import FailedCaseError, run
from tests.support.fixtures import needs_sdk_payloads

from durabletask_payloads import ExternalizePlan
from durabletask_payloads_walkers import FIELDS

if TYPE_CHECKING:
    from google.protobuf.wrappers_pb2 import StringValue


pytestmark = needs_sdk_payloads


@pytest.mark.timeout(300)  # 1.5 s on an idle machine
def test_messages() -> None:
    seen = run("messages", seed=0, count=1_200).seen
    moved = {what.removeprefix("moved ") for what in seen if what.startswith("moved ")}
    assert moved >= {field for field, kind in FIELDS.items() if kind != "metadata"}
    # The reference must have been wrong in each way, and ours must have had to do each thing.
    for what, least in {
        "moved by the reference: payload": 300,
        "moved by the reference: diagnostic": 100,
        "moved by the reference: metadata": 300,
        "moved for the budget": 50,
        "does not fit": 30,
        "over the threshold in bytes alone": 50,
        "tokens in the original": 30,
        "there and back": 1_000,
        "too large": 15,
        "unreadable": 3,
        "async": 30,
        "prefix not said": 200,
    }.items():
        assert seen[what] >= least, what


@pytest.mark.timeout(300)  # 3 s on an idle machine
def test_schemas() -> None:
    seen = run("schemas", seed=0, count=20).seen
    for what in ("proto2", "proto3", "editions", "no package", "package back.is", "printed"):
        assert seen[what], what
    for what in ("map", "oneof", "ways to payload", "ways to diagnostic", "ways to metadata", "moved"):
        assert seen[what] > 50, what
    assert sum(count for what, count in seen.items() if what.startswith("refused")) < 5


def test_a_case_that_fails_is_repeated_by_the_command_that_it_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class WrongPlan(ExternalizePlan):
        """Sees no payloads of three characters."""

        def upload(self, field: StringValue, path: str, text: str | None = None) -> None:
            if len(field.value) != 3:
                super().upload(field, path, text)

    monkeypatch.setattr("durabletask_payloads.externalizer._planning.ExternalizePlan", WrongPlan)
    with pytest.raises(FailedCaseError) as failed:
        run("messages", seed=0, count=2_400)
    last = str(failed.value).splitlines()[-1]
    words = re.fullmatch(r"repeat it: \.venv/bin/python -m tests\.differential (.*)", last)
    assert words is not None
    monkeypatch.setattr(sys, "argv", ["differential", *words[1].split()])
    assert command.main() == 1
    assert capsys.readouterr() == ("", f"{failed.value}\n")
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["differential", *words[1].split()])
    assert command.main() == 0
    assert capsys.readouterr().out.startswith("messages: 1 cases in ")
