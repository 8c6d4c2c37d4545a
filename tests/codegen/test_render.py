"""What is generated for small schemas, as whole texts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.json_format import ParseDict
from tests.codegen.support import classified, compiled, dedent, functions, modelled, write_proto

from durabletask_payloads_codegen import render
from durabletask_payloads_codegen.descriptors import declare
from durabletask_payloads_codegen.errors import CodegenError
from durabletask_payloads_codegen.schema import from_protos, with_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from google.protobuf.message import Message

    from durabletask_payloads_codegen.model import Model

LEAVES = """
    message Task {
      google.protobuf.StringValue input = 1;
      google.protobuf.StringValue trace = 2;
      google.protobuf.StringValue version = 3;
      string name = 4;
    }
"""


def test_a_whole_module(tmp_path: Path) -> None:
    files = render.render_walkers(modelled(tmp_path, LEAVES, trace="diagnostic", version="metadata"), render.Home())
    assert files["durabletask_payloads_walkers/externalize.py"] == dedent('''
        # Source: test.proto (test.proto)
        # Generator: durabletask-payloads-codegen 1.2
        # DO NOT EDIT: run make generate
        """Notes the large payloads of a message, before it is sent."""

        from __future__ import annotations

        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            import test_pb2 as pb

            from durabletask_payloads import ExternalizePlan


        def externalize_task(message: pb.Task, plan: ExternalizePlan) -> None:
            """Note the large payloads of `Task`: input, trace."""
            if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
                plan.upload(message.input, "Task.input", text)
            if message.HasField("trace") and len(text := message.trace.value) > plan.diagnostic_gate:
                plan.upload(message.trace, "Task.trace", text)
    ''')


def test_diagnostics_are_resolved_as_payloads(tmp_path: Path) -> None:
    built = modelled(tmp_path, LEAVES, trace="diagnostic", version="metadata")
    assert functions(built, "deexternalize") == dedent('''
        def deexternalize_task(message: pb.Task, plan: DeexternalizePlan) -> None:
            """Note the tokens of `Task`: input, trace."""
            if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
                plan.download(message.input, "Task.input", text)
            if message.HasField("trace") and (text := message.trace.value).startswith(plan.prefixes):
                plan.download(message.trace, "Task.trace", text)
    ''')


SHAPES = """
    package pkg;
    message Root {
      repeated Leaf leaves = 1;
      repeated google.protobuf.StringValue texts = 2;
      oneof kind {
        Silent silent = 3;
        Leaf one = 4;
        google.protobuf.StringValue text = 5;
        int32 number = 6;
      }
      Leaf last = 7;
      optional int32 maybe = 8;
      Leaf.Inner inner = 9;
    }
    message Leaf {
      message Inner { oneof only { google.protobuf.StringValue value = 1; } }
      google.protobuf.StringValue data = 1;
    }
    message Silent { string name = 1; }
