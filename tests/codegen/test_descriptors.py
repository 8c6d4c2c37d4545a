"""The forms in which a schema comes in: all give the same, and what is no schema is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from tests.codegen.support import POLICY, PROTO, PROTOS, compiled, write_proto

from durabletask_payloads_codegen import model, policy, proto_text, render, schema, stubs
from durabletask_payloads_codegen.descriptors import declare
from durabletask_payloads_codegen.errors import CodegenError
from durabletask_payloads_codegen.schema import from_descriptor_set, from_modules, from_protos, from_request

if TYPE_CHECKING:
    from pathlib import Path

    from durabletask_payloads_codegen.schema import Schema


def generated(read: Schema) -> dict[str, str]:
    built = model.build(declare(read), policy.load_policy(POLICY))
    return {
        **render.render_walkers(built, render.Home()),
        **stubs.generate_stubs(read),
        "report": render.render_markdown(built),
    }


def test_all_forms_of_input_give_the_same(tmp_path: Path) -> None:
    files = schema.compile_protos(PROTOS, [PROTOS / pb.DESCRIPTOR.name])
    whole = tmp_path / "whole.binpb"
    whole.write_bytes(files.SerializeToString())
    without_imports = tmp_path / "without_imports.binpb"
    without_imports.write_bytes(FileDescriptorSet(file=[files.file[-1]]).SerializeToString())
    request = CodeGeneratorRequest(file_to_generate=[pb.DESCRIPTOR.name], proto_file=files.file)

    expected = generated(from_protos(PROTOS, [PROTO]))
    assert "durabletask_payloads_walkers/externalize.py" in expected
    assert "durabletask-stubs/internal/orchestrator_service_pb2.pyi" in expected
    assert generated(from_descriptor_set(whole)) == expected
    assert generated(from_descriptor_set(without_imports)) == expected
    assert generated(from_modules([pb.__name__])) == expected
    assert generated(from_request(request)) == expected


def test_the_source_is_the_files_name_where_nothing_else_is_known(tmp_path: Path) -> None:
    plain = tmp_path / "plain.binpb"
    plain.write_bytes(FileDescriptorSet(file=[from_protos(PROTOS, [PROTO]).files[0]]).SerializeToString())
    assert from_descriptor_set(plain).sources == {pb.DESCRIPTOR.name: pb.DESCRIPTOR.name}
    known = {pb.DESCRIPTOR.name: "durabletask 1.12.0"}
    assert from_protos(PROTOS, [PROTO]).sources == from_modules([pb.__name__]).sources == known
    # A module that no distribution owns up to, and a comment that says something else.
    (source,) = from_modules(["google.protobuf.compiler.plugin_pb2"]).sources.values()
    assert source.startswith("protobuf ")
    (tmp_path / "noted.proto").write_text('// Imported by hand from 3 sources.\n\nsyntax = "proto3";\nmessage M {}\n')
    assert from_protos(tmp_path).sources == {"noted.proto": "noted.proto"}


def test_a_well_known_file_is_generated_for_only_where_it_is_named() -> None:
    read = from_modules(["google.protobuf.compiler.plugin_pb2"])
    assert [file.name for file in read.files] == ["google/protobuf/compiler/plugin.proto"]
    assert [file.name for file in read.well_known] == ["google/protobuf/descriptor.proto"]


def test_files_come_after_those_that_they_import(tmp_path: Path) -> None:
    write_proto(tmp_path, "message Common { string x = 1; }", "z/common.proto")
    write_proto(tmp_path, 'import "z/common.proto"; message M { google.protobuf.StringValue x = 1; }', "b.proto")
    write_proto(tmp_path, "message A { string x = 1; }", "c.proto")
    assert [file.name for file in from_protos(tmp_path).files] == ["z/common.proto", "b.proto", "c.proto"]
    assert [file.name for file in from_protos(tmp_path, [tmp_path / "b.proto"]).files] == ["z/common.proto", "b.proto"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "message M { optional group Part = 1 { optional string x = 1; } }",
            "old.proto: message M, field part: groups are not covered",
        ),
        ("message M { extensions 100 to 199; }", "old.proto: message M: extensions are not covered"),
        (
            "message M { extensions 100 to 199; } extend M { optional string more = 100; }",
            "old.proto: field more: extensions are not covered",
        ),
    ],
)
def test_what_only_proto2_has_is_refused(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "old.proto").write_text(f'syntax = "proto2";\n{text}')
    with pytest.raises(CodegenError) as raised:
        declare(from_protos(tmp_path))
    assert str(raised.value) == error
    with pytest.raises(CodegenError, match=r"^old\.proto: only proto3 can be printed, not proto2$"):
        proto_text.print_proto(from_protos(tmp_path).files[0], "")


def test_enums_and_well_known_types_are_no_payloads(tmp_path: Path) -> None:
    read = compiled(
        tmp_path,
        """
        import "google/protobuf/struct.proto";
        enum Color { RED = 0; }
        message M {
          enum Size { SMALL = 0; }
          Color color = 1;
          Size size = 2;
          map<string, Size> sizes = 3;
          google.protobuf.Value value = 4;
          google.protobuf.Int32Value number = 5;
        }
        """,
    )
    (message,) = declare(read).messages
    assert [(field.name, field.type_name, field.is_map) for field in message.fields] == [
        ("color", "Color", False),
        ("size", "M.Size", False),
        ("sizes", "M.Size", True),
        ("value", "google.protobuf.Value", False),
        ("number", "google.protobuf.Int32Value", False),
    ]


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def error_of(read: object, *arguments: object) -> str:
        assert callable(read)
        with pytest.raises(CodegenError) as raised:
            read(*arguments)
        return str(raised.value)

    assert error_of(from_protos, tmp_path) == f"{tmp_path}: there is no .proto file"
    write_proto(tmp_path, "message M {\n  string x = ;\n}", "bad.proto")
    assert error_of(from_protos, tmp_path) == f"{tmp_path}/bad.proto:4:14: Expected field number."
    write_proto(tmp_path, 'import "gone.proto"; message M { Gone x = 1; }', "bad.proto")
    assert error_of(from_protos, tmp_path) == (
        f'{tmp_path}/bad.proto:3:1: Import "gone.proto" was not found or had errors.'
    )
    (tmp_path / "bad.proto").write_text("no syntax line, of which protoc logs a warning first")
    assert error_of(from_protos, tmp_path).startswith(f"{tmp_path}/bad.proto:1:1: Expected top-level statement")
    assert error_of(from_protos, tmp_path, [tmp_path / "none.proto"]) == (
        f"Could not make proto path relative: {tmp_path}/none.proto: No such file or directory"
    )
    path = tmp_path / "set.binpb"
    assert error_of(from_descriptor_set, path) == f"{path}: cannot be read: No such file or directory"
    path.write_bytes(b"\xff\xff")
    assert error_of(from_descriptor_set, path) == f"{path}: is not a serialized FileDescriptorSet"
    path.write_bytes(b"")
    assert error_of(from_descriptor_set, path) == f"{path}: there is no .proto file in it"
    assert error_of(from_modules, ["json"]) == "module json is not a pb2 module: it has no DESCRIPTOR of a .proto file"
    assert error_of(from_modules, ["no.such_pb2"]) == (
        "module no.such_pb2 cannot be imported: ModuleNotFoundError: No module named 'no'"
    )
    (tmp_path / "raising_pb2.py").write_text("raise RuntimeError('one line\\n  and another')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert error_of(from_modules, ["raising_pb2"]) == (
        "module raising_pb2 cannot be imported: RuntimeError: one line and another"
    )
    (tmp_path / "script.py").write_text("raise SystemExit(0)")
    assert error_of(from_modules, ["script"]) == "module script cannot be imported: SystemExit: 0"


def test_bad_sets_of_files(tmp_path: Path) -> None:
    path = tmp_path / "set.binpb"

    def error_of(*files: FileDescriptorProto) -> str:
        path.write_bytes(FileDescriptorSet(file=files).SerializeToString())
        with pytest.raises(CodegenError) as raised:
            declare(from_descriptor_set(path))
        return str(raised.value)

    def file(name: str, *imports: str, message: str = "") -> FileDescriptorProto:
        made = FileDescriptorProto(name=name, syntax="proto3", dependency=imports)
        if message:
            made.message_type.add(name=message)
        return made

    assert error_of(file("a.proto", "other/b.proto")) == "a.proto: imports other/b.proto, which is missing in the input"
    assert error_of(file("a.proto", "b.proto"), file("b.proto", "c.proto"), file("c.proto", "a.proto")) == (
        "a.proto: imports itself: a.proto -> b.proto -> c.proto -> a.proto"
    )
    assert error_of(file("b.proto", message="M"), file("a.proto", message="M")) == (
        "b.proto: message M: is defined in a.proto too"
    )
    assert error_of(file("a.proto", message="M"), file("a.proto", message="N")) == (
        f"{path}: a.proto is in it twice, with other contents"
    )
    # protoc says the same of .proto files.
    write_proto(tmp_path, "message M {}", "a.proto")
    write_proto(tmp_path, "message M {}", "b.proto")
    with pytest.raises(CodegenError, match=r"b\.proto:3:9: \"M\" is already defined in file \"a\.proto\"\.$"):
        from_protos(tmp_path)


def test_stubs_of_a_file_without_a_folder(tmp_path: Path) -> None:
    files = stubs.generate_stubs(compiled(tmp_path, "message M { google.protobuf.StringValue x = 1; }"))
    assert set(files) == {
        "test_pb2-stubs/__init__.pyi",
        "test_pb2-stubs/py.typed",
        "test_pb2_grpc-stubs/__init__.pyi",
        "test_pb2_grpc-stubs/py.typed",
    }
    assert files["test_pb2-stubs/py.typed"] == "partial\n"
    assert "HasField" in files["test_pb2-stubs/__init__.pyi"]
