"""The wheel of this tree, and new environments to install it into: for the tests of what a user gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]


class FailedError(Exception):
    """A command failed; the text has what it printed."""


def result(
    *command: str | Path, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, however it ends. `environment` replaces the variables of this process."""
    words = [str(part) for part in command]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def run(*command: str | Path, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints. `environment` replaces the variables of this process.

    Raises:
        FailedError: its exit code is not 0.
    """
    done = result(*command, cwd=cwd, environment=environment)
    if done.returncode:
        raise FailedError(done.stdout + done.stderr)
    return done.stdout


def build(folder: Path, *options: str) -> Path:
    """Build the sdist into a folder, and the wheel from it, or with "--wheel" only the wheel. Return the wheel."""
    run(sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", folder, cwd=ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


class Environment:
    """A new virtual environment in a folder. The pip of this one installs into it: one of its own takes seconds.

    Args:
        folder: a new or empty one.
        base: the interpreter that it is of.

    Attributes:
        scripts: the folder of its programs.
        python: its interpreter.
    """

    def __init__(self, folder: Path, base: str | Path = sys.executable) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        run(base, "-m", "venv", "--without-pip", folder, cwd=folder)
        self.scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
        self.python = self.scripts / "python"
        self._folder = folder

    def install(self, *requirements: str, locked: bool = True) -> None:
        """Install packages, at the versions of dev.lock unless `locked` is false.

        Raises:
            FailedError: pip failed.
        """
        lock = ("-c", ROOT / "dev.lock") if locked else ()
        # Most of what is installed is never imported: Python compiles the rest as it goes.
        pip = (sys.executable, "-m", "pip", "--python", self.python, "install", "--no-compile")
        run(*pip, "--quiet", "--disable-pip-version-check", *lock, *requirements, cwd=self._folder)


def installed(dist: Path, folder: Path, extras: str = "", *further: str) -> Path:
    """Return the scripts of a new environment in `folder` that has the wheel of `dist`, and `further` packages."""
    (wheel,) = dist.glob("*.whl")
    environment = Environment(folder)
    environment.install(f"{wheel}{extras}", *further)
    return environment.scripts
