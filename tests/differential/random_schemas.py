"""Random schemas as protoc would hand them over: files, packages, syntaxes, and every shape of a field."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    EnumValueDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from tests.support.oracle import STRING_VALUE, leaf_paths, messages_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from random import Random

    from google.protobuf.descriptor import Descriptor

__all__ = ["WELL_KNOWN", "descriptors_of", "random_schema"]

WELL_KNOWN: Final = tuple(
    FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    for module in (wrappers_pb2, timestamp_pb2, duration_pb2, struct_pb2)
)
_OPAQUE: Final = tuple(
    f"google.protobuf.{name}" for name in ("Timestamp", "Duration", "Struct", "Value", "BoolValue", "Int64Value")
)
_FILES: Final = ("hub.proto", "hub/base.proto", "hub/types.proto", "back/types.proto", "in-side/one_2.proto")
_PACKAGES: Final = ("", "hub", "hub.v1", "back.is", "front")
_MESSAGES: Final = (
    "Task",
    "Item",
    "TaskItem",
    "HTTPEvent",
    "A_B",
    "A",
    "B",
    "_Private",
    "lower",
    "StringValue",
    "Any2",
)
# Keywords, names that the generated code uses itself, and names that look like its variables.
_FIELDS: Final = (
    *("from", "class", "import", "lambda", "in", "is", "None", "with", "async"),
    *("match", "case", "type", "_", "self", "message", "plan", "text", "text_", "externalize", "deexternalize"),
    *("from_", "from_item", "import_", "class_item", "externalize_task", "deexternalize_item", "each_externalize"),
    *("Iterable", "TYPE_CHECKING", "getattr", "len", "values", "upload", "name", "input", "inputText", "camelCase"),
    *("Clear", "Extensions", "FromString", "MergeFrom", "key", "value", "_private", "x1", "hub", "google", "x_2"),
)
_SCALARS: Final = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_BYTES,
    FieldDescriptorProto.TYPE_INT32,
    FieldDescriptorProto.TYPE_BOOL,
    FieldDescriptorProto.TYPE_DOUBLE,
    FieldDescriptorProto.TYPE_UINT64,
)
_KEYS: Final = (
    FieldDescriptorProto.TYPE_STRING,
    FieldDescriptorProto.TYPE_INT64,
    FieldDescriptorProto.TYPE_BOOL,
    FieldDescriptorProto.TYPE_UINT32,
)
# With more ways to a field, which grow exponentially where messages contain each other, one schema takes too long.
_MAX_WAYS = 1_500


def random_schema(random: Random) -> list[FileDescriptorProto]:
    """Make the files of a schema, each after its imports."""
    depth = 1.0  # the share of fields that hold messages
    while True:
        files = _Files(random, depth).files
        ways = (way for message in descriptors_of(files).values() for way in leaf_paths(message))
        if 0 < len(list(islice(ways, _MAX_WAYS))) < _MAX_WAYS:
            return files
        depth *= 0.8


def descriptors_of(files: Iterable[FileDescriptorProto]) -> dict[str, Descriptor]:
    """Return all messages of `files` by full name, in a pool of their own."""
    files = list(files)
    pool = descriptor_pool.DescriptorPool()
    for file in (*WELL_KNOWN, *files):
        pool.Add(file)
    return messages_of(pool.FindFileByName(file.name) for file in files)


class _Names:
    """The names of one scope: fields, oneofs, nested types and entries of maps share it."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._taken: set[str] = set()

    def pick(self, names: Sequence[str], *, suffix: str = "") -> str:
        """Take a name that is free, and whose form in JSON is free too."""
        while True:
            name = self._random.choice(names) + suffix
            for number in range(3, 12):
                if self.take(name):
                    return name
                name = f"{self._random.choice(names)}_v{number}{suffix}"

    def take(self, name: str) -> bool:
        forms = {name, _json(name), _entry(name)}
        if forms & self._taken:
            return False
        self._taken |= forms
        return True


