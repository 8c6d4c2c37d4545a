"""Azurite for `demo --store azurite`: its launcher is a tool of the tests, so there is one only in a clone.

It runs as a process of its own: nothing of the tests is imported, and it ends with this process, however that ends.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ._errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Generator

# The root of the clone, where this package is installed from one: not the current folder, whose code is not ours.
_ROOT = Path(__file__).parents[3]


@contextlib.contextmanager
def azurite(root: Path = _ROOT) -> Generator[str]:
    """Run an Azurite; yields its connection string.

    Raises:
        CommandError: there is no clone at `root`, or Azurite cannot be installed or started.
    """
    if not (root / "tests/support/azurite/__main__.py").is_file():
        raise CommandError(
            "--store azurite needs a clone of the repository: run `make demo` there, "
            "or use --store azure://<account>/<container>",
            exit_code=2,
        )
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.azurite"],
        cwd=root,
        stdin=subprocess.PIPE,  # it ends when this is closed
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None  # PIPE, above
        connection_string = process.stdout.readline().strip()
        if not connection_string:
            _, complaint = process.communicate()
            raise CommandError(complaint or "Azurite did not start", exit_code=1)
        yield connection_string
