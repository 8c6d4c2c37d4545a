"""Stage 2: declares the messages of a schema as plain data.

Anything that the generator does not cover is refused here, never skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from .errors import CodegenError
from .schema import messages_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .schema import Schema

__all__ = ["STRING_VALUE", "FieldDecl", "FileDecl", "MessageDecl", "OneofDecl", "RpcDecl", "SchemaDecl", "declare"]

STRING_VALUE = "google.protobuf.StringValue"

# Well-known types that hold no StringValue. Any other type is an error: a new
# wrapper (BytesValue, Any) may hold a payload, and someone has to decide.
_PLAIN_TYPES = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "BoolValue",
        "DoubleValue",
        "Duration",
        "Empty",
        "FieldMask",
        "FloatValue",
        "Int32Value",
        "Int64Value",
        "ListValue",
        "NullValue",
        "Struct",
        "Timestamp",
        "UInt32Value",
        "UInt64Value",
        "Value",
    )
)

# What walkers and the runtime call on a message: a field of that name hides it.
_METHODS = frozenset(
    {"ByteSize", "ClearField", "CopyFrom", "DESCRIPTOR", "HasField", "ListFields", "SerializeToString", "WhichOneof"}
)


@dataclass(frozen=True, slots=True)
class FieldDecl:
    """A field of a message type or an enum type; scalars are left out.

    Attributes:
        type_name: the full name of its type; for a map that of its values.
    """

    name: str
    type_name: str
    repeated: bool
    is_map: bool


@dataclass(frozen=True, slots=True)
class OneofDecl:
    """A oneof: all of its members in declared order, scalars too."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MessageDecl:
    """A message, nested ones too, but no map entry.

    Attributes:
        file: the .proto file that defines it.
        package: of that file; may be empty.
        python_name: how its class is reached in the pb2 module: `Outer.Inner`.
    """

    file: str
    package: str
    python_name: str
    fields: tuple[FieldDecl, ...]
    oneofs: tuple[OneofDecl, ...]

    @property
    def full_name(self) -> str:
        """Its name with the package."""
        return f"{self.package}.{self.python_name}".lstrip(".")


@dataclass(frozen=True, slots=True)
class RpcDecl:
    """A method of a service."""

    service: str
    name: str
    request: str
    response: str
    client_streaming: bool
    server_streaming: bool


@dataclass(frozen=True, slots=True)
class FileDecl:
    """A .proto file: where it came from, and the pb2 module with its classes."""

    name: str
    source: str
    module: str


@dataclass(frozen=True, slots=True)
class SchemaDecl:
    """The declarations of a schema that matter to a walker; a file comes after those that it imports."""

    files: tuple[FileDecl, ...]
    messages: tuple[MessageDecl, ...]
    rpcs: tuple[RpcDecl, ...]


def declare(schema: Schema) -> SchemaDecl:
    """Turn descriptors into plain declarations.

    Raises:
        CodegenError: a walker cannot cover a part of them, or two files define one name.
    """
    owners: dict[str, str] = {}
    for file in schema.files:
        _check_extensions(file.extension, file.name)
        for kind, name in _types(file):
            if owner := owners.get(name):
                raise CodegenError(f"{file.name}: {kind} {name}: is defined in {owner} too")
            owners[name] = file.name
    _check_rpcs(schema, owners)
    known = _PLAIN_TYPES | {STRING_VALUE} | owners.keys()
    return SchemaDecl(
        files=tuple(FileDecl(file.name, schema.sources[file.name], schema.modules[file.name]) for file in schema.files),
        messages=tuple(
            _message(file, name, message, known)
            for file in schema.files
            for name, message in messages_of(file)
            if not message.options.map_entry
        ),
        rpcs=tuple(
            RpcDecl(
                service=_full(file, service.name),
                name=method.name,
                request=method.input_type.lstrip("."),
                response=method.output_type.lstrip("."),
                client_streaming=method.client_streaming,
                server_streaming=method.server_streaming,
            )
            for file in schema.files
            for service in file.service
            for method in service.method
        ),
    )


def _check_rpcs(schema: Schema, own: Iterable[str]) -> None:
    """Refuse an RPC that carries a bare wrapper: a payload without a field, which no policy can classify."""
    known = {*_PLAIN_TYPES, *own}
    for file in schema.files:
        for service in file.service:
            for method in service.method:
                for carried in (method.input_type.lstrip("."), method.output_type.lstrip(".")):
                    if carried not in known:
                        raise CodegenError(
                            f"{file.name}: service {_full(file, service.name)}, RPC {method.name}: carries {carried} "
                            "itself, which may be a payload and is no field of a message: this is not covered"
                        )


def _full(file: FileDescriptorProto, name: str) -> str:
    return f"{file.package}.{name}".lstrip(".")


def _types(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Yield what can be the type of a field: `message` or `enum`, and its full name."""
    yield from (("enum", _full(file, enum.name)) for enum in file.enum_type)
    for name, message in messages_of(file):
        yield "message", _full(file, name)
        yield from (("enum", _full(file, f"{name}.{enum.name}")) for enum in message.enum_type)


def _check_extensions(extensions: Iterable[FieldDescriptorProto], where: str) -> None:
    """Refuse extensions, but for custom options: no message holds those."""
    for field in extensions:
        if not field.extendee.startswith(".google.protobuf."):
            raise CodegenError(f"{where}: field {field.name}: extensions are not covered")


def _message(file: FileDescriptorProto, name: str, message: DescriptorProto, known: frozenset[str]) -> MessageDecl:
    full_name = _full(file, name)
    where = f"{file.name}: message {full_name}"
    if message.extension_range:
        raise CodegenError(f"{where}: extensions are not covered")
    _check_extensions(message.extension, where)
    entries = {f"{full_name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    fields: list[FieldDecl] = []
    for field in message.field:
        if field.type == FieldDescriptorProto.TYPE_GROUP:
            raise CodegenError(f"{where}, field {field.name}: groups are not covered")
        if field.name in _METHODS:
            raise CodegenError(f"{where}, field {field.name}: hides what walkers use of each message, rename the field")
        if decl := _field(field, entries):
            if decl.type_name not in known:
                raise CodegenError(
                    f"{where}, field {field.name}: {decl.type_name} is not known to the generator: it may hold payloads"
                )
            fields.append(decl)
    members: dict[int, list[str]] = {}
    for field in message.field:
        if field.HasField("oneof_index") and not field.proto3_optional:
            members.setdefault(field.oneof_index, []).append(field.name)
    oneofs = [OneofDecl(message.oneof_decl[index].name, tuple(names)) for index, names in sorted(members.items())]
    return MessageDecl(file.name, file.package, name, tuple(fields), tuple(oneofs))


def _field(field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto]) -> FieldDecl | None:
    """Declare a field; None for a scalar."""
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    entry = entries.get(field.type_name.lstrip("."))  # not all that write descriptors write the dot
    value = entry.field[1] if entry else field  # a map entry has two fields, key and value
    if not value.type_name:
        return None
    return FieldDecl(field.name, value.type_name.lstrip("."), repeated, is_map=entry is not None)
