"""A random schema through the generator, and its walkers against the oracle and the reference walker of the SDK."""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager, nullcontext
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from durabletask.payload import helpers
from google.protobuf import message_factory
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from tests.differential.leaves import copy, leaves, put_back, require_same
from tests.differential.random_schemas import WELL_KNOWN, descriptors_of, random_schema
from tests.differential.stores import KeptStore, ReferenceStore
from tests.support.oracle import STRING_VALUE, ask
from tests.support.random_messages import RandomMessages, text_about

from durabletask_payloads_codegen import plugin, render, schema, write
from durabletask_payloads_codegen.proto_text import print_proto

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
    from google.protobuf.message import Message

# One schema in so many goes through ruff and protoc as well: processes that take several times as long as the rest.
_THOROUGH: Final = 5
_MESSAGES: Final = 3  # how many random messages of each type there are
_PREFIX: Final = "mem-"


def check_schema(seed: int) -> Counter[str]:
    """Generate the walkers of the schema of `seed`, compare them, and return what occurred.

    Raises:
        AssertionError: they differ.
    """
    random = Random(seed)
    files = random_schema(random)
    messages = descriptors_of(files)
    kinds = {key: random.choice(("payload", "payload", "diagnostic", "metadata")) for key in _fields(messages)}
    seen = Counter(_shapes(files))
    is_thorough = seed % _THOROUGH == 0
    if is_thorough and all(file.syntax == "proto3" for file in files):
        _check_text(files)
        seen["printed"] += 1
    with tempfile.TemporaryDirectory() as folder:
        name = f"random_walkers_{seed}"
        with nullcontext() if is_thorough else _unformatted():
            text = _generate(random, files, kinds, Path(folder), name)
        if text is not None:
            seen[f"refused: {_require_reason(text, messages, kinds)}"] += 1
            return seen
        with _imported(Path(folder), name) as walkers, _string_value_of(messages):
            assert dict(walkers.FIELDS) == kinds
            seen.update({f"ways to {kind}": count for kind, count in ask(walkers, messages).items()})
            for descriptor in messages.values():
                for _ in range(_MESSAGES):
                    seen["moved"] += _check_message(random, walkers, descriptor)
    return seen


def _fields(messages: Mapping[str, Descriptor]) -> Iterator[str]:
    """Yield the StringValue fields, as `Message.field`: what a policy classifies."""
    for name, message in messages.items():
        for field in message.fields:
            target = field.message_type
            if target is not None and target.GetOptions().map_entry:
                target = target.fields_by_name["value"].message_type
            if target is not None and target.full_name == STRING_VALUE:
                yield f"{name}.{field.name}"


def _require_reason(error: str, messages: Mapping[str, Descriptor], kinds: Mapping[str, str]) -> str:
    """Require that the generator had to refuse the schema, and return why."""
    names = re.search(r"messages (\S+) and (\S+): both would get the function externalize_", error)
    if names is not None:
        # Names are told apart by package, or by file: not so those of one file, or of a file `hub` and a package `hub`.
        one, other = (messages[name].file for name in names.groups())
        assert one.name == other.name or not (one.package and other.package), f"not needed: {error}"
        return "names"
    assert "no message has a payload" in error, error
    assert set(kinds.values()) == {"metadata"}, error
    return "no payload"


def _shapes(files: Iterable[FileDescriptorProto]) -> Iterator[str]:
    """Yield what the schema has."""
    for file in files:
        yield file.syntax or "proto2"
        yield f"package {file.package}" if file.package else "no package"
        pending: list[DescriptorProto] = list(file.message_type)
        for message in pending:  # which grows meanwhile
            pending.extend(message.nested_type)
            yield from ("map" for _ in [message] if message.options.map_entry)
            yield from ("oneof" for _ in message.oneof_decl)


