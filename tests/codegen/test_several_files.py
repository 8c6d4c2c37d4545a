"""Schemas of several files, and the shapes of fields that Durable Task's own schema does not have."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import descriptor_pool
from tests.codegen.support import classified, contents, dedent, protoc, write_proto
from tests.support.oracle import ask, messages_of

from durabletask_payloads_codegen import cli, render, schema, stubs
from durabletask_payloads_codegen.descriptors import declare
from durabletask_payloads_codegen.errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from durabletask_payloads_codegen.model import Model
    from durabletask_payloads_codegen.schema import Schema

# Two packages in three files, and a fourth with a service only. Messages contain each other, also through maps, and
# nested types share a name; every shape of a field stands under a keyword too.
FILES = {
    "hub/base.proto": """
        package hub;
        message Failure { google.protobuf.StringValue trace = 1; Failure inner = 2; map<string, Failure> causes = 3; }
        message Task { message Item { google.protobuf.StringValue text = 1; } repeated Item items = 1; }
        message Silent { google.protobuf.StringValue name = 1; }
    """,
    "hub/events.proto": """
        package hub;
        import "hub/base.proto";
        message Ask { Answer answer = 1; Failure failure = 2; }
        message Answer { Ask ask = 1; map<int64, google.protobuf.StringValue> notes = 2; map<string, Silent> mute = 3; }
    """,
    "back/state.proto": """
        package back.v1;
        import "hub/base.proto";
        import "hub/events.proto";
        message Task {
          message Item { hub.Task.Item item = 1; google.protobuf.StringValue text = 2; }
          map<bool, Item> items = 1;
          hub.Ask ask = 2;
        }
        message Keywords {
          google.protobuf.StringValue from = 1;
          hub.Failure class = 2;
          repeated hub.Failure import = 3;
          repeated google.protobuf.StringValue lambda = 4;
          map<string, google.protobuf.StringValue> with = 5;
          map<string, hub.Failure> while = 6;
          oneof is { google.protobuf.StringValue and = 7; hub.Task or = 8; Task as = 9; hub.Silent in = 10; }
        }
    """,
    "hub.proto": """
        package hub;
        import "hub/base.proto";
        import "back/state.proto";
        service Hub { rpc Do(back.v1.Keywords) returns (stream Failure); rpc Mute(Silent) returns (Silent); }
    """,
}
POLICY = """
    ["hub.Failure"]
    trace = "diagnostic"
    ["hub.Task.Item"]
    text = "payload"
    ["hub.Silent"]
    name = "metadata"
    ["hub.Answer"]
    notes = "payload"
    ["back.v1.Task.Item"]
    text = "payload"
    ["back.v1.Keywords"]
    from = "payload"
    lambda = "diagnostic"
    with = "payload"
    and = "payload"
"""


def compiled(root: Path, *arguments: str) -> None:
    done = protoc(root, *arguments)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files and their policy, in the current folder."""
    for name, text in FILES.items():
        write_proto(tmp_path / "protos", text, name)
    (tmp_path / "protos/payload_fields.toml").write_text(dedent(POLICY))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(read: Schema, built: Model, load: Callable[[Model], Any]) -> dict[str, int]:
    """Ask the oracle about the walkers of a schema, with classes of a pool of its own."""
    pool = descriptor_pool.DescriptorPool()
    for file in (*read.well_known, *read.files):
        pool.Add(file)
    messages = messages_of(pool.FindFileByName(file.name) for file in read.files)
    return dict(ask(load(built), messages))


def test_the_oracle(project: Path, load: Callable[[Model], Any]) -> None:
    read = schema.from_protos(project / "protos")
    built = classified(declare(read), trace="diagnostic", name="metadata")
    assert asked(read, built, load) == {"payload": 21, "diagnostic": 36, "metadata": 10}


