"""Where walkers can live: in any package, with plans of any module or of their own, set up in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.codegen.support import PB2_MODULE, POLICY, ROOT, contents, protoc, write_proto

from durabletask_payloads_codegen import cli, plan_source
from durabletask_payloads_codegen.errors import CodegenError
from durabletask_payloads_codegen.settings import merged

if TYPE_CHECKING:
    from pathlib import Path

TASK = "message Task { google.protobuf.StringValue input = 1; repeated Task more = 2; }"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small schema with its policy, as the current folder."""
    write_proto(tmp_path / "protos", TASK, "task.proto")
    (tmp_path / "protos/payload_fields.toml").write_text('[Task]\ninput = "payload"\n')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(project: Path, text: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.durabletask-payloads-codegen]\n{text}")


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that is to fail, and return what it says: one line."""
    assert cli.main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("durabletask-payloads-codegen: error: ")
    assert output.err.count("\n") == 1
    return output.err.removeprefix("durabletask-payloads-codegen: error: ").rstrip()


def test_a_package_below_another_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "acme").mkdir()
    (project / "acme/other.py").write_text("mine = 1\n")
    flags = ["--package", "acme.walkers", "--output", ".", "--plan-module", "acme.plans"]
    assert cli.main(["generate", *flags]) == 0
    names = ["__init__.py", "deexternalize.py", "externalize.py", "py.typed", "tables.py"]
    assert sorted(capsys.readouterr().out.splitlines()) == [f"acme/walkers/{name}" for name in names]
    text = (project / "acme/walkers/externalize.py").read_text()
    assert "    from acme.plans import ExternalizePlan\n" in text
    assert "# DO NOT EDIT: run durabletask-payloads-codegen generate\n" in text
    assert "acme.plans import DeexternalizePlan, ExternalizePlan" in (project / "acme/walkers/tables.py").read_text()
    assert cli.main(["check", *flags]) == 0
    assert {path.split("/")[0] for path in contents(project)} == {"acme", "protos"}, "no stubs, no report"

    (project / "acme/walkers/tables.py").write_text("# Generator: durabletask-payloads-codegen 1.0\n")
    assert cli.main(["check", *flags]) == 1
    assert capsys.readouterr().out.endswith(
        "\n. differs from the output of the generator: run durabletask-payloads-codegen generate\n"
    )


def test_with_its_plans_a_package_needs_protobuf_alone(project: Path) -> None:
    assert cli.main(["generate", "--package", "acme.walkers", "--with-plan", "--output", "."]) == 0
    done = protoc(project / "protos", f"--python_out={project}", "task.proto")
    assert done.returncode == 0, done.stderr
    program = """
import sys, task_pb2
from acme.walkers import DeexternalizePlan, ExternalizePlan, deexternalize_task, externalize_task
is_token = lambda text: text.startswith("token:")
task = task_pb2.Task(more=[task_pb2.Task() for _ in range(20)])
task.input.value, task.more[3].input.value, task.more[4].input.value = "large", "small"[:4], "token:1"
plan = ExternalizePlan(4, 6, is_token)
externalize_task(task, plan)
print([(upload.path, upload.data) for upload in plan.uploads])
plan = DeexternalizePlan(("token:",), is_token)
deexternalize_task(task, plan)
print([download.token for download in plan.downloads])
task.input.value = "larger.."
try:
    externalize_task(task, ExternalizePlan(4, 6, is_token))
except ValueError as error:
    print(error)
