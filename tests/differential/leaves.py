"""The StringValue fields of a message, by reflection."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.support.oracle import STRING_VALUE, is_map

if TYPE_CHECKING:
    from collections.abc import Iterator

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
