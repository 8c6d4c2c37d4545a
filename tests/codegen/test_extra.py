"""Without the extra `[codegen]`: one line with the pip command, while `--help` and `--version` work."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse

from durabletask_payloads_codegen import GENERATOR_VERSION, cli, extra, plugin

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MISSING = "jinja2, ruff not found: pip install durabletask-payloads[codegen]"


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """No jinja2 and no ruff; tests/installed has an environment in which there is nothing of the extra."""
    for module in ("jinja2", "ruff"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.usefixtures("without_the_extra")
@pytest.mark.parametrize("command", ["generate", "check", "fields", "import-proto json"])
def test_the_command_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(command.split()) == 2
    assert capsys.readouterr() == ("", f"durabletask-payloads-codegen: error: {MISSING}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_the_extra")
def test_the_plugin_answers_protoc(monkeypatch: pytest.MonkeyPatch) -> None:
    """protoc prints the error of an answer and fails; a plugin that fails by itself is two more lines."""
    answer = io.BytesIO()
    request = CodeGeneratorRequest(file_to_generate=["a.proto"]).SerializeToString()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(request)))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(answer))
    assert plugin.main([]) == 0
    response = CodeGeneratorResponse.FromString(answer.getvalue())
    assert response.error == MISSING
    assert not response.file


@pytest.mark.usefixtures("without_the_extra")
@pytest.mark.parametrize(
    ("main", "program"),
    [(cli.main, "durabletask-payloads-codegen"), (plugin.main, "protoc-gen-durabletask-payloads")],
)
def test_help_and_version(main: Callable[[list[str]], int], program: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option, text in (("--version", f"{program} {GENERATOR_VERSION}\n"), ("--help", f"usage: {program} ")):
        with pytest.raises(SystemExit) as raised:
            main([option])
        assert raised.value.code == 0
        assert capsys.readouterr().out.startswith(text)


def test_all_of_the_extra_is_asked_for() -> None:
    extra.require(extra.COMMAND_LINE)  # it is installed here
    assert set(extra.PLUGIN) < set(extra.COMMAND_LINE)


def by_hand(stdin: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "durabletask_payloads_codegen.plugin"]
    return subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False, timeout=60)


def test_the_plugin_in_a_terminal_does_not_wait_for_a_request() -> None:
    terminal, stdin = pty.openpty()
    try:
        done = by_hand(stdin)
    finally:
        os.close(terminal)
        os.close(stdin)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "protoc-gen-durabletask-payloads: error: "
        "protoc runs this program: protoc --durabletask-payloads_out=DIR ..., see --help\n"
    )


def test_the_plugin_says_what_is_not_a_request(tmp_path: Path) -> None:
    (tmp_path / "stdin").write_text("message M {}")
    with (tmp_path / "stdin").open() as stdin:
        done = by_hand(stdin.fileno())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "protoc-gen-durabletask-payloads: error: standard input is not a CodeGeneratorRequest, as protoc sends it\n"
    )
