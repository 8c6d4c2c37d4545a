"""The completeness oracle: one field filled at a time, in every place of a schema, must be visited exactly once.

It works by reflection, on any schema and any package of walkers. It needs protobuf alone, so it also runs where another
SDK is installed: `python oracle.py WALKERS PB2_MODULE ...` prints the number of ways to a field by kind, as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor, FileDescriptor
    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue
    from typing_extensions import Never

STRING_VALUE = "google.protobuf.StringValue"
TOKEN = "token:"
# What each field is filled with. It is one character too long to pass a gate unseen.
_TEXT = f"{TOKEN}text"

# How often a message may stand on a path: one that contains itself once more inside of itself.
_TIMES = 2


class Walkers(Protocol):
    """A package of walkers, as far as the oracle uses it."""

    @property
    def EXTERNALIZE(self) -> Mapping[str, Callable[[Never, Never], None]]: ...
    @property
    def DEEXTERNALIZE(self) -> Mapping[str, Callable[[Never, Never], None]]: ...
    @property
    def FAN_OUT(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def FIELDS(self) -> Mapping[str, str]: ...
    @property
    def MESSAGES(self) -> frozenset[str]: ...


class Visits:
    """A plan of either kind that writes down every call."""

    payload_gate = len(_TEXT) - 1
    prefixes = (TOKEN,)

    def __init__(self, *, with_diagnostics: bool = True) -> None:
        self.diagnostic_gate = self.payload_gate if with_diagnostics else sys.maxsize
        self.fields: list[tuple[StringValue, str]] = []

    def rules_out(self, message: Message, *repeated: Sequence[Message]) -> bool:
        return False

    def upload(self, field: StringValue, path: str, text: str) -> None:
        assert text == field.value
        self.fields.append((field, path))

    download = upload


@dataclass(frozen=True, slots=True)
class LeafPath:
    """A way from a root message to one StringValue field; `key` is `Message.field` of its end."""

    steps: tuple[FieldDescriptor, ...]
    key: str

    @property
    def text(self) -> str:
        return ".".join(step.name + ("[]" if is_repeated(step) else "") for step in self.steps)

    def fill(self, root: Message, value: str) -> StringValue:
        """Set this one field, and what is needed to get there, and return the wrapper."""
        # Reflection: what is in a field is known only by its descriptor.
        content: Any = root
        for step in self.steps:
            content = getattr(content, step.name)
            if is_map(step):
                content = content[_key(step)]
            elif is_repeated(step):
                content = content.add()
        leaf: StringValue = content
        leaf.value = value
        return leaf


def is_repeated(field: FieldDescriptor) -> bool:
    """Tell whether a field is repeated, with any protobuf: is_repeated is missing before 6, and label from 7 on."""
    if hasattr(field, "is_repeated"):
        return field.is_repeated
    label: object = getattr(field, "label", None)
    return label == FieldDescriptor.LABEL_REPEATED


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def leaf_paths(root: Descriptor) -> Iterator[LeafPath]:
    """All ways from `root` to a StringValue, with one level of recursion."""

    def walk(message: Descriptor, steps: tuple[FieldDescriptor, ...], above: tuple[str, ...]) -> Iterator[LeafPath]:
        for field in message.fields:
            target = field.message_type
            if target is not None and is_map(field):
                target = target.fields_by_name["value"].message_type
            if target is None:
                continue
            if target.full_name == STRING_VALUE:
                yield LeafPath((*steps, field), f"{message.full_name}.{field.name}")
            elif above.count(target.full_name) < _TIMES:
                yield from walk(target, (*steps, field), (*above, target.full_name))

    return walk(root, (), (root.full_name,))


def messages_of(files: Iterable[FileDescriptor]) -> dict[str, Descriptor]:
    """All messages of `files` by full name, nested ones too, but no map entries."""
    found: dict[str, Descriptor] = {}
    pending = [message for file in files for message in file.message_types_by_name.values()]
    while pending:
        message = pending.pop(0)
        if not message.GetOptions().map_entry:
            found[message.full_name] = message
            pending += message.nested_types
    return found


def ask(walkers: Walkers, messages: Mapping[str, Descriptor]) -> Counter[str]:
    """Require that the walkers know exactly `messages`, and visit each of their fields; count the ways by kind."""
    assert set(messages) == walkers.MESSAGES
    keys: set[str] = set()
    bearing: set[str] = set()
    ways: Counter[str] = Counter()
    for name, message in messages.items():
        lists: set[str] = set()
        for path in leaf_paths(message):
            kind = walkers.FIELDS[path.key]
            ways[kind] += 1
            keys.add(path.key)
            if kind != "metadata":
                bearing.add(name)
                lists |= {step.name for step in path.steps[:1] if is_repeated(step) and not is_map(step)}
            where = f"{name}.{path.text} is {kind}"
            _ask_one(message, path, walkers.EXTERNALIZE, kind == "payload", f"externalize: {where}", diagnostics=False)
            _ask_one(message, path, walkers.EXTERNALIZE, kind != "metadata", f"externalize with diagnostics: {where}")
            _ask_one(message, path, walkers.DEEXTERNALIZE, kind != "metadata", f"deexternalize: {where}")
        assert set(walkers.FAN_OUT.get(name, ())) == lists, f"{name}: {lists}"
    assert keys == set(walkers.FIELDS)
    assert bearing == set(walkers.EXTERNALIZE) == set(walkers.DEEXTERNALIZE)
    return ways


def _ask_one(
    message: Descriptor,
    path: LeafPath,
    table: Mapping[str, Callable[[Never, Never], None]],
    visited: bool,
    where: str,
    *,
    diagnostics: bool = True,
) -> None:
    root = message_factory.GetMessageClass(message)()
    leaf = path.fill(root, _TEXT)
    visits = Visits(with_diagnostics=diagnostics)
    # Reflection: the function is known by the name of the message, and the plan is one of our own.
    walker: Any = table.get(message.full_name)
    if walker is not None:
        walker(root, visits)
    assert [key for _, key in visits.fields] == ([path.key] if visited else []), where
    for field, _ in visits.fields:
        field.value = "moved"
        assert leaf.value == "moved", f"{where}: another field was visited"


def _key(field: FieldDescriptor) -> object:
    """A key of the right type for a map."""
    entry = field.message_type
    assert entry is not None
    kind = entry.fields_by_name["key"].cpp_type
    return {FieldDescriptor.CPPTYPE_STRING: "key", FieldDescriptor.CPPTYPE_BOOL: True}.get(kind, 1)


def main(arguments: Sequence[str]) -> None:
    package, *modules = arguments
    # Given by name.
    walkers: Any = importlib.import_module(package)
    loaded: list[Any] = [importlib.import_module(name) for name in modules]
    print(json.dumps(ask(walkers, messages_of(module.DESCRIPTOR for module in loaded))))


if __name__ == "__main__":
    main(sys.argv[1:])
