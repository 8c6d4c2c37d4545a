"""Which walkers a message has, and whether they know every field of its class."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, cast

import durabletask_payloads_walkers as walkers
from durabletask_payloads._errors import SchemaMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google._upb._message import Descriptor as UpbDescriptor
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from ._plan import DeexternalizePlan, ExternalizePlan

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class MessageWalkers:
    """The walkers of one message class; None where it bears no payload in that direction.

    Attributes:
        parts: what can be very many in it: its repeated field with payloads, the longest if it has several.
        was_large: whether the last one that was measured as a whole was over the threshold of who asked: the next
            one is probably like it, which tells what is the fastest to ask first. Nothing else hangs on it.
    """

    externalize: Callable[[Message, ExternalizePlan], None] | None
    deexternalize: Callable[[Message, DeexternalizePlan], None] | None
    parts: Callable[[Message], Sequence[Message]] | None
    unknown_fields: tuple[str, ...]
    was_large: bool = False


_unknown_by_file: dict[object, tuple[str, ...]] = {}


class _WalkersByClass(dict["type[Message]", MessageWalkers]):
    """Found by the full name of the message type, and kept by its class."""

    def __missing__(self, message_class: type[Message]) -> MessageWalkers:
        found = self[message_class] = _find(message_class)
        return found


walkers_by_class: Final = _WalkersByClass()
"""The walkers for each message class; TypeError, as `walkers_of`, for one that is not of the schema."""


def walkers_of(message: Message, *, strict: bool = False) -> MessageWalkers:
    """The walkers for `message`.

    Raises:
        TypeError: `message` is of no type in the schema that the walkers were generated from.
        SchemaMismatchError: `strict`, and its schema has StringValue fields that the walkers do not know.
    """
    found = walkers_by_class[type(message)]
    if strict and found.unknown_fields:
        raise SchemaMismatchError(_mismatch(found.unknown_fields))
    return found


def _find(message_class: type[Message]) -> MessageWalkers:
    name = message_class.DESCRIPTOR.full_name
    file = message_class.DESCRIPTOR.file
    if name not in walkers.MESSAGES:
        raise TypeError(
            f"{name} ({file.name}) is not a message of {walkers.SOURCE}, which the walkers were "
            "generated from: after an upgrade of the protos run `make protos generate`"
        )
    unknown = _unknown_by_file.get(file)
    if unknown is None:
        unknown = _unknown_by_file[file] = tuple(_unknown_fields(message_class))
        if unknown:
            _log.warning(_mismatch(unknown))
    # The one cast: the tables say Never, since each walker takes its own message type; the name is the proof.
    return MessageWalkers(
        cast("Callable[[Message, ExternalizePlan], None] | None", walkers.EXTERNALIZE.get(name)),
        cast("Callable[[Message, DeexternalizePlan], None] | None", walkers.DEEXTERNALIZE.get(name)),
        _longest(walkers.FAN_OUT.get(name, ())),
        unknown,
    )


def _longest(fields: Sequence[str]) -> Callable[[Message], Sequence[Message]] | None:
    match fields:
        case ():
            return None
        case (field,):
            return attrgetter(field)
        case _:
            all_of = attrgetter(*fields)
            return lambda message: max(all_of(message), key=len)


def _unknown_fields(message_class: type[Message]) -> Iterator[str]:
    """The StringValue fields of the file that `message_class` is from, less those that the walkers know."""
    pending: list[Descriptor | UpbDescriptor] = list(message_class.DESCRIPTOR.file.message_types_by_name.values())
    while pending:
        descriptor = pending.pop(0)
        pending.extend(descriptor.nested_types)
        for field in descriptor.fields:
            wraps_text = (
                field.message_type is not None and field.message_type.full_name == "google.protobuf.StringValue"
            )
            if wraps_text and f"{descriptor.full_name}.{field.name}" not in walkers.FIELDS:
                yield f"{descriptor.full_name}.{field.name}"


def _mismatch(fields: Sequence[str]) -> str:
    return (
        f"the walkers were generated from {walkers.SOURCE} and do not know {', '.join(fields)}: large text there is "
        "neither externalized nor resolved. Upgrade durabletask-payloads, or in its repository classify the field in "
        "protos/payload_fields.toml and run `make protos generate`"
    )
