"""Finds the generated walkers of a message class, and checks that they know all of its fields."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Final, cast

from google.protobuf.message import Message

import durabletask_payloads_walkers as walkers
from durabletask_payloads._errors import SchemaMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias, TypeGuard

    from google._upb._message import Descriptor as UpbDescriptor
    from google._upb._message import FileDescriptor as UpbFile
    from google.protobuf.descriptor import Descriptor, FileDescriptor

    from ._plan import DeexternalizePlan, ExternalizePlan

    File: TypeAlias = FileDescriptor | UpbFile

_log = logging.getLogger("durabletask_payloads.schema")


@dataclass(frozen=True, slots=True)
class MessageWalkers:
    """The walkers of one message class; None where it bears no payload in that direction.

    Attributes:
        parts: gets the repeated field with payloads that may hold very many items, the longest if there are several.
        unknown_fields: StringValue fields of its file, and of those that it imports, that the walkers do not know.
    """

    externalize: Callable[[Message, ExternalizePlan], None] | None
    deexternalize: Callable[[Message, DeexternalizePlan], None] | None
    parts: Callable[[Message], Sequence[Message]] | None
    unknown_fields: tuple[str, ...]


_unknown_by_file: dict[object, tuple[str, ...]] = {}


class _WalkersByClass(dict["type[Message]", MessageWalkers]):
    """Looked up by the full name of the message type, kept by its class."""

    def __missing__(self, message_class: type[Message]) -> MessageWalkers:
        descriptor = message_class.DESCRIPTOR
        if descriptor.full_name not in walkers.MESSAGES:
            raise TypeError(
                f"{descriptor.full_name} ({descriptor.file.name}) is not a message of {walkers.SOURCE}, which the "
                "walkers were generated from: after an upgrade of the protos run `make protos generate`"
            )
        found = self[message_class] = _find(message_class)
        return found


walkers_by_class: Final = _WalkersByClass()
"""The walkers of each message class. TypeError for a class that is not in the schema they were generated from."""


def is_known(message: object) -> TypeGuard[Message]:
    """Return whether `message` is of the schema: not so google.protobuf.Empty, or what a newer SDK may add."""
    if type(message) in walkers_by_class:
        return True
    if not isinstance(message, Message) or message.DESCRIPTOR.full_name not in walkers.MESSAGES:
        return False
    _ = walkers_by_class[type(message)]  # found at once from now on
    return True


def check_schema(message: Message) -> None:
    """Raise SchemaMismatchError if the schema of `message` has StringValue fields that the walkers do not know."""
    unknown = walkers_by_class[type(message)].unknown_fields
    if unknown:
        raise SchemaMismatchError(_mismatch(unknown))


def _find(message_class: type[Message]) -> MessageWalkers:
    name = message_class.DESCRIPTOR.full_name
    unknown = tuple(field for file in _with_imports(message_class.DESCRIPTOR.file) for field in _unknown_in(file))
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


def _with_imports(file: File) -> Iterator[File]:
    """Yield `file` and all files that its messages can lead to."""
    pending, seen = [file], {file.name}
    while pending:
        file = pending.pop(0)
        yield file
        for imported in file.dependencies:
            if imported.name not in seen:
                seen.add(imported.name)
                pending.append(imported)


def _unknown_in(file: File) -> tuple[str, ...]:
    """Return the StringValue fields of `file` that the walkers do not know; a warning is logged the first time."""
    unknown = _unknown_by_file.get(file)
    if unknown is None:
        unknown = _unknown_by_file[file] = tuple(key for key in _text_fields(file) if key not in walkers.FIELDS)
        if unknown:
            _log.warning("schema mismatch error=%s", _mismatch(unknown))
    return unknown


def _text_fields(file: File) -> Iterator[str]:
    """Yield the StringValue fields of a file, and the maps of them, as `Message.field`."""
    pending: list[Descriptor | UpbDescriptor] = list(file.message_types_by_name.values())
    while pending:
        descriptor = pending.pop(0)
        if descriptor.GetOptions().map_entry:
            continue
        pending.extend(descriptor.nested_types)
        for field in descriptor.fields:
            kind = field.message_type
            if kind is not None and kind.GetOptions().map_entry:
                kind = kind.fields_by_name["value"].message_type
            if kind is not None and kind.full_name == "google.protobuf.StringValue":
                yield f"{descriptor.full_name}.{field.name}"


def _mismatch(fields: Sequence[str]) -> str:
    return (
        f"the walkers were generated from {walkers.SOURCE} and do not know {', '.join(fields)}: large text there is "
        "neither externalized nor deexternalized. Upgrade durabletask-payloads, or in its repository classify the "
        "field in protos/payload_fields.toml and run `make protos generate`"
    )
