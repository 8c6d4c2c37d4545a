"""Names of fields, messages, files and modules that come into the way of the generated code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from tests.codegen.support import classified, compiled, functions, modelled, write_proto
from tests.support.oracle import Visits

from durabletask_payloads_codegen import render, schema, stubs
from durabletask_payloads_codegen.descriptors import declare
from durabletask_payloads_codegen.errors import CodegenError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("verb", ["externalize", "deexternalize"])
def test_no_variable_hides_a_function(tmp_path: Path, verb: str) -> None:
    read = compiled(
        tmp_path,
        f"""
        message Item {{ google.protobuf.StringValue text = 1; }}
        message BoxItem {{ google.protobuf.StringValue text = 1; }}
        message Box {{ repeated Item {verb} = 1; map<int32, BoxItem> {verb}_box = 2; }}
        """,
    )
    walkers: dict[str, Any] = {}
    text = functions(classified(declare(read)), verb)
    exec(f"from __future__ import annotations\n{text}", walkers)
    pool = descriptor_pool.DescriptorPool()
    for file in (*read.well_known, *read.files):
        pool.Add(file)
    # Reflection: the class is known by its descriptor.
    box: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("Box"))()
    getattr(box, verb).add().text.value = "token:text1"
    getattr(box, f"{verb}_box")[1].text.value = "token:text2"
    visits = Visits()
    walkers[f"{verb}_box"](box, visits)
    assert [(field.value, path) for field, path in visits.fields] == [
        ("token:text1", "Item.text"),
        ("token:text2", "BoxItem.text"),
    ]


@pytest.mark.parametrize("name", ["HasField", "WhichOneof", "SerializeToString", "ByteSize", "DESCRIPTOR"])
def test_a_field_that_hides_a_method_of_its_message_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CodegenError, match=rf"^test\.proto: message M, field {name}: hides what walkers use of each "):
        declare(compiled(tmp_path, f"message M {{ int32 {name} = 1; }}"))


def test_modules_that_no_part_of_their_names_tells_apart(tmp_path: Path) -> None:
    modules = ("q.a.x", "q_a.x", "z.a.x")
    for number, module in enumerate(modules):
        text = f"message M{number} {{ google.protobuf.StringValue text = 1; }}"
        write_proto(tmp_path, text, f"{module.replace('.', '/')}.proto")
    text = functions_of(tmp_path)
    assert "from q.a import x_pb2 as pb1\n    from q_a import x_pb2 as pb2\n    from z.a import x_pb2 as pb3\n" in text
    assert "def externalize_m2(message: pb3.M2, plan: ExternalizePlan) -> None:" in text


def functions_of(root: Path) -> str:
    built = classified(declare(schema.from_protos(root)))
    return render.render_walkers(built, render.Home())[f"{render.WALKERS_PACKAGE}/externalize.py"]


def test_a_quote_in_the_name_of_a_file(tmp_path: Path) -> None:
    write_proto(tmp_path, "message M { google.protobuf.StringValue text = 1; }", 'a"b.proto')
    read = schema.with_modules(schema.from_protos(tmp_path), ["a_b_pb2"])
    files = render.render_walkers(classified(declare(read)), render.Home())
    assert "SOURCE: str = 'a\"b.proto'\n" in files[f"{render.WALKERS_PACKAGE}/tables.py"]


def test_a_schema_without_payloads_has_no_walkers(tmp_path: Path) -> None:
    built = modelled(tmp_path, "message M { google.protobuf.StringValue name = 1; }", name="metadata")
    with pytest.raises(CodegenError, match=r"^test\.proto: no message has a payload, so there are no walkers to write"):
        render.render_walkers(built, render.Home())
    assert "Carried by no RPC" not in render.render_text(built)


@pytest.mark.parametrize("method", ["M) returns (google.protobuf.BytesValue", "google.protobuf.BytesValue) returns (M"])
def test_an_rpc_that_carries_a_bare_wrapper_is_refused(tmp_path: Path, method: str) -> None:
    read = compiled(tmp_path, f"package acme; message M {{ int32 x = 1; }} service Hub {{ rpc Do({method}); }}")
    with pytest.raises(CodegenError) as raised:
        declare(read)
    assert str(raised.value) == (
        "test.proto: service acme.Hub, RPC Do: carries google.protobuf.BytesValue itself, which may be a payload and "
        "is no field of a message: this is not covered"
    )


def test_every_box_of_the_picture_has_a_name_of_its_own_that_is_no_word_of_mermaid(tmp_path: Path) -> None:
    write_proto(tmp_path, "package A; message B { google.protobuf.StringValue x = 1; }", "a.proto")
    write_proto(
        tmp_path,
        """
        import "a.proto";
        message A_B { google.protobuf.StringValue x = 1; }
        message end { google.protobuf.StringValue x = 1; repeated end more = 2; }
        message _in { end end = 1; }
        service Hub { rpc One(A.B) returns (A_B); rpc Two(end) returns (_in); }
        """,
        "b.proto",
    )
    picture = render.render_mermaid(classified(declare(schema.from_protos(tmp_path))))
    lines = {line.strip() for line in picture.splitlines()}
    assert {
        'rpc1(["One"]) -- request --> A_B',
        'rpc2(["One"]) -- response --> message2_A_B',
        'rpc3(["Two"]) -- request --> message3_end',
        'message2_A_B["<b>A_B</b><br/>x"]',
        'message3_end -- "more[]" --> message3_end',
        'message4__in -- "end" --> message3_end',
    } < lines


def test_two_files_of_one_module_have_no_stubs(tmp_path: Path) -> None:
    write_proto(tmp_path, "message A {}", "a-b.proto")
    write_proto(tmp_path, "message B {}", "a_b.proto")
    read = schema.from_protos(tmp_path)
    with pytest.raises(CodegenError) as raised:
        stubs.generate_stubs(read)
    assert str(raised.value) == (
        "a_b.proto: has the pb2 module a_b_pb2, which is that of a-b.proto: give one by --pb2-module"
    )
    assert "b_pb2-stubs/__init__.pyi" in stubs.generate_stubs(schema.with_modules(read, ["a_b.proto=b_pb2"]))


def test_names_of_types_without_the_dot_in_front(tmp_path: Path) -> None:
    """Descriptors that protoc did not write: a map is one all the same."""
    read = compiled(tmp_path, "package a; message M { map<string, google.protobuf.StringValue> notes = 1; }")
    field = read.files[0].message_type[0].field[0]
    field.type_name = field.type_name.lstrip(".")
    assert set(classified(declare(read)).fields) == {"a.M.notes"}


@pytest.mark.parametrize(("name", "said"), [("_Mine", True), ("My_Own", False)])
def test_pyright_takes_messages_that_look_private(tmp_path: Path, name: str, said: bool) -> None:
    write_proto(tmp_path, f"message {name} {{ google.protobuf.StringValue text = 1; }}")
    assert ("# pyright: reportPrivateUsage=false\n" in functions_of(tmp_path)) is said
