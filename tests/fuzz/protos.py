"""Targets: descriptors that are printed as .proto text and compiled again, and descriptor sets of any kind."""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, Protocol, cast

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    FileOptions,
)
from tests.fuzz.engine import MEMORY, Target, outcome
from tests.fuzz.mutator import any_character, mutated_bytes

from durabletask_payloads_codegen.descriptors import declare
from durabletask_payloads_codegen.errors import CodegenError
from durabletask_payloads_codegen.proto_text import differences, print_proto
from durabletask_payloads_codegen.schema import Schema, bare, from_descriptor_set

if TYPE_CHECKING:
    from collections.abc import Generator


class _Protoc(Protocol):
    __file__: str

    def main(self, command_arguments: list[str]) -> int: ...


# It has no types. In this process a compilation takes a two-hundredth of the time.
_protoc: Final = cast("_Protoc", importlib.import_module("grpc_tools.protoc"))
_WELL_KNOWN: Final = Path(_protoc.__file__).with_name("_proto")
_WRAPPERS: Final = "google/protobuf/wrappers.proto"

_folder: Final = TemporaryDirectory(prefix="fuzz-", dir=MEMORY)
_root: Final = Path(_folder.name)

_KEYWORDS: Final = (
    *("message", "enum", "option", "reserved", "oneof", "map", "string", "int32", "optional", "repeated", "stream"),
    *("to", "max", "rpc", "returns", "service", "import", "package", "syntax", "extend", "extensions", "group", "inf"),
)
_SCALARS: Final = [
    kind
    for kind in FieldDescriptorProto.Type.values()
    if kind not in (FieldDescriptorProto.TYPE_GROUP, FieldDescriptorProto.TYPE_MESSAGE, FieldDescriptorProto.TYPE_ENUM)
]
_KEYS: Final = (FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_INT32, FieldDescriptorProto.TYPE_BOOL)


# ---- inputs ----------------------------------------------------------------------------------------------------------


