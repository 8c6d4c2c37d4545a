"""Random messages of the SDK's schema, quick to make: oneofs, repeated fields, recursion, unset and empty texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from google.protobuf import message_factory

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message

__all__ = ["RandomMessages"]

STRING_VALUE = "google.protobuf.StringValue"
_MAX_DEPTH = 12


class _Field(NamedTuple):
    """What is to be known of a field to fill it; `key` is `Message.field`."""

    name: str
    key: str
    is_repeated: bool
    is_text: bool
    map_value: Descriptor | None
    target: Descriptor | None


class RandomMessages:
    """Makes messages.

    Args:
        random: the source of all choices.
        text: makes the value of a StringValue, and of a string: the latter must never be touched.

    Attributes:
        filled: the StringValue fields that were set, as `Message.field`.
    """

    def __init__(self, random: Random, text: Callable[[], str]) -> None:
        self.filled: set[str] = set()
        self._random = random
        self._text = text
        self._slots: dict[str, tuple[tuple[_Field, ...], ...]] = {}

    def make(self, descriptor: Descriptor) -> Message:
        """Return a message of this type; most of its fields are set."""
        message = message_factory.GetMessageClass(descriptor)()
        self._fill(message, descriptor, 0)
        return message

    def _fill(self, message: Message, descriptor: Descriptor, depth: int) -> None:
        slots = self._slots.get(descriptor.full_name)
        if slots is None:
            slots = self._slots[descriptor.full_name] = _slots(descriptor)
        random = self._random.random
        skipped = 0.1 + 0.07 * depth
        for slot in slots:
            if random() < skipped:
                continue
            field = slot[int(random() * len(slot))]
            # Reflection: what is in a field is known only by its descriptor.
            if field.is_text:
                if random() < 0.2:
                    self._put_text(message, field)
                continue
            content: Any = getattr(message, field.name)
            if field.map_value is not None:
                content[self._text()].string_value = self._text()
            elif field.is_repeated:
                for _ in range(int(random() * (8 if depth == 0 else 3))):
                    self._fill_part(content.add(), field, depth)
            else:
                content.SetInParent()
                self._fill_part(content, field, depth)

    def _fill_part(self, part: Any, field: _Field, depth: int) -> None:
        if field.target is None:
            self.filled.add(field.key)
            part.value = self._text()
        elif depth < _MAX_DEPTH:
            self._fill(part, field.target, depth + 1)

    def _put_text(self, message: Message, field: _Field) -> None:
        if not field.is_repeated:
            setattr(message, field.name, self._text())
            return
        content: Any = getattr(message, field.name)
        if hasattr(content, "append"):
            content.append(self._text())
        else:
            content[self._text()] = self._text()  # a map of strings


def _slots(descriptor: Descriptor) -> tuple[tuple[_Field, ...], ...]:
    """Group the fields that can hold text, at whatever depth: one slot for each oneof, one for each other field."""
    groups: dict[str, list[_Field]] = {}
    for field in descriptor.fields:
        found = _field(field, descriptor.full_name)
        if found is not None:
            oneof = field.containing_oneof
            groups.setdefault(field.name if oneof is None else f"oneof {oneof.name}", []).append(found)
    return tuple(tuple(fields) for fields in groups.values())


def _field(field: FieldDescriptor, message: str) -> _Field | None:
    key = f"{message}.{field.name}"
    target = field.message_type
    if target is None:
        is_text = field.type == field.TYPE_STRING
        return _Field(field.name, key, field.is_repeated, True, None, None) if is_text else None
    if target.GetOptions().map_entry:
        value = target.fields_by_name["value"].message_type
        return _Field(field.name, key, True, value is None, value, None)
    if target.full_name == STRING_VALUE:
        return _Field(field.name, key, field.is_repeated, False, None, None)
    if target.file.name.startswith("google/protobuf/"):
        return None
    return _Field(field.name, key, field.is_repeated, False, None, target)
