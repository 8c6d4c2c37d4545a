"""The StringValue fields of messages, by reflection, and what differs between two messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.support.oracle import STRING_VALUE, is_map

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue


class Leaf(NamedTuple):
    """A StringValue that is set; `key` is `Message.field`, `path` is its place in the message."""

    key: str
    path: str
    field: StringValue


def leaves(message: Message, path: str = "") -> Iterator[Leaf]:
    """Yield the leaves of `message`, of equal messages in the same order."""
    descriptor = message.DESCRIPTOR
    for field, value in message.ListFields():
        target = field.message_type
        if target is None:
            continue
        name = f"{path}.{field.name}"
        if is_map(field):
            target = target.fields_by_name["value"].message_type
            if target is None:
                continue
            parts = [(f"{name}[{key!r}]", value[key]) for key in sorted(value)]
        elif field.is_repeated:
            parts = [(f"{name}[{index}]", part) for index, part in enumerate(value)]
        else:
            parts = [(name, value)]
        for place, part in parts:
            if target.full_name == STRING_VALUE:
                yield Leaf(f"{descriptor.full_name}.{field.name}", place, part)
            elif not target.file.name.startswith("google/protobuf/"):
                yield from leaves(part, place)


def by_path(message: Message) -> dict[str, Leaf]:
    return {leaf.path: leaf for leaf in leaves(message)}


def moved_paths(before: Message, after: Message) -> list[str]:
    """List the leaves whose text has changed, by path."""
    was = by_path(before)
    return [leaf.path for leaf in leaves(after) if leaf.field.value != was[leaf.path].field.value]


def put_back(message: Message, original: Message, fields: Collection[str]) -> None:
    """Give the leaves of `fields`, each `Message.field`, the texts that they have in `original`."""
    was = by_path(original)
    for leaf in leaves(message):
        if leaf.key in fields:
            leaf.field.value = was[leaf.path].field.value


def copy(message: Message) -> Message:
    """Return a copy as gRPC hands it over: parsed."""
    return type(message).FromString(message.SerializeToString())


def require_same(ours: Message, expected: Message, what: str) -> None:
    """Require the same bytes.

    Raises:
        AssertionError: the text names the leaves that differ.
    """
    if ours.SerializeToString(deterministic=True) == expected.SerializeToString(deterministic=True):
        return
    theirs = by_path(expected)
    texts = [
        f"{path} is {leaf.field.value!r:.80}, should be {theirs[path].field.value!r:.80}"
        for path, leaf in by_path(ours).items()
        if path in theirs and leaf.field.value != theirs[path].field.value
    ]
    raise AssertionError(f"{expected.DESCRIPTOR.full_name}, {what}: {'; '.join(texts) or 'differs outside of texts'}")