"""


def test_every_shape_of_a_field(tmp_path: Path) -> None:
    assert functions(modelled(tmp_path, SHAPES), "externalize") == dedent('''
        def externalize_root(message: pb.Root, plan: ExternalizePlan) -> None:
            """Note the large payloads of `pkg.Root`: leaves, texts, one, text, last, inner."""
            for leaves_item in message.leaves:
                externalize_leaf(leaves_item, plan)
            for texts_item in message.texts:
                if len(text := texts_item.value) > plan.payload_gate:
                    plan.upload(texts_item, "pkg.Root.texts", text)
            match message.WhichOneof("kind"):
                case "one":
                    externalize_leaf(message.one, plan)
                case "text":
                    if len(text := message.text.value) > plan.payload_gate:
                        plan.upload(message.text, "pkg.Root.text", text)
                case "silent" | "number" | None:
                    pass
            if message.HasField("last"):
                externalize_leaf(message.last, plan)
            if message.HasField("inner"):
                externalize_leaf_inner(message.inner, plan)


        def externalize_leaf(message: pb.Leaf, plan: ExternalizePlan) -> None:
            """Note the large payloads of `pkg.Leaf`: data."""
            if message.HasField("data") and len(text := message.data.value) > plan.payload_gate:
                plan.upload(message.data, "pkg.Leaf.data", text)


        def externalize_leaf_inner(message: pb.Leaf.Inner, plan: ExternalizePlan) -> None:
            """Note the large payloads of `pkg.Leaf.Inner`: value."""
            match message.WhichOneof("only"):
                case "value":
                    if len(text := message.value.value) > plan.payload_gate:
                        plan.upload(message.value, "pkg.Leaf.Inner.value", text)
                case None:
                    pass
    ''')


def test_a_walk_of_very_many_tokens_asks_whether_there_is_one(tmp_path: Path) -> None:
    text = """
        message Root { repeated Leaf leaves = 1; Leaf last = 2; repeated google.protobuf.StringValue texts = 3; }
        message Leaf { google.protobuf.StringValue data = 1; }
    """
    assert functions(modelled(tmp_path, text), "deexternalize") == dedent('''
        def deexternalize_root(message: pb.Root, plan: DeexternalizePlan) -> None:
            """Note the tokens of `Root`: leaves, last, texts."""
            if plan.rules_out(message, message.leaves, message.texts):
                return
            for leaves_item in message.leaves:
                deexternalize_leaf(leaves_item, plan)
            if message.HasField("last"):
                deexternalize_leaf(message.last, plan)
            for texts_item in message.texts:
                if (text := texts_item.value).startswith(plan.prefixes):
                    plan.download(texts_item, "Root.texts", text)


        def deexternalize_leaf(message: pb.Leaf, plan: DeexternalizePlan) -> None:
            """Note the tokens of `Leaf`: data."""
            if message.HasField("data") and (text := message.data.value).startswith(plan.prefixes):
                plan.download(message.data, "Leaf.data", text)
    ''')


class Visits:
    """A plan of either kind that writes down every call."""

    payload_gate = diagnostic_gate = 4
    prefixes = ("token",)

    def __init__(self, *, has_none: bool = False) -> None:
        self.paths: list[str] = []
        self.has_none = has_none

    def rules_out(self, message: Message, *repeated: Sequence[Message]) -> bool:
        return self.has_none

    def upload(self, field: Message, path: str, text: str) -> None:
        self.paths.append(path)

    download = upload


def test_the_generated_functions_run(tmp_path: Path, load: Callable[[Model], Any]) -> None:
    walkers = load(modelled(tmp_path, SHAPES))
    read = compiled(tmp_path, SHAPES)
    pool = descriptor_pool.DescriptorPool()
    for file in (*read.well_known, *read.files):
        pool.Add(file)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("pkg.Root"))()
    ParseDict({"leaves": [{"data": "token"}], "texts": ["tokens", "other", "few"], "text": "token"}, message)

    large, tokens = Visits(), Visits()
    walkers.externalize_root(message, large)
    walkers.deexternalize_root(message, tokens)
    assert large.paths == ["pkg.Leaf.data", "pkg.Root.texts", "pkg.Root.texts", "pkg.Root.text"]
    assert tokens.paths == ["pkg.Leaf.data", "pkg.Root.texts", "pkg.Root.text"]
    ruled_out = Visits(has_none=True)
    walkers.deexternalize_root(message, ruled_out)
    assert ruled_out.paths == []


def test_the_tables(tmp_path: Path, load: Callable[[Model], Any]) -> None:
    walkers = load(modelled(tmp_path, SHAPES, data="metadata"))
    assert dict(walkers.EXTERNALIZE) == {
        "pkg.Root": walkers.externalize_root,
        "pkg.Leaf.Inner": walkers.externalize_leaf_inner,
    }
    assert dict(walkers.DEEXTERNALIZE) == {
        "pkg.Root": walkers.deexternalize_root,
        "pkg.Leaf.Inner": walkers.deexternalize_leaf_inner,
    }
    assert {"pkg.Root", "pkg.Leaf", "pkg.Leaf.Inner", "pkg.Silent"} == walkers.MESSAGES
    assert dict(walkers.FAN_OUT) == {"pkg.Root": ("texts",)}
    assert dict(walkers.FIELDS) == {
        "pkg.Root.texts": "payload",
        "pkg.Root.text": "payload",
        "pkg.Leaf.data": "metadata",
        "pkg.Leaf.Inner.value": "payload",
    }
    assert walkers.SOURCE == "test.proto"
    tables = {"DEEXTERNALIZE", "EXTERNALIZE", "FAN_OUT", "FIELDS", "MESSAGES", "SOURCE"}
    assert tables == set(walkers.tables.__all__)
    assert set(walkers.__all__) == tables | {
        f"{verb}_{name}" for verb in ("externalize", "deexternalize") for name in ("root", "leaf_inner")
    }
    with pytest.raises(TypeError):
        walkers.FIELDS["pkg.Leaf.data"] = "payload"


def test_a_docstring_that_is_too_long_is_wrapped(tmp_path: Path) -> None:
    names = [letter * 30 for letter in "abcd"]
    fields = "\n".join(f"google.protobuf.StringValue {name} = {n};" for n, name in enumerate(names, 1))
    text = functions(modelled(tmp_path, f"message Long {{\n{fields}\n}}"), "externalize")
    assert text[: text.index("    if")] == dedent('''
        def externalize_long(message: pb.Long, plan: ExternalizePlan) -> None:
            """Note the large payloads of `Long`.

            In aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, cccccccccccccccccccccccccccccc,
            dddddddddddddddddddddddddddddd.
            """
    ''')


@pytest.mark.parametrize("name", ["", "some.", "a-b", "some.class", "x; y"])
def test_a_pb2_module_that_cannot_be_imported(tmp_path: Path, name: str) -> None:
    with pytest.raises(CodegenError) as raised:
        with_modules(compiled(tmp_path, LEAVES), [f"test.proto={name}"])
    assert str(raised.value) == f"pb2 module {name}: is not the name of a Python module"


def test_a_path_that_gives_no_module(tmp_path: Path) -> None:
    write_proto(tmp_path, LEAVES, "1st/class.proto")
    read = from_protos(tmp_path)
    with pytest.raises(CodegenError) as raised:
        render.render_walkers(classified(declare(read)), render.Home())
    assert str(raised.value) == (
        "pb2 module 1st.class_pb2: is not the name of a Python module: give one by --pb2-module"
    )
    named = with_modules(read, ["first_pb2"])
    assert (
        "import first_pb2 as pb"
        in render.render_walkers(classified(declare(named)), render.Home())[
            "durabletask_payloads_walkers/externalize.py"
        ]
    )


def test_ruff_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = modelled(tmp_path, LEAVES)
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\ncat > /dev/null; echo No module named ruff >&2; exit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(CodegenError, match=r"^__init__\.py: ruff failed: No module named ruff$"):
        render.render_walkers(built, render.Home())
