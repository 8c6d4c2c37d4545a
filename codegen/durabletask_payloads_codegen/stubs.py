"""Stubs by mypy-protobuf and mypy-grpc, in which HasField and WhichOneof know the names of fields."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from .descriptors import module_file
from .errors import CodegenError

if TYPE_CHECKING:
    from .descriptors import Schema

__all__ = ["generate_stubs"]


def generate_stubs(schema: Schema) -> dict[str, str]:
    """Generate a partial stub package (PEP 561): its files by path. `a/b.proto` gives the package `a-stubs`.

    Raises:
        CodegenError: the plugin refuses the schema.
    """
    # Concrete: an implementation of a part of a service, as the SDK's in-memory backend is, can be instantiated.
    options = "quiet,generate_concrete_servicer_stubs"
    request = CodeGeneratorRequest(file_to_generate=[schema.file.name], parameter=options)
    imports = {file.name: file for file in schema.imports}
    for file in (*schema.imports, schema.file):
        for name in file.dependency:
            if name not in imports:
                imports[name] = _well_known(name)
    request.proto_file.extend([*imports.values(), schema.file])
    files: dict[str, str] = {}
    for entry in ("main", "grpc"):
        for path, text in _run(entry, request).items():
            folder, _, rest = path.partition("/")
            package = f"{folder.removesuffix('.pyi')}-stubs"
            files[f"{package}/{rest or '__init__.pyi'}"] = text
            files[f"{package}/py.typed"] = "partial\n"
    return files


def _well_known(name: str) -> FileDescriptorProto:
    try:
        descriptor = module_file(f"{name.removesuffix('.proto').replace('/', '.')}_pb2")
    except CodegenError as error:
        raise CodegenError(f"{name}: is imported, but missing in the input") from error
    return FileDescriptorProto.FromString(descriptor.serialized_pb)


def _run(entry: str, request: CodeGeneratorRequest) -> dict[str, str]:
    """Run mypy-protobuf as a plugin of protoc, which is its stable interface."""
    command = [sys.executable, "-c", f"from mypy_protobuf.main import {entry}; {entry}()"]
    done = subprocess.run(command, input=request.SerializeToString(), capture_output=True, check=False)
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise CodegenError(f"{request.file_to_generate[0]}: mypy-protobuf failed: {''.join(last)}")
    response = CodeGeneratorResponse.FromString(done.stdout)
    if response.error:
        raise CodegenError(f"{request.file_to_generate[0]}: mypy-protobuf: {response.error}")
    return {file.name: file.content for file in response.file}
