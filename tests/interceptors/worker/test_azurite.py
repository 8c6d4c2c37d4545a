"""The table of failures with the Azure store: what real answers of the service become. See `test_worker`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from tests.support.backend import RedeliveringBackend, Work, running
from tests.support.hub import LEDGER_ID, Hub, calls_digest, calls_produce, operates, returns
from tests.support.proxy import HEALTHY, Fault, FaultProxy, always
from tests.support.scripted_store import prove
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadStore
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.support.azurite import Azurite

pytestmark = pytest.mark.usefixtures("engine")

LARGE = "x" * 5_000
MAXIMUM = 100_000


@contextlib.contextmanager
def hub_on(store: PayloadStore, *, is_proven: bool = True) -> Generator[Hub]:
    backend = RedeliveringBackend()
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(running(backend))
        externalizer = stack.enter_context(Externalizer(store, cache_bytes=0, message_budget_bytes=None))
        if is_proven:
            prove(externalizer, store)
        yield Hub(backend, address, externalizer, stack)


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


def test_an_account_that_does_not_answer_delays_an_orchestration_and_fails_nothing(
    azurite: Azurite, container: str, fast: None
) -> None:
    """The reference logs the error of the Azure client after 15 s and more; the orchestration waits for ever."""
    reset = Fault(reset_request_after=0)
    with FaultProxy(azurite.port, always(reset)) as proxy:
        at_proxy = azurite.connection_string.replace(f":{azurite.port}/", f":{proxy.port}/")
        with store_on(at_proxy, container) as store, hub_on(store, is_proven=False) as hub:
            hub.start()
            instance = hub.client.schedule_new_orchestration(calls_produce, input=5_000, instance_id="order-1")
            activity = Work("activity", "order-1", 1)
            wait_until(lambda: hub.backend.abandonments[activity] > 12, what="12 abandonments, more than count")
            proxy.plan = always(HEALTHY)
            assert hub.end_of(instance).output == 5_000
