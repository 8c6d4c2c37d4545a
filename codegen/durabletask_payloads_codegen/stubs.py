"""Stubs by mypy-protobuf and mypy-grpc, in which HasField and WhichOneof know the names of fields."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from .errors import CodegenError
from .schema import module_file, module_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .schema import Schema

__all__ = ["PROJECT", "generate_stubs", "stub_distribution"]

PROJECT = "pyproject.toml"
"""The file that makes stub packages installable."""


def generate_stubs(schema: Schema) -> dict[str, str]:
    """Generate partial stub packages (PEP 561): their files by path. The module `a.b_pb2` gives the package `a-stubs`.

    Raises:
        CodegenError: the plugin refuses the schema, or a pb2 module has a name that no .proto file gives, or two files.
    """
    # The plugin names stubs and their imports after the .proto files: these get the paths of their modules.
    paths = {name: _path_of(module) for name, module in schema.modules.items()}
    owners: dict[str, str] = {}
    for name, module in schema.modules.items():
        if (owner := owners.setdefault(module, name)) != name:
            raise CodegenError(
                f"{name}: has the pb2 module {module}, which is that of {owner}: give one by --pb2-module"
            )
    files = [*schema.well_known, *(_renamed(file, paths) for file in schema.files)]
    # Concrete: an implementation of a part of a service, as the SDK's in-memory backend is, can be instantiated.
    options = "quiet,generate_concrete_servicer_stubs"
    request = CodeGeneratorRequest(file_to_generate=sorted(paths.values()), parameter=options)
    there = {file.name for file in files}
    for name in dict.fromkeys(name for file in files for name in file.dependency if name not in there):
        request.proto_file.append(_well_known(name))
    request.proto_file.extend(files)
    stubs: dict[str, str] = {}
    for entry in ("main", "grpc"):
        for path, text in _run(entry, request).items():
            folder, _, rest = path.partition("/")
            package = f"{folder.removesuffix('.pyi')}-stubs"
            stubs[f"{package}/{rest or '__init__.pyi'}"] = text
            stubs[f"{package}/py.typed"] = "partial\n"
    return stubs


def stub_distribution(schema: Schema) -> dict[str, str]:
    """Generate stub packages that pip can install: those of `generate_stubs`, and a pyproject.toml.

    Raises:
        CodegenError: as `generate_stubs`.
    """
    stubs = generate_stubs(schema)
    packages = sorted({path.partition("/")[0] for path in stubs})
    source = next(iter(schema.sources.values()))
    name, _, version = source.partition(" ")
    if not re.fullmatch(r"\d[\w.+!-]*", version):  # a .proto that nobody has released
        name, version = packages[0].removesuffix("-stubs"), "0"
    project = "\n".join(
        [
            "# Generator: durabletask-payloads-codegen",
            "[build-system]",
            'requires = ["hatchling"]',
            'build-backend = "hatchling.build"',
            "",
            "[project]",
            f"name = {json.dumps(f'{name}-protobuf-stubs')}",
            f"version = {json.dumps(version)}",
            f"description = {json.dumps(f'Type stubs of the protobuf messages of {source}: exact names of fields')}",
            'requires-python = ">=3.10"',
            'dependencies = ["types-protobuf", "types-grpcio"]',
            "",
            "[tool.hatch.build.targets.wheel]",
            f"packages = {json.dumps(packages)}",
            "",
        ]
    )
    return {**stubs, PROJECT: project}


def _path_of(module: str) -> str:
    if not module.endswith("_pb2"):
        raise CodegenError(f"pb2 module {module}: has no stubs by mypy-protobuf, since its name does not end in _pb2")
    return f"{module.removesuffix('_pb2').replace('.', '/')}.proto"


def _renamed(file: FileDescriptorProto, paths: Mapping[str, str]) -> FileDescriptorProto:
    renamed = FileDescriptorProto()
    renamed.CopyFrom(file)
    renamed.name = paths[file.name]
    renamed.dependency[:] = [paths.get(name, name) for name in file.dependency]
    return renamed


def _well_known(name: str) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(module_file(module_of(name)).serialized_pb)


def _run(entry: str, request: CodeGeneratorRequest) -> dict[str, str]:
    """Run mypy-protobuf as a plugin of protoc, which is its stable interface."""
    command = [sys.executable, "-c", f"from mypy_protobuf.main import {entry}; {entry}()"]
    done = subprocess.run(command, input=request.SerializeToString(), capture_output=True, check=False)
    name = request.file_to_generate[0]
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise CodegenError(f"{name}: mypy-protobuf failed: {''.join(last)}")
    response = CodeGeneratorResponse.FromString(done.stdout)
    if response.error:
        raise CodegenError(f"{name}: mypy-protobuf: {response.error}")
    return {file.name: file.content for file in response.file}
