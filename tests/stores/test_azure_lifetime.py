"""Threads, event loops, processes, and the end of each."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import pytest
from tests.support.ports import reserved_port
from tests.support.proxy import Fault, FaultProxy, always, canned, first
from tests.support.store_forms import Form, both_forms
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError
from durabletask_payloads.stores import _remote
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.support.azurite import Azurite
    from tests.support.fixtures import Engine

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def options(azurite: Azurite, container: str, proxy: FaultProxy) -> BlobPayloadStoreOptions:
    return BlobPayloadStoreOptions(
        connection_string=azurite.connection_string_at(proxy.port), container_name=container, read_timeout=3
    )


def store_threads() -> list[str]:
    """Less those of an Externalizer."""
    return [name for name in our_threads() if name.startswith("durabletask-payloads-")]


def test_one_connection_serves_threads_and_loops(
    options: BlobPayloadStoreOptions, proxy: FaultProxy, engine: Engine
) -> None:
    with BlobPayloadStore(options) as store:
        token = store.upload(b"1")
        for _ in range(5):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(store.download, token).result() == b"1"
            assert asyncio.run(store.download_async(token)) == b"1"
        if engine == "azure-storage-blob":
            assert proxy.connections == 1
            assert len(store_threads()) == 1
        else:  # obstore has one to upload and one to download, Azure's client one for the container
            assert proxy.connections == 3
            assert len(store_threads()) == 2


def test_two_loops_at_the_same_time(options: BlobPayloadStoreOptions) -> None:
    with BlobPayloadStore(options) as store:
        token = asyncio.run(store.upload_async(b"x" * 100_000))

        async def download_many() -> list[bytes]:
            return await asyncio.gather(*(store.download_async(token) for _ in range(10)))

        def run_a_loop(number: int) -> list[bytes]:
            return asyncio.run(download_many())

        with ThreadPoolExecutor(4) as pool:
            for result in pool.map(run_a_loop, range(8)):
                assert result == [b"x" * 100_000] * 10


def test_the_loop_of_the_caller_goes_on(options: BlobPayloadStoreOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()
    turns: list[bool] = []

    def encode(data: bytes, compression: str) -> bytes:
        turns.append(going_on.wait(10))  # which the loop sets, if it is not this that it waits for
        return data

    def decode(body: bytes, *, token: str, limit: int, sha256: str | None) -> bytes:
        turns.append(going_on.wait(10))
        return body

    monkeypatch.setattr(_remote, "encode", encode)
    monkeypatch.setattr(_remote, "decode", decode)

    async def turn(transfer: Coroutine[None, None, T]) -> T:
        going_on.clear()
        task = asyncio.create_task(transfer)
        await asyncio.sleep(0.2)  # by now it is in `encode` or `decode`
        going_on.set()
        return await task

    async def there_and_back() -> bytes:
        return await turn(store.download_async(await turn(store.upload_async(b"1"))))

    with BlobPayloadStore(options) as store:
        assert asyncio.run(there_and_back()) == b"1"
    assert turns == [True, True]


@both_forms
@pytest.mark.parametrize("way", ["close", "aclose", "with", "async with"])
def test_closed(options: BlobPayloadStoreOptions, proxy: FaultProxy, form: Form, way: str) -> None:
    store = BlobPayloadStore(options)
    token = form.upload(store, b"1")
    assert store_threads()

    async def leave() -> None:
        async with store:
            pass

    match way:
        case "close":
            store.close()
        case "aclose":
            asyncio.run(store.aclose())
        case "with":
            with store:
                pass
        case _:
            asyncio.run(leave())
    # Azurite closes idle ones after 5 s.
    wait_until(lambda: store_threads() == [] and proxy.open_connections == 0, seconds=4)
    store.close()  # nothing happens
    asyncio.run(store.aclose())
    # Transient: a work item that arrives while a process ends must not be completed as failed.
    with pytest.raises(PayloadStoreUnavailableError, match="was closed"):
        form.download(store, token)
    with pytest.raises(PayloadStoreUnavailableError, match="was closed"):
        form.upload(store, b"2")
    assert store_threads() == []


def test_closed_without_use(options: BlobPayloadStoreOptions) -> None:
    BlobPayloadStore(options).close()
    assert store_threads() == []


@pytest.mark.parametrize("refused", ["", "asyncio"], ids=["no thread", "no thread to resolve a name"])
def test_no_more_threads(options: BlobPayloadStoreOptions, refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(refused):
            raise RuntimeError("can't start new thread")
        begin(thread)

    assert options.connection_string is not None
    by_name = options.connection_string.replace("127.0.0.1", "localhost")
    with BlobPayloadStore(replace(options, connection_string=by_name, retries=0)) as store:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(PayloadStoreUnavailableError, match="this process gets no more threads") as caught:
                store.upload(b"1")
        assert not caught.value.permanent
        assert store.download(store.upload(b"2")) == b"2"


def test_no_more_files(options: BlobPayloadStoreOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event loop needs some."""

    def new_event_loop() -> asyncio.AbstractEventLoop:
        raise OSError(errno.EMFILE, "Too many open files")

    with BlobPayloadStore(replace(options, retries=0)) as store:
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.events, "new_event_loop", new_event_loop)
            with pytest.raises(PayloadStoreUnavailableError, match=r"no event loop \(Too many open files\)") as caught:
                store.upload(b"1")
        assert not caught.value.permanent
        assert store.download(store.upload(b"2")) == b"2"


