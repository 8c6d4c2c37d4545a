"""The purger against a ledger over gRPC: batches, waits, refusals, and what it asks of the scheduler."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING, NoReturn

import grpc
import pytest
from tests.support.ledger import Ledger, serving

from durabletask_payloads import Externalizer, InMemoryPayloadStore, PayloadObserver, Purge
from durabletask_payloads.purge import PayloadPurger, PurgeOutcome, set_auto_purge
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.azurite import Azurite


@pytest.fixture
def store(azurite: Azurite, container: str) -> Iterator[BlobPayloadStore]:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string, container_name=container, token_version=2
    )
    with BlobPayloadStore(options) as store:
        yield store


def add(ledger: Ledger, *tokens: str) -> None:
    ledger.rows.extend(Ledger([*(row.payload_token for row in ledger.rows), *tokens]).rows[len(ledger.rows) :])


def test_what_is_purged_is_deleted_reported_and_forgotten(
    store: BlobPayloadStore, ledger: Ledger, channel: grpc.Channel
) -> None:
    with Externalizer(store) as externalizer:
        tokens = [store.upload(b"x" * 10, instance_id="order-7") for _ in range(3)]
        externalizer.forget("blob:v2:no token at all")  # what is not there is no error
        add(ledger, tokens[0], tokens[1], tokens[0])  # two rows of one payload
        report = PayloadPurger(externalizer, channel).run_once()
    assert report.outcomes == {PurgeOutcome.DELETED: 3}
    assert (report.rows, report.count("deleted"), report.count("retry")) == (3, 3, 0)
    assert ledger.states() == ["deleted"] * 3
    assert store.download(tokens[2]) == b"x" * 10
    with pytest.raises(Exception, match="no such blob"):
        store.download(tokens[0])


def test_a_row_that_comes_twice_is_reported_once(
    store: BlobPayloadStore, ledger: Ledger, channel: grpc.Channel
) -> None:
    add(ledger, store.upload(b"x"))
    ledger.repeats_rows = True
    assert PayloadPurger(store, channel).run_once().rows == 1
    assert ledger.states() == ["deleted"]


def test_an_answer_that_is_lost(store: BlobPayloadStore, ledger: Ledger, channel: grpc.Channel) -> None:
    """The service took the report, or not: what is deleted already counts as deleted."""
    add(ledger, store.upload(b"x"), store.upload(b"y"))
    purger = PayloadPurger(store, channel)
    calls: list[int] = []

    def lose_the_report() -> grpc.StatusCode | None:
        calls.append(1)  # two questions a call: before and after it is carried out
        return grpc.StatusCode.UNAVAILABLE if len(calls) == 3 else None

    ledger.fault = lose_the_report
    with pytest.raises(grpc.RpcError):
        purger.run_once()
    assert ledger.states() == ["pending"] * 2
    assert purger.run_once().outcomes == {PurgeOutcome.ABSENT: 2}
    assert ledger.states() == ["deleted"] * 2


@pytest.mark.parametrize("size", [0, -1, 1_001])
def test_a_batch_size_out_of_range(size: int, store: BlobPayloadStore, channel: grpc.Channel) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {size}: the scheduler returns 1 to 1000 rows at a time"):
        PayloadPurger(store, channel, batch_size=size)


@pytest.mark.parametrize("concurrency", [0, 33])
def test_a_concurrency_out_of_range(concurrency: int, store: BlobPayloadStore, channel: grpc.Channel) -> None:
    with pytest.raises(ValueError, match=f"concurrency is {concurrency}: it must be from 1 to 32"):
        PayloadPurger(store, channel, concurrency=concurrency)


class Seen(PayloadObserver):
    """What the observer was told. It raises, which harms nothing."""

    def __init__(self) -> None:
        self.purges: list[Purge] = []
        self.some = threading.Event()

    def purged(self, purge: Purge) -> None:
        self.purges.append(purge)
        self.some.set()
        raise ValueError


class Waits:
    """Takes the place of waiting; the purger ends with the last one."""

    def __init__(self, count: int) -> None:
        self.seconds: list[float] = []
        self._count = count

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) >= self._count


def test_waits(store: BlobPayloadStore, ledger: Ledger, channel: grpc.Channel) -> None:
    """None after a batch that got on; a minute after an empty one, one of retries alone, and a refusal."""
    add(ledger, *(store.upload(b"x") for _ in range(5)), "blob:v3:https://a/b/c")
    seen = Seen()
    waits = Waits(3)
    PayloadPurger(store, channel, batch_size=2, observer=seen, wait=waits).run()
    purged = Purge("deleted", "deleted", 2)
    unknown = Purge("unknown_token", "retry", 1)
    assert seen.purges == [purged, purged, purged._replace(rows=1), unknown, unknown]
    assert waits.seconds == [60.0, 60.0, 60.0]
    assert set(ledger.limits) == {2}
    ledger.fault = lambda: grpc.StatusCode.UNAUTHENTICATED
    waits = Waits(2)
    PayloadPurger(store, channel, wait=waits).run()
    assert waits.seconds == [60.0, 60.0]


class Refusing(grpc.UnaryUnaryClientInterceptor):
    """A credential that cannot be had."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def intercept_unary_unary(self, continuation: object, client_call_details: object, request: object) -> NoReturn:
        raise self._error