def test_every_field_in_its_function(project: Path) -> None:
    built = classified(declare(schema.from_protos(project / "protos")), trace="diagnostic", name="metadata")
    text = render.render_walkers(built, render.Home())[f"{render.WALKERS_PACKAGE}/externalize.py"]
    start, end = text.index("if TYPE_CHECKING:"), text.index("def externalize_failure")
    assert text[start:end].rstrip() + "\n" == dedent("""
        if TYPE_CHECKING:
            from collections.abc import Iterable

            from back import state_pb2
            from google.protobuf.wrappers_pb2 import StringValue
            from hub import base_pb2, events_pb2

            from durabletask_payloads import ExternalizePlan
    """)
    assert text[text.index("def externalize_answer") :] == dedent('''
        def externalize_answer(message: events_pb2.Answer, plan: ExternalizePlan) -> None:
            """Note the large payloads of `hub.Answer`: ask, notes."""
            if message.HasField("ask"):
                externalize_ask(message.ask, plan)
            for notes_item in message.notes.values():
                if len(text := notes_item.value) > plan.payload_gate:
                    plan.upload(notes_item, "hub.Answer.notes", text)


        def externalize_back_v1_task(message: state_pb2.Task, plan: ExternalizePlan) -> None:
            """Note the large payloads of `back.v1.Task`: items, ask."""
            for items_item in message.items.values():
                externalize_back_v1_task_item(items_item, plan)
            if message.HasField("ask"):
                externalize_ask(message.ask, plan)


        def externalize_back_v1_task_item(message: state_pb2.Task.Item, plan: ExternalizePlan) -> None:
            """Note the large payloads of `back.v1.Task.Item`: item, text."""
            if message.HasField("item"):
                externalize_hub_task_item(message.item, plan)
            if message.HasField("text") and len(text := message.text.value) > plan.payload_gate:
                plan.upload(message.text, "back.v1.Task.Item.text", text)


        def externalize_keywords(message: state_pb2.Keywords, plan: ExternalizePlan) -> None:
            """Note the large payloads of `back.v1.Keywords`: from, class, import, lambda, with, while, and, or, as."""
            if message.HasField("from"):
                from_: StringValue = getattr(message, "from")
                if len(text := from_.value) > plan.payload_gate:
                    plan.upload(from_, "back.v1.Keywords.from", text)
            if message.HasField("class"):
                class_: base_pb2.Failure = getattr(message, "class")
                externalize_failure(class_, plan)
            import_: Iterable[base_pb2.Failure] = getattr(message, "import")
            for import_item in import_:
                externalize_failure(import_item, plan)
            lambda_: Iterable[StringValue] = getattr(message, "lambda")
            for lambda_item in lambda_:
                if len(text := lambda_item.value) > plan.payload_gate:
                    plan.upload(lambda_item, "back.v1.Keywords.lambda", text)
            with_: Iterable[StringValue] = getattr(message, "with").values()
            for with_item in with_:
                if len(text := with_item.value) > plan.payload_gate:
                    plan.upload(with_item, "back.v1.Keywords.with", text)
            while_: Iterable[base_pb2.Failure] = getattr(message, "while").values()
            for while_item in while_:
                externalize_failure(while_item, plan)
            match message.WhichOneof("is"):
                case "and":
                    and_: StringValue = getattr(message, "and")
                    if len(text := and_.value) > plan.payload_gate:
                        plan.upload(and_, "back.v1.Keywords.and", text)
                case "or":
                    or_: base_pb2.Task = getattr(message, "or")
                    externalize_hub_task(or_, plan)
                case "as":
                    as_: state_pb2.Task = getattr(message, "as")
                    externalize_back_v1_task(as_, plan)
                case "in" | None:
                    pass
    ''')


