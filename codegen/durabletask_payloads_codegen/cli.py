"""`durabletask-payloads-codegen`: import a .proto, generate the walkers, check them, show the fields."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import descriptors, extra, model, policy, proto_text, render, report, stubs, write
from ._version import GENERATOR_VERSION
from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

__all__ = ["main"]

_PROGRAM = "durabletask-payloads-codegen"
_PB2_MODULE = "durabletask.internal.orchestrator_service_pb2"
_FIELDS_FILE = "PAYLOAD_FIELDS.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for drift (`check`), 2 for bad input or a missing extra."""
    options = _parser().parse_args(arguments)
    # argparse types everything as Any; each command below reads it into typed names.
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        extra.require(extra.COMMAND_LINE)
        return command(options)
    except CodegenError as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {GENERATOR_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    importing = commands.add_parser("import-proto", help="print the descriptor of a pb2 module as .proto text")
    importing.add_argument("module", metavar="MODULE", help=f"an importable pb2 module: {_PB2_MODULE}")
    importing.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write it below DIR at its import path, and print what changed since the file that was there",
    )
    importing.set_defaults(command=_import_proto)

    source = argparse.ArgumentParser(add_help=False)
    source.add_argument("protos", nargs="*", type=Path, metavar="PROTO", help=".proto files; default: all in DIR")
    source.add_argument(
        "--proto-path", type=Path, default=Path("protos"), metavar="DIR", help="root of the .proto files (protos)"
    )
    other = source.add_mutually_exclusive_group()
    other.add_argument("--descriptor-set", type=Path, metavar="FILE", help="read a FileDescriptorSet instead")
    other.add_argument("--from-module", metavar="MODULE", help="read the descriptor of a pb2 module instead")
    source.add_argument(
        "--policy",
        type=Path,
        default=Path("protos/payload_fields.toml"),
        metavar="FILE",
        help="what each field holds (protos/payload_fields.toml)",
    )

    target = argparse.ArgumentParser(add_help=False)
    target.add_argument(
        "--output", type=Path, default=Path("generated"), metavar="DIR", help="where the files are (generated)"
    )
    target.add_argument(
        "--pb2-module", default=_PB2_MODULE, metavar="MODULE", help=f"the classes in the signatures ({_PB2_MODULE})"
    )

    generating = commands.add_parser("generate", parents=[source, target], help="write walkers, stubs and report")
    generating.set_defaults(command=_generate)
    checking = commands.add_parser("check", parents=[source, target], help="show how the written files differ")
    checking.set_defaults(command=_check)
    showing = commands.add_parser("fields", parents=[source], help="show each path to a payload")
    showing.add_argument("--format", choices=["text", "json", "mermaid"], default="text")
    showing.set_defaults(command=_fields)
    return parser


def _import_proto(options: argparse.Namespace) -> int:
    module: str = options.module
    root: Path | None = options.output
    schema = descriptors.from_module(module)
    own = [file for file in schema.imports if not file.name.startswith("google/protobuf/")]
    comment = f"{descriptors.IMPORTED_FROM} {schema.source} by {_PROGRAM} import-proto.\nDO NOT EDIT: run make protos"
    texts = {file.name: proto_text.print_proto(file, comment) for file in (*own, schema.file)}
    _prove(schema, texts)
    if root is None:
        print(texts[schema.file.name], end="")
        return 0
    before = {file.name: _compiled(root, file.name) for file in (*own, schema.file)}
    write.write(root, texts)
    for file in (*own, schema.file):
        old = before[file.name]
        lines = [old] if isinstance(old, str) else proto_text.differences(old, file) or ["no change"]
        print("\n".join(f"{root / file.name}: {line}" for line in lines))
    return 0


def _prove(schema: descriptors.Schema, texts: Mapping[str, str]) -> None:
    """Compile the printed text and compare: one that means something else must not be written."""
    with tempfile.TemporaryDirectory() as folder:
        write.write(Path(folder), texts)
        again = descriptors.compile_protos(Path(folder), [Path(folder, schema.file.name)])
    originals = {file.name: file for file in (*schema.imports, schema.file)}
    for file in again.file:
        if file.name in texts and descriptors.bare(file) != originals[file.name]:
            raise CodegenError(f"{file.name}: cannot be printed: the printed text compiles to another descriptor")


def _compiled(root: Path, name: str) -> FileDescriptorProto | str:
    """Compile the file that is at `name` now, or say why there is nothing to compare with."""
    if not (root / name).exists():
        return "new"
    try:
        files = descriptors.compile_protos(root, [root / name])
    except CodegenError as error:
        return f"replaced; the old file did not compile: {error}"
    return next(file for file in files.file if file.name == name)


def _read(options: argparse.Namespace) -> tuple[descriptors.Schema, model.Model]:
    protos: list[Path] = options.protos
    proto_path: Path = options.proto_path
    descriptor_set: Path | None = options.descriptor_set
    module: str | None = options.from_module
    policy_file: Path = options.policy
    if protos and (descriptor_set or module):
        raise CodegenError(".proto files, --descriptor-set and --from-module exclude each other: name one of them")
    if descriptor_set is not None:
        schema = descriptors.from_descriptor_set(descriptor_set)
    elif module is not None:
        schema = descriptors.from_module(module)
    else:
        schema = descriptors.from_protos(proto_path, protos)
    return schema, model.build(descriptors.declare(schema), policy.load_policy(policy_file))


def _render(options: argparse.Namespace) -> dict[str, str]:
    pb2_module: str = options.pb2_module
    schema, built = _read(options)
    return {
        **render.render_walkers(built, pb2_module),
        **stubs.generate_stubs(schema),
        _FIELDS_FILE: render.render_markdown(built),
    }


def _generate(options: argparse.Namespace) -> int:
    output: Path = options.output
    files = _render(options)
    changed = write.write(output, files, write.packages(files))
    for path in changed:
        print(output / path)
    return 0


def _check(options: argparse.Namespace) -> int:
    output: Path = options.output
    files = _render(options)
    difference = write.difference(output, files, write.packages(files))
    if not difference:
        return 0
    print(difference)
    print(f"{output} differs from the output of the generator: run make generate")
    return 1


def _fields(options: argparse.Namespace) -> int:
    kind: str = options.format
    _, built = _read(options)
    formats = {"text": render.render_text, "json": report.as_json, "mermaid": render.render_mermaid}
    print(formats[kind](built), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
