"""The table of failures with the Azure store: what real answers of the service become. See `test_worker`."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
from tests.support.backend import RedeliveringBackend, Work, running
from tests.support.hub import LEDGER_ID, Hub, calls_digest, calls_produce, operates, returns

from durabletask_payloads import Externalizer, PayloadStore
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.support.azurite import Azurite

LARGE = "x" * 5_000
MAXIMUM = 100_000


@contextlib.contextmanager
def hub_on(store: PayloadStore, *, max_deliveries: int = 10) -> Generator[Hub]:
    backend = RedeliveringBackend()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(running(backend))
        externalizer = stack.enter_context(Externalizer(store, cache_bytes=0, message_budget_bytes=None))
        yield Hub(backend, address, externalizer, stack, max_deliveries=max_deliveries)


def store_on(connection_string: str, container: str) -> BlobPayloadStore:
    options = BlobPayloadStoreOptions(
        connection_string=connection_string,
        container_name=container,
        threshold_bytes=1_024,
        max_stored_payload_bytes=MAXIMUM,
        retries=0,
    )
    return BlobPayloadStore(options)


@pytest.fixture
def store(azurite: Azurite, container: str) -> Generator[BlobPayloadStore]:
    with store_on(azurite.connection_string, container) as store:
        yield store


def test_results_over_the_maximum_fail(store: BlobPayloadStore) -> None:
    """The reference: the completions are lost, everybody waits for ever."""
    with hub_on(store) as hub:
        hub.start()
        assert "max_stored_payload_bytes" in hub.run(calls_produce, MAXIMUM + 1).message
        assert "max_stored_payload_bytes" in hub.run(returns, MAXIMUM + 1).message
        hub.put_state(LARGE)
        first, second = hub.run(operates, [["get", None], ["grow", MAXIMUM + 1]]).output
        assert first == 5_000
        assert "max_stored_payload_bytes" in second
        assert store.is_known_token(hub.backend.state_of(LEDGER_ID) or "")


def test_a_blob_that_is_gone_fails_the_orchestration_and_the_entity_keeps_its_token(store: BlobPayloadStore) -> None:
    """The reference: both are delivered again and again."""
    with hub_on(store) as hub:
        instance = hub.client.schedule_new_orchestration(calls_digest, input=LARGE)
        token = hub.backend.input_of(instance)
        assert token is not None
        store.delete(token)
        hub.start()
        outcome = hub.end_of_raw(instance)
        assert outcome.error_type == "durabletask_payloads.PayloadNotFoundError"
        assert token in outcome.message
        hub.put_state(LARGE)
        state = hub.backend.state_of(LEDGER_ID)
        assert state is not None
        store.delete(state)
        (text,) = hub.run(operates, [["get", None]]).output
        assert state in text
        assert hub.backend.state_of(LEDGER_ID) == state


def test_an_account_that_does_not_answer_is_tried_again_and_then_fails(
    azurite: Azurite, container: str, fast: None
) -> None:
    """The reference logs the error of the Azure client after 15 s and more; the orchestration waits for ever."""
    with socket.socket() as unused:  # bound, but nobody listens
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        refused = azurite.connection_string.replace(f":{azurite.port}/", f":{port}/")
        with store_on(refused, container) as store, hub_on(store, max_deliveries=2) as hub:
            hub.start()
            outcome = hub.run(calls_produce, 5_000, instance_id="order-1")
            assert outcome.failed
            assert "gave up after 2 deliveries" in outcome.message
            assert hub.backend.deliveries[Work("activity", "order-1", 1)] == 2
