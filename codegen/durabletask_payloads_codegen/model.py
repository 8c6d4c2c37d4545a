"""Stage 3: decides what to generate. The model is plain frozen data, complete before anything is rendered.

Invariants of a `Model`:
- `messages` are exactly those that reach a payload or a diagnostic field, in the order of the .proto files, each with
  a function name of its own; a `Branch` leads to one of them only.
- `parts` are in declared order, a oneof in the place of its first member; they leave out whatever leads to no payload.
- `fields` classifies every StringValue field of the files, in their order.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from .descriptors import STRING_VALUE
from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .descriptors import FieldDecl, FileDecl, MessageDecl, OneofDecl, SchemaDecl
    from .policy import FieldKind, Policy

__all__ = ["Branch", "Leaf", "LeafKind", "Message", "Model", "Oneof", "Part", "Rpc", "build", "string_fields"]

LeafKind: TypeAlias = Literal["payload", "diagnostic"]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field by its name."""

    name: str

    @property
    def is_keyword(self) -> bool:
        """Whether the field cannot be written as an attribute."""
        return keyword.iskeyword(self.name)


@dataclass(frozen=True, slots=True)
class Leaf(_Field):
    """A StringValue field that may move to a store, or a map of them. `key` is `Message.field`."""

    key: str
    kind: LeafKind
    repeated: bool
    is_map: bool = False


@dataclass(frozen=True, slots=True)
class Branch(_Field):
    """A field that holds a message with payloads, or a map of them.

    Attributes:
        target: the full name of that message.
        function: what follows `externalize_` and `deexternalize_` in the names of its functions.
        repeated: whether it is a list; a map is none.
    """

    target: str
    function: str
    repeated: bool
    is_map: bool = False


@dataclass(frozen=True, slots=True)
class Oneof:
    """A oneof of which some member leads to a payload; `silent` are the others."""

    name: str
    parts: tuple[Leaf | Branch, ...]
    silent: tuple[str, ...]


Part: TypeAlias = Leaf | Branch | Oneof


@dataclass(frozen=True, slots=True)
class Message:
    """A message with payloads, and so a pair of functions.

    Attributes:
        file: the .proto file that defines it.
        full_name: with the package.
        python_name: how its class is reached in the pb2 module.
        function: what follows `externalize_` and `deexternalize_` in the names of its functions.
    """

    file: str
    full_name: str
    python_name: str
    function: str
    parts: tuple[Part, ...]

    @property
    def fields(self) -> tuple[Leaf | Branch, ...]:
        """All fields that lead to payloads, those in oneofs too."""
        return tuple(field for part in self.parts for field in (part.parts if isinstance(part, Oneof) else (part,)))

    @property
    def repeated(self) -> tuple[str, ...]:
        """The names of its lists that lead to payloads, of which it can hold very many."""
        return tuple(field.name for field in self.fields if field.repeated)


@dataclass(frozen=True, slots=True)
class Rpc:
    """A method: the messages of its request and response, by full name, with payloads or without."""

    name: str
    request: str
    response: str
    request_streams: bool
    response_streams: bool


@dataclass(frozen=True, slots=True)
class Model:
    """Everything that the templates need.

    Attributes:
        files: the .proto files.
        messages: by full name.
        known: the full names of all messages that the files declare.
    """

    files: tuple[FileDecl, ...]
    messages: Mapping[str, Message]
    known: tuple[str, ...]
    fields: Mapping[str, FieldKind]
    rpcs: tuple[Rpc, ...]

    @property
    def source(self) -> str:
        """Where the files came from, as `durabletask 1.12.0`; their names where that is unknown."""
        return ", ".join(dict.fromkeys(file.source for file in self.files))


