"""Random messages of any schema, quick to make: oneofs, lists, maps, recursion, unset and empty texts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from tests.support.oracle import STRING_VALUE, is_map

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

__all__ = ["RandomMessages", "text_about"]

_MAX_DEPTH = 12
# A message of this many parts gets no more than it requires: where each message holds several others, it would not end.
_MAX_PARTS = 1_000
_LONG_LIST = 0.05  # how many of the lists of the outermost message are long
_NUMBERS: dict[int, object] = {
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_DOUBLE: 0.5,
    FieldDescriptor.CPPTYPE_FLOAT: 0.5,
}

_Kind = Literal["text", "string", "number", "message", "opaque"]


class _Value(NamedTuple):
    """What a field holds, or the values of a map: a StringValue is a `text`.

    Attributes:
        number: one that it can hold.
        message: the type of a message that is filled too.
    """

    kind: _Kind
    number: object
    message: Descriptor | None


class _Field(NamedTuple):
    """What is to be known of a field to fill it; `key` is `Message.field`, `map_key` the keys of a map."""

    name: str
    key: str
    value: _Value
    is_repeated: bool
    is_required: bool
    map_key: _Value | None


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
        self._parts = 0

    def make(self, descriptor: Descriptor) -> Message:
        """Return a message of this type; most of its fields are set."""
        message = message_factory.GetMessageClass(descriptor)()
        self._parts = 0
        self._fill(message, descriptor, 0)
        return message

    def _fill(self, message: Message, descriptor: Descriptor, depth: int) -> None:
        random = self._random.random
        is_full = depth == _MAX_DEPTH or self._parts >= _MAX_PARTS
        skipped = 1.0 if is_full else 0.1 + 0.07 * depth
        for slot in _slots(descriptor):
            field = slot[int(random() * len(slot))]
            if random() < skipped and not field.is_required:
                continue
            is_plain = field.value.kind in ("string", "number")
            if is_plain and random() < 0.8 and not field.is_required:
                continue
            if field.map_key is None and not field.is_repeated and is_plain:
                setattr(message, field.name, self._scalar(field.value))
                continue
            # Reflection: what is in a field is known only by its descriptor.
            content: Any = getattr(message, field.name)
            if field.map_key is not None:
                self._put_item(content, field, self._scalar(field.map_key), depth)
            elif not field.is_repeated:
                content.SetInParent()
                self._fill_part(content, field, depth)
            elif is_plain:
                content.append(self._scalar(field.value))
            else:
                for _ in range(self._length(depth)):
                    self._fill_part(content.add(), field, depth)

    def _length(self, depth: int) -> int:
        random = self._random.random
        if depth == 0 and random() < _LONG_LIST:
            return 8 + int(random() * 24)
        return int(random() * (8 if depth == 0 else 3))

    def _put_item(self, content: Any, field: _Field, key: object, depth: int) -> None:
        if field.value.kind in ("string", "number"):
            content[key] = self._scalar(field.value)
        else:
            self._fill_part(content[key], field, depth)

    def _fill_part(self, part: Any, field: _Field, depth: int) -> None:
        self._parts += 1
        if field.value.kind == "text":
            self.filled.add(field.key)
            part.value = self._text()
        elif field.value.message is not None:
            self._fill(part, field.value.message, depth + 1)

    def _scalar(self, value: _Value) -> object:
        return self._text() if value.kind == "string" else value.number


@lru_cache(maxsize=512)
def _slots(descriptor: Descriptor) -> tuple[tuple[_Field, ...], ...]:
    """Group the fields: one slot for each oneof, one for each other field."""
    groups: dict[str, list[_Field]] = {}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        groups.setdefault(field.name if oneof is None else f"oneof {oneof.name}", []).append(_field(field))
    return tuple(tuple(fields) for fields in groups.values())


def _field(field: FieldDescriptor) -> _Field:
    message = field.containing_type
    assert message is not None
    key = f"{message.full_name}.{field.name}"
    if is_map(field) and (entry := field.message_type) is not None:
        keys, values = entry.fields_by_name["key"], entry.fields_by_name["value"]
        return _Field(field.name, key, _value(values), False, False, _value(keys))
    return _Field(field.name, key, _value(field), field.is_repeated, field.is_required, None)


def _value(field: FieldDescriptor) -> _Value:
    if field.enum_type is not None:
        return _Value("number", field.enum_type.values[-1].number, None)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _Value("number", b"\xff", None)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _Value("string", None, None)
    target = field.message_type
    if target is None:
        return _Value("number", _NUMBERS.get(field.cpp_type, 1), None)
    if target.full_name == STRING_VALUE:
        return _Value("text", None, None)
    is_opaque = target.file.name.startswith("google/protobuf/") and target.full_name != "google.protobuf.Value"
    return _Value("opaque", None, None) if is_opaque else _Value("message", None, target)


def text_about(random: Random, limit: int) -> str:
    """Make a text of `limit` characters or UTF-8 bytes, or one more or less, of one to four bytes a character."""
    character = random.choice("aé€\U0001f600")
    width = len(character.encode()) if random.random() < 0.67 else 1
    size = max(limit // width + random.randint(-1, 1), 0)
    if size < 200:
        return "".join([character if random.random() < 0.9 else "b" for _ in range(size)])
    return character * (size - size // 10) + "b" * (size // 10)
