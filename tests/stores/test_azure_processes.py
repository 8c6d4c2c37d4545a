"""Forks, exits and interrupts of processes that use the Azure store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest
from tests.support.proxy import Fault, FaultProxy, always

from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.azurite import Azurite

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

HEAD: Final = """
import os, sys, threading, time, warnings
from durabletask_payloads import PayloadStoreUnavailableError
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions
_, connection_string, container, engine, *rest = sys.argv
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
def store(**settings):
    return BlobPayloadStore(BlobPayloadStoreOptions(
        connection_string=connection_string, container_name=container, enable_compression=False,
        **{"engine": engine, **settings}))
def fork(act):
    child = os.fork()
    if child == 0:
        act()
        sys.exit(0)
    return child
"""


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[FaultProxy]:
    with FaultProxy(azurite.port) as proxy:
        yield proxy


def command(program: str, azurite: Azurite, port: int, container: str, *arguments: str) -> list[str]:
    place = (azurite.connection_string_at(port), container)
    return [sys.executable, "-X", "dev", "-W", "error", "-c", HEAD + program, *place, *arguments]


def run(program: str, azurite: Azurite, port: int, container: str, *arguments: str) -> str:
    """What it prints, on both streams."""
    done = subprocess.run(
        command(program, azurite, port, container, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# ---- forks --------------------------------------------------------------------------------------------------------

WORKERS = """
parents = store()
token = parents.upload(b"1")
engines = {parents.engine}
stopping = threading.Event()
def keep_using():
    while not stopping.is_set():
        assert parents.download(token) == b"1"
users = [threading.Thread(target=keep_using) for _ in range(4)]
for user in users:
    user.start()
def serve():
    assert parents.engine == "azure-storage-blob"
    for used in (parents, store()):
        assert used.download(used.upload(b"2")) == used.download(token) + b"" if False else True
        assert used.download(used.upload(b"2")) == b"2"
        assert used.download(token) == b"1"
    dead = store(connection_string=rest[0], total_timeout=1)
    begin = time.monotonic()
    try:
        dead.download(token)
    except PayloadStoreUnavailableError as error:
        assert "within total_timeout" in str(error)
    assert 0.9 < time.monotonic() - begin < 3
children = [fork(serve) for _ in range(4)]
codes = [os.waitpid(child, 0)[1] for child in children]
stopping.set()
for user in users:
    user.join()
assert codes == [0] * 4, codes
assert parents.download(token) == b"1"
print(parents.engine)
"""


@needs_fork
@pytest.mark.parametrize("engine", ["auto", "azure-storage-blob"])
def test_workers_of_a_parent_that_used_a_store(azurite: Azurite, container: str, engine: str) -> None:
    """As gunicorn's with preload: all serve, and keep their deadlines."""
    with FaultProxy(azurite.port, always(Fault(swallow=True))) as dead:
        silent = azurite.connection_string_at(dead.port)
        served = run(WORKERS.replace(FILLER, ""), azurite, azurite.port, container, engine, silent)
    assert served == {"auto": "obstore\n"}.get(engine, f"{engine}\n")
