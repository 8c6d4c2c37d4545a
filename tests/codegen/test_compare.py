"""What `diff` says about two schemas, and what it takes for one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.codegen.support import PB2_MODULE, POLICY, PROTO, PROTOS, contents, dedent, write_proto

from durabletask_payloads_codegen import cli, schema

if TYPE_CHECKING:
    from pathlib import Path

OLD = """
    message Task { google.protobuf.StringValue input = 1; Failure failure = 2; google.protobuf.StringValue name = 3; }
    message Failure { google.protobuf.StringValue trace = 1; }
    message Lost { google.protobuf.StringValue input = 1; }
    message Nothing {}
    service Hub {
      rpc Do(Task) returns (Nothing);
      rpc Fail(Failure) returns (Task);
      rpc Ping(Nothing) returns (Nothing);
    }
"""
NEW = """
    message Task {
      google.protobuf.StringValue input = 1;
      Step failure = 2;
      google.protobuf.StringValue displayName = 3;
      repeated Step steps = 4;
      google.protobuf.StringValue fresh = 5;
    }
    message Step { google.protobuf.StringValue trace = 1; Step next = 2; }
    message Failure { google.protobuf.StringValue trace = 1; }
    message Lost { google.protobuf.StringValue input = 1; }
    message Nothing {}
    service Hub {
      rpc Do(Task) returns (Nothing);
      rpc Find(Lost) returns (Nothing);
      rpc Sync(Nothing) returns (Nothing);
    }