def build(decl: SchemaDecl, policy: Policy) -> Model:
    """Decide what to generate for `decl`.

    Raises:
        CodegenError: the policy does not match it, or a name cannot be used in Python.
    """
    strings = string_fields(decl)
    policy.check(strings)
    fields: dict[str, FieldKind] = {key: policy.kinds[key] for key in strings}

    def is_leaf(message: MessageDecl, field: FieldDecl) -> bool:
        return field.type_name == STRING_VALUE and fields[f"{message.full_name}.{field.name}"] != "metadata"

    # Grows until nothing is added: a guess for messages in progress goes wrong where messages contain each other.
    bearing = _fixpoint(
        decl.messages, lambda message, field, so_far: is_leaf(message, field) or field.type_name in so_far
    )
    functions = _functions([message for message in decl.messages if message.full_name in bearing])
    messages: dict[str, Message] = {}
    for message in decl.messages:
        if message.full_name not in bearing:
            continue
        parts: dict[str, Leaf | Branch] = {}
        for field in message.fields:
            key, target = f"{message.full_name}.{field.name}", field.type_name
            repeated = field.repeated and not field.is_map
            kind = fields.get(key, "metadata")
            if kind != "metadata":
                parts[field.name] = Leaf(field.name, key, kind, repeated, field.is_map)
            elif target in bearing:
                parts[field.name] = Branch(field.name, target, functions[target], repeated, field.is_map)
        messages[message.full_name] = Message(
            file=message.file,
            full_name=message.full_name,
            python_name=message.python_name,
            function=functions[message.full_name],
            parts=_group(parts, message.oneofs),
        )
    rpcs = [
        Rpc(f"{rpc.service}/{rpc.name}", rpc.request, rpc.response, rpc.client_streaming, rpc.server_streaming)
        for rpc in decl.rpcs
    ]
    known = tuple(message.full_name for message in decl.messages)
    return Model(decl.files, messages, known, fields, tuple(rpcs))


def string_fields(decl: SchemaDecl) -> list[str]:
    """List the StringValue fields, as `Message.field`, in the order of the file."""
    return [
        f"{message.full_name}.{field.name}"
        for message in decl.messages
        for field in message.fields
        if field.type_name == STRING_VALUE
    ]


def _fixpoint(
    messages: Iterable[MessageDecl], reaches: Callable[[MessageDecl, FieldDecl, set[str]], bool]
) -> frozenset[str]:
    """Find the messages with a field that `reaches`, which may depend on the messages found so far."""
    found: set[str] = set()
    while True:
        before = len(found)
        for message in messages:
            if any(reaches(message, field, found) for field in message.fields):
                found.add(message.full_name)
        if len(found) == before:
            return frozenset(found)


def _group(parts: Mapping[str, Leaf | Branch], oneofs: Iterable[OneofDecl]) -> tuple[Part, ...]:
    """Put the members of each oneof together, in the place of the first."""
    home = {member: oneof for oneof in oneofs for member in oneof.members}
    grouped: dict[str, Part] = {}
    for name, part in parts.items():
        oneof = home.get(name)
        if oneof is None:
            grouped[name] = part
        elif oneof.name not in grouped:
            members = tuple(parts[member] for member in oneof.members if member in parts)
            silent = tuple(member for member in oneof.members if member not in parts)
            grouped[oneof.name] = Oneof(oneof.name, members, silent)
    return tuple(grouped.values())


def _functions(messages: Sequence[MessageDecl]) -> dict[str, str]:
    """Name the functions of each message, by its full name.

    A name that messages of several files share gets the package in front, or the file where that does not help.
    """
    sharing: dict[str, list[MessageDecl]] = {}
    for message in messages:
        if any(keyword.iskeyword(name) for name in message.python_name.split(".")):
            raise CodegenError(
                f"{message.file}: message {message.full_name}: is a Python keyword, so no walker can name it"
            )
        sharing.setdefault(_snake(message.python_name), []).append(message)
    names: dict[str, str] = {}
    for name, group in sharing.items():
        packages = {message.package for message in group}
        for message in group:
            if len({other.file for other in group}) == 1:
                names[message.full_name] = name
            elif message.package and len(packages) == len(group):
                names[message.full_name] = f"{_snake(message.package)}_{name}"
            else:
                names[message.full_name] = f"{_snake(message.file.removesuffix('.proto'))}_{name}"
    owners: dict[str, MessageDecl] = {}
    for message in messages:
        name = names[message.full_name]
        owner = owners.setdefault(name, message)
        if owner is not message:
            raise CodegenError(
                f"{message.file}: messages {owner.full_name} and {message.full_name}: both would get the function "
                f"externalize_{name}"
            )
    return names


def _snake(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return re.sub(r"\W", "_", words).lower()
