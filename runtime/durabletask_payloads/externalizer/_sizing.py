"""Rules out, by size alone and without a walk, messages in which nothing is large enough to be externalized.

Most messages hold nothing large. For them this is 10 to 100 times faster than a walk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from ._plan import mean_bytes
from ._walkers import walkers_by_class

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._plan import PlannedUpload

# `ByteSize()` serializes a message to count its bytes. For a message of some MB it is faster to ask each part: from
# this many parts on, of this mean size in bytes.
_MANY = 8
_LARGE = 8_000
# Beyond this many messages in a message, `ByteSize()` is faster than a look at each, even if there are large texts.
_FEW = 64
# What takes a field or an item on the wire besides its content: tag and length, with room to spare, in bytes.
_FRAME = 16


class _Measured(NamedTuple):
    """The size of a message and of its largest field or item of a repeated field, in bytes or slightly more."""

    size: int
    largest: int


class Judgement(NamedTuple):
    """What is known of a message before a walk.

    Attributes:
        is_small: certainly none of it has to be uploaded.
        size: in bytes; None where it was not measured.
    """

    is_small: bool
    size: int | None


_SMALL: Final = Judgement(is_small=True, size=None)
_UNMEASURED: Final = Judgement(is_small=False, size=None)


class Sizing:
    """Measures messages, and remembers for each message class whether the last one was large.

    The next message of a class is probably like the last one, which tells which question is the cheapest to ask
    first. Nothing else depends on it. Safe for any number of threads.

    Attributes:
        large: the classes of which the last message was large.
        moved: the classes of which the last message had few parts, and payloads to upload.
    """

    def __init__(self) -> None:
        self.large: set[type[Message]] = set()
        self.moved: set[type[Message]] = set()

    def judge(self, message: Message, threshold: int, budget: int | None) -> Judgement:
        """Judge whether `message` is small; measure it if it is not.

        It is not measured if the last message of the class had payloads to upload: reading those says nearly all, and
        `ByteSize()` would make two copies of them.

        Args:
            message: a message of the Durable Task protos.
            threshold: the largest payload that stays in a message, in bytes.
            budget: the largest that a message may be, in bytes; None for no limit.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
        """
        message_class = type(message)
        parts_of = walkers_by_class[message_class].parts
        if message_class in self.moved and (parts_of is None or len(parts_of(message)) < _MANY):
            return _UNMEASURED
        was_large = message_class in self.large
        size: int | None = None
        if parts_of is None or not was_large or len(parts := parts_of(message)) < _MANY or mean_bytes(parts) < _LARGE:
            size = message.ByteSize()
            if size <= threshold:
                if was_large:
                    self.large.discard(message_class)
                return _SMALL
            if parts_of is None:
                return Judgement(is_small=False, size=size)
            self.large.add(message_class)
            if budget is not None and size > budget:
                return Judgement(is_small=False, size=size)
        measured = _measured(message)
        if measured is None or (budget is not None and measured.size > budget):
            return Judgement(is_small=False, size=message.ByteSize() if size is None else size)
        return Judgement(is_small=False, size=measured.size) if measured.largest > threshold else _SMALL

    def learn(self, message: Message, uploads: Sequence[PlannedUpload]) -> None:
        """Remember whether `message`, which was walked, had payloads to upload."""
        message_class = type(message)
        parts_of = walkers_by_class[message_class].parts
        if uploads and (parts_of is None or len(parts_of(message)) < _MANY):
            self.moved.add(message_class)
        else:
            self.moved.discard(message_class)


def estimate(message: Message, uploads: Iterable[PlannedUpload]) -> int | None:
    """Return the size of `message` in bytes or slightly more, without reading the texts of `uploads` again.

    None for a message of very many parts, with a map or with unknown fields: it has to be measured.
    """
    sizes = {id(upload.field): len(upload.data) for upload in uploads}  # an object that is in use stays the same
    pending = [message]
    size = 0
    for count, part in enumerate(pending, 1):  # which grows meanwhile
        known = sizes.get(id(part))
        if count > _FEW or len(UnknownFieldSet(part)):
            return None
        if known is not None:
            size += known
        else:
            for field, value in part.ListFields():
                if isinstance(value, Message):
                    pending.append(value)
                elif isinstance(value, Mapping):
                    return None
                elif field.message_type is not None:
                    pending.extend(value)
                else:
                    size += 4 * len(str(value)) + _FRAME
    return size + 2 * _FRAME * len(pending)  # the text in a wrapper has a tag and a length too


def _measured(message: Message) -> _Measured | None:
    """Measure `message` part by part; None if its parts do not tell their sizes."""
    size = largest = 0
    if len(UnknownFieldSet(message)):  # which are not among its fields
        return None
    for field, value in message.ListFields():
        if isinstance(value, Message):
            sizes = [value.ByteSize()]
        elif isinstance(value, Mapping):
            return None
        elif field.message_type is not None:
            sizes = [part.ByteSize() for part in value]
        else:  # on the wire, no scalar or list of scalars takes more than four bytes a printed character
            sizes = [4 * len(str(value))]
        size += sum(sizes) + _FRAME * len(sizes)
        largest = max(largest, *sizes)
    return _Measured(size, largest)