"""
KINDS = """
    [Task]
    input = "payload"
    name = "metadata"
    [Step]
    trace = "payload"
    [Failure]
    trace = "diagnostic"
    [Lost]
    input = "payload"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_proto(tmp_path, OLD, "old/hub.proto")
    write_proto(tmp_path, NEW, "new/hub.proto")
    (tmp_path / "kinds.toml").write_text(dedent(KINDS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def diff(old: str, new: str, *options: str) -> int:
    return cli.main(["diff", old, new, "--policy", "kinds.toml", *options])


@pytest.mark.usefixtures("folder")
def test_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert diff("old", "new") == 0
    assert capsys.readouterr() == (
        dedent("""
            old  old (hub.proto)
            new  new (hub.proto)

            RPCs
              - Hub/Fail
              - Hub/Ping (no payloads)
              + Hub/Find
              + Hub/Sync (no payloads)

            Hub/Do request: Task
              + again                 Task.failure.next (Step)
              + payload               Task.steps[].trace
              + again                 Task.steps[].next (Step)
              + payload?              Task.fresh
              ! diagnostic -> payload Task.failure.trace

            Hub/Find request: Lost
              + payload Lost.input

            Hub/Fail request: Failure
              - diagnostic Failure.trace

            Hub/Fail response: Task
              - payload    Task.input
              - diagnostic Task.failure.trace

            Carried by no RPC
              - Lost
              + Failure

            StringValue fields
              - metadata  Task.name
              + metadata? Task.displayName ends like Task.name
              + payload?  Task.fresh       nothing similar is classified
              + payload   Step.trace

            ? not classified in kinds.toml: a proposal, or payload where there is none
        """),
        "",
    )


def test_a_package_with_another_name_and_a_second_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The policy still has the old names: they are what is proposed, and `generate` asks about each."""
    task = """
        message Task {
          google.protobuf.StringValue input = 1;
          map<string, google.protobuf.StringValue> notes = 2;
        }
    """
    service = "service Hub { rpc Do(Task) returns (Task); }"
    write_proto(folder, f"package v1; {task} {service}", "old/hub.proto")
    write_proto(folder, f"package v2; {task}", "new/task.proto")
    write_proto(folder, f'package v2; import "task.proto"; {service}', "new/hub.proto")
    (folder / "kinds.toml").write_text('[v1.Task]\ninput = "payload"\nnotes = "diagnostic"\n')
    assert diff("old", "new") == 0
    assert capsys.readouterr().out == dedent("""
        old  old (hub.proto)
        new  new (task.proto, hub.proto)

        RPCs
          - v1.Hub/Do
          + v2.Hub/Do

        v2.Hub/Do request: v2.Task
          + payload?    v2.Task.input
          + diagnostic? v2.Task.notes[]

        v2.Hub/Do response: v2.Task
          + payload?    v2.Task.input
          + diagnostic? v2.Task.notes[]

        v1.Hub/Do request: v1.Task
          - payload    v1.Task.input
          - diagnostic v1.Task.notes[]

        v1.Hub/Do response: v1.Task
          - payload    v1.Task.input
          - diagnostic v1.Task.notes[]

        StringValue fields
          - payload     v1.Task.input
          - diagnostic  v1.Task.notes
          + payload?    v2.Task.input as in v1.Task.input
          + diagnostic? v2.Task.notes as in v1.Task.notes

        ? not classified in kinds.toml: a proposal, or payload where there is none
    """)

    before = contents(folder)
    assert cli.main(["generate", "--proto-path", "new", "--policy", "kinds.toml"]) == 2
    assert capsys.readouterr() == (
        "",
        "durabletask-payloads-codegen: error: kinds.toml: not classified: v2.Task.input, v2.Task.notes "
        "(add each as payload, diagnostic or metadata); no such StringValue field: "
        "v1.Task.input (did you mean v2.Task.input?), v1.Task.notes (did you mean v2.Task.notes?)\n\n"
        "# Add to kinds.toml. Proposals are read off the names classified there: check each.\n\n"
        '["v2.Task"]\n'
        'input = "payload"     # proposal: as in v1.Task.input\n'
        'notes = "diagnostic"  # proposal: as in v1.Task.notes\n',
    )
    assert contents(folder) == before


def test_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "message Task { google.protobuf.StringValue input = 1; }"
    bad = "message Bad { google.protobuf.StringValue trace = 1; Bad input = 2; }"
    service = "service Hub { rpc Do(Task) returns (Bad); }"
    write_proto(folder, f"{task} {bad} {service}", "a/hub.proto")
    bad = "message Bad { google.protobuf.StringValue trace = 1; Task input = 2; }"
    service = "service Hub { rpc Do(Task) returns (Task); rpc Stop(Bad) returns (Task); }"
    write_proto(folder, f"{task} {bad} {service}", "b/hub.proto")
    assert diff("a/hub.proto", "b/hub.proto", "--format", "json") == 0

    def path(change: str, name: str, kind: str, field: str, *, proposed: bool) -> dict[str, object]:
        return {"change": change, "path": name, "kind": kind, "was": None, "field": field, "proposed": proposed}

    assert json.loads(capsys.readouterr().out) == {
        "old": {"name": "a/hub.proto", "source": "hub.proto"},
        "new": {"name": "b/hub.proto", "source": "hub.proto"},
        "rpcs": [{"change": "added", "rpc": "Hub/Stop", "carries": True}],
        "travels": [
            {
                "rpc": "Hub/Do",
                "direction": "response",
                "message": "Task",
                "paths": [
                    path("gone", "Bad.trace", "payload", "Bad.trace", proposed=True),
                    path("gone", "Bad.input", "again", "Bad", proposed=False),
                    path("added", "Task.input", "payload", "Task.input", proposed=False),
                ],
            },
            {
                "rpc": "Hub/Stop",
                "direction": "request",
                "message": "Bad",
                "paths": [
                    path("added", "Bad.trace", "payload", "Bad.trace", proposed=True),
                    path("added", "Bad.input.input", "payload", "Task.input", proposed=False),
                ],
            },
            {
                "rpc": "Hub/Stop",
                "direction": "response",
                "message": "Task",
                "paths": [path("added", "Task.input", "payload", "Task.input", proposed=False)],
            },
        ],
        "unreached": [],
        "fields": [],
    }


def test_fields_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_proto(folder, "message Task { google.protobuf.StringValue displayName = 1; }", "c/hub.proto")
    write_proto(folder, "message Task { google.protobuf.StringValue name = 1; }", "d/hub.proto")
    assert diff("c", "d", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["fields"] == [
        {
            "change": "gone",
            "field": "Task.displayName",
            "kind": "metadata",
            "proposed": True,
            "reason": "ends like Task.name",
        },
        {"change": "added", "field": "Task.name", "kind": "metadata", "proposed": False, "reason": None},
    ]


def test_every_form_of_a_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "set.binpb").write_bytes(schema.compile_protos(PROTOS, [PROTO]).SerializeToString())
    before = contents(folder)
    for old in (str(PROTO.parent), str(PROTO), "set.binpb", PB2_MODULE):
        assert cli.main(["diff", old, PB2_MODULE, "--policy", str(POLICY)]) == 0
        output = capsys.readouterr()
        assert output.err == ""
        assert output.out.startswith(f"old  {old} (durabletask ")
        assert output.out.endswith("\n\nNo difference in payloads.\n")
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("old", "error"),
    [
        ("none.proto", "none.proto: there is no such file or folder"),
        ("no/such", "no/such: there is no such file or folder"),
        ("no.such_pb2", "no.such_pb2: there is no such file or folder, and module no.such_pb2 cannot be imported: "),
        ("json", "json: there is no such file or folder, and module json is not a pb2 module: "),
        ("kinds.toml", "kinds.toml: is not a serialized FileDescriptorSet"),
        ("empty", "empty: there is no .proto file"),
    ],
)
def test_what_is_no_schema(folder: Path, capsys: pytest.CaptureFixture[str], old: str, error: str) -> None:
    (folder / "empty").mkdir()
    assert diff(old, "new") == 2
    assert diff("new", old) == 2
    output = capsys.readouterr()
    assert output.out == ""
    first, second = output.err.splitlines()
    assert first == second
    assert first.startswith(f"durabletask-payloads-codegen: error: {error}")


@pytest.mark.usefixtures("folder")
def test_a_policy_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["diff", "old", "new"]) == 2
    assert capsys.readouterr().err == (
        "durabletask-payloads-codegen: error: protos/payload_fields.toml: cannot be read: No such file or directory\n"
    )
