"""The command line: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tests.codegen.support import PB2_MODULE, PROTOS, ROOT, contents, dedent, write_proto

from durabletask_payloads_codegen import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROTO = "protos/durabletask/internal/orchestrator_service.proto"
POLICY = "protos/payload_fields.toml"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `protos/` and `generated/`, as the current folder."""
    folder = tmp_path / "tree"
    shutil.copytree(PROTOS, folder / "protos", ignore=shutil.ignore_patterns("largepayloads"))  # no payloads there
    shutil.copytree(
        ROOT / "generated",
        folder / "generated",
        ignore=shutil.ignore_patterns("__pycache__", "durabletask_payloads_protos"),
    )
    monkeypatch.chdir(folder)
    return folder


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def test_what_is_checked_in_is_what_generate_writes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    assert cli.main(["generate"]) == 0
    assert capsys.readouterr() == ("", "")
    before = contents(tree / "generated")
    shutil.rmtree(tree / "generated")
    assert cli.main(["check"]) == 1
    assert cli.main(["generate"]) == 0
    assert contents(tree / "generated") == before


def test_the_bytes_do_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    runs: list[dict[str, bytes]] = []
    for seed in ("0", "1"):
        output = tmp_path / seed
        command = [sys.executable, "-m", "durabletask_payloads_codegen.cli", "generate", f"--output={output}"]
        subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True)
        runs.append(contents(output))
    assert len(runs[0]) == 9
    assert runs[0] == runs[1]


