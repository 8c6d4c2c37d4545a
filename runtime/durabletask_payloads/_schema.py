"""Which walkers a message has, and whether they know every field of its class."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, cast

import durabletask_payloads_walkers as walkers

from ._errors import SchemaMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google._upb._message import Descriptor as UpbDescriptor
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

    from ._plan import DeexternalizePlan, ExternalizePlan

_log = logging.getLogger(__name__)


class MessageWalkers(NamedTuple):
    """The walkers of one message class; None where it bears no payload in that direction.

    `fans_out`: there may be many payloads, so it pays to rule all of them out at once.
    """

    externalize: Callable[[Message, ExternalizePlan], None] | None
    deexternalize: Callable[[Message, DeexternalizePlan], None] | None
    fans_out: bool
    unknown_fields: tuple[str, ...]


_by_class: dict[type[Message], MessageWalkers] = {}
_unknown_by_file: dict[object, tuple[str, ...]] = {}


def walkers_of(message: Message, *, strict: bool) -> MessageWalkers:
    """The walkers for `message`, found by the full name of its type and kept by its class.

    Raises:
        TypeError: `message` is of no type in the schema that the walkers were generated from.
        SchemaMismatchError: `strict`, and its schema has StringValue fields that the walkers do not know.
    """
    found = _by_class.get(type(message))
    if found is None:
        found = _by_class[type(message)] = _find(message)
    if strict and found.unknown_fields:
        raise SchemaMismatchError(_mismatch(found.unknown_fields))
    return found


def _find(message: Message) -> MessageWalkers:
    name = message.DESCRIPTOR.full_name
    file = message.DESCRIPTOR.file
    if name not in walkers.MESSAGES:
        raise TypeError(
            f"{name} ({file.name}) is not a message of {walkers.SOURCE}, which the walkers were "
            "generated from: after an upgrade of the protos run `make protos generate`"
        )
    unknown = _unknown_by_file.get(file)
    if unknown is None:
        unknown = _unknown_by_file[file] = tuple(_unknown_fields(message))
        if unknown:
            _log.warning(_mismatch(unknown))
    # The one cast: the tables say Never, since each walker takes its own message type; the name is the proof.
    return MessageWalkers(
        cast("Callable[[Message, ExternalizePlan], None] | None", walkers.EXTERNALIZE.get(name)),
        cast("Callable[[Message, DeexternalizePlan], None] | None", walkers.DEEXTERNALIZE.get(name)),
        name in walkers.FAN_OUT,
        unknown,
    )


def _unknown_fields(message: Message) -> Iterator[str]:
    """The StringValue fields of the file that `message` is from, less those that the walkers know."""
    pending: list[Descriptor | UpbDescriptor] = list(message.DESCRIPTOR.file.message_types_by_name.values())
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
