"""The asynchronous form above the blocking core: bounds, cancellation, loops and threads that share transfers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from tests.externalizer.forms import Form, both_forms
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads import (
    DirectoryPayloadStore,
    Externalizer,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadStore,
    PayloadStoreUnavailableError,
)
from durabletask_payloads.externalizer._transfers import Transfers
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator
    from pathlib import Path

    from tests.support.azurite import Azurite

    from durabletask_payloads import Receipt

SMALL = LargePayloadStorageOptions(threshold_bytes=1_000, max_stored_payload_bytes=50_000, enable_compression=False)
CONCURRENCY = 8


def text(value: str) -> StringValue:
    return StringValue(value=value)


def tasks(*inputs: str) -> pb.OrchestratorResponse:
    return pb.OrchestratorResponse(
        instanceId="i",
        actions=[pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=text(value))) for value in inputs],
    )


def payload(name: object) -> str:
    return f"{name}|" * 300 + "x" * 1_000


def one(token: str) -> pb.ActivityRequest:
    return pb.ActivityRequest(input=text(token))


def wait_for(event: threading.Event) -> None:
    assert event.wait(30)


class MeteredStore(PayloadStore):
    """Passes all calls on to a store, and measures how many of them run at the same time.

    Attributes:
        most_at_once: the largest number so far.
        downloads: how many downloads began.
        before: called first in each upload, download and delete.
    """

    def __init__(self, inner: PayloadStore) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self._running = 0
        self.most_at_once = 0
        self.downloads = 0
        self.before: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def _metered(self) -> Generator[None]:
        with self._lock:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            self.before()
            yield
        finally:
            with self._lock:
                self._running -= 1

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._inner.options

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return self._inner.token_prefixes

    def is_known_token(self, value: str) -> bool:
        return self._inner.is_known_token(value)

    def stored_bytes(self, token: str) -> int:
        return self._inner.stored_bytes(token)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        with self._metered():
            return self._inner.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        with self._lock:
            self.downloads += 1
        with self._metered():
            return self._inner.download(token)

    def delete(self, token: str) -> None:
        with self._metered():
            self._inner.delete(token)


class Stored(NamedTuple):
    """A store, and what it holds."""

    store: PayloadStore
    names: Callable[[], set[str]]


def name_of(token: str) -> str:
    return token.rpartition(":")[2]


def in_memory() -> Stored:
    store = InMemoryPayloadStore(SMALL)
    return Stored(store, lambda: {name_of(token) for token in store.tokens})


def in_folder(root: Path) -> Stored:
    """What a folder holds includes drafts, which have no place there."""
    store = DirectoryPayloadStore(root, SMALL)
    return Stored(store, lambda: {path.name for path in root.rglob("*") if path.is_file()})


def on_azurite(azurite: Azurite, container: str) -> PayloadStore:
    return BlobPayloadStore(
        BlobPayloadStoreOptions(
            threshold_bytes=1_000, connection_string=azurite.connection_string, container_name=container
        )
    )


@pytest.fixture(params=["memory", "directory"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Stored:
    return in_memory() if request.param == "memory" else in_folder(tmp_path)


@pytest.fixture(params=["memory", "directory", "azurite"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[PayloadStore]:
    if request.param == "azurite":
        azurite: Azurite = request.getfixturevalue("azurite")
        with on_azurite(azurite, request.getfixturevalue("container")) as store:
            yield store
        return
    yield (in_memory() if request.param == "memory" else in_folder(tmp_path)).store


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_200_calls_at_once_are_right_and_within_the_bound_beside_threads(any_store: PayloadStore) -> None:
    store = MeteredStore(any_store)
    store.before = lambda: time.sleep(0.002)  # so that calls that may overlap do
    outgoing = [tasks(*(payload(f"{i}-{k}") for k in range(1 + i % 3))) for i in range(200)]
    expected = [message.SerializeToString() for message in outgoing]
    beside = [tasks(payload(f"thread {i}"), payload(f"thread {i} too")) for i in range(16)]
    expected_beside = [message.SerializeToString() for message in beside]

    def at_once(externalizer: Externalizer, call: Callable[[pb.OrchestratorResponse], Awaitable[object]]) -> None:
        async def gather() -> None:
            await asyncio.gather(*(call(message) for message in outgoing))

        asyncio.run(gather())

    def with_threads(work: Callable[[], None], call: Callable[[pb.OrchestratorResponse], object]) -> None:
        threads = [threading.Thread(target=call, args=(message,)) for message in beside]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()

    with Externalizer(store, concurrency=CONCURRENCY) as ours:
        with_threads(lambda: at_once(ours, ours.externalize_async), ours.externalize)
    assert ours.stats.uploads == sum(len(message.actions) for message in (*outgoing, *beside))
    assert all(store.is_known_token(a.scheduleTask.input.value) for m in (*outgoing, *beside) for a in m.actions)
    with Externalizer(store, concurrency=CONCURRENCY) as theirs:
        with_threads(lambda: at_once(theirs, theirs.deexternalize_async), theirs.deexternalize)
    assert [message.SerializeToString() for message in outgoing] == expected
    assert [message.SerializeToString() for message in beside] == expected_beside
    assert store.most_at_once == CONCURRENCY
    of_the_store = ("durabletask-payloads-blob", "durabletask-payloads-obstore")  # which is still open
    assert [name for name in our_threads() if name not in of_the_store] == []


# ---- cancellation --------------------------------------------------------------------------------------------------


async def cancelled_somewhere(dice: random.Random, call: Awaitable[Receipt | None]) -> Receipt | bool | None:
    """Return the result of `call`, or False if it was cancelled before it had one."""
    task = asyncio.ensure_future(call)
    if dice.random() < 0.3:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(dice.random() * 0.03)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return False


@pytest.mark.parametrize("count", [1, 5])
def test_after_cancelling_anywhere_the_store_holds_what_receipts_name(
    count: int, stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dice = random.Random(count)
    waits = random.Random(count)
    store = MeteredStore(stored.store)
    store.before = lambda: time.sleep(waits.random() * 0.003)
    receipts: list[Receipt] = []
    cancelled = 0

    async def call(externalizer: Externalizer, number: int) -> None:
        nonlocal cancelled
        message = tasks(*(payload(f"{number}-{k}") for k in range(count)))
        before = message.SerializeToString()
        outcome = await cancelled_somewhere(dice, externalizer.externalize_async(message))
        if outcome is False:
            cancelled += 1
            assert message.SerializeToString() == before
        else:
            assert outcome
            assert not isinstance(outcome, bool)
            receipts.append(outcome)
            assert [action.scheduleTask.input.value for action in message.actions] == [
                moved.token for moved in outcome.payloads
            ]

    async def all_calls(externalizer: Externalizer) -> None:
        for first in range(0, 300, 10):
            await asyncio.gather(*(call(externalizer, first + k) for k in range(10)))

    with Externalizer(store, concurrency=CONCURRENCY) as externalizer:
        asyncio.run(all_calls(externalizer))
    assert cancelled + len(receipts) == 300
    assert cancelled > 0
    assert len(receipts) > 0
    assert externalizer.stats.deletions > 0  # some were cancelled when uploads were under way
    assert stored.names() == {name_of(moved.token) for receipt in receipts for moved in receipt.payloads}
    assert externalizer.stats.cached_payloads == len(stored.names())
    assert our_threads() == []
    assert store.most_at_once <= CONCURRENCY
    assert caplog.records == []


@pytest.mark.parametrize("count", [1, 5])
def test_a_cancelled_deexternalize_changes_nothing(
    count: int, stored: Stored, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    dice = random.Random(count)
    store = MeteredStore(stored.store)
    tokens = [[store.upload(payload(f"{i}-{k}").encode()) for k in range(count)] for i in range(50)]
    store.before = lambda: time.sleep(0.002)
    outcomes = {True: 0, False: 0}

    async def call(externalizer: Externalizer, number: int) -> None:
        message = tasks(*tokens[number])
        before = message.SerializeToString()
        outcome = await cancelled_somewhere(dice, externalizer.deexternalize_async(message))
        outcomes[outcome is None] += 1
        whole = tasks(*(payload(f"{number}-{k}") for k in range(count))).SerializeToString()
        assert message.SerializeToString() == (whole if outcome is None else before)

    async def all_calls(externalizer: Externalizer) -> None:
        for first in range(0, 300, 10):
            await asyncio.gather(*(call(externalizer, (first + k) % 50) for k in range(10)))

    with Externalizer(store, concurrency=CONCURRENCY, cache_bytes=0) as externalizer:
        asyncio.run(all_calls(externalizer))
    assert min(outcomes.values()) > 0
    assert sum(outcomes.values()) == 300
    assert our_threads() == []
    assert caplog.records == []


@pytest.mark.parametrize("count", [1, 5])
def test_a_loop_that_ends_in_the_middle_leaves_no_orphan(count: int, stored: Stored) -> None:
    store = MeteredStore(stored.store)
    gate = threading.Event()
    store.before = partial(wait_for, gate)
    message = tasks(*(payload(k) for k in range(count)))
    before = message.SerializeToString()

    async def leave() -> None:
        task = asyncio.ensure_future(externalizer.externalize_async(message))
        while store.most_at_once < count:
            await asyncio.sleep(0.001)
        assert not task.done()  # `asyncio.run` cancels it

    with Externalizer(store, concurrency=CONCURRENCY) as externalizer:
        asyncio.run(leave())
        assert message.SerializeToString() == before
        gate.set()
    assert stored.names() == set()
    assert externalizer.stats.deletions == count
    assert our_threads() == []


# ---- event loops ---------------------------------------------------------------------------------------------------


@pytest.mark.timeout(30)
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("busy_with", ["the same token", "uploads", "both"])
def test_a_sync_call_on_the_thread_of_a_loop_returns_while_its_tasks_transfer(busy_with: str, concurrency: int) -> None:
    store = MeteredStore(InMemoryPayloadStore(SMALL))
    token = store.upload(payload("shared").encode())
    store.before = lambda: time.sleep(0.05)

    async def use(externalizer: Externalizer) -> None:
        busy: list[Awaitable[object]] = []
        if busy_with != "uploads":
            busy += [asyncio.ensure_future(externalizer.deexternalize_async(one(token))) for _ in range(4)]
        if busy_with != "the same token":
            busy += [
                asyncio.ensure_future(externalizer.externalize_async(tasks(payload(i)))) for i in range(concurrency)
            ]
        while store.most_at_once == 1 and not store.downloads:
            await asyncio.sleep(0.001)
        message, upload = one(token), tasks(payload("sync"), payload("sync too"))
        externalizer.deexternalize(message)
        externalizer.externalize(upload)
        assert message.input.value == payload("shared")
        assert store.is_known_token(upload.actions[1].scheduleTask.input.value)
        await asyncio.gather(*busy)

    store.most_at_once = 0
    with Externalizer(store, concurrency=concurrency) as externalizer:
        asyncio.run(use(externalizer))


@pytest.mark.timeout(30)
def test_one_slot_is_enough_for_many_calls_of_several_payloads() -> None:
    store = MeteredStore(InMemoryPayloadStore(SMALL))

    async def use() -> None:
        messages = [tasks(*(payload(f"{i}-{k}") for k in range(5))) for i in range(10)]
        before = [message.SerializeToString() for message in messages]
        await asyncio.gather(*(externalizer.externalize_async(message) for message in messages))
        await asyncio.gather(*(others.deexternalize_async(message) for message in messages))
        assert [message.SerializeToString() for message in messages] == before

    with Externalizer(store, concurrency=1) as externalizer, Externalizer(store, concurrency=1) as others:
        asyncio.run(use())
    assert store.most_at_once == 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize("concurrency", [1, 2, 8])
def test_a_thread_of_the_pool_may_spread_work_over_it(concurrency: int) -> None:
    transfers = Transfers(concurrency)

    def spread(depth: int, number: int) -> int:
        if depth == 0:
            with transfers.slots:
                return number
        return sum(transfers.each(lambda item: spread(depth - 1, item), range(number, number + 3)))

    async def use() -> list[int]:
        return await asyncio.gather(*(transfers.in_thread(partial(spread, 3, i)) for i in range(10)))

    try:
        assert asyncio.run(use()) == [27 * (i + 3) for i in range(10)]
    finally:
        transfers.close()


def test_one_externalizer_serves_one_event_loop_after_another(stored: Stored) -> None:
    message = tasks(payload("a"), payload("b"))
    before = message.SerializeToString()
    with Externalizer(stored.store, cache_bytes=0) as externalizer:
        for _ in range(3):
            asyncio.run(externalizer.externalize_async(message))
            assert message.SerializeToString() != before
            asyncio.run(externalizer.deexternalize_async(message))
            assert message.SerializeToString() == before
    assert len(stored.names()) == 6


# ---- failures ------------------------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("place", range(4))
def test_an_upload_that_fails_while_others_run_leaves_nothing(place: int, form: Form, stored: Stored) -> None:
    failed = threading.Event()
    running = threading.Semaphore(0)
    entered: list[bytes] = []

    class OneFails(MeteredStore):
        def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
            entered.append(data)
            if data.startswith(b"bad"):
                for _ in range(3):
                    assert running.acquire(timeout=10)
                failed.set()
                raise PayloadStoreUnavailableError("the upload fails")
            running.release()
            assert failed.wait(10)
            return super().upload(data, instance_id=instance_id)

    store = OneFails(stored.store)
    message = tasks(*(payload("bad" if k == place else k) for k in range(4)))
    before = message.SerializeToString()
    with Externalizer(store, concurrency=4) as externalizer:
        with pytest.raises(PayloadStoreUnavailableError, match="the upload fails"):
            form.externalize(externalizer, message)
        # At once, not only after `close`: the error is raised when all of them have been deleted.
        assert stored.names() == set()
        assert externalizer.stats.deletions == 3
    assert len(entered) == 4
    assert message.SerializeToString() == before
    assert externalizer.stats.uploads == 3
    assert externalizer.stats.cached_payloads == 0
    assert externalizer.stats.failures == 1


# ---- single flight -------------------------------------------------------------------------------------------------


def test_one_download_serves_50_sync_and_async_callers() -> None:
    store = MeteredStore(InMemoryPayloadStore(SMALL))
    token = store.upload(payload("shared").encode())
    gate = threading.Event()
    store.before = partial(wait_for, gate)
    messages = [one(token) for _ in range(50)]

    async def in_tasks() -> None:
        await asyncio.gather(*(externalizer.deexternalize_async(message) for message in messages[25:]))

    with Externalizer(store, concurrency=CONCURRENCY) as externalizer:
        threads = [threading.Thread(target=externalizer.deexternalize, args=(message,)) for message in messages[:25]]
        threads.append(threading.Thread(target=asyncio.run, args=(in_tasks(),)))
        for thread in threads:
            thread.start()
        wait_until(lambda: externalizer.stats.cache_hits == 49, what="the callers")  # all wait for one download
        gate.set()
        for thread in threads:
            thread.join()
    assert store.downloads == 1
    assert {message.input.value for message in messages} == {payload("shared")}
    assert externalizer.stats.downloads == 1
    assert externalizer.stats.cache_misses == 1


@pytest.mark.parametrize("cache_bytes", [0, 64 * 1024 * 1024])
def test_tasks_that_wait_for_a_download_hold_no_thread(cache_bytes: int) -> None:
    """50 of them leave room for another payload, and share the download even if nothing is cached."""
    store = MeteredStore(InMemoryPayloadStore(SMALL))
    shared, other = store.upload(payload("shared").encode()), store.upload(payload("other").encode())
    gate = threading.Event()
    store.before = partial(wait_for, gate)
    messages = [one(shared) for _ in range(50)]

    async def use() -> None:
        tasks = [asyncio.ensure_future(externalizer.deexternalize_async(message)) for message in messages]
        while store.downloads == 0:
            await asyncio.sleep(0.001)
        store.before = lambda: None
        message = one(other)
        await asyncio.wait_for(externalizer.deexternalize_async(message), 20)
        assert message.input.value == payload("other")
        assert not any(task.done() for task in tasks)
        gate.set()
        await asyncio.gather(*tasks)

    with Externalizer(store, concurrency=CONCURRENCY, cache_bytes=cache_bytes) as externalizer:
        asyncio.run(use())
    assert store.downloads == 2
    assert {message.input.value for message in messages} == {payload("shared")}
