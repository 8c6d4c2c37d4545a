"""Standard streams that cannot be written: closed ones, a pipe that nobody reads any more, a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run"]


def run(program: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit code, or 2 if its output cannot be written.

    Nothing is said of a pipe that nobody reads any more, as of `| head`.
    """
    _open_streams()
    try:
        try:
            return command()
        finally:  # also where argparse exits
            sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):
                print(f"{program}: error: {error}", file=sys.stderr, flush=True)
        _discard(sys.stdout)
        _discard(sys.stderr)
        return 2


def _open_streams() -> None:
    """Open the standard streams that are closed, as by `>&-`, on the null device: Python has None for each of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # As Python opens its own: nothing closes it, or warns that nothing did.
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def _discard(stream: TextIO) -> None:
    """Discard what cannot be written: Python, which flushes once more when it ends, would report that."""
    try:
        stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
