"""Proposals for StringValue fields that are not classified, read off the names of those that are.

A proposal looks at the first of these that there are, and takes the kind that most of them have:

1. fields of the same name in a message of the same name elsewhere, as when a package was renamed;
2. fields of the same name in other messages, `customStatus` and `custom_status` alike;
3. fields with the same last word, as `parentExecutionId` and `instanceId`.

It is a hint for a person. Where there is none, or as many of one kind as of another, it proposes nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .policy import KINDS, Policy, namesakes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .policy import FieldKind

__all__ = ["Proposal", "complete", "policy_lines", "propose"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_UNDECIDED = " | ".join(f'"{kind}"' for kind in KINDS)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a field probably holds.

    Attributes:
        kind: None where a person has to decide.
        reason: the classified fields that say so, or why there is no kind.
    """

    kind: FieldKind | None
    reason: str


def propose(field: str, kinds: Mapping[str, FieldKind]) -> Proposal:
    """Propose a kind for `field`, a `Message.field`, from the classified ones."""
    words = _words(field)
    ways: tuple[tuple[str, Callable[[], Iterable[str]]], ...] = (
        ("as in", lambda: namesakes(field, kinds)),
        ("as in", lambda: (other for other in kinds if _words(other) == words)),
        ("ends like", lambda: (other for other in kinds if _words(other)[-1:] == words[-1:])),
    )
    for how, find in ways:
        if similar := [other for other in find() if other != field]:
            return _majority(how, similar, kinds)
    return Proposal(None, "nothing similar is classified")


def complete(policy: Policy, fields: Iterable[str]) -> tuple[Policy, Mapping[str, Proposal]]:
    """Return a policy for exactly `fields`, and the proposals that fill it up.

    A field without a kind counts as a payload: that shows where it can be.
    """
    proposals: dict[str, Proposal] = {}
    kinds: dict[str, FieldKind] = {}
    for field in fields:
        if field in policy.kinds:
            kinds[field] = policy.kinds[field]
        else:
            proposals[field] = propose(field, policy.kinds)
            kinds[field] = proposals[field].kind or "payload"
    return Policy(policy.file, kinds, policy.tables), proposals


def policy_lines(policy: Policy, missing: Iterable[str]) -> str:
    """Write the lines that classify the `missing` fields, to paste into the policy file.

    A line without a proposed kind is a comment: what is pasted unread still does not classify the field.
    """
    messages: dict[str, list[str]] = {}
    for field in missing:
        messages.setdefault(field.rpartition(".")[0], []).append(field)
    blocks = [f"# Add to {policy.file}. Proposals are read off the names classified there: check each."]
    for message in sorted(messages, key=policy.tables.__contains__):  # new tables first
        header = f"[{_key(message)}]"
        if message in policy.tables:  # which TOML lets no second header open
            header = f"# Add below {header}, which is there:"
        blocks.append("\n".join([header, *_lines(policy, messages[message])]))
    return "\n\n".join(blocks) + "\n"


def _lines(policy: Policy, fields: Iterable[str]) -> list[str]:
    proposals = {field.rpartition(".")[2]: propose(field, policy.kinds) for field in fields}
    settings = {name: f'{name} = "{proposal.kind}"' for name, proposal in proposals.items() if proposal.kind}
    width = max(map(len, settings.values()), default=0)
    return [
        f"{settings[name]:{width}}  # proposal: {proposal.reason}"
        if name in settings
        else f"# {name} = {_UNDECIDED}  # {proposal.reason}: decide"
        for name, proposal in proposals.items()
    ]


def _majority(how: str, similar: list[str], kinds: Mapping[str, FieldKind]) -> Proposal:
    counts: Counter[FieldKind] = Counter(kinds[field] for field in similar)
    ranking = counts.most_common()
    kind, count = ranking[0]
    if len(ranking) > 1 and ranking[1][1] == count:
        by_kind = {kinds[field]: field for field in reversed(similar)}  # the first of each
        examples = ", ".join(f"{by_kind[kind]} is {kind}" for kind, _ in ranking)
        return Proposal(None, f"similar ones differ, {examples}")
    parts = {kind: _some([field for field in similar if kinds[field] == kind]) for kind, _ in ranking}
    reason = f"{how} {parts.pop(kind)}"
    if parts:
        reason += f", but {' and '.join(f'{other} in {fields}' for other, fields in parts.items())}"
    return Proposal(kind, reason)


def _some(fields: list[str]) -> str:
    """Name the first of `fields`, and count the others."""
    more = len(fields) - 1
    return fields[0] if not more else f"{fields[0]} and {more} other{'s' if more > 1 else ''}"


def _words(field: str) -> list[str]:
    """Split the last name of `field` into words: `parentInstanceID` and `parent_instance_id` have the same three."""
    name = field.rpartition(".")[2]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower().split("_")
    return [word for word in words if word]  # `type_` is `type`


def _key(message: str) -> str:
    return message if _BARE_KEY.fullmatch(message) else f'"{message}"'
