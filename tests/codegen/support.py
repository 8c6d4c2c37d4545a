"""Small schemas, given in the tests themselves."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from durabletask_payloads_codegen import descriptors, model, policy, render, schema

if TYPE_CHECKING:
    from durabletask_payloads_codegen.descriptors import SchemaDecl
    from durabletask_payloads_codegen.model import Model
    from durabletask_payloads_codegen.policy import FieldKind
    from durabletask_payloads_codegen.schema import Schema

ROOT = Path(__file__).parents[2]
PROTOS = ROOT / "protos"
PROTO = PROTOS / "durabletask/internal/orchestrator_service.proto"
POLICY = PROTOS / "payload_fields.toml"
PB2_MODULE = "durabletask.internal.orchestrator_service_pb2"
WRAPPERS = 'import "google/protobuf/wrappers.proto";'


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def write_proto(folder: Path, text: str, name: str = "test.proto") -> Path:
    """Write a proto3 file that may use the well-known wrappers."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'syntax = "proto3";\n{WRAPPERS}\n{dedent(text)}')
    return path


def protoc(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real protoc, which finds our plugin and that of mypy-protobuf."""
    scripts = Path(sys.executable).parent
    plugins = [f"--plugin={scripts / name}" for name in ("protoc-gen-durabletask-payloads", "protoc-gen-mypy")]
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={root}", *plugins, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def compiled(folder: Path, text: str) -> Schema:
    write_proto(folder, text)
    return schema.from_protos(folder)


def modelled(folder: Path, text: str, **kinds: FieldKind) -> Model:
    """The model of a schema; `kinds` classifies by field name, all else is a payload."""
    return classified(descriptors.declare(compiled(folder, text)), **kinds)


def classified(decl: SchemaDecl, **kinds: FieldKind) -> Model:
    """The model of declarations; `kinds` classifies by field name, all else is a payload."""
    keys = model.string_fields(decl)
    named: dict[str, FieldKind] = {key: kinds.get(key.rpartition(".")[2], "payload") for key in keys}
    return model.build(decl, policy.Policy("policy.toml", named))


def functions(built: Model, module: str) -> str:
    """The functions of one generated module, without header and imports."""
    text = render.render_walkers(built, render.Home())[f"{render.WALKERS_PACKAGE}/{module}.py"]
    return text[text.index("def ") :]


def contents(root: Path) -> dict[str, bytes]:
    """Every file below `root`."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
