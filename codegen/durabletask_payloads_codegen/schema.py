"""Stage 1: reads a schema in any of its forms.

All forms end in the same raw FileDescriptorProtos, so that the later stages cannot tell them apart. No descriptor pool
is involved, and neither json_name nor comments matter, except the comment that says where a .proto came from.
"""

from __future__ import annotations

import importlib
import keyword
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError, Message

from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest

__all__ = [
    "IMPORTED_FROM",
    "Schema",
    "bare",
    "compile_protos",
    "from_descriptor_set",
    "from_modules",
    "from_protos",
    "from_request",
    "is_dotted_name",
    "messages_of",
    "module_file",
    "module_of",
    "with_modules",
]

# The comment that `import-proto` writes on top of a .proto.
IMPORTED_FROM = "Imported from"
_SYNTAX_PATH = [FileDescriptorProto.SYNTAX_FIELD_NUMBER]


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema as it was read.

    Attributes:
        files: the files to generate for: those named and what they import, each after its own imports.
        well_known: the files of google/protobuf/ that they import, as far as the input has them.
        sources: where each of `files` came from, by its name: `durabletask 1.12.0`, or the name where that is unknown.
        modules: the pb2 module of each of `files`, by its name.
    """

    files: tuple[FileDescriptorProto, ...]
    well_known: tuple[FileDescriptorProto, ...]
    sources: Mapping[str, str]
    modules: Mapping[str, str]


def from_protos(root: Path, files: Sequence[Path] = ()) -> Schema:
    """Read .proto files, all below `root` unless some are named, and what they import. Imports are looked up in `root`.

    Raises:
        CodegenError: there are none, or one does not compile.
    """
    found = sorted(root.glob("**/*.proto")) if not files else list(files)
    if not found:
        raise CodegenError(f"{root}: there is no .proto file")
    return _schema(compile_protos(root, found).file, str(root))


def from_descriptor_set(path: Path) -> Schema:
    """Read a serialized FileDescriptorSet (`protoc --descriptor_set_out --include_imports`).

    Files of google/protobuf/ may be missing.

    Raises:
        CodegenError: it cannot be read, is empty, or an import is missing.
    """
    try:
        files = FileDescriptorSet.FromString(path.read_bytes())
    except OSError as error:
        raise CodegenError(f"{path}: cannot be read: {error.strerror}") from error
    except DecodeError as error:
        raise CodegenError(f"{path}: is not a serialized FileDescriptorSet") from error
    if not all(map(_is_text, files.file)):
        raise CodegenError(f"{path}: is not a serialized FileDescriptorSet: a name in it is not UTF-8")
    for file in files.file:
        for name, message in messages_of(file):
            if not _is_whole(message):
                raise CodegenError(f"{path}: {file.name}: message {name}: a oneof or a part of a map is missing")
    return _schema(files.file, str(path))


def from_modules(names: Sequence[str]) -> Schema:
    """Read the descriptors of importable pb2 modules, and of those that they import.

    Raises:
        CodegenError: one cannot be imported, or is not a pb2 module.
    """
    found: dict[str, FileDescriptor] = {}

    def collect(file: FileDescriptor) -> None:
        if file.name not in found:
            found[file.name] = file
            for imported in file.dependencies:
                collect(imported)

    named = [module_file(name) for name in names]
    for file in named:
        collect(file)
    files = [FileDescriptorProto.FromString(file.serialized_pb) for file in found.values()]
    schema = _schema(files, ", ".join(names), [file.name for file in named])
    defined = _defining_modules(found) | dict(zip([file.name for file in named], names, strict=True))
    modules = {name: defined.get(name, module) for name, module in schema.modules.items()}
    distributions = _distributions(modules.values())
    sources = {name: distributions.get(module, name) for name, module in modules.items()}
    return replace(schema, sources=sources, modules=modules)


def module_file(name: str) -> FileDescriptor:
    """Return the file descriptor of an importable pb2 module.

    Raises:
        CodegenError: it cannot be imported, or is not a pb2 module.
    """
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a module may raise anything while it is imported, a script may exit
        raise CodegenError(f"module {name} cannot be imported: {type(error).__name__}: {error}") from error
    descriptor: object = getattr(module, "DESCRIPTOR", None)
    if not isinstance(descriptor, FileDescriptor):
        raise CodegenError(f"module {name} is not a pb2 module: it has no DESCRIPTOR of a .proto file")
    return descriptor


def from_request(request: CodeGeneratorRequest) -> Schema:
    """Read the request that protoc sends to a plugin.

    Raises:
        CodegenError: an import is missing.
    """
    return _schema(request.proto_file, "the request", request.file_to_generate)


def with_modules(schema: Schema, given: Iterable[str]) -> Schema:
    """Return `schema` with the pb2 modules that are `given`: `FILE=MODULE`, or `MODULE` alone for a schema of one file.

    Raises:
        CodegenError: the schema has no such file, or `MODULE` is not the name of a Python module.
    """
    modules = dict(schema.modules)
    for text in given:
        file, separator, module = text.rpartition("=")
        if not separator and len(modules) != 1:
            raise CodegenError(f"pb2 module {text}: the schema has {len(modules)} files, name one: FILE={text}")
        if not separator:
            (file,) = modules
        if file not in modules:
            raise CodegenError(f"pb2 module {module}: {file} is not a file of the schema: {', '.join(modules)}")
        if not is_dotted_name(module):
            raise CodegenError(f"pb2 module {module}: is not the name of a Python module")
        modules[file] = module
    return replace(schema, modules=modules)


def is_dotted_name(name: str) -> bool:
    """Return whether `name` can be the full name of a Python module or package."""
    return all(part.isidentifier() and not keyword.iskeyword(part) for part in name.split("."))


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


def bare(file: FileDescriptorProto) -> FileDescriptorProto:
    """Return a copy without the parts that not all forms of a schema have."""
    copy = FileDescriptorProto()
    copy.CopyFrom(file)
    copy.ClearField("source_code_info")
    for _, message in messages_of(copy):
        for field in message.field:
            field.ClearField("json_name")
    return copy


def messages_of(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """Yield all messages with their names below the package, a nested one after the message that holds it."""

    def below(prefix: str, messages: Iterable[DescriptorProto]) -> Iterator[tuple[str, DescriptorProto]]:
        for message in messages:
            yield prefix + message.name, message
            yield from below(f"{prefix}{message.name}.", message.nested_type)

    yield from below("", file.message_type)


def _complaint(output: str) -> str | None:
    """Find the first error, if possible one with a position, among the warnings and log lines of protoc."""
    lines = [line for line in output.splitlines() if not re.search(r"warning: |^WARNING: |^[IWE]\d{4} ", line)]
    placed = [line for line in lines if re.search(r":\d+:\d+: ", line)]
    return next(iter(placed + lines), None)


def _is_text(message: Message) -> bool:
    """Return whether all strings are text: protobuf gives those of a descriptor that are not UTF-8 as bytes."""
    for field, value in message.ListFields():
        is_single = isinstance(value, str | bytes | int | float | Message)
        values: list[object] = [value] if is_single else list(value)
        for one in values:
            if (field.type == field.TYPE_STRING and not isinstance(one, str)) or (
                isinstance(one, Message) and not _is_text(one)
            ):
                return False
    return True


def _is_whole(message: DescriptorProto) -> bool:
    """Return whether the oneofs of the fields exist, and a map entry has a key and a value."""
    known = range(len(message.oneof_decl))
    has_oneofs = all(field.oneof_index in known for field in message.field if field.HasField("oneof_index"))
    return has_oneofs and (not message.options.map_entry or len(message.field) == 2)


def _is_well_known(name: str) -> bool:
    return name.startswith("google/protobuf/")


def _schema(files: Iterable[FileDescriptorProto], what: str, named: Iterable[str] = ()) -> Schema:
    """Make a schema of `files`: all but the well-known ones, and those too where they are `named`."""
    own = set(named)
    by_name: dict[str, FileDescriptorProto] = {}
    for file in files:
        if by_name.setdefault(file.name, file) != file:
            raise CodegenError(f"{what}: {file.name} is in it twice, with other contents")
    ordered = _ordered(by_name)
    wanted = [file for file in ordered if file.name in own or not _is_well_known(file.name)]
    if not wanted:
        raise CodegenError(f"{what}: there is no .proto file in it")
    return Schema(
        files=tuple(bare(file) for file in wanted),
        well_known=tuple(bare(file) for file in ordered if file.name not in own and _is_well_known(file.name)),
        sources={file.name: _imported_from(file) or file.name for file in wanted},
        modules={file.name: module_of(file.name) for file in wanted},
    )


def _ordered(files: Mapping[str, FileDescriptorProto]) -> list[FileDescriptorProto]:
    """Order files so that each comes after its imports, whatever the order of the input."""
    ordered: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptorProto, above: tuple[str, ...]) -> None:
        if file.name in above:
            raise CodegenError(f"{file.name}: imports itself: {' -> '.join((*above, file.name))}")
        if file.name in ordered:
            return
        for name in file.dependency:
            if name in files:
                add(files[name], (*above, file.name))
            elif not _is_well_known(name):
                raise CodegenError(f"{file.name}: imports {name}, which is missing in the input")
        ordered[file.name] = file

    for _, file in sorted(files.items()):
        add(file, ())
    return list(ordered.values())


def module_of(file: str) -> str:
    """Return the module that protoc's own Python output would have."""
    return f"{file.removesuffix('.proto').replace('-', '_').replace('/', '.')}_pb2"


