"""The generator as a plugin of protoc and buf, `protoc-gen-durabletask-payloads`.

Options, by `--durabletask-payloads_opt=NAME=VALUE`: `policy` (the field policy, default
`protos/payload_fields.toml`) and `pb2_module` (default: the one that protoc's own Python output would have).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.message import DecodeError

from . import descriptors, extra, model, policy, render
from ._version import GENERATOR_VERSION
from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["generate", "main"]

_PROGRAM = "protoc-gen-durabletask-payloads"


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Answer protoc: the walkers, or an error for it to print."""
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    try:
        extra.require(extra.PLUGIN)
        schema = descriptors.from_request(request)
        options = {"policy": "protos/payload_fields.toml", "pb2_module": _pb2_module(schema.file.name)}
        for option in filter(None, request.parameter.split(",")):
            name, _, value = option.partition("=")
            if name not in options:
                raise CodegenError(f"option {name}: is unknown, the options are {', '.join(options)}")
            options[name] = value
        built = model.build(descriptors.declare(schema), policy.load_policy(Path(options["policy"])))
        for path, text in render.render_walkers(built, options["pb2_module"]).items():
            response.file.add(name=path, content=text)
    except CodegenError as error:
        response.error = str(error)
    return response


def main(arguments: Sequence[str] | None = None) -> int:
    """Read a request from standard input, write the answer to standard output, and return the exit code.

    protoc passes no arguments, and prints the error of an answer itself. Exit code 2 means that there was no request.
    """
    parser = argparse.ArgumentParser(
        prog=_PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {GENERATOR_VERSION}")
    parser.parse_args(arguments)
    if sys.stdin.isatty():
        return _refuse("protoc runs this program: protoc --durabletask-payloads_out=DIR ..., see --help")
    try:
        request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    except DecodeError:
        return _refuse("standard input is not a CodeGeneratorRequest, as protoc sends it")
    sys.stdout.buffer.write(generate(request).SerializeToString())
    return 0


def _refuse(text: str) -> int:
    print(f"{_PROGRAM}: error: {text}", file=sys.stderr)
    return 2


def _pb2_module(file: str) -> str:
    return f"{file.removesuffix('.proto').replace('-', '_').replace('/', '.')}_pb2"


if __name__ == "__main__":
    sys.exit(main())
