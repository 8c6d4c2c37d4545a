"""A descriptor, printed and compiled again, is the same descriptor; two descriptors are compared in words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from tests.codegen.support import PROTOS, compiled, dedent, write_proto

from durabletask_payloads_codegen.errors import CodegenError
from durabletask_payloads_codegen.proto_text import differences, print_proto
from durabletask_payloads_codegen.schema import bare, from_protos

if TYPE_CHECKING:
    from pathlib import Path


def test_the_imported_proto_is_the_sdks_byte_for_byte(tmp_path: Path) -> None:
    """Compiled for Python, as the SDK was: what protoc serializes into the module."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={PROTOS}", f"--python_out={tmp_path}"]
    subprocess.run([*command, str(PROTOS / pb.DESCRIPTOR.name)], check=True)
    text = (tmp_path / pb.DESCRIPTOR.name.replace(".proto", "_pb2.py")).read_text()
    literal = re.search(r"AddSerializedFile\((b'.*')\)", text)
    assert literal is not None
    assert ast.literal_eval(literal[1]) == pb.DESCRIPTOR.serialized_pb
    assert len(pb.DESCRIPTOR.serialized_pb) == 21_829


EVERYTHING = """
    // One line.
    // Two lines.

    syntax = "proto3";

    import "google/protobuf/wrappers.proto";
    import public "google/protobuf/empty.proto";

    package some.where;

    option java_package = "a\\"b\\\\c";
    option optimize_for = CODE_SIZE;
    option java_multiple_files = true;

    enum Color {
      option allow_alias = true;
      COLOR_NONE = 0;
      COLOR_RED = 1;
      COLOR_ROUGE = 1 [deprecated = true];
      COLOR_MINUS = -1;
      reserved 5, 7 to 9, 100 to max;
      reserved "OLD";
    }

    message Empty {}

    message M {
      option deprecated = true;
      enum Inside {
        INSIDE_NONE = 0;
      }
      message Before {
        string text = 1;
      }
      map<string, google.protobuf.StringValue> tags = 1;
      message Between {
        some.where.M.Inside inside = 1;
      }
      map<int32, some.where.Color> colors = 2;
      oneof pick {
        string name = 3 [deprecated = true];
        some.where.Empty empty = 9;
      }
      repeated int32 numbers = 4 [packed = false];
      optional int64 maybe = 5 [jstype = JS_STRING];
      bytes raw = 6;
      some.where.M again = 7;
      oneof other {
        bool flag = 8;
      }
      message After {
        double number = 1;
      }
      reserved 10, 20 to 29, 1000 to max;
      reserved "gone", "lost";
    }

    service Talk {
      option deprecated = true;
      rpc Ask(some.where.M) returns (some.where.Empty);
      rpc Watch(some.where.M) returns (stream some.where.M) {
        option deprecated = true;
        option idempotency_level = NO_SIDE_EFFECTS;
      }
      rpc Chat(stream some.where.M) returns (stream google.protobuf.Empty);
    }
"""


def test_every_kind_of_declaration(tmp_path: Path) -> None:
    (tmp_path / "every.proto").write_text(dedent(EVERYTHING))
    first = from_protos(tmp_path).files[0]
    text = print_proto(first, "One line.\nTwo lines.")
    (tmp_path / "every.proto").write_text(text)
    assert from_protos(tmp_path).files[0].SerializeToString() == first.SerializeToString()
    assert text.splitlines() == dedent(EVERYTHING).splitlines()


@pytest.mark.parametrize("word", ["message", "optional", "stream", "string"])
def test_a_type_that_is_called_as_a_word_of_the_language(word: str, tmp_path: Path) -> None:
    original = compiled(
        tmp_path,
        f"""
        message {word} {{ .{word} x = 1; map<string, .{word}> xs = 2; }}
        service S {{ rpc Ask(.{word}) returns (stream .{word}); }}
        """,
    ).files[0]
    (tmp_path / "test.proto").write_text(print_proto(original, ""))
    assert from_protos(tmp_path).files[0] == original


