"""The interpreters of a machine: on PATH, as shims that may have no Python behind them, and in pyenv's folder."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.interpreters import find

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "{}.{}".format(*sys.version_info)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the programs here are shell scripts")


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the PATH, on a machine whose pyenv is empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return folder


def write(python: Path, command: str) -> Path:
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f"#!/bin/sh\n{command}\n")
    python.chmod(0o755)
    return python


def test_on_path(on_path: Path) -> None:
    assert find(VERSION) is None
    python = write(on_path / f"python{VERSION}", f'exec {sys.executable} "$@"')
    assert find(VERSION) == python


@pytest.mark.parametrize("command", ["echo 3.1", "echo not found >&2; exit 127"])
def test_a_shim_without_a_python_behind_it(on_path: Path, command: str) -> None:
    write(on_path / f"python{VERSION}", command)
    assert find(VERSION) is None


def test_of_pyenv_the_newest_that_runs(on_path: Path, tmp_path: Path) -> None:
    versions = tmp_path / "pyenv" / "versions"
    serves = f'exec {sys.executable} "$@"'
    for patch, command in {"2": serves, "9": serves, "10": serves, "11": "exit 1", "12-dev": serves}.items():
        write(versions / f"{VERSION}.{patch}" / "bin" / "python", command)
    assert find(VERSION) == versions / f"{VERSION}.10" / "bin" / "python"
