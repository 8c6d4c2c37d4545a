"""`protoc-gen-durabletask-payloads`: the generator as a plugin of protoc and buf.

Options, by `--durabletask-payloads_opt=NAME=VALUE`: `policy` (the field policy, default
`protos/payload_fields.toml`) and `pb2_module` (default: the one that protoc's own Python output would have).
"""

from __future__ import annotations

import sys
from pathlib import Path

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse

from . import descriptors, model, policy, render
from .errors import CodegenError

__all__ = ["generate", "main"]


def generate(request: CodeGeneratorRequest) -> CodeGeneratorResponse:
    """Answer protoc: the walkers, or an error for it to print."""
    response = CodeGeneratorResponse(supported_features=CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL)
    try:
        schema = descriptors.from_request(request)
        options = {"policy": "protos/payload_fields.toml", "pb2_module": _pb2_module(schema.file.name)}
        for option in filter(None, request.parameter.split(",")):
            name, _, value = option.partition("=")
            if name not in options:
                raise CodegenError(f"option {name}: is not known, there are {', '.join(options)}")
            options[name] = value
        built = model.build(descriptors.declare(schema), policy.load_policy(Path(options["policy"])))
        for path, text in render.render_walkers(built, options["pb2_module"]).items():
            response.file.add(name=path, content=text)
    except CodegenError as error:
        response.error = str(error)
    return response


def main() -> None:
    """Read a request from standard input and write the answer to standard output."""
    request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
    sys.stdout.buffer.write(generate(request).SerializeToString())


def _pb2_module(file: str) -> str:
    return f"{file.removesuffix('.proto').replace('-', '_').replace('/', '.')}_pb2"


if __name__ == "__main__":
    main()