def test_control_characters_in_text(tmp_path: Path) -> None:
    text = "".join(map(chr, range(32))) + "\x7f\x80\u2028"
    file = FileDescriptorProto(name="test.proto", syntax="proto3")
    file.options.java_package = text
    (tmp_path / "test.proto").write_text(print_proto(file, ""), encoding="utf-8", newline="")
    assert from_protos(tmp_path).files[0].options.java_package == text


def test_a_nested_name_that_hides_a_package(tmp_path: Path) -> None:
    original = compiled(
        tmp_path,
        "package a; message M { message a { string x = 1; } .a.M again = 1; .google.protobuf.StringValue s = 2; }",
    ).files[0]
    text = print_proto(original, "")
    assert "  .a.M again = 1;" in text
    assert "  google.protobuf.StringValue s = 2;" in text
    (tmp_path / "test.proto").write_text(text)
    assert from_protos(tmp_path).files[0] == original


def test_a_package_whose_last_part_hides_another_package(tmp_path: Path) -> None:
    text = """
        package acme.google;
        message Task { .google.protobuf.StringValue x = 1; }
        service Hub { rpc Do(.google.protobuf.StringValue) returns (acme.google.Task); }
    """
    original = compiled(tmp_path, text).files[0]
    printed = print_proto(original, "")
    assert "  .google.protobuf.StringValue x = 1;\n" in printed
    (tmp_path / "test.proto").write_text(printed)
    assert bare(from_protos(tmp_path).files[0]) == original


def test_a_service_with_the_name_of_its_package(tmp_path: Path) -> None:
    text = "package hub; message Task { Task again = 1; } service hub { rpc Do(Task) returns (.hub.Task); }"
    original = compiled(tmp_path, text).files[0]
    printed = print_proto(original, "")
    assert "  .hub.Task again = 1;\n" in printed
    (tmp_path / "test.proto").write_text(printed)
    assert bare(from_protos(tmp_path).files[0]) == original


def test_an_import_that_hides_a_package(tmp_path: Path) -> None:
    """A package below that of the file, and a message of another file of its package."""
    texts = {
        "b.proto": "package b; message Task {}",
        "c.proto": "package c; message Task {}",
        "a/b.proto": "package a.b; message Other {}",
        "a/c.proto": "package a; message c {}",
        "a.proto": """
            package a;
            import "b.proto"; import "c.proto"; import "a/b.proto"; import "a/c.proto";
            message Task { .b.Task b_task = 1; .c.Task c_task = 2; b.Other other = 3; c empty = 4; }
        """,
    }
    for name, text in texts.items():
        write_proto(tmp_path, text, name)
    files = from_protos(tmp_path).files
    for file in files:
        (tmp_path / file.name).write_text(print_proto(file, "", files))
    printed = (tmp_path / "a.proto").read_text()
    for line in (".b.Task b_task = 1;", ".c.Task c_task = 2;", "a.b.Other other = 3;", "a.c empty = 4;"):
        assert f"  {line}\n" in printed
    assert from_protos(tmp_path).files == files


