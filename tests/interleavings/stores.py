"""Scenarios of what remote stores are made of: threads for calls that hang, a loop in the background, one container."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.interleavings.primitives import Time

from durabletask_payloads import PayloadStoreUnavailableError
from durabletask_payloads.stores._background_loop import BackgroundLoop
from durabletask_payloads.stores._blob_client import BlobProperties, Body, ClientClosedError, RequestFailedError
from durabletask_payloads.stores._threads import DaemonThreads
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from tests.interleavings.world import World

    from durabletask_payloads.stores._blob_client import Attempt, Place

    _T = TypeVar("_T")

_NO_ACCOUNT: Final = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5;EndpointSuffix=core.windows.net"


def calls_that_hang(world: World) -> None:
    """Threads for calls, some of which take longer than their caller waits, closed in the middle."""
    threads = DaemonThreads("call")
    is_closed = False

    def call(number: int, seconds: float) -> None:
        nonlocal is_closed

        def work() -> int:
            world.scheduler.sleep(seconds)
            if number % 3 == 2:
                raise LookupError(number)
            return number

        started = Time.monotonic()
        try:
            assert threads.run(work, 2.0) == number
            assert number % 3 != 2
        except LookupError as error:
            assert error.args == (number,)  # noqa: PT017  # it is one of several outcomes
        except TimeoutError:
            assert Time.monotonic() - started >= 2.0 or world.scheduler.has_early_timeouts
        except ClientClosedError:
            assert is_closed

    def close() -> None:
        nonlocal is_closed
        world.soon()
        is_closed = True
        threads.close()

    for number in range(6):
        seconds = world.random.choice((0.0, 0.5, 2.0, 5.0))
        world.start(partial(call, number, seconds), f"caller {number}")
    world.start(close, "closing")
    world.join()
    threads.close()
    world.require_alone()
    for name in ("_awaited", "_running", "_given_up"):
        left: object = getattr(threads, name)
        assert not left, f"{name} holds {left}"


def a_loop_that_stops(world: World) -> None:
    """Coroutines that threads submit to a loop in the background, which is stopped meanwhile, by several of them."""
    stops = 0

    async def on_stop() -> None:
        nonlocal stops
        stops += 1
        await asyncio.sleep(0.1)

    loop = BackgroundLoop("background", on_stop)
    submitted: list[Future[int]] = []

    async def work(number: int) -> int:
        await asyncio.sleep(world.random.choice((0.0, 0.1, 1.0)))
        return number

    def submit(number: int) -> None:
        world.soon()
        try:
            future = loop.submit(work(number))
        except RuntimeError:
            return
        submitted.append(future)
        if world.chance(0.2):
            future.cancel()
        try:
            assert future.result() == number
        except CancelledError:
            return

    def stop() -> None:
        world.soon()
        loop.stop()

    for number in range(5):
        world.start(partial(submit, number), f"caller {number}")
    for _ in range(2):
        world.start(stop, "stopping")
    world.join()
    world.require_alone()
    assert stops == 1
    assert all(future.done() for future in submitted)


class _Service:
    """An account without containers, for all clients of a run."""

    def __init__(self) -> None:
        self.containers: list[str] = []
        self.blobs: dict[str, Body] = {}


class _Client:
    """A client of it. Its calls run in threads, as those of the real ones do."""

    is_of_this_process = True

    def __init__(self, world: World, service: _Service) -> None:
        self._world = world
        self._service = service
        self._threads = DaemonThreads("client")

    def _asked(self, answer: Callable[[], _T], attempt: Attempt) -> _T:
        def work() -> _T:
            self._world.soon()
            return answer()

        return self._threads.run(work, attempt.seconds)

    def put(self, place: Place, body: Body, attempt: Attempt) -> None:
        def store() -> None:
            if place.container not in self._service.containers:
                raise RequestFailedError(404, "ContainerNotFound")
            if self._world.chance(0.2):
                raise RequestFailedError(503, "ServerBusy")
            self._service.blobs[place.name] = body

        self._asked(store, attempt)

    def get(self, place: Place, limit: int, attempt: Attempt) -> Body:
        return self._asked(lambda: self._service.blobs[place.name], attempt)

    def head(self, place: Place, attempt: Attempt) -> BlobProperties:
        raise NotImplementedError

    def delete(self, place: Place, etag: str | None, attempt: Attempt) -> None:
        raise NotImplementedError

    def list(self, place: Place, attempt: Attempt) -> Iterator[BlobProperties]:
        raise NotImplementedError

    def create_container(self, place: Place, attempt: Attempt) -> None:
        self._asked(lambda: self._service.containers.append(place.container), attempt)

    def close(self) -> None:
        self._threads.close()


def a_remote_store_that_closes(world: World) -> None:
    """Uploads that all need a container which is not there, with retries, while the store is closed."""
    service = _Service()

    class Store(BlobPayloadStore):
        def _make_client(self) -> _Client:
            return _Client(world, service)

    store = Store(BlobPayloadStoreOptions(connection_string=_NO_ACCOUNT, retries=4, enable_compression=False))
    is_closed = False

    def use(number: int) -> None:
        world.soon()
        data = f"payload {number}".encode()
        try:
            assert store.download(store.upload(data)) == data
        except PayloadStoreUnavailableError as error:
            is_late = world.scheduler.has_early_timeouts and "did not answer within" in str(error)
            if not (is_late or "503" in str(error) or (is_closed and "was closed" in str(error))):
                raise

    def close() -> None:
        nonlocal is_closed
        for _ in range(3):
            world.soon()
        is_closed = True
        store.close()

    for number in range(5):
        world.start(partial(use, number), f"caller {number}")
    if world.chance(0.5):
        world.start(close, "closing")
    world.join()
    store.close()
    world.require_alone()
    # Whose time is up has it made by another call, which does no harm.
    is_once = len(service.containers) <= 1 or world.scheduler.has_early_timeouts
    assert is_once, f"the container was made {len(service.containers)} times"
