"""The command `demo`: see `_demo`, which it runs in a process of its own."""

import multiprocessing
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ._errors import PROGRAM, report
from ._options import Debug, finite

__all__ = ["demo"]

Megabytes = Annotated[
    float,
    typer.Option(
        "--size",
        metavar="MB",
        min=0.001,
        max=10,
        callback=finite,
        help="The size of the orchestration's input, in MB.",
    ),
]
Place = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="STORE",
        help='Where the payloads go: "directory" (a temporary folder), "azurite" (one that is started for the demo, '
        "only in a clone of the repository), or the URL of a store, as azure://ACCOUNT/CONTAINER or "
        "s3://BUCKET/PREFIX, with credentials in the environment.",
    ),
]


def demo(size: Megabytes = 5.0, store: Place = "directory", debug: Debug = False) -> int:
    """Run an orchestration with a large input, without and with this package.

    A worker and a client of the durabletask SDK talk over real gRPC to the SDK's in-memory backend: first as they are,
    then with the PayloadInterceptor. Needs durabletask-payloads[sdk,cli].
    """
    # In a process of its own, which Ctrl-C can end: the SDK's threads wait for up to a minute.
    with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as folder:
        process = multiprocessing.get_context("spawn").Process(
            target=_in_child, args=(store, Path(folder), int(size * 1_000_000), debug)
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
            raise
        return process.exitcode or 0


def _in_child(store_name: str, folder: Path, input_bytes: int, debug: bool) -> None:
    try:
        from . import _demo

        with _demo.open_place(store_name, folder) as store:
            ended = _demo.run(store, input_bytes=input_bytes)
    except Exception as error:
        ended = report("demo", error, debug=debug)
    sys.exit(ended)