def test_what_cannot_be_printed_is_an_error(tmp_path: Path) -> None:
    field = FieldDescriptorProto(name="f", number=1, type=FieldDescriptorProto.TYPE_GROUP)
    file = FileDescriptorProto(name="a.proto", syntax="proto3", message_type=[DescriptorProto(name="M", field=[field])])
    with pytest.raises(CodegenError, match=r"^a\.proto: message M, field f: groups, defaults and extensions cannot"):
        print_proto(file, "")

    open_to_all = DescriptorProto.ExtensionRange(start=100, end=200)
    message = DescriptorProto(name="M", extension_range=[open_to_all])
    file = FileDescriptorProto(name="a.proto", syntax="proto3", message_type=[message])
    with pytest.raises(CodegenError, match=r"^a\.proto: message M: extensions cannot be printed$"):
        print_proto(file, "")

    (tmp_path / "custom.proto").write_text(
        'syntax = "proto3"; import "google/protobuf/descriptor.proto"; '
        "extend google.protobuf.FieldOptions { string note = 50000; } message M {}"
    )
    with pytest.raises(CodegenError, match=r"^custom\.proto: extension note: cannot be printed$"):
        print_proto(from_protos(tmp_path).files[0], "")
    (tmp_path / "user.proto").write_text(
        'syntax = "proto3"; import "custom.proto"; message N { string x = 1 [(note) = "y"]; }'
    )
    with pytest.raises(CodegenError, match=r"^user\.proto: message N, field x: has a custom option"):
        print_proto(from_protos(tmp_path).files[-1], "")


def test_an_order_that_no_text_has_is_an_error() -> None:
    """Map entries among the nested messages, but not in the order of their fields."""
    file = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(file)
    file = bare(file)
    message = next(message for message in file.message_type if message.name == "ActivityRequest")
    other = message.nested_type.add()
    other.CopyFrom(message.nested_type[0])
    other.name = "OtherEntry"
    field = message.field.add(name="other", number=99, label=FieldDescriptorProto.LABEL_REPEATED)
    field.type = FieldDescriptorProto.TYPE_MESSAGE
    field.type_name = ".ActivityRequest.OtherEntry"
    print_proto(file, "")
    fields = [message.field[-1], *message.field[:-1]]
    reordered = [FieldDescriptorProto.FromString(field.SerializeToString()) for field in fields]
    del message.field[:]
    message.field.extend(reordered)
    with pytest.raises(CodegenError, match=r"message ActivityRequest: the order of TagsEntry and the fields"):
        print_proto(file, "")


def test_differences(tmp_path: Path) -> None:
    old = compiled(
        tmp_path,
        """
        enum E { A = 0; B = 1; }
        message Gone { string x = 1; }
        message Kept {
          string same = 1;
          string moved = 2;
          google.protobuf.StringValue gone = 3;
          string joined = 4;
          map<string, string> tags = 6;
          string old = 7;
        }
        service S { rpc Ask(Kept) returns (Kept); rpc Stop(Kept) returns (Kept); }
        """,
    ).files[0]
    new = compiled(
        tmp_path,
        """
        enum E { A = 0; C = 2; }
        message Kept {
          string same = 1;
          string moved = 20;
          oneof pick { string joined = 4; google.protobuf.StringValue fresh = 5; }
          map<string, int32> tags = 6;
          string old = 7 [deprecated = true];
        }
        message Added { bool x = 1; message Inner { bool y = 1; } }
        service S { rpc Ask(Kept) returns (stream Added); rpc Start(Kept) returns (Kept); }
        """,
    ).files[0]
    assert differences(old, old) == []
    assert differences(old, new) == [
        "- removed enum value E.B",
        "- removed message Gone",
        "- removed field Gone.x",
        "- removed field Kept.gone",
        "- removed rpc S.Stop",
        "+ added   enum value E.C = 2",
        "+ added   field Kept.fresh: google.protobuf.StringValue fresh = 5 in oneof pick",
        "+ added   message Added",
        "+ added   field Added.x: bool x = 1",
        "+ added   message Added.Inner",
        "+ added   field Added.Inner.y: bool y = 1",
        "+ added   rpc S.Start (Kept) returns (Kept)",
        "! changed field Kept.moved: string moved = 2 ->: string moved = 20",
        "! changed field Kept.joined: string joined = 4 ->: string joined = 4 in oneof pick",
        "! changed field Kept.tags: map<string, string> tags = 6 ->: map<string, int32> tags = 6",
        "! changed field Kept.old: string old = 7 ->: string old = 7 [deprecated = true]",
        "! changed rpc S.Ask (Kept) returns (Kept) -> (Kept) returns (stream Added)",
    ]
