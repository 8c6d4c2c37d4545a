"""The argument parser, and the exit codes: 0 done, 1 failed, 2 cannot be done as asked, 130 interrupted."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from durabletask_payloads._errors import PayloadError
from durabletask_payloads._version import __version__

from ._errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROGRAM = "durabletask-payloads"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="Large payloads of Durable Task orchestrations.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="an orchestration with 5 MB of input: refused by gRPC without this package, completed with it",
        description="Runs a worker and a client of the durabletask SDK over real gRPC, on the SDK's in-memory backend: "
        "first as they are, then with the PayloadInterceptor. Needs durabletask-payloads[sdk,cli].",
    )
    demo.add_argument(
        "--size", type=_megabytes, default=5.0, metavar="MB", help="size of the orchestration's input (default: 5)"
    )
    demo.add_argument(
        "--store",
        default="directory",
        metavar="STORE",
        help='where the payloads go: "directory" (a temporary folder, the default), "azurite" (one that is started for '
        "the demo, only in a clone of the repository), or the URL of a store, as azure://<account>/<container> or "
        "s3://<bucket>/<prefix>, with credentials in the environment",
    )
    options = parser.parse_args(arguments)
    store: str = options.store
    size: float = options.size
    return _demo(store, int(size * 1_000_000))


def _demo(store: str, input_bytes: int) -> int:
    """Run the demo in a process of its own, which Ctrl-C can end: the SDK's threads wait for up to a minute."""
    with tempfile.TemporaryDirectory(prefix=f"{_PROGRAM}-") as folder:
        process = multiprocessing.get_context("spawn").Process(
            target=_run_demo, args=(store, Path(folder), input_bytes)
        )
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the new process inherits it
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        try:
            process.join()
        except KeyboardInterrupt:
            process.kill()
            process.join()
            _complain("interrupted")
            return 130
        return process.exitcode or 0


def _run_demo(store_name: str, folder: Path, input_bytes: int) -> None:
    try:
        from . import demo  # needs the extras [sdk,cli], which nothing else here does

        with demo.open_store(store_name, folder) as store:
            sys.exit(demo.run(store, input_bytes=input_bytes))
    except CommandError as error:
        _complain(error)
        sys.exit(error.exit_code)
    except ImportError as error:
        _complain(error)
        sys.exit(2)
    except (OSError, PayloadError) as error:
        _complain(error)
        sys.exit(1)


def _complain(about: object) -> None:
    print(f"{_PROGRAM} demo: {about}", file=sys.stderr, flush=True)


def _megabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0.001 <= size <= 10:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size from 0.001 to 10 MB (a store takes up to 10 MiB by default)"
        )
    return size
