"""Which fields of which RPC are payloads: the schema of the installed SDK, with the classification of the walkers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from durabletask_payloads_walkers.tables import FIELDS, SOURCE

from ._sdk import pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor import Descriptor

Kind: TypeAlias = Literal["payload", "diagnostic", "unknown"]
Direction: TypeAlias = Literal["request", "response"]

_TEXT: Final = "google.protobuf.StringValue"


@dataclass(frozen=True, slots=True)
class PayloadField:
    """A path to a field, as `actions[].scheduleTask.input`.

    A `payload` is externalized when it is large, a `diagnostic` only when the whole message is too large. The walkers
    were generated before `unknown` fields were there. Of a message that contains itself, one round is listed.
    """

    path: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class RpcFields:
    """The payloads of the request or the response of an RPC."""

    rpc: str
    direction: Direction
    message: str
    fields: tuple[PayloadField, ...]


@dataclass(frozen=True, slots=True)
class SchemaFields:
    """The payloads of all RPCs.

    Attributes:
        walkers: the schema that the walkers were generated from.
    """

    walkers: str
    rpcs: tuple[RpcFields, ...]


def schema_fields() -> SchemaFields:
    """List the payloads of all RPCs, in the order of the schema."""
    found: list[RpcFields] = []
    for service in pb.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            found.append(_rpc(method.name, "request", method.input_type))
            found.append(_rpc(method.name, "response", method.output_type))
    return SchemaFields(SOURCE, tuple(rpc for rpc in found if rpc.fields))


def _rpc(rpc: str, direction: Direction, message: Descriptor) -> RpcFields:
    return RpcFields(rpc, direction, message.name, tuple(_fields(message, "", ())))


def _fields(message: Descriptor, prefix: str, above: tuple[str, ...]) -> Iterator[PayloadField]:
    inside = (*above, message.full_name)
    repeated = _repeated(message)
    for field in message.fields:
        inner = field.message_type
        if inner is None:
            continue
        path = f"{prefix}{field.name}{'[]' if field.name in repeated else ''}"
        if inner.full_name != _TEXT:
            if inner.full_name not in inside:
                yield from _fields(inner, f"{path}.", inside)
            continue
        match FIELDS.get(f"{message.full_name}.{field.name}"):
            case "payload":
                yield PayloadField(path, "payload")
            case "diagnostic":
                yield PayloadField(path, "diagnostic")
            case "metadata":
                pass
            case None:
                yield PayloadField(path, "unknown")


def _repeated(message: Descriptor) -> set[str]:
    """Return the repeated fields. What a descriptor itself says of them has changed with the releases of protobuf."""
    proto = DescriptorProto()
    message.CopyToProto(proto)
    return {field.name for field in proto.field if field.label == FieldDescriptorProto.LABEL_REPEATED}
