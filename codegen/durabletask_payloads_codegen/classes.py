"""Classes of a small schema, as a package whose descriptors are in a pool of their own.

What protoc writes demands the protobuf and grpcio that it was released with, or newer ones, and registers its files in
the pool that all packages of a process share, where a second copy is refused. This does neither.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from . import stubs
from .errors import CodegenError
from .render import render_python
from .schema import is_dotted_name, with_modules

if TYPE_CHECKING:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    from .schema import Schema

__all__ = ["render_classes"]

_BYTES_A_LINE = 24


def render_classes(schema: Schema, package: str, command: str) -> dict[str, str]:
    """Render the package `package` for a schema of one file: its files by path.

    The modules are named as protoc names them: `<file>_pb2`, and `<file>_pb2_grpc` where there are services. Each has a
    stub with its types.

    Raises:
        CodegenError: there are several files or imports, nested types, extensions or streaming methods; or ruff failed.
    """
    if not is_dotted_name(package):
        raise CodegenError(f"package {package}: is not the name of a Python package")
    if len(schema.files) != 1:
        raise CodegenError(f"{schema.files[0].name}: has to be the only file, without imports of other files")
    (file,) = schema.files
    _check(file)
    module = f"{PurePosixPath(file.name).stem}_pb2"
    folder = package.replace(".", "/")
    values = {"file": file, "module": module, "local": _local, "parts": _parts(file), "command": command}
    files = {f"{folder}/{module}.py": render_python("classes.py.j2", **values)}
    if file.service:
        files[f"{folder}/{module}_grpc.py"] = render_python("services.py.j2", **values)
    files[f"{folder}/__init__.py"] = render_python("classes_package.py.j2", **values)
    for path, text in stubs.generate_stubs(with_modules(schema, [f"{package}.{module}"])).items():
        if path.endswith(".pyi"):
            files[path.replace("-stubs/", "/", 1)] = text
    return {**files, f"{folder}/py.typed": ""}


def _check(file: FileDescriptorProto) -> None:
    for message in file.message_type:
        if message.nested_type or message.enum_type or message.extension:
            raise CodegenError(f"{file.name}: {message.name}: has types of its own, which have no template")
    if file.dependency or file.extension:
        raise CodegenError(f"{file.name}: has imports or extensions, which have no template")
    for service in file.service:
        for method in service.method:
            if method.client_streaming or method.server_streaming:
                raise CodegenError(f"{file.name}: {service.name}.{method.name}: streams, which has no template")


def _local(full_name: str) -> str:
    return full_name.rpartition(".")[2]


def _parts(file: FileDescriptorProto) -> list[str]:
    """Write the serialized file as literals of bytes, some to a line."""
    data = file.SerializeToString(deterministic=True)
    return [repr(data[at : at + _BYTES_A_LINE]) for at in range(0, len(data), _BYTES_A_LINE)]
