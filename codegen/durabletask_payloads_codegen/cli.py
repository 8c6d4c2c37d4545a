"""`durabletask-payloads-codegen`: import a .proto, generate the walkers, check them, show the fields.

The flags of generate, check, fields and stubs may stand in a table [tool.durabletask-payloads-codegen] of
pyproject.toml in the current folder, under their names without the dashes in front; flags win.

Exit codes: 0 done; 1 the written files differ from what would be written (check, classes --check); 2 bad input, a
missing extra, or output that cannot be written.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import (
    classes,
    compare,
    descriptors,
    extra,
    model,
    policy,
    proposals,
    proto_text,
    render,
    report,
    schema,
    streams,
    stubs,
    write,
)
from ._version import GENERATOR_VERSION
from .errors import CodegenError
from .settings import TABLE, Settings, from_pyproject, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    from .schema import Schema

__all__ = ["main"]

_PROGRAM = "durabletask-payloads-codegen"
_PB2_MODULE = "durabletask.internal.orchestrator_service_pb2"
_FIELDS_FILE = "PAYLOAD_FIELDS.md"
_DIFF = """Show what an upgrade of a schema changes: paths to payloads for each RPC and direction, RPCs, messages with
payloads that no RPC carries, StringValue fields. A field that the policy does not classify counts as what is proposed
for it, and is marked by a question mark. The exit code is 0, with differences and without."""
_DIFF_SIDE = """a folder of .proto files, a .proto file (what it imports is looked up beside it), a serialized
FileDescriptorSet, or else the name of an importable pb2 module. Two releases of one module cannot be imported together:
run import-proto on one of them first."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: see the top of this module."""
    return streams.run(_PROGRAM, lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # argparse types everything as Any; each command below reads it into typed names.
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        extra.require(extra.COMMAND_LINE)
        return command(options)
    except CodegenError as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        if isinstance(error, policy.PolicyMismatchError) and error.missing:
            print(f"\n{proposals.policy_lines(error.policy, error.missing)}", end="", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {GENERATOR_VERSION}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    importing = commands.add_parser("import-proto", help="print the descriptors of pb2 modules as .proto text")
    importing.add_argument("modules", nargs="+", metavar="MODULE", help=f"an importable pb2 module: {_PB2_MODULE}")
    importing.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write them below DIR at their import paths, and print what changed since the files that were there",
    )
    importing.set_defaults(command=_import_proto)

    source, target = _source_flags(), _target_flags()
    generating = commands.add_parser(
        "generate",
        parents=[source, target],
        help="write the walkers; without --package the stubs and the report of durabletask-payloads too",
        argument_default=argparse.SUPPRESS,
    )
    generating.set_defaults(command=_generate)
    checking = commands.add_parser(
        "check",
        parents=[source, target],
        help="show how the written files differ",
        argument_default=argparse.SUPPRESS,
    )
    checking.set_defaults(command=_check)
    showing = commands.add_parser(
        "fields", parents=[source], help="show each path to a payload", argument_default=argparse.SUPPRESS
    )
    showing.add_argument("--format", choices=["text", "json", "mermaid", "markdown"], default="text")
    showing.set_defaults(command=_fields)
    stubbing = commands.add_parser(
        "stubs",
        parents=[source],
        help="write stubs with exact HasField and WhichOneof, as a package for pip",
        argument_default=argparse.SUPPRESS,
    )
    stubbing.add_argument("--output", dest="directory", type=Path, metavar="DIR", required=True, help="where to write")
    stubbing.set_defaults(command=_stubs)

    help_ = "write the message classes and gRPC stubs of one small .proto file, in a descriptor pool of their own"
    making = commands.add_parser("classes", parents=[_classes_flags()], help=help_, description=classes.__doc__)
    making.set_defaults(command=_classes)

    comparing = commands.add_parser(
        "diff",
        parents=[_policy_flag(), _diff_flags()],
        help="show how the payloads of two schemas differ",
        description=_DIFF,
        argument_default=argparse.SUPPRESS,
    )
    comparing.set_defaults(command=_diff)
    return parser


def _diff_flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("old", metavar="OLD", help=_DIFF_SIDE)
    flags.add_argument("new", metavar="NEW", help="likewise")
    flags.add_argument("--format", choices=["text", "json"], default="text")
    return flags


def _classes_flags() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(add_help=False)
    flags.add_argument("proto", type=Path, metavar="PROTO", help="the .proto file")
    flags.add_argument("--proto-path", type=Path, default=Path("protos"), metavar="DIR", help="its root (protos)")
    flags.add_argument("--package", required=True, metavar="NAME", help="where the classes will live")
    flags.add_argument(
        "--output", type=Path, default=Path("generated"), metavar="DIR", help="where to write (generated)"
    )
    flags.add_argument("--check", action="store_true", help="write nothing, show how the written files differ")
    return flags


def _source_flags() -> argparse.ArgumentParser:
    """Flags that say what to read. Those that are not given leave no trace, so that the project's table counts."""
    source = argparse.ArgumentParser(add_help=False, parents=[_policy_flag()], argument_default=argparse.SUPPRESS)
    source.add_argument("protos", nargs="*", metavar="PROTO", help=".proto files; default: all in --proto-path")
    source.add_argument("--proto-path", metavar="DIR", help="root of the .proto files (protos)")
    source.add_argument("--descriptor-set", metavar="FILE", help="read a FileDescriptorSet instead")
    source.add_argument(
        "--from-module",
        nargs="+",
        action="extend",
        metavar="MODULE",
        help="read the descriptors of pb2 modules instead",
    )
    source.add_argument(
        "--pb2-module",
        action="append",
        metavar="[FILE=]MODULE",
        help="the module with the classes of a .proto file (that of --from-module, or what its import path gives)",
    )
    return source


def _policy_flag() -> argparse.ArgumentParser:
    flag = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    flag.add_argument("--policy", metavar="FILE", help="what each field holds (protos/payload_fields.toml)")
    return flag


def _target_flags() -> argparse.ArgumentParser:
    """Flags that say what to write."""
    target = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    target.add_argument("--package", metavar="NAME", help=f"where the walkers will live ({render.WALKERS_PACKAGE})")
    plan = target.add_mutually_exclusive_group()
    plan.add_argument("--plan-module", metavar="NAME", help="where the plans come from (durabletask_payloads)")
    plan.add_argument(
        "--with-plan",
        action="store_true",
        help="write the plans into the package, so that it needs protobuf alone",
    )
    target.add_argument("--line-length", type=int, metavar="N", help="of the generated code (120)")
    target.add_argument("--output", metavar="DIR", help="where the files are (generated)")
    return target


def _import_proto(options: argparse.Namespace) -> int:
    modules: list[str] = options.modules
    root: Path | None = options.output
    read = schema.from_modules(modules)
    texts: dict[str, str] = {}
    for file in read.files:
        comment = f"{schema.IMPORTED_FROM} {read.sources[file.name]} by {_PROGRAM} import-proto."
        texts[file.name] = proto_text.print_proto(file, f"{comment}\nDO NOT EDIT: run make protos", read.files)
    _prove(read, texts)
    if root is None:
        print("\n".join(texts.values()), end="")
        return 0
    before = {file.name: _compiled(root, file.name) for file in read.files}
    write.write(root, texts)
    for file in read.files:
        old = before[file.name]
        lines = [old] if isinstance(old, str) else proto_text.differences(old, file) or ["no change"]
        print("\n".join(f"{root / file.name}: {line}" for line in lines))
    return 0


def _prove(read: Schema, texts: Mapping[str, str]) -> None:
    """Compile the printed texts and compare: one that means something else must not be written."""
    with tempfile.TemporaryDirectory() as folder:
        write.write(Path(folder), texts)
        again = schema.compile_protos(Path(folder), [Path(folder, name) for name in texts])
    originals = {file.name: file for file in read.files}
    for file in again.file:
        if file.name in texts and schema.bare(file) != originals[file.name]:
            raise CodegenError(f"{file.name}: cannot be printed: the printed text compiles to another descriptor")


def _compiled(root: Path, name: str) -> FileDescriptorProto | str:
    """Compile the file that is at `name` now, or say why there is nothing to compare with."""
    if not (root / name).exists():
        return "new"
    try:
        files = schema.compile_protos(root, [root / name])
    except CodegenError as error:
        return f"replaced; the old file did not compile: {error}"
    return next(file for file in files.file if file.name == name)


def _settings(options: argparse.Namespace) -> Settings:
    flags = {name.replace("_", "-"): value for name, value in vars(options).items()}
    for name in ("command", "format", "directory", "old", "new"):
        flags.pop(name, None)
    if not flags.get("protos"):  # argparse stores an empty list where no file is named
        flags.pop("protos", None)
    return merged(flags, from_pyproject(), f"pyproject.toml: tool.{TABLE}")


def _read(settings: Settings) -> Schema:
    if settings.descriptor_set is not None:
        read = schema.from_descriptor_set(settings.descriptor_set)
    elif settings.from_module:
        read = schema.from_modules(settings.from_module)
    else:
        read = schema.from_protos(settings.proto_path, settings.protos)
    return schema.with_modules(read, settings.pb2_module)


def _build(settings: Settings, read: Schema) -> model.Model:
    return model.build(descriptors.declare(read), policy.load_policy(settings.policy))


def _render(settings: Settings) -> tuple[dict[str, str], frozenset[str]]:
    """Return the files, and the folders that hold nothing else."""
    read = _read(settings)
    built = _build(settings, read)
    files = render.render_walkers(built, settings.home)
    if settings.home.is_ours:
        files |= {**stubs.generate_stubs(read), _FIELDS_FILE: render.render_markdown(built)}
    return files, frozenset({settings.home.folder, *_stub_folders(files)})


def _stub_folders(files: Mapping[str, str]) -> set[str]:
    return {folder for folder in (path.partition("/")[0] for path in files) if folder.endswith("-stubs")}


def _generate(options: argparse.Namespace) -> int:
    settings = _settings(options)
    files, owned = _render(settings)
    for path in write.write(settings.output, files, owned):
        print(settings.output / path)
    return 0


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    files, owned = _render(settings)
    return _report_drift(settings.output, files, owned, settings.home.command)


def _report_drift(root: Path, files: Mapping[str, str], owned: Collection[str], command: str) -> int:
    difference = write.difference(root, files, owned)
    if not difference:
        return 0
    print(difference)
    print(f"{root} differs from the output of the generator: run {command}")
    return 1


def _fields(options: argparse.Namespace) -> int:
    kind: str = options.format
    settings = _settings(options)
    built = _build(settings, _read(settings))
    formats = {
        "text": render.render_text,
        "json": report.as_json,
        "mermaid": render.render_mermaid,
        "markdown": render.render_markdown,
    }
    print(formats[kind](built), end="")
    return 0


def _stubs(options: argparse.Namespace) -> int:
    directory: Path = options.directory
    files = stubs.stub_distribution(_read(_settings(options)))
    for path in write.write(directory, files, {*_stub_folders(files), stubs.PROJECT}):
        print(directory / path)
    return 0


def _classes(options: argparse.Namespace) -> int:
    root: Path = options.output
    package: str = options.package
    proto_path: Path = options.proto_path
    proto: Path = options.proto
    command = "make generate" if package.startswith("durabletask_payloads_") else f"{_PROGRAM} classes"
    files = classes.render_classes(schema.from_protos(proto_path, [proto]), package, command)
    owned = {package.replace(".", "/")}
    if options.check:
        return _report_drift(root, files, owned, command)
    for path in write.write(root, files, owned):
        print(root / path)
    return 0


def _diff(options: argparse.Namespace) -> int:
    kind: str = options.format
    old: str = options.old
    new: str = options.new
    known = policy.load_policy(_settings(options).policy)
    before, after = (compare.assess(name, compare.read(name), known) for name in (old, new))
    formats = {"text": compare.as_text, "json": compare.as_json}
    print(formats[kind](compare.compare(before, after)), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
