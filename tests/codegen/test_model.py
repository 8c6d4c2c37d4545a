"""What is decided before anything is rendered: who has payloads, who can hold very many, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.codegen.support import compiled, dedent, functions, modelled

from durabletask_payloads_codegen import descriptors, model
from durabletask_payloads_codegen.errors import CodegenError
from durabletask_payloads_codegen.policy import Policy, load_policy

if TYPE_CHECKING:
    from pathlib import Path

    from durabletask_payloads_codegen.policy import FieldKind


def repeated(built: model.Model) -> dict[str, tuple[str, ...]]:
    return {name: message.repeated for name, message in built.messages.items() if message.repeated}


def test_a_message_that_contains_itself(tmp_path: Path) -> None:
    built = modelled(tmp_path, "message Failure { Failure inner = 1; google.protobuf.StringValue trace = 2; }")
    assert functions(built, "externalize") == dedent('''
        def externalize_failure(message: pb.Failure, plan: ExternalizePlan) -> None:
            """Note the large payloads of `Failure`: inner, trace."""
            if message.HasField("inner"):
                externalize_failure(message.inner, plan)
            if message.HasField("trace") and len(text := message.trace.value) > plan.payload_gate:
                plan.upload(message.trace, "Failure.trace", text)
    ''')


def test_a_message_that_contains_itself_and_nothing_else(tmp_path: Path) -> None:
    built = modelled(tmp_path, "message Chain { Chain next = 1; } message Other { google.protobuf.StringValue x = 1; }")
    assert set(built.messages) == {"Other"}
    assert built.known == ("Chain", "Other")


@pytest.mark.parametrize(
    "order",
    [("Ask", "Answer"), ("Answer", "Ask")],
    ids=["the payload is behind", "the payload is in front"],
)
def test_two_messages_that_contain_each_other(tmp_path: Path, order: tuple[str, str]) -> None:
    texts = {
        "Ask": "message Ask { Answer answer = 1; }",
        "Answer": "message Answer { Ask ask = 1; repeated google.protobuf.StringValue text = 2; }",
    }
    built = modelled(tmp_path, "\n".join(texts[name] for name in order))
    assert list(built.messages) == list(order)
    assert built.messages["Ask"].fields == (model.Branch("answer", "Answer", "answer", repeated=False),)
    assert built.messages["Answer"].fields == (
        model.Branch("ask", "Ask", "ask", repeated=False),
        model.Leaf("text", "Answer.text", "payload", repeated=True),
    )
    assert repeated(built) == {"Answer": ("text",)}


def test_repeated_fields_count_where_they_are_and_lead_to_payloads(tmp_path: Path) -> None:
    built = modelled(
        tmp_path,
        """
        message Above { Many many = 1; }
        message Many { repeated Leaf leaves = 1; Leaf leaf = 2; repeated Above more = 3; repeated int32 numbers = 4; }
        message One { Leaf leaf = 1; repeated Silent silent = 2; repeated google.protobuf.StringValue names = 3; }
        message Leaf { google.protobuf.StringValue data = 1; }
        message Silent { google.protobuf.StringValue names = 1; }
        """,
        names="metadata",
    )
    assert set(built.messages) == {"Above", "Many", "One", "Leaf"}
    assert repeated(built) == {"Many": ("leaves", "more")}


def test_a_oneof_stands_where_its_first_member_does(tmp_path: Path) -> None:
    built = modelled(
        tmp_path,
        """
        message M {
          google.protobuf.StringValue first = 9;
          oneof pick { int32 number = 3; google.protobuf.StringValue text = 1; }
          google.protobuf.StringValue last = 2;
        }
        """,
    )
    first, oneof, last = built.messages["M"].parts
    assert isinstance(first, model.Leaf)
    assert isinstance(last, model.Leaf)
    assert (first.name, last.name) == ("first", "last")
    assert oneof == model.Oneof("pick", (model.Leaf("text", "M.text", "payload", repeated=False),), ("number",))


def test_an_optional_field_is_no_oneof(tmp_path: Path) -> None:
    """proto3 puts each into a synthetic oneof of its own."""
    built = modelled(tmp_path, "message M { optional google.protobuf.StringValue text = 1; }")
    assert built.messages["M"].parts == (model.Leaf("text", "M.text", "payload", repeated=False),)


def test_function_names(tmp_path: Path) -> None:
    names = {"HTTPServerV2Request": "http_server_v2_request", "A": "a", "lower_case": "lower_case", "ABTest": "ab_test"}
    built = modelled(tmp_path, "\n".join(f"message {name} {{ google.protobuf.StringValue x = 1; }}" for name in names))
    assert {name: message.function for name, message in built.messages.items()} == names


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "message None { google.protobuf.StringValue x = 1; }",
            "test.proto: message None: is a Python keyword, so no walker can name it",
        ),
        (
            "message A { message B { google.protobuf.StringValue x = 1; } }"
            "message A_B { google.protobuf.StringValue x = 1; }",
            "test.proto: messages A.B and A_B: both would get the function externalize_a_b",
        ),
        (
            "message M { google.protobuf.BytesValue raw = 1; }",
            "test.proto: message M, field raw: google.protobuf.BytesValue is not known to the generator: "
            "it may hold payloads",
        ),
        (
            "message M { map<string, google.protobuf.BytesValue> raw = 1; }",
            "test.proto: message M, field raw: google.protobuf.BytesValue is not known to the generator: "
            "it may hold payloads",
        ),
    ],
    ids=lambda value: value if value.startswith("test.proto") else "",
)
def test_what_no_walker_covers_is_refused(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(CodegenError) as raised:
        modelled(tmp_path, text)
    assert str(raised.value) == error


def test_names_do_not_matter_where_there_is_no_payload(tmp_path: Path) -> None:
    kinds: dict[str, FieldKind] = {"from": "metadata"}
    built = modelled(
        tmp_path,
        """
        message M { google.protobuf.StringValue x = 1; google.protobuf.StringValue from = 2; map<string, N> class = 3; }
        message N { string x = 1; }
        message n { string x = 1; }
        """,
        **kinds,
    )
    assert [field.name for field in built.messages["M"].fields] == ["x"]


FIELDS = "message M { google.protobuf.StringValue a = 1; string b = 2; google.protobuf.StringValue c = 3; }"


@pytest.mark.parametrize(
    ("kinds", "error"),
    [
        ({}, "p.toml: not classified: M.a, M.c (add each as payload, diagnostic or metadata)"),
        ({"M.a": "payload"}, "p.toml: not classified: M.c (add each as payload, diagnostic or metadata)"),
        (
            {"M.c": "payload", "M.a": "metadata", "M.z": "payload", "M.b": "payload", "Gone.x": "metadata"},
            "p.toml: no such StringValue field: Gone.x, M.b, M.z (remove)",
        ),
        (
            {"M.a": "payload", "M.b": "payload"},
            "p.toml: not classified: M.c (add each as payload, diagnostic or metadata); "
            "no such StringValue field: M.b (remove)",
        ),
        (
            {"M.a": "payload", "other.pkg.M.c": "payload", "other.N.c": "payload"},
            "p.toml: not classified: M.c (add each as payload, diagnostic or metadata); "
            "no such StringValue field: other.N.c (remove); "
            "no such StringValue field: other.pkg.M.c (did you mean M.c?)",
        ),
    ],
)
def test_the_policy_fits_exactly(tmp_path: Path, kinds: dict[str, FieldKind], error: str) -> None:
    decl = descriptors.declare(compiled(tmp_path, FIELDS))
    with pytest.raises(CodegenError) as raised:
        model.build(decl, Policy("p.toml", kinds))
    assert str(raised.value) == error


def test_a_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text('[M]\na = "payload"\nb = "diagnostic"\n["pkg.Outer.Inner"]\nc = "metadata"\n')
    assert load_policy(path) == Policy(
        str(path), {"M.a": "payload", "M.b": "diagnostic", "pkg.Outer.Inner.c": "metadata"}
    )


def test_dots_without_quotes(tmp_path: Path) -> None:
    path = tmp_path / "p.toml"
    path.write_text(
        '[pkg.Outer]\nb = "payload"\n[pkg.Outer.Inner]\nc = "metadata"\n["pkg.Outer.Inner"]\nc = "metadata"\n'
        'd = "payload"\n[Empty]\n'
    )
    read = load_policy(path)
    assert read.kinds == {"pkg.Outer.b": "payload", "pkg.Outer.Inner.c": "metadata", "pkg.Outer.Inner.d": "payload"}
    assert read.tables == {"pkg.Outer", "pkg.Outer.Inner", "Empty"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[M\n", "p.toml: malformed TOML: "),
        ('[M]\na = "payload"\na = "payload"\n', "p.toml: malformed TOML: "),
        (b"\xff", "p.toml: malformed TOML: "),
        ('[M]\na = "secret"\n', "p.toml: M.a: is 'secret', must be payload, diagnostic or metadata"),
        ("[M]\na = 1\n", "p.toml: M.a: is 1, must be payload, diagnostic or metadata"),
        ('[M]\na = ["payload"]\n', "p.toml: M.a: is ['payload'], must be payload, diagnostic or metadata"),
        ('a = "payload"\n', "p.toml: a: must be a table with the fields of a message, as [a]"),
        (
            '["pkg.M"]\na = "payload"\n[pkg.M]\na = "metadata"\n',
            "p.toml: pkg.M.a: is classified twice, as payload and as metadata",
        ),
        (None, "p.toml: cannot be read: No such file or directory"),
    ],
)
def test_a_bad_policy_file(tmp_path: Path, text: str | bytes | None, error: str) -> None:
    path = tmp_path / "p.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CodegenError) as raised:
        load_policy(path)
    assert str(raised.value).startswith(f"{tmp_path}/{error}")
    assert "\n" not in str(raised.value)
