"""The generator as a plugin of protoc and buf, `protoc-gen-durabletask-payloads`.

Options, by `--durabletask-payloads_opt=NAME=VALUE`, are those of `durabletask-payloads-codegen generate`:
- `policy`: the field policy (protos/payload_fields.toml)
- `pb2_module`: MODULE or FILE=MODULE, once for each file (the one that protoc's own Python output would have)
- `package`: where the walkers will live (durabletask_payloads_walkers)
- `plan_module`: where the plans come from (durabletask_payloads), or `with_plan`, without a value, to write them too
- `line_length`: of the generated code (120)

The walkers are those of all files named and of what they import: name all files in one run (buf: `strategy: all`).
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import Edition
from google.protobuf.message import DecodeError

from . import descriptors, extra, model, policy, proposals, render, schema, streams
from ._version import GENERATOR_VERSION
from .errors import CodegenError
from .settings import Settings, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["generate", "main"]

_PROGRAM = "protoc-gen-durabletask-payloads"
_OPTIONS = ("policy", "pb2_module", "package", "plan_module", "with_plan", "line_length")


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Answer protoc: the walkers, or an error for it to print."""
    features = CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL | CodeGeneratorResponse.FEATURE_SUPPORTS_EDITIONS
    response = CodeGeneratorResponse(
        supported_features=features, minimum_edition=Edition.EDITION_PROTO2, maximum_edition=Edition.EDITION_2023
    )
    try:
        extra.require(extra.PLUGIN)
        settings = _settings(request.parameter)
        read = schema.with_modules(schema.from_request(request), settings.pb2_module)
        built = model.build(descriptors.declare(read), policy.load_policy(settings.policy))
        for path, text in render.render_walkers(built, settings.home).items():
            response.file.add(name=path, content=text)
    except CodegenError as error:
        response.error = str(error)
        if isinstance(error, policy.PolicyMismatchError) and error.missing:
            response.error += f"\n\n{proposals.policy_lines(error.policy, error.missing).rstrip()}"
    return response


def _settings(parameter: str) -> Settings:
    """Read the options: `policy=FILE,pb2_module=FILE=MODULE,with_plan`."""
    given: dict[str, object] = {}
    modules: list[str] = []
    for option in filter(None, parameter.split(",")):
        name, separator, value = option.partition("=")
        if name not in _OPTIONS:
            raise CodegenError(f"option {name}: is unknown, the options are {', '.join(_OPTIONS)}")
        if name == "pb2_module":
            modules.append(value)
        elif name == "with_plan":
            given["with-plan"] = not separator or _flag(value)
        elif name == "line_length":
            given["line-length"] = int(value) if value.isdecimal() else value
        else:
            given[name.replace("_", "-")] = value
    return merged({**given, "pb2-module": modules})


def _flag(value: str) -> bool | str:
    return {"true": True, "false": False}.get(value, value)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read a request from standard input, write the answer to standard output, and return the exit code.

    protoc passes no arguments, and prints the error of an answer itself. Exit code 2 means that there was no
    request, or that the answer cannot be written.
    """
    return streams.run(_PROGRAM, lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {GENERATOR_VERSION}")
    parser.parse_args(arguments)
    sent = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    if not sent:  # protoc sends at least the names of files
        return _refuse("protoc runs this program: protoc --durabletask-payloads_out=DIR ..., see --help")
    try:
        request = CodeGeneratorRequest.FromString(sent)
    except DecodeError:
        return _refuse("standard input is not a CodeGeneratorRequest, as protoc sends it")
    sys.stdout.buffer.write(generate(request).SerializeToString())
    return 0


def _refuse(text: str) -> int:
    print(f"{_PROGRAM}: error: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
