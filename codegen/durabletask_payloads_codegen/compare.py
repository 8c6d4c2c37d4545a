"""What differs between two schemas in the payloads that they carry, RPC by RPC."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from . import descriptors, model, proposals, report, schema
from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .model import Model
    from .policy import FieldKind, Policy
    from .proposals import Proposal
    from .report import PathKind, PayloadPath, Travel
    from .schema import Schema

__all__ = [
    "Comparison",
    "FieldChange",
    "PathChange",
    "RpcChange",
    "Side",
    "TravelChange",
    "as_json",
    "as_text",
    "assess",
    "compare",
    "read",
]

Change: TypeAlias = Literal["gone", "added", "changed"]
_SIGNS: Mapping[Change, str] = {"gone": "-", "added": "+", "changed": "!"}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two schemas.

    Attributes:
        name: how it was named on the command line.
        policy_file: the policy that `model` was built by, with the `proposals` for what it does not classify.
    """

    name: str
    policy_file: str
    model: Model
    proposals: Mapping[str, Proposal]


@dataclass(frozen=True, slots=True)
class RpcChange:
    """An RPC that only one side has."""

    change: Change
    rpc: str
    carries: bool


@dataclass(frozen=True, slots=True)
class PathChange:
    """A path to a payload that only one side has, or whose end is of another kind.

    Attributes:
        kind: on the new side; of a path that is gone, on the old one.
        was: for a change, the kind on the old side.
        field: what is at its end, as in `report.PayloadPath`.
        proposed: the kind is a proposal: the policy does not classify the field.
    """

    change: Change
    path: str
    kind: PathKind
    was: PathKind | None
    field: str
    proposed: bool


@dataclass(frozen=True, slots=True)
class TravelChange:
    """A direction of an RPC with its changes; `message` is the new one where both sides have the RPC."""

    rpc: str
    direction: Literal["request", "response"]
    message: str
    paths: tuple[PathChange, ...]


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A StringValue field that only one side has; `proposal` where the policy does not classify it."""

    change: Change
    field: str
    kind: FieldKind
    proposal: Proposal | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences from `old` to `new`.

    Attributes:
        unreached: messages with payloads that no RPC carries, on one of the sides only.
    """

    old: Side
    new: Side
    rpcs: tuple[RpcChange, ...]
    travels: tuple[TravelChange, ...]
    unreached: tuple[tuple[Change, str], ...]
    fields: tuple[FieldChange, ...]


def read(name: str) -> Schema:
    """Read a schema in the form that `name` has: a folder, a .proto file, a descriptor set, or a pb2 module.

    Raises:
        CodegenError: it is none of these, or cannot be read.
    """
    path = Path(name)
    if path.is_dir():
        return schema.from_protos(path)
    if path.is_file():
        return schema.from_protos(path.parent, [path]) if path.suffix == ".proto" else schema.from_descriptor_set(path)
    if path.suffix == ".proto" or not all(part.isidentifier() for part in name.split(".")):
        raise CodegenError(f"{name}: there is no such file or folder")
    try:
        return schema.from_modules([name])
    except CodegenError as error:
        raise CodegenError(f"{name}: there is no such file or folder, and {error}") from error


def assess(name: str, read: Schema, policy: Policy) -> Side:
    """Build the model of one side; fields that the policy does not classify get their proposal.

    Raises:
        CodegenError: the schema has a part that the generator does not cover.
    """
    decl = descriptors.declare(read)
    full, made = proposals.complete(policy, model.string_fields(decl))
    return Side(name, policy.file, model.build(decl, full), made)


def compare(old: Side, new: Side) -> Comparison:
    """List what an upgrade from `old` to `new` changes."""
    return Comparison(
        old,
        new,
        rpcs=tuple(_rpcs(old.model, new.model)),
        travels=tuple(_travels(old, new)),
        unreached=tuple(_only(report.unreached(old.model), report.unreached(new.model))),
        fields=tuple(_fields(old, new)),
    )


def _only(old: Iterable[str], new: Iterable[str]) -> Iterator[tuple[Change, str]]:
    """Yield the names that only one side has, those of `old` first."""
    before, after = dict.fromkeys(old), dict.fromkeys(new)
    for name in before:
        if name not in after:
            yield "gone", name
    for name in after:
        if name not in before:
            yield "added", name


def _rpcs(old: Model, new: Model) -> Iterator[RpcChange]:
    sides = {"gone": old, "added": new}
    for change, name in _only((rpc.name for rpc in old.rpcs), (rpc.name for rpc in new.rpcs)):
        carries = any(travel.rpc == name for travel in report.travels(sides[change]))
        yield RpcChange(change, name, carries)