print([name for name in sys.modules if name.startswith("durabletask")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "[('Task.input', b'large')]",
        "['token:1']",
        "Task.input has 8 bytes, which exceeds the maximum of max_stored_payload_bytes (6): raise the setting on the "
        "client and on every worker, or send less",
        "[]",
    ]


def test_there_is_one_implementation_of_the_plans() -> None:
    own = (ROOT / "runtime/durabletask_payloads/externalizer/_plan.py").read_text()
    written = plan_source.plan_source()
    differences = set(own.splitlines()) ^ set(written.splitlines())
    assert all("PayloadTooLargeError" in line or "ValueError" in line for line in differences)
    assert len(differences) < 8


def test_a_plan_module_that_the_generator_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "durabletask_payloads"
    (package / "externalizer").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "externalizer/_plan.py").write_text("from durabletask_payloads import more\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "durabletask_payloads", raising=False)
    with pytest.raises(CodegenError, match=r"_plan\.py: is not the plan module that this generator knows$"):
        plan_source.plan_source()
    (package / "externalizer/_plan.py").unlink()
    with pytest.raises(CodegenError, match=r"_plan\.py: cannot be read: No such file or directory$"):
        plan_source.plan_source()
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(CodegenError, match=r"^package durabletask_payloads: is not installed, so its plan module can"):
        plan_source.plan_source()


@pytest.mark.usefixtures("project")
def test_the_line_length(project: Path) -> None:
    assert cli.main(["generate", "--line-length", "60"]) == 0
    text = (project / "generated/durabletask_payloads_walkers/externalize.py").read_text()
    code = [line for line in text.splitlines() if not line.startswith(("#", '"""'))]
    assert max(map(len, code)) <= 60
    assert "def externalize_task(\n    message: pb.Task, plan: ExternalizePlan\n) -> None:\n" in text


SETTINGS = f"""
from-module = ["{PB2_MODULE}"]
policy = "{POLICY}"
package = "acme.walkers"
with-plan = true
output = "src"
line-length = 88
"""


def test_a_maintainers_command_is_one_word(project: Path) -> None:
    table(project, SETTINGS)
    assert cli.main(["generate"]) == 0
    assert cli.main(["check"]) == 0
    names = {path.name for path in (project / "src/acme/walkers").iterdir()}
    assert names == {"__init__.py", "deexternalize.py", "externalize.py", "plan.py", "py.typed", "tables.py"}
    assert "(message: pb.WorkItem, plan: ExternalizePlan)" in (project / "src/acme/walkers/externalize.py").read_text()


def test_flags_win(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(project, SETTINGS)
    flags = ["--policy", "protos/payload_fields.toml", "--plan-module", "acme.plans", "--package", "own"]
    assert cli.main(["generate", "protos/task.proto", *flags]) == 0
    names = ["__init__.py", "deexternalize.py", "externalize.py", "py.typed", "tables.py"]
    assert sorted(capsys.readouterr().out.splitlines()) == [f"src/own/{name}" for name in names]
    assert "    import task_pb2 as pb\n\n    from acme.plans import" in (project / "src/own/externalize.py").read_text()
    table(project, 'proto-path = "nowhere"')
    assert cli.main(["fields", "--proto-path", "protos"]) == 0


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("line_length = 88", "line_length: is unknown, the settings are "),
        ("line-length = '88'", "line-length: is '88', must be a whole number"),
        ("line-length = true", "line-length: is True, must be a whole number"),
        ("with-plan = 1", "with-plan: is 1, must be true or false"),
        ("package = 1", "package: is 1, must be a text"),
        ("from-module = [1]", "from-module: is [1], must be a text or a list of texts"),
        ("with-plan = true\nplan-module = 'x'", "plan-module and with-plan: exclude each other, name one of them"),
        ("descriptor-set = 'x'\nfrom-module = 'y'", "descriptor-set and from-module: exclude each other, name one"),
    ],
)
def test_a_bad_table(project: Path, capsys: pytest.CaptureFixture[str], text: str, error: str) -> None:
    table(project, text)
    before = contents(project)
    said = error_of(capsys, "generate")
    assert said.startswith(f"pyproject.toml: tool.durabletask-payloads-codegen: {error}")
    assert contents(project) == before


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[tool", "pyproject.toml: malformed TOML: "),
        (
            "[tool]\ndurabletask-payloads-codegen = 1",
            "pyproject.toml: tool.durabletask-payloads-codegen: must be a table",
        ),
    ],
)
def test_a_bad_pyproject(project: Path, capsys: pytest.CaptureFixture[str], text: str, error: str) -> None:
    (project / "pyproject.toml").write_text(text)
    assert error_of(capsys, "generate").startswith(error)
    (project / "pyproject.toml").write_text("tool = 1\n")
    assert cli.main(["fields"]) == 0


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--package", "a-b"], "package a-b: is not the name of a Python package"),
        (["--package", ".a"], "package .a: is not the name of a Python package"),
        (["--package", "a.class"], "package a.class: is not the name of a Python package"),
        (["--package", "../a"], "package ../a: is not the name of a Python package"),
        (["--plan-module", "a/b"], "plan module a/b: is not the name of a Python module"),
        (["--line-length", "20"], "line length 20: must be from 60 to 320"),
        (["--pb2-module", "x=y"], "pb2 module y: x is not a file of the schema: task.proto"),
        (
            ["--package", "mine", "--output", "."],
            "mine/code.py: was not generated, so nothing is written: mine has to be a folder of generated files alone",
        ),
    ],
)
def test_a_bad_home(project: Path, capsys: pytest.CaptureFixture[str], flags: list[str], error: str) -> None:
    (project / "mine").mkdir()
    (project / "mine/code.py").write_text("mine = 1\n")
    before = contents(project)
    assert error_of(capsys, "generate", *flags) == error
    assert contents(project) == before