def run(*commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run commands, while they succeed, in a process of their own, in which the pb2 modules can be imported."""
    program = (
        "import json, sys\n"
        "from durabletask_payloads_codegen import cli\n"
        "sys.exit(next(filter(None, map(cli.main, json.loads(sys.argv[1]))), 0))"
    )
    command = [sys.executable, "-c", program, json.dumps(commands)]
    return subprocess.run(command, env={"PYTHONPATH": "pb2"}, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("project")
def test_all_front_doors_give_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pb2").mkdir()
    outputs = [f"--python_out={tmp_path / 'pb2'}", f"--descriptor_set_out={tmp_path / 'set.binpb'}"]
    compiled(tmp_path / "protos", *FILES, *outputs, "--include_imports")
    doors = {
        "protos": [],
        "named": ["protos/hub.proto"],
        "set": ["--descriptor-set", "set.binpb"],
        "module": ["--from-module", "hub_pb2"],
        "modules": ["--from-module", "back.state_pb2", "hub_pb2", "hub.base_pb2", "hub.events_pb2"],
    }
    trees: dict[str, dict[str, bytes]] = {}
    for name, flags in doors.items():
        generate, check = ([command, *flags, "--output", f"out/{name}"] for command in ("generate", "check"))
        if name.startswith("module"):  # they are imported, which is for ever
            done = run(generate, check)
            assert (done.returncode, done.stderr) == (0, "")
            written = done.stdout
        else:
            assert cli.main(generate) == 0
            written, errors = capsys.readouterr()
            assert errors == ""
            assert cli.main(check) == 0
            assert capsys.readouterr() == ("", "")
        trees[name] = contents(tmp_path / "out" / name)
        assert sorted(written.splitlines()) == [f"out/{name}/{path}" for path in sorted(trees[name])]
    assert "hub-stubs/events_pb2.pyi" in trees["protos"]
    assert all(tree == trees["protos"] for tree in trees.values())

    (tmp_path / "plugin").mkdir()
    options = f"--durabletask-payloads_out={tmp_path / 'plugin'}"
    compiled(tmp_path / "protos", "hub.proto", options)
    walkers = {path: text for path, text in trees["protos"].items() if path.startswith(render.WALKERS_PACKAGE)}
    assert contents(tmp_path / "plugin") == walkers


@pytest.mark.tools
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_the_walkers_type_check(project: Path, checker: str) -> None:
    """Against the classes of the schema: with a wrong type in one signature neither would pass."""
    assert cli.main(["generate", "--package", "several_walkers", "--with-plan", "--output", "pb2"]) == 0
    compiled(project / "protos", *FILES, f"--python_out={project / 'pb2'}", f"--mypy_out={project / 'pb2'}")
    strict = ["--strict"] if checker == "mypy" else ["--pythonpath", sys.executable, "--project", "pyright.json"]
    (project / "pb2/pyright.json").write_text('{"typeCheckingMode": "strict", "include": ["several_walkers"]}')
    arguments = [*strict, "-p", "several_walkers"] if checker == "mypy" else strict
    command = [sys.executable, "-m", checker, *arguments]
    done = subprocess.run(command, cwd=project / "pb2", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    walkers = project / "pb2/several_walkers/externalize.py"
    walkers.write_text(walkers.read_text().replace("or_: base_pb2.Task", "or_: state_pb2.Task"))
    done = subprocess.run(command, cwd=project / "pb2", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "externalize.py" in done.stdout


def test_the_report_goes_through_all_files(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fields"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "hub/base.proto (hub/base.proto)\nhub/events.proto (hub/events.proto)\n"
        "back/state.proto (back/state.proto)\nhub.proto (hub.proto)\n"
    )
    assert "hub.Hub/Do request: back.v1.Keywords\n" in text
    assert "  payload    back.v1.Keywords.as.ask.answer.notes[]\n" in text
    assert "  diagnostic back.v1.Keywords.while[].causes[].trace" not in text, "a message that contains itself"
    assert "  again      back.v1.Keywords.while[].causes[] (hub.Failure)\n" in text
    assert "Mute" not in text


def test_modules_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_proto(tmp_path, "package a; message One { google.protobuf.StringValue x = 1; }", "a/types.proto")
    write_proto(tmp_path, "package b; message Two { google.protobuf.StringValue x = 1; }", "b/types.proto")
    built = classified(declare(schema.from_protos(tmp_path)))
    text = render.render_walkers(built, render.Home())[f"{render.WALKERS_PACKAGE}/externalize.py"]
    assert "    from a import types_pb2 as a_types_pb2\n    from b import types_pb2 as b_types_pb2\n" in text
    assert "def externalize_two(message: b_types_pb2.Two, plan: ExternalizePlan) -> None:" in text


def test_a_name_that_files_of_one_package_share_gets_the_file_in_front(tmp_path: Path) -> None:
    write_proto(tmp_path, "message A { message B { google.protobuf.StringValue x = 1; } }", "in-side/one.proto")
    write_proto(tmp_path, "message A_B { google.protobuf.StringValue x = 1; }", "two.proto")
    built = classified(declare(schema.from_protos(tmp_path)))
    assert {name: message.function for name, message in built.messages.items()} == {
        "A.B": "in_side_one_a_b",
        "A_B": "two_a_b",
    }


def test_modules_are_where_they_are_said_to_be(project: Path) -> None:
    read = schema.with_modules(
        schema.from_protos(project / "protos"), ["hub/base.proto=mine.base_pb2", "hub/events.proto=mine.events_pb2"]
    )
    built = classified(declare(read))
    text = render.render_walkers(built, render.Home())[f"{render.WALKERS_PACKAGE}/externalize.py"]
    assert "    from mine import base_pb2, events_pb2\n" in text
    assert {path for path in stubs.generate_stubs(read) if path.startswith(("mine", "hub"))} == {
        "hub_pb2-stubs/__init__.pyi",
        "hub_pb2-stubs/py.typed",
        "hub_pb2_grpc-stubs/__init__.pyi",
        "hub_pb2_grpc-stubs/py.typed",
        "mine-stubs/base_pb2.pyi",
        "mine-stubs/base_pb2_grpc.pyi",
        "mine-stubs/events_pb2.pyi",
        "mine-stubs/events_pb2_grpc.pyi",
        "mine-stubs/py.typed",
    }
    assert "from mine import base_pb2" in stubs.generate_stubs(read)["mine-stubs/events_pb2.pyi"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (["some_pb2"], "pb2 module some_pb2: the schema has 4 files, name one: FILE=some_pb2"),
        (
            ["none.proto=some_pb2"],
            "pb2 module some_pb2: none.proto is not a file of the schema: "
            "hub/base.proto, hub/events.proto, back/state.proto, hub.proto",
        ),
        (["hub.proto=a-b"], "pb2 module a-b: is not the name of a Python module"),
    ],
)
def test_bad_modules(project: Path, given: list[str], error: str) -> None:
    with pytest.raises(CodegenError) as raised:
        schema.with_modules(schema.from_protos(project / "protos"), given)
    assert str(raised.value) == error


def test_imports_that_go_round_are_refused_by_protoc_too(tmp_path: Path) -> None:
    """So messages contain each other within a file only: across files there is always one that knows no other."""
    write_proto(tmp_path, 'import "b.proto"; message A { B b = 1; }', "a.proto")
    write_proto(tmp_path, 'import "a.proto"; message B { A a = 1; }', "b.proto")
    with pytest.raises(CodegenError, match=r"a\.proto:3:1: File recursively imports itself: a.proto -> b.proto -> a"):
        schema.from_protos(tmp_path)


OLD = """
    syntax = "proto2";
    import "google/protobuf/wrappers.proto";
    import "google/protobuf/descriptor.proto";
    extend google.protobuf.FieldOptions { optional string note = 50000; }
    enum Color { RED = 1; }
    message Old {
      required google.protobuf.StringValue needed = 1;
      optional google.protobuf.StringValue wanted = 2 [(note) = "x"];
      repeated Old more = 3;
      optional Color color = 4 [default = RED];
      oneof pick { google.protobuf.StringValue text = 5; int32 number = 6; }
    }
"""
EDITION = """
    edition = "2023";
    import "google/protobuf/wrappers.proto";
    message New {
      google.protobuf.StringValue wanted = 1;
      New closed = 2 [features.message_encoding = DELIMITED];
      string name = 3 [features.field_presence = IMPLICIT];
      map<string, google.protobuf.StringValue> notes = 4;
      oneof pick { google.protobuf.StringValue text = 5; int32 number = 6; }
    }
"""


@pytest.mark.parametrize(("text", "ways"), [(OLD, 6), (EDITION, 6)], ids=["proto2", "edition 2023"])
def test_other_syntaxes(tmp_path: Path, text: str, ways: int, load: Callable[[Model], Any]) -> None:
    (tmp_path / "other.proto").write_text(dedent(text))
    read = schema.from_protos(tmp_path)
    built = classified(declare(read))
    assert asked(read, built, load) == {"payload": ways}
    # And through protoc, which asks a plugin whether it knows editions.
    (tmp_path / "plugin").mkdir()
    policy = tmp_path / "policy.toml"
    lines = [f'"{key.rpartition(".")[2]}" = "payload"' for key in built.fields]
    policy.write_text("\n".join([f"[{next(iter(built.messages))}]", *lines]))
    output = f"--durabletask-payloads_out={tmp_path / 'plugin'}"
    compiled(tmp_path, "other.proto", output, f"--durabletask-payloads_opt=policy={policy}")
    assert (tmp_path / "plugin" / render.WALKERS_PACKAGE / "externalize.py").read_bytes() == (
        tmp_path / "out" / render.WALKERS_PACKAGE / "externalize.py"
    ).read_bytes()