@pytest.mark.parametrize("error", [ValueError("no credential"), RuntimeError("no credential"), grpc.RpcError()])
def test_a_call_that_fails_before_it_is_sent(
    error: Exception, store: BlobPayloadStore, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    """An interceptor raises what it likes: the purger tries again."""
    waits = Waits(2)
    PayloadPurger(store, grpc.intercept_channel(channel, Refusing(error)), wait=waits).run()
    assert waits.seconds == [60.0, 60.0]
    assert caplog.messages == [f"call failed, will retry code={type(error).__name__} seconds=60"] * 2


def test_an_observer_may_stop_the_purger(store: BlobPayloadStore, ledger: Ledger, channel: grpc.Channel) -> None:
    add(ledger, store.upload(b"x"), store.upload(b"y"))
    stopped = threading.Event()

    class Stopping(PayloadObserver):
        def purged(self, purge: Purge) -> None:
            purger.stop()
            stopped.set()

    purger = PayloadPurger(store, channel, batch_size=1, observer=Stopping())
    with purger:
        purger.start()
        assert stopped.wait(30)
    assert ledger.states() == ["deleted", "pending"]


def test_a_scheduler_without_a_ledger(store: BlobPayloadStore, caplog: pytest.LogCaptureFixture) -> None:
    waits = Waits(1)
    with (
        caplog.at_level(logging.INFO, "durabletask_payloads.purge"),
        serving(None) as address,
        grpc.insecure_channel(address) as channel,
        PayloadPurger(store, channel, wait=waits) as purger,
    ):
        purger.start()
    assert waits.seconds == []
    assert caplog.messages == ["ended: the scheduler keeps no ledger of purged payloads code=UNIMPLEMENTED"]


def test_start_and_stop(store: BlobPayloadStore, ledger: Ledger, channel: grpc.Channel) -> None:
    add(ledger, store.upload(b"x"))
    seen = Seen()
    with PayloadPurger(store, channel, observer=seen) as purger:
        purger.start()
        purger.start()
        assert seen.some.wait(30)
        purger.stop()  # it waits for a minute now
        assert not any(thread.name == "durabletask-payloads-purger" for thread in threading.enumerate())
        purger.start()  # does nothing any more
    assert ledger.states() == ["deleted"]
    assert ledger.enabled == []  # it never sets the flag


def test_the_flag(ledger: Ledger, channel: grpc.Channel) -> None:
    set_auto_purge(channel, True)
    set_auto_purge(channel, False)
    assert ledger.enabled == [True, False]


def test_logs_have_counts_and_no_tokens(
    store: BlobPayloadStore, ledger: Ledger, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    token = store.upload(b"x")
    add(ledger, token, token[:-1] + ("1" if token[-1] == "0" else "0"), "blob:v1:payloads:" + "0" * 32)
    with caplog.at_level(logging.DEBUG, "durabletask_payloads"):
        PayloadPurger(store, channel).run_once()
    (line,) = [message for message in caplog.messages if message.startswith("purged")]
    assert line.startswith("purged rows=3 seconds=0.")
    assert line.endswith(" deleted=1 absent=1 without_account=1")
    assert not any(row.payload_token in caplog.text for row in ledger.rows)


def test_a_store_without_v2_tokens(ledger: Ledger, channel: grpc.Channel) -> None:
    add(ledger, "blob:v2:https://acc.blob.core.windows.net/payloads/" + "0" * 32)
    report = PayloadPurger(InMemoryPayloadStore(), channel).run_once()
    assert Counter(report.outcomes) == {PurgeOutcome.ELSEWHERE: 1}
    assert ledger.states() == ["pending"]
