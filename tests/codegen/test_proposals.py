"""Proposals for fields that are not classified: how they are found, and how they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.codegen.support import dedent

from durabletask_payloads_codegen import policy, proposals

if TYPE_CHECKING:
    from pathlib import Path

    from durabletask_payloads_codegen.policy import FieldKind

KINDS: dict[str, FieldKind] = {
    "A.input": "payload",
    "B.input": "payload",
    "C.input": "payload",
    "D.input": "metadata",
    "A.instanceId": "metadata",
    "A.customStatus": "payload",
    "A.reason": "payload",
    "B.reason": "diagnostic",
    "old.pkg.Outer.Inner.text": "diagnostic",
    "old.pkg.Inner.text": "metadata",
    "A.text": "payload",
    "B.text": "payload",
}


@pytest.mark.parametrize(
    ("field", "kind", "reason"),
    [
        ("X.input", "payload", "as in A.input and 2 others, but metadata in D.input"),
        ("X.custom_status", "payload", "as in A.customStatus"),
        ("X.parentInstanceID", "metadata", "ends like A.instanceId"),
        ("X.id", "metadata", "ends like A.instanceId"),
        ("X.httpStatus", "payload", "ends like A.customStatus"),
        ("X.custom_status_", "payload", "as in A.customStatus"),
        ("X.reason", None, "similar ones differ, A.reason is payload, B.reason is diagnostic"),
        ("X.statuses", None, "nothing similar is classified"),
        ("X.status2", None, "nothing similar is classified"),
        # A message that moved is the best witness, and one with the same outer message better than one without.
        ("new.pkg.Inner.text", "metadata", "as in old.pkg.Inner.text"),
        ("new.Outer.Inner.text", "diagnostic", "as in old.pkg.Outer.Inner.text"),
        (
            "new.Other.text",
            "payload",
            "as in A.text and 1 other, but diagnostic in old.pkg.Outer.Inner.text and metadata in old.pkg.Inner.text",
        ),
        ("A.input", "payload", "as in B.input and 1 other, but metadata in D.input"),
    ],
)
def test_what_is_proposed(field: str, kind: FieldKind | None, reason: str) -> None:
    assert proposals.propose(field, KINDS) == proposals.Proposal(kind, reason)


def test_without_a_classified_field() -> None:
    assert proposals.propose("M.x", {}) == proposals.Proposal(None, "nothing similar is classified")


def test_a_policy_filled_up() -> None:
    known = policy.Policy("p.toml", {"A.input": "diagnostic", "Gone.x": "payload"})
    full, made = proposals.complete(known, ["A.input", "B.input", "B.fresh"])
    assert full.kinds == {"A.input": "diagnostic", "B.input": "diagnostic", "B.fresh": "payload"}
    assert {field: proposal.kind for field, proposal in made.items()} == {"B.input": "diagnostic", "B.fresh": None}


POLICY = """
    [Task]
    input = "payload"
    version = "metadata"

    [pkg.Task.Failure]
    trace = "diagnostic"
"""
MISSING = (
    "pkg.Outer.Inner.input",
    "pkg.Outer.Inner.workerVersion",
    "Task.fresh",
    "Task.trace",
    "pkg.Task.Failure.input",
    "Late.fresh",
)


def test_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(dedent(POLICY))
    read = policy.load_policy(path)
    lines = proposals.policy_lines(read, MISSING)
    assert lines.replace(str(path), "p.toml") == dedent("""
        # Add to p.toml. Proposals are read off the names classified there: check each.

        ["pkg.Outer.Inner"]
        input = "payload"           # proposal: as in Task.input
        workerVersion = "metadata"  # proposal: ends like Task.version

        [Late]
        # fresh = "payload" | "diagnostic" | "metadata"  # nothing similar is classified: decide

        # Add below [Task], which is there:
        # fresh = "payload" | "diagnostic" | "metadata"  # nothing similar is classified: decide
        trace = "diagnostic"  # proposal: as in pkg.Task.Failure.trace

        # Add below ["pkg.Task.Failure"], which is there:
        input = "payload"  # proposal: as in Task.input
    """)


def test_lines_pasted_unread_classify_no_more_than_was_proposed(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[A]\ninput = "payload"\n')
    lines = proposals.policy_lines(policy.load_policy(path), ["new.M.input", "new.M.fresh", "Late.fresh"])
    path.write_text(f"{path.read_text()}\n{lines}")
    assert policy.load_policy(path).kinds == {"A.input": "payload", "new.M.input": "payload"}