def _travels(old: Side, new: Side) -> Iterator[TravelChange]:
    """Yield the directions with changes, in the order of the new side; those that are gone come last."""
    before = {(travel.rpc, travel.direction): travel for travel in report.travels(old.model)}
    after = {(travel.rpc, travel.direction): travel for travel in report.travels(new.model)}
    proposed = {**old.proposals, **new.proposals}
    lost = {key: travel for key, travel in before.items() if key not in after}
    for key, travel in {**after, **lost}.items():
        if paths := tuple(_paths(_by_path(before.get(key)), _by_path(after.get(key)), proposed)):
            yield TravelChange(travel.rpc, travel.direction, travel.message, paths)


def _by_path(travel: Travel | None) -> dict[str, PayloadPath]:
    return {path.path: path for path in travel.paths} if travel else {}


def _paths(
    before: Mapping[str, PayloadPath], after: Mapping[str, PayloadPath], proposed: Mapping[str, Proposal]
) -> Iterator[PathChange]:
    for change, name in _only(before, after):
        end = before[name] if change == "gone" else after[name]
        yield PathChange(change, name, end.kind, None, end.field, end.field in proposed)
    for name, end in after.items():
        if name in before and before[name].kind != end.kind:
            yield PathChange("changed", name, end.kind, before[name].kind, end.field, end.field in proposed)


def _fields(old: Side, new: Side) -> Iterator[FieldChange]:
    sides = {"gone": old, "added": new}
    for change, field in _only(old.model.fields, new.model.fields):
        side = sides[change]
        yield FieldChange(change, field, side.model.fields[field], side.proposals.get(field))


def as_text(comparison: Comparison) -> str:
    """Render the differences for a terminal; a `?` behind a kind marks a proposal."""
    old, new = comparison.old, comparison.new
    blocks = [[f"old  {_title(old)}", f"new  {_title(new)}"]]
    if comparison.rpcs:
        blocks.append(["RPCs", *_table(_rpc_row(rpc) for rpc in comparison.rpcs)])
    for travel in comparison.travels:
        head = f"{travel.rpc} {travel.direction}: {travel.message}"
        blocks.append([head, *_table(_path_row(path) for path in travel.paths)])
    if comparison.unreached:
        blocks.append(["Carried by no RPC", *_table((_SIGNS[change], name) for change, name in comparison.unreached)])
    if comparison.fields:
        blocks.append(["StringValue fields", *_table(_field_row(field) for field in comparison.fields)])
    if len(blocks) == 1:
        blocks.append(["No difference in payloads."])
    ends = [path for travel in comparison.travels for path in travel.paths]
    if any(path.proposed for path in ends) or any(field.proposal for field in comparison.fields):
        blocks.append([f"? not classified in {new.policy_file}: a proposal, or payload where there is none"])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def as_json(comparison: Comparison) -> str:
    """Render the differences as JSON."""
    differences = {
        "old": {"name": comparison.old.name, "source": comparison.old.model.source},
        "new": {"name": comparison.new.name, "source": comparison.new.model.source},
        "rpcs": [{"change": rpc.change, "rpc": rpc.rpc, "carries": rpc.carries} for rpc in comparison.rpcs],
        "travels": [
            {
                "rpc": travel.rpc,
                "direction": travel.direction,
                "message": travel.message,
                "paths": [
                    {
                        "change": path.change,
                        "path": path.path,
                        "kind": path.kind,
                        "was": path.was,
                        "field": path.field,
                        "proposed": path.proposed,
                    }
                    for path in travel.paths
                ],
            }
            for travel in comparison.travels
        ],
        "unreached": [{"change": change, "message": message} for change, message in comparison.unreached],
        "fields": [
            {
                "change": field.change,
                "field": field.field,
                "kind": field.kind,
                "proposed": field.proposal is not None,
                "reason": field.proposal.reason if field.proposal else None,
            }
            for field in comparison.fields
        ],
    }
    return json.dumps(differences, indent=2) + "\n"


def _title(side: Side) -> str:
    source = side.model.source
    return side.name if source in side.name else f"{side.name} ({source})"


def _rpc_row(rpc: RpcChange) -> tuple[str, ...]:
    return _SIGNS[rpc.change], rpc.rpc if rpc.carries else f"{rpc.rpc} (no payloads)"


def _path_row(path: PathChange) -> tuple[str, ...]:
    kind = f"{path.kind}?" if path.proposed else path.kind
    place = f"{path.path} ({path.field})" if path.kind == "again" else path.path
    return _SIGNS[path.change], f"{path.was} -> {kind}" if path.was else kind, place


def _field_row(field: FieldChange) -> tuple[str, ...]:
    if field.proposal:
        return _SIGNS[field.change], f"{field.kind}?", field.field, field.proposal.reason
    return _SIGNS[field.change], field.kind, field.field


def _table(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Align the columns of `rows`."""
    cells = list(rows)
    widths = [max(len(row[column]) for row in cells if column < len(row)) for column in range(max(map(len, cells)))]
    return [
        f"  {' '.join(f'{cell:{width}}' for cell, width in zip(row, widths, strict=False))}".rstrip() for row in cells
    ]