class _Files:
    """Fills `files`.

    Args:
        depth: the more, the more fields hold messages; 1 or less.
    """

    def __init__(self, random: Random, depth: float) -> None:
        self.files: list[FileDescriptorProto] = []
        self._random = random
        self._depth = depth
        self._packages: dict[str, _Names] = {}
        for package in _PACKAGES:
            scope, _, name = package.rpartition(".")
            self._packages.setdefault(scope, _Names(random)).take(name)
        self._types: dict[str, list[str]] = {}  # the messages of a file
        for name in random.sample(_FILES, random.randint(1, 4)):
            self.files.append(self._file(name))

    def _file(self, name: str) -> FileDescriptorProto:
        random = self._random
        file = FileDescriptorProto(name=name, package=random.choice(_PACKAGES) or None)
        match random.choice(("proto3", "proto3", "proto2", "editions")):
            case "editions":
                file.syntax = "editions"
                file.edition = descriptor_pb2.EDITION_2023
            case "proto3":
                file.syntax = "proto3"
            case _:
                pass  # protoc says nothing for proto2
        file.dependency.extend(known.name for known in WELL_KNOWN)
        imported = [other for other in self.files if random.random() < 0.7]
        for other in imported:
            if random.random() < 0.3:
                file.public_dependency.append(len(file.dependency))
            file.dependency.append(other.name)
        names = self._packages.setdefault(file.package, _Names(random))
        messages = [self._declare(file.message_type.add(), names, 0) for _ in range(random.randint(1, 5))]
        prefix = f"{file.package}." if file.package else ""
        paths = [f"{prefix}{path}" for found in messages for path in found]
        self._types[name] = paths
        reachable = [*paths, *(path for other in imported for path in self._types[other.name])]
        for message in file.message_type:
            self._define(message, f"{prefix}{message.name}", file, reachable)
        if random.random() < 0.5:
            self._add_service(file, names, reachable)
        return file

    def _declare(self, message: DescriptorProto, names: _Names, level: int) -> list[str]:
        """Name a message and those in it, and return their names."""
        random = self._random
        message.name = names.pick(_MESSAGES)
        inner = _Names(random)
        paths = [message.name]
        while level < 2 and random.random() < 0.3:
            nested = self._declare(message.nested_type.add(), inner, level + 1)
            paths += [f"{message.name}.{path}" for path in nested]
        return paths

    def _define(self, message: DescriptorProto, full_name: str, file: FileDescriptorProto, types: list[str]) -> None:
        """Give a message its fields, and those in it theirs."""
        random = self._random
        for nested in message.nested_type:
            self._define(nested, f"{full_name}.{nested.name}", file, types)
        names = _Names(random)
        for nested in message.nested_type:
            names.take(nested.name)
        if random.random() < 0.3:
            _add_enum(message.enum_type.add(), names)
        maker = _Fields(random, message, full_name, file, names, types, self._depth)
        for _ in range(random.choice((0, 1, 2, 3, 4, 5, 9))):
            maker.add()
        maker.finish()

    def _add_service(self, file: FileDescriptorProto, names: _Names, types: Sequence[str]) -> None:
        service = file.service.add(name=names.pick(("Hub", "Sidecar", "is")))
        methods = _Names(self._random)
        for _ in range(self._random.randint(1, 3)):
            service.method.add(
                name=methods.pick(("Do", "Get", "import", "Stream")),
                input_type=f".{self._random.choice(types)}",
                output_type=f".{self._random.choice([*types, 'google.protobuf.Timestamp'])}",
                client_streaming=self._random.random() < 0.3 or None,  # protoc says nothing for no
                server_streaming=self._random.random() < 0.3 or None,
            )