def _defining_modules(files: Mapping[str, FileDescriptor]) -> dict[str, str]:
    """Find the imported modules that define `files`: their names, as of a vendored copy, may not follow the paths."""
    found: dict[str, str] = {}
    for name, module in list(sys.modules.items()):
        descriptor: object = getattr(module, "__dict__", {}).get("DESCRIPTOR")
        if not isinstance(descriptor, FileDescriptor) or descriptor.name not in files:
            continue
        if descriptor.serialized_pb != files[descriptor.name].serialized_pb:
            continue
        # A module that has all names of another one, by `import *`, has its DESCRIPTOR too.
        stem = module_of(descriptor.name).rpartition(".")[2]
        if descriptor.name not in found or name.rpartition(".")[2] == stem:
            found[descriptor.name] = name
    return found


def _imported_from(file: FileDescriptorProto) -> str | None:
    for location in file.source_code_info.location:
        if list(location.path) == _SYNTAX_PATH:
            comments = [*location.leading_detached_comments, location.leading_comments]
            match = re.match(rf"\s*{IMPORTED_FROM} (\S+ \S+) ", comments[0])
            return match[1] if match else None
    return None


def _distributions(modules: Iterable[str]) -> dict[str, str]:
    """Return name and version of the distribution that holds each module; none for an editable install."""
    paths = {f"{module.replace('.', '/')}.py": module for module in modules}
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        record = distribution.read_text("RECORD")
        if record and not any(path in record for path in paths):  # ten times as fast as to look at each file
            continue
        for file in distribution.files or ():
            if file.as_posix() in paths:
                found.setdefault(paths[file.as_posix()], f"{distribution.metadata['Name']} {distribution.version}")
    return found
