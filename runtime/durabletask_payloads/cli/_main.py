"""The entry point of `durabletask-payloads`: works without the extra `[cli]`, which the commands need."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from durabletask_payloads._version import __version__

from ._errors import PROGRAM, OutputClosedError, complain, discard, flush_output, open_streams, print_output

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXTRA = frozenset({"typer", "rich", "click"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: see `_app`.

    Args:
        arguments: what follows the name of the program; those of the process by default.
    """
    open_streams()
    ended = 0
    try:
        ended = _run(list(sys.argv[1:] if arguments is None else arguments))
        flush_output()
    except OutputClosedError:
        return 1
    except OSError as error:
        discard(sys.stdout)
        if not ended:  # else the line about it is printed
            complain("", error)
        return ended or 1
    return ended


def _run(arguments: list[str]) -> int:
    if arguments == ["--version"]:
        print_output(f"{PROGRAM} {__version__}")
        return 0
    # gRPC's own lines on standard error, such as that a server has gone. Processes that a command starts inherit it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # Why a credential has no token is in our error, on its one line.
    logging.getLogger("azure").addHandler(logging.NullHandler())
    try:
        from ._app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        complain("", f"the command line needs typer and rich ({error}): pip install durabletask-payloads[cli]")
        return 2
    return run(arguments)
