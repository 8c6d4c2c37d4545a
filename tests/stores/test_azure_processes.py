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
from tests.support.fixtures import ENGINES, Engine, needs_obstore
from tests.support.proxy import HEALTHY, Fault, FaultProxy, always

from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from tests.support.azurite import Azurite

# The read_timeout of the stores, which a stalled transfer would keep a process for, is 20 s: this is far from it.
AT_ONCE = 10
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

HEAD: Final = """
import os, sys, threading, time, warnings
from durabletask_payloads import PayloadStoreUnavailableError
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions
_, connection_string, container, engine, *rest = sys.argv
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads

def make_store(**settings):
    common = {"connection_string": connection_string, "engine": engine}
    return BlobPayloadStore(
        BlobPayloadStoreOptions(container_name=container, enable_compression=False, **{**common, **settings})
    )

def fork(act):
    child = os.fork()
    if child == 0:
        act()
        sys.exit(0)
    return child

def code_of(child):
    return os.waitpid(child, 0)[1]
"""


def command(program: str, azurite: Azurite, port: int, container: str, *arguments: str) -> list[str]:
    place = (azurite.connection_string_at(port), container)
    return [sys.executable, "-X", "faulthandler", "-W", "error", "-c", HEAD + program, *place, *arguments]


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
store = make_store()
token = store.upload(b"1")
stopping = threading.Event()
served, serving = os.pipe()

def keep_using():
    while not stopping.is_set():
        assert store.download(token) == b"1"

def serve():
    assert store.engine == "azure-storage-blob"
    for used in (store, make_store()):
        assert used.download(used.upload(b"2")) == b"2"
        assert used.download(token) == b"1"
    os.write(serving, b".")
    try:
        make_store(connection_string=rest[0], total_timeout=1).download(token)
    except PayloadStoreUnavailableError as error:
        assert "within total_timeout" in str(error)
    else:
        raise AssertionError("it was served")

users = [threading.Thread(target=keep_using) for _ in range(4)]
for user in users:
    user.start()
children = [fork(serve) for _ in range(4)]
os.close(serving)
for _ in children:
    os.read(served, 1)  # or the end, if they are
stopping.set()
for user in users:
    user.join()
codes = [code_of(child) for child in children]
assert codes == [0] * 4, codes
assert store.download(token) == b"1"
print(store.engine)
"""

FORCED = """
store = make_store()
token = store.upload(b"1")

def serve():
    for used in (store, make_store()):
        try:
            used.download(token)
        except PayloadStoreUnavailableError as error:
            assert "obstore was used before this process was forked" in str(error)
            assert 'engine="auto"' in str(error)
        else:
            raise AssertionError("served")

assert code_of(fork(serve)) == 0
assert store.download(token) == b"1"
"""

UNUSED = """
store = make_store()

def serve():
    assert store.engine == "obstore"
    assert store.download(store.upload(b"1")) == b"1"
    assert "obstore" in sys.modules

assert "obstore" not in sys.modules
assert code_of(fork(serve)) == 0
assert code_of(fork(serve)) == 0
assert store.download(store.upload(b"2")) == b"2"
"""


@needs_fork
@pytest.mark.parametrize("engine", ENGINES)
def test_workers_of_a_parent_that_used_a_store(azurite: Azurite, container: str, engine: Engine) -> None:
    """As gunicorn's with its application loaded before: all serve, and keep their deadlines."""
    with FaultProxy(azurite.port, always(Fault(swallow=True))) as silent:
        dead = azurite.connection_string_at(silent.port)
        option = "auto" if engine == "obstore" else engine
        assert run(WORKERS, azurite, azurite.port, container, option, dead) == f"{engine}\n"


@needs_fork
@needs_obstore
def test_obstore_that_is_forced_refuses_in_a_child(azurite: Azurite, container: str) -> None:
    assert run(FORCED, azurite, azurite.port, container, "obstore") == ""


