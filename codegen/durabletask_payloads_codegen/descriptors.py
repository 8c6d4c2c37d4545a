"""Stage 1: reads a schema in any of its forms and declares its messages as plain data.

All forms end in one raw FileDescriptorProto, so that the later stages cannot tell them apart. No descriptor pool is
involved, and neither json_name nor comments matter, except the comment that says where a .proto came from. Anything
that the generator does not cover is refused here, never skipped.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError

from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest

__all__ = [
    "IMPORTED_FROM",
    "STRING_VALUE",
    "FieldDecl",
    "FileDecl",
    "MessageDecl",
    "OneofDecl",
    "RpcDecl",
    "Schema",
    "bare",
    "compile_protos",
    "declare",
    "from_descriptor_set",
    "from_module",
    "from_protos",
    "from_request",
    "module_file",
]

STRING_VALUE = "google.protobuf.StringValue"

# Types of other files that a field may have and that hold no StringValue. Any other type is an error: a new
# wrapper (BytesValue, Any) may hold a payload, and someone has to decide.
_PLAIN_TYPES = frozenset(
    f"google.protobuf.{name}"
    for name in (
        "BoolValue",
        "DoubleValue",
        "Duration",
        "Empty",
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

# The comment that `import-proto` writes on top of a .proto.
IMPORTED_FROM = "Imported from"
_SYNTAX_PATH = [FileDescriptorProto.SYNTAX_FIELD_NUMBER]


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema as it was read: the file to generate for, its imports, and where it came from."""

    file: FileDescriptorProto
    imports: tuple[FileDescriptorProto, ...]
    source: str


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
        full_name: with the package.
        python_name: how its class is reached in the pb2 module: `Outer.Inner`.
    """

    full_name: str
    python_name: str
    fields: tuple[FieldDecl, ...]
    oneofs: tuple[OneofDecl, ...]


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
    """The declarations of a .proto file that matter to a walker."""

    name: str
    source: str
    messages: tuple[MessageDecl, ...]
    rpcs: tuple[RpcDecl, ...]


def from_protos(root: Path, files: Sequence[Path] = ()) -> Schema:
    """Read .proto files, all below `root` unless some are named. Imports are looked up in `root`.

    Raises:
        CodegenError: there are none, one does not compile, or they are more than one schema.
    """
    found = sorted(root.glob("**/*.proto")) if not files else list(files)
    if not found:
        raise CodegenError(f"{root}: there is no .proto file")
    return _from_set(compile_protos(root, found), str(root))


def from_descriptor_set(path: Path) -> Schema:
    """Read a serialized FileDescriptorSet (`protoc --descriptor_set_out`; its imports may be missing).

    Raises:
        CodegenError: it cannot be read, or holds more than one schema.
    """
    try:
        files = FileDescriptorSet.FromString(path.read_bytes())
    except OSError as error:
        raise CodegenError(f"{path}: cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise CodegenError(f"{path}: is not a serialized FileDescriptorSet") from error
    return _from_set(files, str(path))


def from_module(name: str) -> Schema:
    """Read the descriptor of an importable pb2 module.

    Raises:
        CodegenError: it cannot be imported, or is not a pb2 module.
    """
    descriptor = module_file(name)
    imports: dict[str, FileDescriptorProto] = {}

    def collect(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            if imported.name not in imports:
                imports[imported.name] = bare(FileDescriptorProto.FromString(imported.serialized_pb))
                collect(imported)

    collect(descriptor)
    file = bare(FileDescriptorProto.FromString(descriptor.serialized_pb))
    return Schema(file, tuple(imports.values()), _distribution(name) or file.name)


def module_file(name: str) -> FileDescriptor:
    """Return the file descriptor of an importable pb2 module.

    Raises:
        CodegenError: it cannot be imported, or is not a pb2 module.
    """
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a module may raise anything while it is imported
        raise CodegenError(f"module {name} cannot be imported: {type(error).__name__}: {error}") from error
    descriptor: object = getattr(module, "DESCRIPTOR", None)
    if not isinstance(descriptor, FileDescriptor):
        raise CodegenError(f"module {name} is not a pb2 module: it has no DESCRIPTOR of a .proto file")
    return descriptor


def from_request(request: CodeGeneratorRequest) -> Schema:
    """Read the request that protoc sends to a plugin.

    Raises:
        CodegenError: it is to generate for more than one file.
    """
    if len(request.file_to_generate) != 1:
        raise CodegenError(f"name one .proto file, not {len(request.file_to_generate)}: one schema has one pb2 module")
    by_name = {file.name: file for file in request.proto_file}
    return _schema(by_name.pop(request.file_to_generate[0]), by_name.values())


def compile_protos(root: Path, files: Iterable[Path]) -> FileDescriptorSet:
    """Run protoc, with imports and comments in the result.

    Raises:
        CodegenError: a file does not compile; the text is protoc's first error.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "set.binpb")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={root}", f"--descriptor_set_out={output}"]
        command += ["--include_imports", "--include_source_info", *(str(file) for file in files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise CodegenError(_complaint(done.stderr) or f"{root}: protoc failed without an error message")
        return FileDescriptorSet.FromString(output.read_bytes())


def declare(schema: Schema) -> FileDecl:
    """Turn a descriptor into plain declarations.

    Raises:
        CodegenError: a walker cannot cover a part of it.
    """
    file = schema.file
    package = f"{file.package}." if file.package else ""
    if file.extension:
        raise CodegenError(f"{file.name}: field {file.extension[0].name}: extensions are not covered")
    enums = {f"{package}{name}" for name in _enums(file)}
    found = dict(_messages(file))
    known = _PLAIN_TYPES | {STRING_VALUE} | enums | {package + name for name in found}
    messages = [
        _message(file.name, package, name, message, known)
        for name, message in found.items()
        if not message.options.map_entry
    ]
    rpcs = [
        RpcDecl(
            service=f"{package}{service.name}",
            name=method.name,
            request=method.input_type.lstrip("."),
            response=method.output_type.lstrip("."),
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
        )
        for service in file.service
        for method in service.method
    ]
    return FileDecl(file.name, schema.source, tuple(messages), tuple(rpcs))


def bare(file: FileDescriptorProto) -> FileDescriptorProto:
    """Return a copy without the parts that not all forms of a schema have."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    for _, message in _messages(copy):
        for field in message.field:
            field.ClearField("json_name")
    return copy


def _complaint(output: str) -> str | None:
    """Find the first error, if possible one with a position, among the warnings and log lines of protoc."""
    lines = [line for line in output.splitlines() if not re.search(r"warning: |^WARNING: |^[IWE]\d{4} ", line)]
    placed = [line for line in lines if re.search(r":\d+:\d+: ", line)]
    return next(iter(placed + lines), None)


def _from_set(files: FileDescriptorSet, what: str) -> Schema:
    """Find the one file that no other in the set imports."""
    imported = {name for file in files.file for name in file.dependency}
    roots = [file for file in files.file if file.name not in imported]
    if len(roots) != 1:
        names = ", ".join(file.name for file in roots) or "none"
        raise CodegenError(f"{what}: there must be one .proto file that no other imports, there are: {names}")
    return _schema(roots[0], [file for file in files.file if file is not roots[0]])


def _schema(file: FileDescriptorProto, imports: Iterable[FileDescriptorProto]) -> Schema:
    return Schema(bare(file), tuple(bare(imported) for imported in imports), _imported_from(file) or file.name)


def _imported_from(file: FileDescriptorProto) -> str | None:
    for location in file.source_code_info.location:
        if list(location.path) == _SYNTAX_PATH:
            comments = [*location.leading_detached_comments, location.leading_comments]
            match = re.match(rf"\s*{IMPORTED_FROM} (\S+ \S+) ", comments[0])
            return match[1] if match else None
    return None


def _distribution(module: str) -> str | None:
    """Return name and version of the distribution that holds a module; None for an editable install."""
    path = f"{module.replace('.', '/')}.py"
    for distribution in metadata.distributions():
        if any(file.as_posix() == path for file in distribution.files or ()):
            return f"{distribution.metadata['Name']} {distribution.version}"
    return None


def _messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """Yield all messages with their names below the package, a nested one after the message that holds it."""

    def below(prefix: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
        for message in messages:
            yield prefix + message.name, message
            yield from below(f"{prefix}{message.name}.", message.nested_type)

    yield from below("", file.message_type)


def _enums(file: FileDescriptorProto) -> Iterator[str]:
    yield from (enum.name for enum in file.enum_type)
    for name, message in _messages(file):
        yield from (f"{name}.{enum.name}" for enum in message.enum_type)


def _message(file: str, package: str, name: str, message: DescriptorProto, known: frozenset[str]) -> MessageDecl:
    where = f"{file}: message {package}{name}"
    if message.extension_range or message.extension:
        raise CodegenError(f"{where}: extensions are not covered")
    entries = {f".{package}{name}.{nested.name}": nested for nested in message.nested_type if nested.options.map_entry}
    fields: list[FieldDecl] = []
    for field in message.field:
        if field.type == FieldDescriptorProto.TYPE_GROUP:
            raise CodegenError(f"{where}, field {field.name}: groups are not covered")
        if decl := _field(field, entries):
            if decl.type_name not in known:
                raise CodegenError(
                    f"{where}, field {field.name}: {decl.type_name} is from another file and not known to the "
                    "generator: it may hold payloads"
                )
            if decl.is_map and decl.type_name == STRING_VALUE:
                raise CodegenError(f"{where}, field {field.name}: a map of StringValue is not covered")
            fields.append(decl)
    members: dict[int, list[str]] = {}
    for field in message.field:
        if field.HasField("oneof_index") and not field.proto3_optional:
            members.setdefault(field.oneof_index, []).append(field.name)
    oneofs = [OneofDecl(message.oneof_decl[index].name, tuple(names)) for index, names in sorted(members.items())]
    return MessageDecl(package + name, name, tuple(fields), tuple(oneofs))


def _field(field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto]) -> FieldDecl | None:
    """Declare a field; None for a scalar."""
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    entry = entries.get(field.type_name)
    value = entry.field[1] if entry else field  # a map entry has two fields, key and value
    if not value.type_name:
        return None
    return FieldDecl(field.name, value.type_name.lstrip("."), repeated, is_map=entry is not None)
