"""The StringValue fields of messages, by reflection, and what differs between two messages."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.oracle import STRING_VALUE, is_map

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue


class Leaf(NamedTuple):
    """A StringValue that is set; `key` is `Message.field`."""

    key: str
    field: StringValue


class _Part(NamedTuple):
    """A field that holds leaves, with their `key`, or messages, with None."""

    key: str | None
    is_map: bool
    is_repeated: bool


def leaves(message: Message) -> list[Leaf]:
    """Return the leaves of `message`; those of a copy, whatever their texts, come in the same order."""
    found: list[Leaf] = []
    _collect(message, found)
    return found


def _collect(message: Message, found: list[Leaf]) -> None:
    parts = _parts(message.DESCRIPTOR)
    # Reflection: what is in a field is known only by its descriptor.
    fields: Sequence[tuple[FieldDescriptor, Any]] = message.ListFields()
    for field, value in fields:
        part = parts.get(field.number)
        if part is None:
            continue
        key, is_map, is_repeated = part
        items = [value[key] for key in sorted(value)] if is_map else value if is_repeated else (value,)
        if key is None:
            for item in items:
                _collect(item, found)
        else:
            found += [Leaf(key, item) for item in items]


@lru_cache(maxsize=512)
def _parts(descriptor: Descriptor) -> Mapping[int, _Part]:
    """Return what may hold a leaf, by the number of the field."""
    found: dict[int, _Part] = {}
    for field in descriptor.fields:
        target = field.message_type
        holds_map = is_map(field)
        if holds_map and target is not None:
            target = target.fields_by_name["value"].message_type
        if target is None:
            continue
        key = f"{descriptor.full_name}.{field.name}" if target.full_name == STRING_VALUE else None
        if key is not None or not target.file.name.startswith("google/protobuf/"):
            found[field.number] = _Part(key, holds_map, field.is_repeated)
    return found


def moved(before: Message, after: Message) -> list[Leaf]:
    """List the leaves of `before` whose text is another one in `after`."""
    pairs = zip(leaves(before), leaves(after), strict=True)
    return [was for was, now in pairs if was.field.value != now.field.value]


def put_back(message: Message, original: Message, fields: Collection[str]) -> None:
    """Give the leaves of `fields`, each `Message.field`, the texts that they have in `original`."""
    for leaf, was in zip(leaves(message), leaves(original), strict=True):
        if leaf.key in fields:
            leaf.field.value = was.field.value


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
    texts = [
        f"{leaf.key} is {leaf.field.value!r:.80}, should be {other.field.value!r:.80}"
        for leaf, other in zip(leaves(ours), leaves(expected), strict=False)
        if leaf.field.value != other.field.value
    ]
    raise AssertionError(f"{expected.DESCRIPTOR.full_name}, {what}: {'; '.join(texts) or 'differs outside of texts'}")