class _Fields:
    """Adds fields to one message, in random order of shapes and numbers."""

    def __init__(
        self,
        random: Random,
        message: DescriptorProto,
        full_name: str,
        file: FileDescriptorProto,
        names: _Names,
        types: Sequence[str],
        depth: float,
    ) -> None:
        self._random = random
        self._message = message
        self._full_name = full_name
        self._file = file
        self._names = names
        self._types = types
        self._depth = depth
        self._numbers: Iterator[int] = iter(random.sample([*range(1, 200), 18_999, 20_000, 536_870_911], 100))

    def add(self) -> None:
        """Add a field, a map or a oneof."""
        share = self._random.random()
        if share < 0.15:
            self._add_map()
        elif share < 0.35:
            self._add_oneof()
        else:
            field = self._field()
            self._give_type(field)
            if share < 0.55:
                field.label = FieldDescriptorProto.LABEL_REPEATED
            else:
                self._give_presence(field)

    def _field(self) -> FieldDescriptorProto:
        return self._message.field.add(
            name=self._names.pick(_FIELDS),
            number=next(self._numbers),
            label=FieldDescriptorProto.LABEL_OPTIONAL,
        )

    def _give_type(self, field: FieldDescriptorProto) -> None:
        random = self._random
        share = random.random()
        if share < 0.4:
            _refer(field, STRING_VALUE)
        elif share < 0.4 + 0.35 * self._depth:
            _refer(field, random.choice(self._types))
        elif share < 0.85:
            field.type = random.choice(_SCALARS)
        elif share < 0.9 and self._message.enum_type:
            field.type = FieldDescriptorProto.TYPE_ENUM
            field.type_name = f".{self._full_name}.{self._message.enum_type[0].name}"
        else:
            _refer(field, random.choice(_OPAQUE))

    def _give_presence(self, field: FieldDescriptorProto) -> None:
        """Use what the syntax has beyond plain fields: `required`, `optional`, and the features of editions."""
        random = self._random
        is_text = field.type_name == f".{STRING_VALUE}"
        is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
        features = descriptor_pb2.FeatureSet
        if random.random() > 0.3:
            return
        if self._file.syntax == "proto3":
            field.proto3_optional = True
        elif self._file.syntax == "editions":
            if is_message and random.random() < 0.5:
                field.options.features.message_encoding = features.DELIMITED
            elif is_text or not is_message:
                field.options.features.field_presence = features.LEGACY_REQUIRED
        elif is_text or not is_message:
            field.label = FieldDescriptorProto.LABEL_REQUIRED

    def _add_oneof(self) -> None:
        index = len(self._message.oneof_decl)
        self._message.oneof_decl.add(name=self._names.pick(_FIELDS, suffix=self._random.choice(("", "_kind"))))
        for _ in range(self._random.randint(1, 4)):
            field = self._field()
            self._give_type(field)
            field.oneof_index = index

    def _add_map(self) -> None:
        field = self._field()
        field.label = FieldDescriptorProto.LABEL_REPEATED
        entry = self._message.nested_type.add(name=_entry(field.name))
        entry.options.map_entry = True
        optional = FieldDescriptorProto.LABEL_OPTIONAL
        entry.field.add(name="key", number=1, label=optional, type=self._random.choice(_KEYS))
        value = entry.field.add(name="value", number=2, label=optional)
        self._give_type(value)
        _refer(field, f"{self._full_name}.{entry.name}")

    def finish(self) -> None:
        """Give the fields of `optional` the oneofs that protoc makes for them: after all others."""
        taken = {one.name for group in (self._message.field, self._message.oneof_decl) for one in group}
        for field in self._message.field:
            if field.proto3_optional:
                field.oneof_index = len(self._message.oneof_decl)
                name = f"_{field.name.removeprefix('_')}"
                while name in taken:
                    name = f"X{name}"
                self._message.oneof_decl.add(name=name)


def _add_enum(enum: EnumDescriptorProto, names: _Names) -> None:
    enum.name = names.pick(("Color", "State"))
    for number in range(2):
        enum.value.append(EnumValueDescriptorProto(name=names.pick(("NONE", "RED", "is_set")), number=number))


def _refer(field: FieldDescriptorProto, full_name: str) -> None:
    field.type = FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = f".{full_name}"


def _json(name: str) -> str:
    """Return a form that two names share if their forms in JSON could be the same."""
    return name.replace("_", "").lower()


def _entry(name: str) -> str:
    """Return the name of the message that a map of that name makes."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_")) + "Entry"