def _check_text(files: Sequence[FileDescriptorProto]) -> None:
    """Print all files as .proto text and compile that: protoc must take it, and the descriptors must be the same."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        paths = {file.name: root / file.name for file in files}
        for file in files:
            paths[file.name].parent.mkdir(parents=True, exist_ok=True)
            paths[file.name].write_text(print_proto(file, "Random", files), encoding="utf-8")
        compiled = {file.name: file for file in schema.compile_protos(root, paths.values()).file}
    for file in files:
        assert schema.bare(compiled[file.name]) == schema.bare(file), f"{file.name}: printed and compiled it is another"


def _generate(
    random: Random, files: Sequence[FileDescriptorProto], kinds: Mapping[str, str], folder: Path, name: str
) -> str | None:
    """Write the walkers into the package `name` below `folder`; return why the generator refused instead."""
    policy = folder / "policy.toml"
    tables: dict[str, list[str]] = {}
    for key, kind in kinds.items():
        message, _, field = key.rpartition(".")
        tables.setdefault(f'["{message}"]', []).append(f'{field} = "{kind}"')
    policy.write_text("\n".join(line for table in tables.items() for line in (table[0], *table[1])), encoding="utf-8")
    sent = [*WELL_KNOWN, *files]
    request = CodeGeneratorRequest(
        proto_file=sent,
        file_to_generate=[file.name for file in files],
        parameter=f"policy={policy},package={name},with_plan",
    )
    response = plugin.generate(request)
    random.shuffle(sent)
    del request.proto_file[:]
    request.proto_file.extend(sent)  # protoc sends a file after its imports, others may not
    assert plugin.generate(request) == response, "the order of the files changes what is generated"
    if response.error:
        return response.error
    write.write(folder, {file.name: file.content for file in response.file})
    return None


@contextmanager
def _unformatted() -> Generator[None, None, None]:
    """Leave the code as the templates write it: ruff changes how it looks, and nothing else."""

    def format_nothing(name: str, text: str, home: render.Home) -> str:
        return text

    with patch.object(render, "_format", format_nothing):
        yield


@contextmanager
def _imported(folder: Path, name: str) -> Generator[Any, None, None]:  # what is in it nobody knows before it runs
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        yield importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
        for module in [module for module in sys.modules if module.partition(".")[0] == name]:
            del sys.modules[module]


@contextmanager
def _string_value_of(messages: Mapping[str, Descriptor]) -> Generator[None, None, None]:
    """Give the reference walker the StringValue of their pool: it knows the class of the default pool only."""
    pool = next(iter(messages.values())).file.pool
    found = message_factory.GetMessageClass(pool.FindMessageTypeByName(STRING_VALUE))
    with patch.object(helpers, "wrappers_pb2", SimpleNamespace(StringValue=found)):
        yield


def _check_message(random: Random, walkers: Any, descriptor: Descriptor) -> int:
    """Move a random message through plans of its own walkers, and through the reference; return what moved."""
    threshold = random.choice((0, 3, 20))
    reference = ReferenceStore(KeptStore(_PREFIX, threshold, threshold))
    texts = ["", reference.token(b"gone"), reference.upload(b"kept"), *(text_about(random, threshold) for _ in "12345")]
    message = RandomMessages(random, lambda: random.choice(texts)).make(descriptor)
    has_diagnostics = random.random() < 0.5
    stay = {key for key, kind in walkers.FIELDS.items() if kind == "metadata"}
    resolved = frozenset(stay)
    if not has_diagnostics:
        stay |= {key for key, kind in walkers.FIELDS.items() if kind == "diagnostic"}

    ours, theirs = copy(message), copy(message)
    plan = walkers.ExternalizePlan(threshold, 1 << 40, reference.is_known_token, include_diagnostics=has_diagnostics)
    _walk(walkers.EXTERNALIZE, ours, plan)
    for field, _, data in plan.uploads:
        field.value = reference.token(data)
    helpers.externalize_payloads(theirs, reference)
    put_back(theirs, message, stay)
    require_same(ours, theirs, "externalized")
    keys = {id(leaf.field): leaf.key for leaf in leaves(ours)}
    assert all(keys[id(field)] == path for field, path, _ in plan.uploads)

    theirs = copy(ours)
    plan = walkers.DeexternalizePlan((_PREFIX,), reference.is_known_token)
    _walk(walkers.DEEXTERNALIZE, ours, plan)
    before = copy(ours)
    for field, _, token in plan.downloads:
        field.value = reference.download(token).decode()
    helpers.deexternalize_payloads(theirs, reference)
    put_back(theirs, before, resolved)
    require_same(ours, theirs, "deexternalized")
    return len(plan.downloads)


def _walk(table: Mapping[str, Any], message: Message, plan: object) -> None:
    walker = table.get(message.DESCRIPTOR.full_name)
    if walker is not None:
        walker(message, plan)
