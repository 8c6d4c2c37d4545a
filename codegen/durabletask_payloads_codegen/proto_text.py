"""Descriptors as .proto text, and the differences between two descriptors.

The text, compiled again, gives the same descriptor byte for byte: the order of fields, nested messages and map
entries is kept. Only proto3 without custom options and extensions is printed; anything else is an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

__all__ = ["differences", "print_proto"]

_MAX_NUMBER = 536_870_911  # the highest field number: `max` in a reserved range
_MAX_ENUM = 2_147_483_647
# The scalar types, and what begins another statement where a type may stand.
_SCALARS = {name.removeprefix("TYPE_").lower() for name, _ in FieldDescriptorProto.Type.items()}
_STATEMENTS = {"extend", "extensions", "map", "oneof", "option", "optional", "repeated", "required", "reserved"}
_WORDS = frozenset(_SCALARS | _STATEMENTS | {"stream", "export", "local"})


class _File(NamedTuple):
    """The file that is printed.

    Attributes:
        inner: names in its package, in those above it and in its messages. Of a reference protoc looks up the first
            part there before it takes it for the first part of a full name.
    """

    name: str
    inner: frozenset[str]


def print_proto(file: FileDescriptorProto, comment: str, others: Iterable[FileDescriptorProto] = ()) -> str:
    """Print `file` as .proto text, under a comment of one or more lines.

    Args:
        file: what to print.
        comment: stands on top.
        others: the files that it may import: what they define decides how a reference has to be written.

    Raises:
        CodegenError: a part of it cannot be printed; the text names it.
    """
    if file.syntax != "proto3":
        raise CodegenError(f"{file.name}: only proto3 can be printed, not {file.syntax or 'proto2'}")
    if file.extension:
        raise CodegenError(f"{file.name}: extension {file.extension[0].name}: cannot be printed")
    place = _place(file, others)
    blocks = [[f"// {line}" for line in comment.splitlines()], ['syntax = "proto3";']]
    public, weak = set(file.public_dependency), set(file.weak_dependency)
    blocks.append(
        [
            f'import {"public " if index in public else "weak " if index in weak else ""}"{name}";'
            for index, name in enumerate(file.dependency)
        ]
    )
    blocks.append([f"package {file.package};"] if file.package else [])
    blocks.append([f"option {option};" for option in _options(file.options, file.name)])
    blocks += [list(_enum(enum, file.name)) for enum in file.enum_type]
    blocks += [
        list(_message(message, f".{file.package}" if file.package else "", place)) for message in file.message_type
    ]
    blocks += [list(_service(service, place)) for service in file.service]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def differences(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """List what was added, removed and changed from `old` to `new`, one line each, in the order of the files."""
    before, after = _facts(old), _facts(new)
    lines = [f"- removed {name}" for name in before if name not in after]
    lines += [f"+ added   {name}{after[name]}" for name in after if name not in before]
    lines += [
        f"! changed {name}{before[name]} ->{after[name]}"
        for name in after
        if name in before and before[name] != after[name]
    ]
    return lines


def _indent(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" if line else line for line in lines)


def _options(options: Message, where: str) -> list[str]:
    """Print `name = value` for each option that is set, in the order of the descriptor."""
    known = type(options)()
    known.CopyFrom(options)
    known.DiscardUnknownFields()
    if known != options or any(field.is_extension for field, _ in options.ListFields()):
        raise CodegenError(f"{where}: has a custom option, which cannot be printed")
    return [f"{field.name} = {_option_value(field, value, where)}" for field, value in options.ListFields()]


def _option_value(field: FieldDescriptor, value: object, where: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return field.enum_type.values_by_number[value].name if field.enum_type is not None else str(value)
    raise CodegenError(f"{where}: option {field.name}: cannot be printed")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    # protoc takes no other control characters as they are.
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\{ord(found[0]):03o}", escaped) + '"'


def _suffix(options: Message, where: str) -> str:
    printed = _options(options, where)
    return f" [{', '.join(printed)}]" if printed else ""


def _ranges(ranges: Iterable[tuple[int, int]], names: Iterable[str], maximum: int) -> Iterator[str]:
    """Print the `reserved` statements; both ends of a range are included."""
    numbers = [
        str(start) if start == end else f"{start} to {'max' if end == maximum else end}" for start, end in ranges
    ]
    if numbers:
        yield f"reserved {', '.join(numbers)};"
    if quoted := [_quoted(name) for name in names]:
        yield f"reserved {', '.join(quoted)};"


def _enum(enum: EnumDescriptorProto, where: str) -> Iterator[str]:
    where = f"{where}: enum {enum.name}"
    yield f"enum {enum.name} {{"
    yield from _indent(f"option {option};" for option in _options(enum.options, where))
    yield from _indent(f"{value.name} = {value.number}{_suffix(value.options, where)};" for value in enum.value)
    # The end of a reserved range is inside it for enums, and outside for messages.
    reserved = ((reserved.start, reserved.end) for reserved in enum.reserved_range)
    yield from _indent(_ranges(reserved, enum.reserved_name, _MAX_ENUM))
    yield "}"


def _message(message: DescriptorProto, scope: str, file: _File) -> Iterator[str]:
    full_name = f"{scope}.{message.name}"
    where = f"{file.name}: message {full_name[1:]}"
    if message.extension_range or message.extension:
        raise CodegenError(f"{where}: extensions cannot be printed")
    entries = {f"{full_name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    # A map field makes its entry where it stands, among the nested messages: print those before it that came before.
    waiting = list(message.nested_type)

    def nested_until(entry: DescriptorProto | None) -> Iterator[str]:
        while waiting:
            nested = waiting.pop(0)
            if nested is entry:
                return
            if nested.options.map_entry:
                raise CodegenError(f"{where}: the order of {nested.name} and the fields cannot be printed")
            yield from _message(nested, full_name, file)

    def body() -> Iterator[str]:
        yield from (f"option {option};" for option in _options(message.options, where))
        for enum in message.enum_type:
            yield from _enum(enum, where)
        printed: set[int] = set()
        for field in message.field:
            if entry := entries.get(field.type_name):
                yield from nested_until(entry)
            if not field.HasField("oneof_index") or field.proto3_optional:
                yield _field(field, entry, message, file, where)
            elif field.oneof_index not in printed:
                printed.add(field.oneof_index)
                oneof = message.oneof_decl[field.oneof_index]
                yield f"oneof {oneof.name} {{"
                yield from _indent(f"option {option};" for option in _options(oneof.options, where))
                members = (
                    member
                    for member in message.field
                    if member.HasField("oneof_index") and member.oneof_index == field.oneof_index
                )
                yield from _indent(_field(member, None, message, file, where) for member in members)
                yield "}"
        yield from nested_until(None)
        reserved = ((reserved.start, reserved.end - 1) for reserved in message.reserved_range)
        yield from _ranges(reserved, message.reserved_name, _MAX_NUMBER)

    lines = list(_indent(body()))
    if lines:
        yield f"message {message.name} {{"
        yield from lines
        yield "}"
    else:
        yield f"message {message.name} {{}}"


def _field(
    field: FieldDescriptorProto,
    entry: DescriptorProto | None,
    message: DescriptorProto,
    file: _File,
    where: str,
) -> str:
    where = f"{where}, field {field.name}"
    if field.type == FieldDescriptorProto.TYPE_GROUP or field.HasField("default_value") or field.HasField("extendee"):
        raise CodegenError(f"{where}: groups, defaults and extensions cannot be printed")
    if entry is not None:
        key, value = entry.field
        kind = f"map<{_type(key, file)}, {_type(value, file)}>"
    elif field.label == FieldDescriptorProto.LABEL_REPEATED:
        kind = f"repeated {_type(field, file)}"
    elif field.proto3_optional:
        kind = f"optional {_type(field, file)}"
    else:
        kind = _type(field, file)
    return f"{kind} {field.name} = {field.number}{_suffix(field.options, where)};"


def _type(field: FieldDescriptorProto, file: _File) -> str:
    if not field.type_name:
        return FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    return _reference(field.type_name, file)


def _reference(type_name: str, file: _File) -> str:
    """Print a full name; with its leading dot only where its first part could be taken for something else.

    That is something nearer, so `.b.Task` in the package `a.b`, and `.hub.Task` in the package `hub` that has a service
    `hub`; or a word of the language.
    """
    bare = type_name.lstrip(".")
    first = bare.partition(".")[0]
    return type_name if first in file.inner or first in _WORDS else bare


def _place(file: FileDescriptorProto, others: Iterable[FileDescriptorProto]) -> _File:
    parts = file.package.split(".") if file.package else []
    scopes = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    inner = _nested_names(file.message_type)
    for each in (file, *others):
        if each.package in scopes:
            inner |= {one.name for group in (each.message_type, each.enum_type, each.service) for one in group}
        below = (each.package.removeprefix(f"{scope}.") for scope in scopes if each.package.startswith(f"{scope}."))
        inner |= {name.partition(".")[0] for name in below}
    return _File(file.name, frozenset(inner))


def _nested_names(messages: Iterable[DescriptorProto]) -> set[str]:
    names: set[str] = set()
    for message in messages:
        names |= {nested.name for nested in message.nested_type} | {enum.name for enum in message.enum_type}
        names |= _nested_names(message.nested_type)
    return names


def _service(service: ServiceDescriptorProto, file: _File) -> Iterator[str]:
    where = f"{file.name}: service {service.name}"
    yield f"service {service.name} {{"
    yield from _indent(f"option {option};" for option in _options(service.options, where))
    for method in service.method:
        head = f"  rpc {method.name}{_signature(method, file)}"
        options = _options(method.options, f"{where}, rpc {method.name}")
        if options:
            yield f"{head} {{"
            yield from _indent(_indent(f"option {option};" for option in options))
            yield "  }"
        else:
            yield f"{head};"
    yield "}"


def _signature(method: MethodDescriptorProto, file: _File) -> str:
    request = f"{'stream ' if method.client_streaming else ''}{_reference(method.input_type, file)}"
    response = f"{'stream ' if method.server_streaming else ''}{_reference(method.output_type, file)}"
    return f"({request}) returns ({response})"


def _facts(file: FileDescriptorProto) -> Mapping[str, str]:
    """Map each declaration of a file to its details."""
    facts: dict[str, str] = {}
    place = _File(file.name, frozenset())  # full names, whatever is beside them

    def enums(scope: str, found: Iterable[EnumDescriptorProto]) -> None:
        for enum in found:
            facts[f"enum {scope}{enum.name}"] = ""
            for value in enum.value:
                facts[f"enum value {scope}{enum.name}.{value.name}"] = f" = {value.number}"

    def messages(scope: str, found: Iterable[DescriptorProto]) -> None:
        for message in found:
            name = f"{scope}{message.name}"
            if message.options.map_entry:
                continue
            facts[f"message {name}"] = " (deprecated)" if message.options.deprecated else ""
            for field in message.field:
                facts[f"field {name}.{field.name}"] = f": {_describe(field, message, place)}"
            enums(f"{name}.", message.enum_type)
            messages(f"{name}.", message.nested_type)

    enums("", file.enum_type)
    messages("", file.message_type)
    for service in file.service:
        for method in service.method:
            facts[f"rpc {service.name}.{method.name}"] = f" {_signature(method, place)}"
    return facts


def _describe(field: FieldDescriptorProto, message: DescriptorProto, file: _File) -> str:
    entries = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    entry = entries.get(field.type_name.rpartition(".")[2])
    text = _field(field, entry, message, file, file.name).removesuffix(";")
    if field.HasField("oneof_index") and not field.proto3_optional:
        text += f" in oneof {message.oneof_decl[field.oneof_index].name}"
    return text
