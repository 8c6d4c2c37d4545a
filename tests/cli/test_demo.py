"""`durabletask-payloads demo`: what it prints, its exit codes, and how it ends on Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from durabletask_payloads import __version__
from durabletask_payloads.cli import main
from durabletask_payloads.cli._azurite import azurite
from durabletask_payloads.cli._errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "durabletask_payloads.cli")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_the_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"durabletask-payloads {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--size", "0"], "Invalid value for '--size': "),
        (["--size", "11"], "Invalid value for '--size': "),
        (["--size", "large"], "Invalid value for '--size': "),
        (["--store", "azure", "--connection-string", "foo"], "No such option: --connection-string"),
    ],
)
def test_bad_arguments(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"durabletask-payloads demo: {complaint}")
    assert err.endswith(": see durabletask-payloads demo --help\n")
    assert err.count("\n") == 1


class _Here:
    """What the demo needs of multiprocessing, without a process: its imports take most of the time."""

    def __init__(self, target: Callable[..., None], args: tuple[object, ...]) -> None:
        self._work = partial(target, *args)
        self.exitcode: object = None

    def start(self) -> None:
        with pytest.raises(SystemExit) as ended:
            self._work()
        self.exitcode = ended.value.code

    def join(self) -> None:
        """It has ended."""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the demo in this process."""

    def get_context(method: str) -> SimpleNamespace:
        return SimpleNamespace(Process=_Here)

    monkeypatch.setattr(multiprocessing, "get_context", get_context)


def test_a_store_that_cannot_be_right() -> None:
    done = run("demo", "--store", "azure")
    complaint = "url names no kind of store: it must be one of azure://<account>/<container>, "
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"durabletask-payloads demo: --store: {complaint}")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_a_container_that_cannot_be_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--store", "azure://account/NO"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("durabletask-payloads demo: --store: container_name is 'NO': it must be ")
    assert err.count("\n") == 1


def test_the_demo_on_a_store_by_its_url(tmp_path: Path) -> None:
    done = run("demo", "--store", tmp_path.as_uri(), "--size", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "COMPLETED" in done.stdout
    assert list(tmp_path.glob("durabletask-payloads/*/*"))
    won = " ".join(done.stdout.split()).rpartition("the cache. ")[2]
    assert re.fullmatch(
        r"9\.0 MB of payloads crossed gRPC as 9 tokens of 0\.\d KB in all; "
        r"the largest request had \d\.\d KB instead of 1\.0 MB\.",
        won,
    )


def test_the_demo_on_an_azurite_of_its_own(tmp_path: Path) -> None:
    done = run("demo", "--store", "azurite", "--size", "1", TMPDIR=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert "COMPLETED" in done.stdout
    assert "kept by BlobPayloadStore" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_azurite_elsewhere_than_in_a_clone(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as raised, azurite(tmp_path):
        pass
    assert raised.value.exit_code == 2
    assert str(raised.value) == (
        "--store azurite needs a clone of the repository: run `make demo` there, "
        "or use --store azure://<account>/<container>"
    )


@pytest.mark.usefixtures("here")
def test_an_azurite_that_cannot_be_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What npm says of it, in one line."""
    environment = {
        "XDG_CACHE_HOME": str(tmp_path),
        "npm_config_registry": "http://127.0.0.1:1/",
        "npm_config_cache": str(tmp_path / "npm"),
        "npm_config_fetch_retries": "0",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["demo", "--store", "azurite"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("durabletask-payloads demo: npm cannot install Azurite (exit code 1): ")
    assert err.count("\n") == 1


@contextmanager
def started(folder: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A demo in a process group of its own, as a shell starts it, that has begun; `folder` is for its files."""
    process = subprocess.Popen(
        [*COMMAND, "demo", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        until("without durabletask-payloads", process)
        yield process
    finally:
        process.kill()
        process.communicate()


def until(text: str, process: subprocess.Popen[str]) -> None:
    """Read what `process` prints until there is `text` in a line."""
    assert process.stdout is not None
    assert any(text in line for line in process.stdout)


def test_ctrl_c(tmp_path: Path) -> None:
    """One line, at once: the SDK's threads would wait for 30 s and more. Nothing is left behind."""
    with started(tmp_path) as demo:
        until("with durabletask-payloads", demo)
        os.killpg(demo.pid, signal.SIGINT)
        rest, errors = demo.communicate(timeout=25)  # returns when no process holds the pipes any more
    assert (demo.returncode, errors) == (130, "durabletask-payloads demo: interrupted\n")
    assert "hit: " not in rest  # nor has one gone on to its end
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_does_not_reach_the_threads_of_the_sdk(tmp_path: Path) -> None:
    """A terminal signals both processes, and the SDK would print a traceback: the inner one ignores it."""
    with started(tmp_path, "--size", "1") as demo:
        os.kill(demo.pid, signal.SIGSTOP)
        until("with durabletask-payloads", demo)
        os.killpg(demo.pid, signal.SIGINT)
        until("hit: ", demo)  # the last line of a demo that has gone on to its end
        os.kill(demo.pid, signal.SIGCONT)
        _, errors = demo.communicate(timeout=60)
    assert (demo.returncode, errors) == (130, "durabletask-payloads demo: interrupted\n")