@both_forms
def test_closed_in_the_middle(options: BlobPayloadStoreOptions, proxy: FaultProxy, form: Form) -> None:
    store = BlobPayloadStore(options)
    token = store.upload(b"1")
    assert store.download(token) == b"1"
    proxy.freeze()
    with ThreadPoolExecutor(1) as pool:
        download = pool.submit(form.download, store, token)
        time.sleep(0.2)
        store.close()
        with pytest.raises(PayloadStoreUnavailableError, match="was closed"):  # and not that it took too long
            download.result()
    # obstore cannot be interrupted: its call ends by read_timeout.
    wait_until(lambda: store_threads() == [] and proxy.open_connections == 0)


def test_a_cancelled_caller_leaves_no_connection(options: BlobPayloadStoreOptions, proxy: FaultProxy) -> None:
    async def give_up(token: str) -> None:
        await asyncio.wait_for(store.download_async(token), 0.2)

    with BlobPayloadStore(replace(options, read_timeout=1)) as store:
        token = store.upload(b"1")
        assert store.download(token) == b"1"
        proxy.freeze()
        with pytest.raises(asyncio.TimeoutError):
            asyncio.run(give_up(token))
        # The request goes on in its thread, until read_timeout ends it. Azurite closes what is idle for 5 s.
        wait_until(lambda: proxy.open_connections == 0)
        assert store.download(token) == b"1"


def test_forgotten(options: BlobPayloadStoreOptions, proxy: FaultProxy) -> None:
    store = BlobPayloadStore(options)
    store.upload(b"1")
    del store
    gc.collect()
    wait_until(lambda: store_threads() == [])
    wait_until(lambda: proxy.open_connections == 0)


PROGRAM = """
import asyncio, logging, os, sys
from durabletask_payloads.stores import _remote
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions
_, connection_string, container, engine = sys.argv
# With -X dev asyncio tells of each callback that took 0.1 s, as any may on a busy machine.
logging.getLogger("asyncio").addFilter(lambda record: not record.getMessage().startswith("Executing "))
store = BlobPayloadStore(
    BlobPayloadStoreOptions(connection_string=connection_string, container_name=container, engine=engine)
)
token = store.upload(b"1")
assert asyncio.run(store.download_async(token)) == b"1"
"""


def run(program: str, options: BlobPayloadStoreOptions, engine: str) -> str:
    """What it prints, on both streams, with all warnings of unclosed resources and pending tasks."""
    assert options.connection_string is not None
    place = (options.connection_string, options.container_name)
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, *place, engine],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_a_process_ends_without_a_word(options: BlobPayloadStoreOptions, proxy: FaultProxy, engine: Engine) -> None:
    assert run(PROGRAM, options, engine) == ""
    wait_until(lambda: proxy.open_connections == 0)


def serving(engine: Engine) -> str:
    """The option with which `engine` serves, and in a forked child the one that can."""
    return "auto" if engine == "obstore" else engine


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_a_fork(options: BlobPayloadStoreOptions, engine: Engine) -> None:
    program = (
        PROGRAM
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
child = os.fork()
if child == 0:
    assert store.download(token) == b"1"
    assert asyncio.run(store.download_async(store.upload(b"2"))) == b"2"
    store.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert store.download(token) == b"1"
print("parent still works")
"""
    )
    assert run(program, options, serving(engine)) == "parent still works\n"


def test_a_fault_is_of_one_connection(options: BlobPayloadStoreOptions, proxy: FaultProxy) -> None:
    """The proxy's own test: what these tests stand on."""
    proxy.plan = first(1, Fault(reset_request_after=1))
    with BlobPayloadStore(options) as store:
        store.upload(b"1")
    assert proxy.connections == 2


class Watched(bytes):
    """A payload that can be watched: bytes alone have no weak references."""

    def __init__(self, _data: bytes) -> None:
        self.mark = threading.Event()


@pytest.mark.parametrize("fault", ["refused", "503"])
def test_an_error_goes_with_its_payload_when_nobody_holds_it(
    fault: str, options: BlobPayloadStoreOptions, azurite: Azurite, proxy: FaultProxy
) -> None:
    """Without the garbage collector: until that runs, an outage would fill the memory."""
    proxy.plan = always(canned(503, "Busy", "ServerBusy"))
    with reserved_port() as closed:
        options = replace(
            options,
            connection_string=azurite.connection_string_at(closed if fault == "refused" else proxy.port),
            enable_compression=False,
            retries=1,
        )

        def failed(store: BlobPayloadStore) -> tuple[weakref.ref[PayloadError], weakref.ref[threading.Event]]:
            payload = Watched(b"x" * 100_000)
            try:
                store.upload(payload)
            except PayloadError as error:
                return weakref.ref(error), weakref.ref(payload.mark)
            pytest.fail("the upload succeeded")

        with BlobPayloadStore(options) as store:
            gc.disable()
            try:
                error, payload = failed(store)
                wait_until(
                    lambda: error() is None and payload() is None, what="the end of error and payload", seconds=5
                )
            finally:
                gc.enable()