def test_the_plugin_takes_the_same(project: Path) -> None:
    flags = [
        "--package",
        "acme.walkers",
        "--with-plan",
        "--line-length",
        "88",
        "--pb2-module",
        "task.proto=own.task_pb2",
    ]
    assert cli.main(["generate", *flags, "--output", "out"]) == 0
    (project / "plugin").mkdir()
    options = "package=acme.walkers,with_plan,line_length=88,pb2_module=task.proto=own.task_pb2"
    output = [f"--durabletask-payloads_out={project / 'plugin'}", f"--durabletask-payloads_opt={options}"]
    done = protoc(project / "protos", *output, "task.proto")
    assert (done.returncode, done.stderr) == (0, "")
    assert contents(project / "plugin") == contents(project / "out")

    for bad, error in (
        ("line_length=x", "line-length: is 'x', must be a whole number"),
        ("with_plan=x", "with-plan: is 'x', must be true or false"),
        ("with_plan,plan_module=x", "plan-module and with-plan: exclude each other, name one of them"),
        ("package=a-b", "package a-b: is not the name of a Python package"),
    ):
        done = protoc(project / "protos", output[0], f"--durabletask-payloads_opt={bad}", "task.proto")
        assert (done.returncode, done.stderr) == (1, f"--durabletask-payloads_out: {error}\n")


def test_settings_of_the_plugin_may_be_said_or_denied() -> None:
    assert merged({"with-plan": False, "plan-module": "x"}).home.plan_module == "x"
    assert merged({"with-plan": True}).home.plan_module is None


@pytest.mark.tools
def test_stubs_are_a_package_that_pip_installs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stubs", "--from-module", PB2_MODULE, "--output", "stubs"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "stubs/durabletask-stubs/internal/orchestrator_service_pb2.pyi",
        "stubs/durabletask-stubs/internal/orchestrator_service_pb2_grpc.pyi",
        "stubs/durabletask-stubs/py.typed",
        "stubs/pyproject.toml",
    ]
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet", "./stubs"]
    done = subprocess.run([*command, "--wheel-dir", "wheels"], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [wheel.name for wheel in (project / "wheels").iterdir()] == [
        "durabletask_protobuf_stubs-1.12.0-py3-none-any.whl"
    ]
    assert cli.main(["stubs", "--output", "own"]) == 0
    capsys.readouterr()
    text = (project / "own/pyproject.toml").read_text()
    assert 'name = "task_pb2-protobuf-stubs"\nversion = "0"\n' in text
    assert error_of(capsys, "stubs", "--pb2-module", "task.proto=own.task", "--output", "bad") == (
        "pb2 module own.task: has no stubs by mypy-protobuf, since its name does not end in _pb2"
    )


def test_stubs_leave_a_project_of_somebody_else_alone(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "pyproject.toml").write_text('[project]\nname = "mine"\n')
    before = contents(project)
    assert error_of(capsys, "stubs", "--output", ".").startswith("pyproject.toml: was not generated, so nothing is ")
    assert contents(project) == before
    assert cli.main(["stubs", "--output", "stubs"]) == 0
    assert cli.main(["stubs", "--output", "stubs", "--pb2-module", "own.task_pb2"]) == 0, "its own it replaces"
