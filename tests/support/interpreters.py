"""The Python interpreters of this machine: those on PATH, and those of pyenv."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(version: str) -> Path | None:
    """Return the interpreter of a version such as "3.10", or None where the machine has none.

    It is looked for on PATH as `python3.10`, then among the versions of pyenv, the newest patch release first.
    """
    return next((python for python in _candidates(version) if _version(python) == version), None)


def _candidates(version: str) -> Iterator[Path]:
    if on_path := shutil.which(f"python{version}"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    patches = [folder for folder in pyenv.glob(f"{version}.*") if re.fullmatch(r"[\d.]+", folder.name)]
    for folder in sorted(patches, key=lambda folder: int(folder.name.rpartition(".")[2]), reverse=True):
        yield folder / "bin" / "python"


def _version(python: Path) -> str:
    """Return the version that an interpreter says it has, or "" if it does not run, as a shim of pyenv may not."""
    program = "import sys; print('{}.{}'.format(*sys.version_info))"
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()
