"""What the interceptors promise, at the real figures: the SDK's worker and client, the store's default options."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from tests.support.backend import RedeliveringBackend, client_on, worker_on
from tests.support.fixtures import needs_sdk_payloads
from tests.support.hub import (
    FUNCTIONS,
    LEDGER_ID,
    Hub,
    calls_digest,
    calls_raise_error,
    fans_out,
    operates,
    returns,
    returns_with_lock,
)
from tests.support.scripted_store import ScriptedStore
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, InMemoryPayloadStore, PayloadStoreUnavailableError
from durabletask_payloads.sdk import SdkPayloadStore

if TYPE_CHECKING:
    from collections.abc import Generator

THRESHOLD = 262_144
MIB = 1024 * 1024


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore(threshold=THRESHOLD, maximum=10 * MIB)


@pytest.fixture
def hub(backend: RedeliveringBackend, hub_address: str, store: ScriptedStore) -> Generator[Hub]:
    """Without a cache: a worker of another process has none of what the client sent."""
    with contextlib.ExitStack() as stack:
        externalizer = stack.enter_context(Externalizer(store, cache_bytes=0))
        yield Hub(backend, hub_address, externalizer, stack)


def test_an_entity_whose_operation_returns_11_mb(hub: Hub) -> None:
    """The reference logs an error; the caller waits for ever, the entity does nothing any more."""
    hub.start()
    hub.put_state("before")
    (text,) = hub.run(operates, [["grow", 11_000_000]]).output
    assert "has 11000002 bytes, which exceeds the maximum of max_stored_payload_bytes (10485760)" in text
    assert hub.backend.state_of(LEDGER_ID) == '"before"'
    assert hub.backend.holder_of(LEDGER_ID) is None
    assert hub.run(operates, [["get", None]]).output == [6]
    assert hub.run(returns_with_lock, 10).completed


def test_a_text_of_5_mb(hub: Hub, store: ScriptedStore) -> None:
    """The reference hangs. With the budget the text is cut before it is sent, and whole in the stored stack trace."""
    hub.start()
    outcome = hub.run(calls_raise_error, 5_000_000)
    assert outcome.failed
    assert "cut: 5000000 bytes, whole in stackTrace" in outcome.message
    assert any(b"e" * 5_000_000 in store.download(token) for token in store.tokens)


def test_50_small_work_items_behind_a_download_of_10_mb_that_takes_3_s(hub: Hub, store: ScriptedStore) -> None:
    """The reference downloads on the worker's threads: a few of those, and all others wait."""
    store.delay = lambda payload: 3.0 if len(payload) > 9 * MIB else 0.0
    large = hub.client.schedule_new_orchestration(calls_digest, input="x" * (10 * MIB - 2))
    small = [hub.client.schedule_new_orchestration(returns, input=5) for _ in range(50)]
    hub.start()
    wait_until(lambda: store.downloads == 1, what="the download")
    assert all(hub.end_of(instance).completed for instance in small)
    assert len([one for one in hub.backend.completions if isinstance(one, pb.OrchestratorResponse)]) == 50
    store.released.set()
    assert hub.end_of(large).output == 10 * MIB - 2


def test_stop_in_the_middle_of_a_download(hub: Hub, store: ScriptedStore) -> None:
    """The reference waits for the download."""
    store.delay = lambda payload: 20.0 if len(payload) > 9 * MIB else 0.0
    large = hub.client.schedule_new_orchestration(calls_digest, input="x" * (10 * MIB - 2))
    worker = hub.start()
    wait_until(lambda: store.downloads == 1, what="the download")
    started = time.monotonic()
    worker.stop()
    assert time.monotonic() - started < 15  # the download goes on
    wait_until(lambda: hub.backend.is_idle, what="the item given back")
    store.released.set()
    wait_until(
        lambda: all(name.startswith("durabletask-payloads_") for name in our_threads()),
        what="the end of our threads, less those of the Externalizer",
    )
    hub.start()
    assert hub.end_of(large).output == 10 * MIB - 2


@pytest.mark.usefixtures("fast")
def test_a_store_that_is_down_for_20_s(hub: Hub, store: ScriptedStore) -> None:
    """The reference: what the worker could not send is lost, what it could not read comes again and again.

    All that waits is 25 times as fast here, the outage too.
    """
    up_at = time.monotonic() + 20 / 25

    def check(payload: bytes) -> None:
        if time.monotonic() < up_at:
            raise PayloadStoreUnavailableError("the store is down")

    before = [hub.client.schedule_new_orchestration(calls_digest, input="x" * 300_000) for _ in range(5)]
    results = [hub.client.schedule_new_orchestration(returns, input=300_000) for _ in range(5)]
    store.downloading = store.uploading = check
    hub.start()
    for instance in before + results:
        assert hub.end_of(instance, seconds=60).completed
    assert time.monotonic() > up_at
    assert max(hub.backend.deliveries.values()) <= 25  # the delay grows, and some come again within a round


def test_40_actions_of_exactly_the_threshold(hub: Hub) -> None:
    hub.start()
    outcome = hub.run(fans_out, [40, THRESHOLD])
    assert outcome.output == 40 * (THRESHOLD - 2)


@needs_sdk_payloads
def test_what_the_reference_does_with_40_actions_of_exactly_the_threshold(hub_address: str) -> None:
    """A message of 10 MB with nothing externalized, RESOURCE_EXHAUSTED, and it waits for ever."""
    refused: list[str] = []
    logger = logging.Logger("reference")
    handler = logging.Handler()
    handler.emit = lambda record: refused.append(f"{record.getMessage()}")  # type: ignore[method-assign] # see hub
    logger.addHandler(handler)
    adapter = SdkPayloadStore(InMemoryPayloadStore())
    with worker_on(hub_address, FUNCTIONS, payload_store=adapter, logger=logger) as reference:
        reference.start()
        with client_on(hub_address) as client:
            client.schedule_new_orchestration(fans_out, input=[40, THRESHOLD])
            wait_until(lambda: any("RESOURCE_EXHAUSTED" in line for line in refused), what="the refusal")