def test_one_field_more(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new field of the .proto stops the build by its name; once classified, it is all that changes."""
    replace(
        tree / PROTO,
        "  string completionToken = 5;\n}\n\nmessage TaskFailureDetails",
        "  string completionToken = 5;\n  google.protobuf.StringValue summary = 6;\n}\n\nmessage TaskFailureDetails",
    )
    before = contents(tree / "generated")
    error = (
        "durabletask-payloads-codegen: error: protos/payload_fields.toml: not classified: ActivityResponse.summary "
        "(add each as payload, diagnostic or metadata)\n\n"
        "# Add to protos/payload_fields.toml. Proposals are read off the names classified there: check each.\n\n"
        "# Add below [ActivityResponse], which is there:\n"
        '# summary = "payload" | "diagnostic" | "metadata"  # nothing similar is classified: decide\n'
    )
    for command in ("generate", "check"):
        assert cli.main([command]) == 2
        assert capsys.readouterr() == ("", error)
    assert contents(tree / "generated") == before

    replace(tree / POLICY, "[ActivityResponse]\n", '[ActivityResponse]\nsummary = "payload"\n')
    assert cli.main(["check"]) == 1
    drift = capsys.readouterr().out
    assert "run make generate" in drift
    changed = [line for line in drift.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    walkers = [line for line in changed if "essage." in line or "plan." in line or '"""' in line or "FIELDS" in line]
    assert walkers == [
        '-    """Note the tokens of `ActivityResponse`: result, failureDetails."""',
        '+    """Note the tokens of `ActivityResponse`: result, failureDetails, summary."""',
        '+    if message.HasField("summary") and (text := message.summary.value).startswith(plan.prefixes):',
        '+        plan.download(message.summary, "ActivityResponse.summary", text)',
        '-    """Note the large payloads of `ActivityResponse`: result, failureDetails."""',
        '+    """Note the large payloads of `ActivityResponse`: result, failureDetails, summary."""',
        '+    if message.HasField("summary") and len(text := message.summary.value) > plan.payload_gate:',
        '+        plan.upload(message.summary, "ActivityResponse.summary", text)',
    ]
    assert [line for line in changed if '"ActivityResponse.summary": ' in line] == [
        '+        "ActivityResponse.summary": "payload",'
    ]

    assert cli.main(["generate"]) == 0
    after = contents(tree / "generated")
    assert {path for path in after if after[path] != before[path]} == {
        "PAYLOAD_FIELDS.md",
        "durabletask-stubs/internal/orchestrator_service_pb2.pyi",
        "durabletask_payloads_walkers/deexternalize.py",
        "durabletask_payloads_walkers/externalize.py",
        "durabletask_payloads_walkers/tables.py",
    }
    assert cli.main(["check"]) == 0


def break_the_policy(tree: Path) -> None:
    (tree / POLICY).write_text("[ActivityRequest\n")


def leave_out_two_fields(tree: Path) -> None:
    replace(tree / POLICY, '[ActivityResponse]\nresult = "payload"\n', "")
    replace(tree / POLICY, '\ncustomStatus = "payload"\nexecutionId', "\nexecutionId")


def name_a_field_that_is_gone(tree: Path) -> None:
    replace(tree / POLICY, "[ActivityResponse]\n", '[ActivityResponse]\noutput = "payload"\n')


def break_the_proto(tree: Path) -> None:
    replace(tree / PROTO, "message ActivityRequest {", "message ActivityRequest {{")


def remove_the_policy(tree: Path) -> None:
    (tree / POLICY).unlink()


def nothing(tree: Path) -> None:
    pass


def put_a_file_in_the_way(tree: Path) -> None:
    (tree / "file").write_text("")


@pytest.mark.parametrize(
    ("spoil", "arguments", "error"),
    [
        (break_the_policy, ["generate"], f"{POLICY}: malformed TOML: "),
        (remove_the_policy, ["generate"], f"{POLICY}: cannot be read: No such file or directory"),
        (
            leave_out_two_fields,
            ["generate"],
            f"{POLICY}: not classified: ActivityResponse.result, OrchestrationState.customStatus (add",
        ),
        (
            name_a_field_that_is_gone,
            ["generate"],
            f"{POLICY}: no such StringValue field: ActivityResponse.output (remove)",
        ),
        (break_the_proto, ["generate"], f"{PROTO}:39:26: Expected type name."),
        (nothing, ["generate", "--from-module", "json"], "module json is not a pb2 module: "),
        (nothing, ["generate", "--from-module", "no.such_pb2"], "module no.such_pb2 cannot be imported: "),
        (nothing, ["generate", "--descriptor-set", POLICY], f"{POLICY}: is not a serialized FileDescriptorSet"),
        (nothing, ["generate", "--proto-path", "generated"], "generated: there is no .proto file"),
        (
            nothing,
            ["generate", PROTO, "--from-module", PB2_MODULE],
            "protos and from-module: exclude each other, name one of them",
        ),
        (put_a_file_in_the_way, ["generate", "--output", "file/out"], "file/out/"),
        (put_a_file_in_the_way, ["check", "--output", "file/out"], "file/out/"),
        (nothing, ["import-proto", "json", "--output", "protos"], "module json is not a pb2 module: "),
        (put_a_file_in_the_way, ["import-proto", PB2_MODULE, "--output", "file"], "file"),
        (leave_out_two_fields, ["fields"], f"{POLICY}: not classified: "),
    ],
)
def test_bad_input(
    tree: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    arguments: list[str],
    error: str,
) -> None:
    """Exit code 2, one line that names the file and field, policy lines if some are missing; nothing half-written."""
    spoil(tree)
    before = contents(tree)
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"durabletask-payloads-codegen: error: {error}")
    first, _, lines = output.err.partition("\n")
    assert lines.startswith(f"\n# Add to {POLICY}. ") if "not classified" in first else lines == ""
    assert contents(tree) == before


def test_an_unwritable_folder_is_named(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "file").write_text("")
    assert cli.main(["generate", "--output", "file"]) == 2
    assert capsys.readouterr().err == (
        "durabletask-payloads-codegen: error: "
        "file/durabletask_payloads_walkers/__init__.py: cannot be read: Not a directory\n"
    )