class _Maker:
    """Makes a file that protoc could have made."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._count = 0
        self._messages: list[str] = [".google.protobuf.StringValue", ".google.protobuf.Int32Value"]
        self._enums: list[str] = []
        self.file = FileDescriptorProto(name="t.proto", syntax="proto3", dependency=[_WRAPPERS])

    def make(self) -> FileDescriptorProto:
        """Return the file: names first, so that all of it can refer to all of it."""
        random, file = self._random, self.file
        if package := random.choice(("", "", "a.b", "M.b", self._name(), "google.b")):
            file.package = package
        if random.random() < 0.5:
            file.options.java_package = _without_surrogates("".join(any_character(random) for _ in range(4)))
        if random.random() < 0.3:
            file.options.java_multiple_files = True
            file.options.optimize_for = random.choice(FileOptions.OptimizeMode.values())
        scope = f".{file.package}" if file.package else ""
        for _ in range(random.randrange(3)):
            self._enum(file.enum_type.add(), scope)
        for _ in range(random.randrange(1, 4)):
            self._names(file.message_type.add(), scope, depth=0)
        for message in file.message_type:
            self._fill(message)
        for _ in range(random.randrange(2)):
            service = file.service.add(name=self._name())
            for _ in range(random.randrange(3)):
                request, response = random.choices(self._messages, k=2)
                method = service.method.add(name=self._name(), input_type=request, output_type=response)
                if random.random() < 0.3:
                    method.server_streaming = True
                if random.random() < 0.3:
                    method.client_streaming = True
                if random.random() < 0.3:
                    method.options.deprecated = True
        return file

    def _name(self) -> str:
        """Return a new name: some are words of the language, each of those once at most."""
        self._count += 1
        word = self._random.choice(_KEYWORDS)
        return f"M{self._count}" if self._random.random() < 0.8 or self._count > 1 else word

    def _enum(self, enum: EnumDescriptorProto, scope: str) -> None:
        enum.name = self._name()
        self._enums.append(f"{scope}.{enum.name}")
        for number in (
            0,
            *self._random.sample((1, 2, -1, 7, 2_147_483_647, -2_147_483_648), self._random.randrange(3)),
        ):
            value = enum.value.add(name=f"V{self._count}_{len(enum.value)}", number=number)
            if self._random.random() < 0.2:
                value.options.deprecated = True
        for start, end in self._random.sample(
            ((100, 100), (200, 300), (1_000, 2_000_000_000)), self._random.randrange(3)
        ):
            enum.reserved_range.add(start=start, end=end)
        enum.reserved_name.extend(self._random.sample(("gone", "lost"), self._random.randrange(2)))

    def _names(self, message: DescriptorProto, scope: str, depth: int) -> None:
        message.name = self._name()
        full_name = f"{scope}.{message.name}"
        self._messages.append(full_name)
        for _ in range(self._random.randrange(3) if depth < 2 else 0):
            self._names(message.nested_type.add(), full_name, depth + 1)
        for _ in range(self._random.choice((0, 0, 1))):
            self._enum(message.enum_type.add(), full_name)

    def _fill(self, message: DescriptorProto) -> None:
        random = self._random
        scope = next(name for name in self._messages if self._of(name) is message)
        nested = list(message.nested_type)
        for inner in nested:
            self._fill(inner)
        if random.random() < 0.2:
            message.options.deprecated = True
        numbers = random.sample(range(1, 2_000), 12)
        for number in numbers[: random.randrange(7)]:
            field = message.field.add(name=f"f{number}", number=number, label=FieldDescriptorProto.LABEL_OPTIONAL)
            match random.randrange(6):
                case 0:
                    self._map(field, message, scope)
                case 1:
                    self._type(field)
                    field.label = FieldDescriptorProto.LABEL_REPEATED
                case _:
                    self._type(field)
            if random.random() < 0.2:
                field.options.deprecated = True
        self._oneofs(message)
        for start in random.sample((3_000, 4_000, 536_870_911), random.randrange(3)):
            message.reserved_range.add(start=start, end=start + 1 if start > 4_000 else start + random.choice((1, 50)))
        message.reserved_name.extend(random.sample(("gone", "lost"), random.randrange(3)))

    def _of(self, name: str) -> DescriptorProto | None:
        parts = name.removeprefix(f".{self.file.package}" if self.file.package else "").split(".")[1:]
        found: DescriptorProto | None = None
        for part in parts:
            inside = found.nested_type if found is not None else self.file.message_type
            found = next((one for one in inside if one.name == part), None)
            if found is None:
                return None
        return found

    def _type(self, field: FieldDescriptorProto) -> None:
        match self._random.randrange(4):
            case 0:
                field.type = FieldDescriptorProto.TYPE_MESSAGE
                field.type_name = self._random.choice(self._messages)
            case 1 if self._enums:
                field.type = FieldDescriptorProto.TYPE_ENUM
                field.type_name = self._random.choice(self._enums)
            case _:
                field.type = self._random.choice(_SCALARS)

    def _map(self, field: FieldDescriptorProto, message: DescriptorProto, scope: str) -> None:
        entry = message.nested_type.add(name=f"{field.name.capitalize()}Entry")
        entry.options.map_entry = True
        key = entry.field.add(name="key", number=1, label=FieldDescriptorProto.LABEL_OPTIONAL)
        key.type = self._random.choice(_KEYS)
        self._type(entry.field.add(name="value", number=2, label=FieldDescriptorProto.LABEL_OPTIONAL))
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f"{scope}.{entry.name}"
        field.label = FieldDescriptorProto.LABEL_REPEATED

    def _oneofs(self, message: DescriptorProto) -> None:
        """Put fields that may be in one into a oneof, which is one run, and make others optional."""
        singular = [place for place, field in enumerate(message.field) if field.label != field.LABEL_REPEATED]
        runs = [place for place in singular if place + 1 in singular]
        if runs and self._random.random() < 0.5:
            message.oneof_decl.add(name="pick")
            for field in message.field[runs[0] : runs[0] + 2]:
                field.oneof_index = 0
        for place in singular:
            field = message.field[place]
            if not field.HasField("oneof_index") and self._random.random() < 0.2:
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field.name}")


def _without_surrogates(text: str) -> str:
    return text.encode("utf-8", "ignore").decode()


def _make_file(random: Random) -> int:
    # Not the file itself: with a part left out, it would be none that protoc could have made.
    return random.getrandbits(64)


# ---- properties ------------------------------------------------------------------------------------------------------


def _compiled(text: str) -> FileDescriptorProto:
    """Return what protoc makes of a .proto."""
    source, output = _root / "t.proto", _root / "set.binpb"
    source.write_bytes(text.encode())
    arguments = [f"--proto_path={_root}", f"--proto_path={_WELL_KNOWN}", f"--descriptor_set_out={output}", str(source)]
    with _messages() as log:
        code = _protoc.main(["protoc", *arguments])
    assert code == 0, f"does not compile:\n{log.read_text()}\n{text}"
    return FileDescriptorSet.FromString(output.read_bytes()).file[0]


@contextmanager
def _messages() -> Generator[Path]:
    """Send what protoc says to a file: it writes to the descriptor of standard error."""
    path = _root / "protoc.log"
    before = os.dup(2)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield path
    finally:
        os.dup2(before, 2)
        os.close(before)


def _check_file(seed: int) -> None:
    file = _Maker(Random(seed)).make()
    text = print_proto(file, "A comment.\nTwo lines.")
    again = _compiled(text)
    assert bare(again).SerializeToString(deterministic=True) == bare(file).SerializeToString(deterministic=True), text
    assert print_proto(again, "A comment.\nTwo lines.") == text
    assert differences(file, again) == []


_FRAGMENTS: Final = [
    b"\x0a",
    b"\x12",
    b"\x1a\0",
    b"proto3",
    b"\xff" * 9,
    b".google.protobuf.StringValue",
    b"\x08\x01",
    b"\x22\x05",
]


def _make_set(random: Random) -> bytes:
    files = [_Maker(random).make() for _ in range(random.choice((1, 1, 2, 3)))]
    for number, file in enumerate(files):
        file.name = f"t{number}.proto" if random.random() < 0.9 else "t0.proto"
        file.dependency.extend(f"t{random.randrange(3)}.proto" for _ in range(random.choice((0, 0, 1, 2))))
    data = FileDescriptorSet(file=files).SerializeToString(deterministic=True)
    return mutated_bytes(random, data, _FRAGMENTS) if random.random() < 0.8 else data


def _check_set(data: bytes) -> None:
    path = _root / "any.binpb"
    path.write_bytes(data)
    schema = outcome(lambda: from_descriptor_set(path), CodegenError)
    if isinstance(schema, Schema):
        outcome(lambda: declare(schema), CodegenError)
        for file in schema.files:
            text = outcome(lambda file=file: print_proto(file, ""), CodegenError)  # type: ignore[misc]  # mypy infers no lambda with a default
            assert isinstance(text, str | CodegenError)


TARGETS: Final = (
    Target(
        "proto-print",
        "what protoc made is printed, and compiled again it is the same byte for byte",
        _make_file,
        _check_file,
    ),
    Target("proto-import", "any bytes are a schema, or CodegenError, from reading to printing", _make_set, _check_set),
)
