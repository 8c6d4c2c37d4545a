"""Errors of commands: the line that reports one, the exit code that it ends with, and streams that take no text."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final, Literal, NoReturn, TextIO

from durabletask_payloads._errors import PayloadError

PROGRAM: Final = "durabletask-payloads"


class CommandError(Exception):
    """A command cannot start or go on. The text is one line.

    Attributes:
        exit_code: 2 when it cannot be done as asked (an argument, something that is not installed), else 1.
    """

    def __init__(self, text: str, *, exit_code: Literal[1, 2]) -> None:
        super().__init__(" ".join(text.split()))
        self.exit_code: Literal[1, 2] = exit_code


class OutputClosedError(Exception):
    """Nobody reads standard output any more, as behind `| head`."""


def open_streams() -> None:
    """Open the standard streams that are closed, as by `>&-`, on the null device: Python has None for each of them."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # As Python opens its own: nothing closes it, or warns that nothing did.
            stream = os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8", closefd=False)
            setattr(sys, name, stream)


def print_output(text: str) -> None:
    """Print a text and the end of its line on standard output. Raises as `flush_output`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        output_is_closed()


def flush_output() -> None:
    """Flush standard output.

    Raises:
        OutputClosedError: nobody reads it any more.
        OSError: it cannot be written, as on a full disk.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        output_is_closed()


def output_is_closed() -> NoReturn:
    """Raise OutputClosedError, and discard what is not written."""
    discard(sys.stdout)
    raise OutputClosedError from None


def discard(stream: TextIO) -> None:
    """See that Python, which flushes a standard stream once more when it ends, finds nothing to report."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def complain(command: str, text: object) -> None:
    """Print one line about a command on standard error; "" is the program itself."""
    line = " ".join(str(text).split())
    try:
        print(f"{PROGRAM} {command}: {line}" if command else f"{PROGRAM}: {line}", file=sys.stderr, flush=True)
    except OSError:  # the exit code tells of it all the same
        discard(sys.stderr)


def report(command: str, error: Exception | KeyboardInterrupt, *, debug: bool) -> int:
    """Print what ended a command as one line, or as a traceback, and return the exit code.

    The text of an error that this package does not know may hold anything, so that line has only its type.
    """
    if debug and not isinstance(error, OutputClosedError | KeyboardInterrupt):
        traceback.print_exception(error)
    match error:
        case OutputClosedError():
            return 1
        case KeyboardInterrupt():
            complain(command, "interrupted")
            return 130
        case CommandError():
            complain(command, error)
            return error.exit_code
        case ImportError():
            complain(command, error)
            return 2
        case PayloadError() | OSError():
            complain(command, error)
            return 1
        case _:
            hint = "" if debug else "; --debug shows where"
            complain(command, f"an unexpected {type(error).__name__}{hint}")
            return 1
