"""The typer app: its commands, and what becomes of their errors.

Exit codes: 0 done, and all is well; 1 failed, or something is not well; 2 cannot be done as asked (an argument, an
extra that is missing); 130 interrupted. An error is one line on standard error, with a traceback only for `--debug`.
A command is a function of its own module, whose parameters typer makes options of. It returns its exit code.
"""

from __future__ import annotations

import functools
import importlib
import io
import os
import sys
from typing import TYPE_CHECKING, Annotated, NamedTuple, ParamSpec, Protocol, runtime_checkable

import typer
import typer.main

from durabletask_payloads._version import __version__

from ._errors import PROGRAM, complain, print_output, report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_P = ParamSpec("_P")


class Command(NamedTuple):
    """A command: `function` of the module `module` of this package, imported only to run it."""

    module: str
    function: str
    help: str

    @property
    def name(self) -> str:
        return self.function.replace("_", "-")


COMMANDS = (
    Command("doctor", "doctor", "Check store, SDK and hub: what to grant or set."),
    Command("show", "show", "Show whose a payload is, and whether it is whole."),
    Command("instance", "instance", "List the payloads of an orchestration or entity."),
    Command("stats", "stats", "Count payloads and bytes by day and instance."),
    Command("purge", "purge", "Delete payloads that the scheduler has purged."),
    Command("sweep", "sweep", "Delete payloads that no instance needs any more."),
    Command("lifecycle_policy", "lifecycle_policy", "Print rules that delete old payloads."),
    Command("fields", "fields", "Show which fields of which RPC are payloads."),
    Command("demo", "demo", "Run an orchestration with 5 MB of input."),
)


@runtime_checkable
class _UsageError(Protocol):
    """An error of typer about the arguments. Where its class lives has changed with the releases of typer."""

    def format_message(self) -> str: ...


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` name and return its exit code."""
    debug = "--debug" in arguments
    command = next((name for name in arguments if not name.startswith("-")), "")
    known = command in (one.name for one in COMMANDS)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what is stored need not fit the encoding of the terminal
    try:
        ended: object = typer.main.get_command(_app(command, debug=debug)).main(
            args=list(arguments), prog_name=PROGRAM, standalone_mode=False
        )
    except SystemExit as error:  # typer's: the pipe of its help is closed, or a shell asked for completions
        return error.code if isinstance(error.code, int) else 1
    except Exception as error:
        if isinstance(error, _UsageError):
            called = f"{PROGRAM} {command}" if known else PROGRAM
            complain(command if known else "", f"{error.format_message().rstrip('.')}: see {called} --help")
            return 2
        return report(command, error, debug=debug)
    return ended if isinstance(ended, int) else 0


def _app(wanted: str, *, debug: bool) -> typer.Typer:
    """Return the app, with the command `wanted` loaded: of the others, only the help is needed."""
    app = typer.Typer(
        help="Large payloads of Durable Task orchestrations: what is stored, for what, and how to clean up.",
        rich_markup_mode=None,
        callback=_program,
    )
    completing = any(name.endswith("_COMPLETE") for name in os.environ)
    for command in COMMANDS:
        if command.name == wanted or completing:
            module = importlib.import_module(f".{command.module}", __package__)
            app.command(command.name)(_guarded(command.name, getattr(module, command.function), debug=debug))
        else:
            app.command(command.name, help=command.help)(_not_loaded)
    return app


def _not_loaded() -> None:
    """Stand in for a command that is not the one to run."""


def _program(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        print_output(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _guarded(name: str, function: Callable[_P, int], *, debug: bool) -> Callable[_P, int]:
    """Return `function` with its errors reported here: typer has ways of its own with some of them."""

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> int:
        try:
            return function(*args, **kwargs)
        except (Exception, KeyboardInterrupt) as error:
            return report(name, error, debug=debug)

    return call
