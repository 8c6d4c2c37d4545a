"""The payload report: for each RPC and direction the paths to payloads, and a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from .model import Branch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import Leaf, LeafKind, Message, Model

__all__ = ["Edge", "Node", "PathKind", "PayloadPath", "Travel", "as_json", "paths", "picture", "travels", "unreached"]

PathKind: TypeAlias = Literal["payload", "diagnostic", "again"]


@dataclass(frozen=True, slots=True)
class PayloadPath:
    """A path from a root message, as `OrchestratorResponse.actions[].completeOrchestration.result`.

    Attributes:
        kind: `again` where the path comes back to a message that it is already in; it goes on as before from there.
        field: what is at its end: for a payload the `Message.field` of the policy, otherwise the message.
    """

    path: str
    kind: PathKind
    field: str


@dataclass(frozen=True, slots=True)
class Travel:
    """One direction of an RPC that can carry payloads."""

    rpc: str
    direction: Literal["request", "response"]
    streams: bool
    message: str
    paths: tuple[PayloadPath, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A message in the picture, with the paths to payloads that do not lead through another node."""

    name: str
    paths: tuple[tuple[str, LeafKind], ...]


@dataclass(frozen=True, slots=True)
class Edge:
    """From a message to another one in the picture, through one path or several."""

    source: str
    target: str
    paths: tuple[str, ...]


def paths(model: Model, root: str) -> tuple[PayloadPath, ...]:
    """List all paths from the message `root` to a payload or diagnostic field, in declared order."""
    found: list[PayloadPath] = []

    def walk(message: Message, prefix: str, above: tuple[str, ...]) -> None:
        for field in message.fields:
            path = _step(prefix, field)
            if not isinstance(field, Branch):
                found.append(PayloadPath(path, field.kind, field.key))
            elif field.target in above:
                found.append(PayloadPath(path, "again", field.target))
            else:
                walk(model.messages[field.target], path, (*above, field.target))

    walk(model.messages[root], root, (root,))
    return tuple(found)


def travels(model: Model) -> tuple[Travel, ...]:
    """List all directions of all RPCs that can carry payloads, in declared order."""
    found: list[Travel] = []
    for rpc in model.rpcs:
        if rpc.request in model.messages:
            found.append(Travel(rpc.name, "request", rpc.request_streams, rpc.request, paths(model, rpc.request)))
        if rpc.response in model.messages:
            found.append(Travel(rpc.name, "response", rpc.response_streams, rpc.response, paths(model, rpc.response)))
    return tuple(found)


def unreached(model: Model) -> tuple[str, ...]:
    """List the messages with payloads that no RPC carries."""
    carried: set[str] = set()
    waiting = [travel.message for travel in travels(model)]
    while waiting:
        name = waiting.pop()
        if name not in carried:
            carried.add(name)
            waiting.extend(field.target for field in model.messages[name].fields if isinstance(field, Branch))
    return tuple(name for name in model.messages if name not in carried)


def picture(model: Model) -> tuple[tuple[Node, ...], tuple[Edge, ...]]:
    """Decide which messages get a box, and how the boxes contain each other.

    A message gets a box of its own if an RPC carries it or if more than one message contains it (so each that
    contains itself has one); all others are drawn inside the one message that contains them.
    """
    containers: dict[str, set[str]] = {}
    for message in model.messages.values():
        for field in message.fields:
            if isinstance(field, Branch):
                containers.setdefault(field.target, set()).add(message.full_name)
    roots = {travel.message for travel in travels(model)}
    boxes = roots | {name for name, inside in containers.items() if len(inside) > 1}
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    waiting = [name for name in model.messages if name in roots]
    while waiting:
        name = waiting.pop(0)
        if name in nodes:
            continue
        leaves: list[tuple[str, LeafKind]] = []
        targets: dict[str, list[str]] = {}
        for path, end in _inside(model, name, boxes):
            if isinstance(end, Branch):
                targets.setdefault(end.target, []).append(path)
            else:
                leaves.append((path, end.kind))
        nodes[name] = Node(name, tuple(leaves))
        edges += [Edge(name, target, tuple(through)) for target, through in targets.items()]
        waiting += targets
    return tuple(nodes.values()), tuple(edges)


def _inside(model: Model, name: str, boxes: set[str], prefix: str = "") -> Iterator[tuple[str, Leaf | Branch]]:
    """Yield the paths in a box and out of it, each with the field at its end."""
    for field in model.messages[name].fields:
        path = _step(prefix, field)
        if isinstance(field, Branch) and field.target not in boxes:
            yield from _inside(model, field.target, boxes, path)
        else:
            yield path, field


def as_json(model: Model) -> str:
    """Render the report as JSON."""
    report = {
        "files": [file.name for file in model.files],
        "source": model.source,
        "travels": [
            {
                "rpc": travel.rpc,
                "direction": travel.direction,
                "streams": travel.streams,
                "message": travel.message,
                "paths": [{"path": path.path, "kind": path.kind, "field": path.field} for path in travel.paths],
            }
            for travel in travels(model)
        ],
        "unreached": unreached(model),
        "fields": dict(model.fields),
    }
    return json.dumps(report, indent=2) + "\n"


def _step(prefix: str, field: Leaf | Branch) -> str:
    return f"{prefix}.{field.name}".lstrip(".") + ("[]" if field.repeated or field.is_map else "")