def test_import_proto_prints_and_compares(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import-proto", PB2_MODULE]) == 0
    assert capsys.readouterr() == ((tree / PROTO).read_text(), "")

    assert cli.main(["import-proto", PB2_MODULE, "--output", "protos"]) == 0
    assert capsys.readouterr().out == f"{PROTO}: no change\n"

    original = (tree / PROTO).read_text()
    replace(tree / PROTO, "message ActivityResponse {\n", "message ActivityResponse {\n  string gone = 77;\n")
    assert cli.main(["import-proto", PB2_MODULE, "--output", "protos"]) == 0
    assert capsys.readouterr().out == f"{PROTO}: - removed field ActivityResponse.gone\n"
    assert (tree / PROTO).read_text() == original

    (tree / PROTO).write_text("nonsense")
    assert cli.main(["import-proto", PB2_MODULE, "--output", "protos"]) == 0
    assert capsys.readouterr().out.startswith(f"{PROTO}: replaced; the old file did not compile: {PROTO}:1:1: ")

    assert cli.main(["import-proto", PB2_MODULE, "--output", "elsewhere"]) == 0
    assert capsys.readouterr().out == f"elsewhere/{PROTO.removeprefix('protos/')}: new\n"
    assert (tree / "elsewhere" / PROTO.removeprefix("protos/")).read_text() == original


def test_import_proto_removes_nothing(tree: Path) -> None:
    """It may write beside Python that is not ours; `generate` cleans up what is."""
    (tree / "protos/durabletask/mine.py").write_text("")
    stale = "# Generator: durabletask-payloads-codegen 0.9\n"
    (tree / "generated/durabletask_payloads_walkers/stale.py").write_text(stale)
    replace(tree / PROTO, "message ActivityResponse {\n", "message ActivityResponse {\n  string gone = 77;\n")
    assert cli.main(["import-proto", PB2_MODULE, "--output", "protos"]) == 0
    assert (tree / "protos/durabletask/mine.py").exists()
    assert cli.main(["check"]) == 1
    assert cli.main(["generate"]) == 0
    assert not (tree / "generated/durabletask_payloads_walkers/stale.py").exists()
    assert cli.main(["check"]) == 0


def test_import_proto_refuses_what_it_cannot_print_exactly(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(tree)
    assert cli.main(["import-proto", "google.protobuf.descriptor_pb2", "--output", "protos"]) == 2
    assert capsys.readouterr().err == (
        "durabletask-payloads-codegen: error: "
        "google/protobuf/descriptor.proto: only proto3 can be printed, not proto2\n"
    )
    assert contents(tree) == before


def test_import_proto_compiles_what_it_printed_and_compares(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of these oneofs is not that of their fields, which no text says."""
    file = FileDescriptorProto(name="odd.proto", syntax="proto3")
    message = file.message_type.add(name="M")
    for number, name in enumerate(("x", "y")):
        message.oneof_decl.add(name=f"of_{name}")
        message.field.add(name=name, number=number + 1, type=9, label=1, oneof_index=1 - number)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    module = ModuleType("odd_pb2")
    module.__dict__["DESCRIPTOR"] = pool.FindFileByName("odd.proto")
    monkeypatch.setitem(sys.modules, "odd_pb2", module)
    before = contents(tree)
    assert cli.main(["import-proto", "odd_pb2", "--output", "protos"]) == 2
    assert capsys.readouterr() == (
        "",
        "durabletask-payloads-codegen: error: "
        "odd.proto: cannot be printed: the printed text compiles to another descriptor\n",
    )
    assert contents(tree) == before


def test_import_proto_brings_the_imports_of_its_own(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = descriptor_pool.DescriptorPool()
    common = FileDescriptorProto(name="a/common.proto", syntax="proto3")
    common.message_type.add(name="Common").field.add(name="x", number=1, type=9, label=1, json_name="x")
    pool.Add(common)
    pool.Add(FileDescriptorProto(name="user.proto", syntax="proto3", dependency=["a/common.proto"]))
    module = ModuleType("user_pb2")
    module.__dict__["DESCRIPTOR"] = pool.FindFileByName("user.proto")
    monkeypatch.setitem(sys.modules, "user_pb2", module)
    assert cli.main(["import-proto", "user_pb2", "--output", "out"]) == 0
    assert capsys.readouterr().out == "out/a/common.proto: new\nout/user.proto: new\n"
    assert "message Common {\n  string x = 1;\n}\n" in (tree / "out/a/common.proto").read_text()


SMALL = """
    message Task { google.protobuf.StringValue input = 1; Failure failure = 2; google.protobuf.StringValue name = 3; }
    message Failure { google.protobuf.StringValue trace = 1; Failure inner = 2; }
    message Lost { repeated Task tasks = 1; }
    message Nothing {}
    service Hub { rpc Do(Task) returns (Nothing); rpc Watch(Nothing) returns (stream Failure); }
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_proto(tmp_path / "protos", SMALL)
    (tmp_path / POLICY).write_text('[Task]\ninput = "payload"\nname = "metadata"\n[Failure]\ntrace = "diagnostic"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("small")
def test_fields_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fields"]) == 0
    assert capsys.readouterr().out == dedent("""
        test.proto (test.proto)
        payload    1 StringValue fields
        diagnostic 1 StringValue fields
        metadata   1 StringValue fields

        Hub/Do request: Task
          payload    Task.input
          diagnostic Task.failure.trace
          again      Task.failure.inner (Failure)

        Hub/Watch response stream: Failure
          diagnostic Failure.trace
          again      Failure.inner (Failure)

        Carried by no RPC: Lost
    """)


@pytest.mark.usefixtures("small")
def test_fields_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fields", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "files": ["test.proto"],
        "source": "test.proto",
        "travels": [
            {
                "rpc": "Hub/Do",
                "direction": "request",
                "streams": False,
                "message": "Task",
                "paths": [
                    {"path": "Task.input", "kind": "payload", "field": "Task.input"},
                    {"path": "Task.failure.trace", "kind": "diagnostic", "field": "Failure.trace"},
                    {"path": "Task.failure.inner", "kind": "again", "field": "Failure"},
                ],
            },
            {
                "rpc": "Hub/Watch",
                "direction": "response",
                "streams": True,
                "message": "Failure",
                "paths": [
                    {"path": "Failure.trace", "kind": "diagnostic", "field": "Failure.trace"},
                    {"path": "Failure.inner", "kind": "again", "field": "Failure"},
                ],
            },
        ],
        "unreached": ["Lost"],
        "fields": {"Task.input": "payload", "Task.name": "metadata", "Failure.trace": "diagnostic"},
    }


@pytest.mark.usefixtures("small")
def test_fields_as_mermaid(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fields", "--format", "mermaid"]) == 0
    assert capsys.readouterr().out == dedent("""
        flowchart LR
          rpc1(["Do"]) -- request --> Task
          rpc2(["Watch"]) -- response, stream --> Failure
          Task["<b>Task</b><br/>input"]
          Failure["<b>Failure</b><br/>trace <i>diagnostic</i>"]
          Task -- "failure" --> Failure
          Failure -- "inner" --> Failure
    """)


def test_fields_of_a_module(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fields", "--from-module", PB2_MODULE]) == 0
    from_module = capsys.readouterr().out
    assert cli.main(["fields"]) == 0
    assert capsys.readouterr().out == from_module
    assert "  payload    OrchestratorResponse.actions[].completeOrchestration.result\n" in from_module
    report = (tree / "generated/PAYLOAD_FIELDS.md").read_text()
    assert "| `OrchestratorResponse.actions[].completeOrchestration.result` | payload |" in report


def test_the_console_script(tree: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "durabletask_payloads_codegen.cli", "check", "--policy", "none.toml"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "durabletask-payloads-codegen: error: none.toml: cannot be read: No such file or directory\n"
    )


NO_SPACE = "durabletask-payloads-codegen: error: [Errno 28] No space left on device\n"
needs_full = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="the device that is always full is one of Linux"
)


@pytest.mark.parametrize(
    ("program", "redirection", "code", "said"),
    [
        ("cli fields", "", 2, ""),
        ("cli --help", "", 2, ""),
        pytest.param("cli fields", ">/dev/full", 2, NO_SPACE, marks=needs_full),
        pytest.param("cli fields --policy none.toml", "2>/dev/full", 2, "", marks=needs_full),
        ("cli fields", ">&-", 0, ""),
        ("cli fields --policy none.toml", "2>&-", 2, ""),
        ("plugin", "<&- 2>&-", 2, ""),
    ],
)
def test_streams_that_cannot_be_written(program: str, redirection: str, code: int, said: str) -> None:
    """No traceback, and never the exit code of drift. Without a redirection, standard output is a pipe nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    command = f'exec "$0" -W error -m durabletask_payloads_codegen.{program} {redirection}'
    try:
        done = subprocess.run(
            ["sh", "-c", command, sys.executable],
            cwd=ROOT,
            stdout=subprocess.PIPE if redirection else writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stdout or "", done.stderr) == (code, "", said)