@needs_fork
@needs_obstore
@pytest.mark.parametrize("engine", ["auto", "obstore"])
def test_children_of_a_parent_that_used_nothing_take_obstore(azurite: Azurite, container: str, engine: str) -> None:
    assert run(UNUSED, azurite, azurite.port, container, engine) == ""


# ---- ends ---------------------------------------------------------------------------------------------------------

ENDING = """
import random
store = make_store(max_stored_payload_bytes=30_000_000)
data = random.Random(7).randbytes(int(rest[0]))
token = store.upload(data)

def keep_using(number):
    try:
        while True:
            assert len(store.upload(data) if number % 2 else store.download(token)) > 0
    except PayloadStoreUnavailableError as error:
        assert "was closed" in str(error), error

for number in range(8):
    threading.Thread(target=keep_using, args=(number,), daemon=True).start()
print("ready", flush=True)
time.sleep(float(rest[1]))
if rest[2] == "close":
    store.close()
print("ending", flush=True)
"""

# The main thread waits for a transfer that stalls, until it is interrupted.
WAITING = """
store = make_store(max_stored_payload_bytes=30_000_000)
data = bytes(24_000_000)
token = rest[1]
print("ready", flush=True)
try:
    store.upload(data) if rest[0] == "upload" else store.download(token)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def seconds_to_end(process: subprocess.Popen[str], word: str) -> float:
    """How long the process takes from that word on, which is the last one that it says."""
    assert process.stdout is not None
    assert process.stdout.readline() == f"{word}\n"
    begin = time.monotonic()
    assert process.stdout.read() == ""
    assert process.wait(60) == 0
    return time.monotonic() - begin


@pytest.mark.parametrize("end", ["exit", "close"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_process_ends_amid_its_transfers(azurite: Azurite, container: str, engine: str, end: str) -> None:
    """Stalled ones, and ones that complete right then: it says nothing, and is gone at once."""
    dice = random.Random(7)
    stalling = Fault(stall_request_after=50_000, stall_response_after=50_000)

    def stalling_later(number: int) -> Fault:
        return stalling if number > 3 else HEALTHY  # the first connections make the container, and upload

    for plan, size in ((stalling_later, 200_000), (always(HEALTHY), 2_000)):
        with FaultProxy(azurite.port, plan) as proxy:
            arguments = (engine, str(size), str(dice.uniform(0.0, 0.5)), end)
            with subprocess.Popen(
                command(ENDING, azurite, proxy.port, container, *arguments),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            ) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                assert seconds_to_end(process, "ending") < AT_ONCE


@pytest.mark.parametrize("way", ["upload", "download"])
@pytest.mark.parametrize("engine", ENGINES)
def test_control_c_amid_a_transfer_that_stalls(azurite: Azurite, container: str, engine: str, way: str) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string,
        container_name=container,
        max_stored_payload_bytes=30_000_000,
        enable_compression=False,
    )
    with BlobPayloadStore(options) as store:
        token = store.upload(bytes(24_000_000)) if way == "download" else ""
    stalling = Fault(stall_request_after=100_000, stall_response_after=100_000)
    with (
        FaultProxy(azurite.port, always(stalling)) as proxy,
        subprocess.Popen(
            command(WAITING, azurite, proxy.port, container, engine, way, token),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        end = time.monotonic() + 10
        while not proxy.requests:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert seconds_to_end(process, "interrupted") < AT_ONCE


THREADS = """
import hashlib
from concurrent.futures import ThreadPoolExecutor
store = make_store()

def there_and_back(number):
    data = hashlib.sha256(str(number).encode()).digest() * 300
    return store.download(store.upload(data)) == data

with store, ThreadPoolExecutor(64) as pool:
    assert all(pool.map(there_and_back, range(320)))
    assert sum(thread.name.startswith("durabletask-payloads") for thread in threading.enumerate()) <= 66
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_320_payloads_from_64_threads(azurite: Azurite, container: str, engine: str) -> None:
    assert run(THREADS, azurite, azurite.port, container, engine) == ""
