"""What becomes of a row, by each answer of a store: without a store, and with the purger on a ledger over gRPC."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.support.ledger import Ledger, serving

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadObserver,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
    Purge,
)
from durabletask_payloads.cli.purge import until_nothing_is_due
from durabletask_payloads.purge import PayloadPurger, PurgeOutcome, PurgeReport
from durabletask_payloads.purge._outcomes import outcome_of, purge
from durabletask_payloads.stores._inventory import StoredPayload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEX = "0123456789abcdef" * 2
TOKEN = f"blob:v2:https://acc.blob.core.windows.net/payloads/{HEX}"


def token(number: int) -> str:
    return f"{TOKEN[:-4]}{number:04x}"


def refused(status: int) -> PayloadError:
    error = PayloadError("refused")
    error.status = status
    return error


class Inventory:
    """Has one payload under every token.

    Attributes:
        managed: whether that is marked.
        name: what it is called here; None: it is elsewhere.
        looking: raised by a look.
        deleting: whether it is deleted, or what a deletion raises.
        looked_at, deleted: the tokens, and what was to be deleted.
        enough: how many deletions wait for each other, to be seen at work at once.
    """

    location = "scripted"
    partitions: Sequence[str] = ()

    def __init__(self) -> None:
        self.managed: bool | None = True
        self.name: str | None = HEX
        self.looking: Exception | None = None
        self.deleting: bool | Exception = True
        self.looked_at: list[str] = []
        self.deleted: list[StoredPayload] = []
        self.enough = threading.Barrier(1)

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        raise NotImplementedError

    def service_time(self) -> datetime:
        raise NotImplementedError

    def name_of(self, token: str) -> str | None:
        return self.name

    def look(self, token: str) -> StoredPayload:
        self.looked_at.append(token)
        if self.looking is not None:
            raise self.looking
        moment = datetime(2026, 6, 1, tzinfo=timezone.utc)
        return StoredPayload(HEX, token, 10, moment, f"etag of {token}", self.managed, None, None, None)

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        self.enough.wait(30)
        self.deleted.append(stored)
        if isinstance(self.deleting, Exception):
            raise self.deleting
        return self.deleting


class Store(InMemoryPayloadStore):
    """A store with a scripted inventory."""

    def __init__(self) -> None:
        super().__init__()
        self.scripted = Inventory()

    def inventory(self) -> Inventory:  # pyright: ignore[reportIncompatibleMethodOverride]  # of another class
        return self.scripted


@pytest.fixture
def inventory() -> Inventory:
    return Inventory()


# ---- one row -------------------------------------------------------------------------------------------------------


def test_it_is_deleted_as_it_was_looked_at(inventory: Inventory) -> None:
    assert purge(inventory, TOKEN) is PurgeOutcome.DELETED
    assert inventory.looked_at == [TOKEN]
    assert [stored.etag for stored in inventory.deleted] == [f"etag of {TOKEN}"]


def test_it_has_changed_since(inventory: Inventory) -> None:
    inventory.deleting = False
    assert purge(inventory, TOKEN) is PurgeOutcome.CHANGED


@pytest.mark.parametrize("managed", [False, None])
def test_what_is_not_marked_is_left_alone(managed: bool | None, inventory: Inventory) -> None:
    inventory.managed = managed
    assert purge(inventory, TOKEN) is PurgeOutcome.NOT_MANAGED
    assert inventory.deleted == []


def test_what_is_elsewhere_is_not_looked_at(inventory: Inventory) -> None:
    inventory.name = None
    assert purge(inventory, TOKEN) is PurgeOutcome.ELSEWHERE
    assert inventory.looked_at == []


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (f"blob:v1:payloads:{HEX}", PurgeOutcome.WITHOUT_ACCOUNT),
        (f"blob:v3:payloads:{HEX}", PurgeOutcome.UNKNOWN_TOKEN),
        ("", PurgeOutcome.UNKNOWN_TOKEN),
        (TOKEN[:-1], PurgeOutcome.MALFORMED),
    ],
)
def test_a_token_that_names_no_place(text: str, outcome: PurgeOutcome, inventory: Inventory) -> None:
    assert purge(inventory, text) is outcome
    assert (inventory.looked_at, inventory.deleted) == ([], [])


ERRORS: list[tuple[Exception, PurgeOutcome, str]] = [
    (PayloadNotFoundError("gone"), PurgeOutcome.ABSENT, "deleted"),
    (PayloadAccessDeniedError("no role"), PurgeOutcome.DENIED, "retry"),
    (PayloadStoreUnavailableError("down"), PurgeOutcome.UNAVAILABLE, "retry"),
    (PayloadTokenError("elsewhere"), PurgeOutcome.ELSEWHERE, "retry"),
    (refused(400), PurgeOutcome.REFUSED, "quarantined"),
    (refused(399), PurgeOutcome.FAILED, "retry"),
    (refused(401), PurgeOutcome.FAILED, "retry"),
    (refused(409), PurgeOutcome.FAILED, "retry"),
    (PayloadError("who knows"), PurgeOutcome.FAILED, "retry"),
    (PayloadIntegrityError("damaged"), PurgeOutcome.FAILED, "retry"),
    (PayloadTooLargeError("large"), PurgeOutcome.FAILED, "retry"),
    (KeyError("a mistake"), PurgeOutcome.FAILED, "retry"),
    (OSError(), PurgeOutcome.FAILED, "retry"),
]


@pytest.mark.parametrize(("error", "outcome", "disposition"), ERRORS)
def test_each_error(error: Exception, outcome: PurgeOutcome, disposition: str, inventory: Inventory) -> None:
    assert outcome_of(error) is outcome
    assert outcome.disposition == disposition
    inventory.deleting = error
    assert purge(inventory, TOKEN) is outcome
    inventory.looking = error
    assert purge(inventory, TOKEN) is outcome


# ---- a batch -------------------------------------------------------------------------------------------------------


class Seen(PayloadObserver):
    def __init__(self) -> None:
        self.purges: list[Purge] = []

    def purged(self, purge: Purge) -> None:
        self.purges.append(purge)


def fill(ledger: Ledger, *tokens: str) -> None:
    ledger.rows = Ledger(tokens).rows


class Waits:
    """Takes the place of waiting; the purger ends with the last one."""

    def __init__(self, count: int) -> None:
        self.seconds: list[float] = []
        self._count = count

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) >= self._count


def test_once_ends_at_a_batch_that_finds_the_store_away(ledger: Ledger, channel: grpc.Channel) -> None:
    """The rows behind it would fail alike, each after a long wait."""
    fill(ledger, *(f"{TOKEN[:-1]}{digit}" for digit in "012345"))
    store = Store()
    store.scripted.looking = PayloadStoreUnavailableError("down")
    with PayloadPurger(store, channel, batch_size=2) as purger:
        assert until_nothing_is_due(purger)
        assert len(store.scripted.looked_at) == 2
        store.scripted.looking = None
        assert until_nothing_is_due(purger)
    assert ledger.states() == ["deleted"] * 6


def test_an_outcome_is_that_of_its_own_row(ledger: Ledger, channel: grpc.Channel) -> None:
    fill(ledger, TOKEN, "blob:v9:x", f"blob:v1:payloads:{HEX}", TOKEN[:-1])
    seen = Seen()
    report = PayloadPurger(Store(), channel, observer=seen).run_once()
    assert ledger.states() == ["deleted", "pending", "quarantined", "quarantined"]
    assert (report.rows, report.count("deleted"), report.count("retry"), report.count("quarantined")) == (4, 1, 1, 2)
    assert report.retried == {"blob:v9:x"}
    assert "blob:" not in repr(report)
    assert 0 <= report.seconds < 60
    assert sorted(seen.purges) == [
        ("deleted", "deleted", 1),
        ("malformed", "quarantined", 1),
        ("unknown_token", "retry", 1),
        ("without_account", "quarantined", 1),
    ]


def test_an_empty_batch(ledger: Ledger, channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    seen = Seen()
    with caplog.at_level(logging.INFO):
        assert PayloadPurger(Store(), channel, observer=seen).run_once().rows == 0
    assert (seen.purges, caplog.messages) == ([], [])
    assert len(ledger.metadata) == 1  # there is nothing to report


def test_what_was_left_alone_is_logged(ledger: Ledger, channel: grpc.Channel, caplog: pytest.LogCaptureFixture) -> None:
    fill(ledger, token(1), token(2))
    store = Store()
    store.scripted.managed = False
    PayloadPurger(store, channel).run_once()
    assert caplog.messages == ["left blobs alone which have no metadata managed_by=dts count=2"]


@pytest.mark.parametrize(("concurrency", "rows", "at_once"), [(32, 32, 32), (32, 3, 3), (4, 8, 4), (1, 3, 1)])
def test_how_many_are_deleted_at_once(
    concurrency: int,
    rows: int,
    at_once: int,
    ledger: Ledger,
    channel: grpc.Channel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each deletion waits for as many as there are to be."""
    sizes: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, max_workers: int, thread_name_prefix: str) -> None:
            sizes.append(max_workers)
            super().__init__(max_workers, thread_name_prefix)

    monkeypatch.setattr("durabletask_payloads.purge._purger.ThreadPoolExecutor", Pool)
    fill(ledger, *(token(number) for number in range(rows)))
    store = Store()
    store.scripted.enough = threading.Barrier(at_once)
    report = PayloadPurger(store, channel, concurrency=concurrency).run_once()
    assert report.outcomes == {PurgeOutcome.DELETED: rows}
    assert sizes == [at_once]


def test_the_limits_are_those_of_the_documentation(ledger: Ledger, channel: grpc.Channel) -> None:
    for size in (1, 1_000):
        PayloadPurger(Store(), channel, batch_size=size).run_once()
    PayloadPurger(Store(), channel).run_once()
    assert ledger.limits == [1, 1_000, 200]
    for setting, values in (("batch_size", (0, 1_001)), ("concurrency", (0, 33))):
        for value in values:
            with pytest.raises(ValueError, match=f"{setting} is {value}"):
                PayloadPurger(Store(), channel, **{setting: value})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # numbers
    PayloadPurger(Store(), channel, concurrency=1)


@pytest.mark.parametrize(
    ("answer", "is_forgotten"), [(True, True), (PayloadNotFoundError("gone"), True), (False, False), (OSError(), False)]
)
def test_what_is_gone_is_forgotten(
    answer: bool | Exception, is_forgotten: bool, ledger: Ledger, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ledger, TOKEN)
    store = Store()
    store.scripted.deleting = answer
    forgotten: list[str] = []
    with Externalizer(store) as externalizer:
        monkeypatch.setattr(externalizer, "forget", forgotten.append)
        PayloadPurger(externalizer, channel).run_once()
    assert forgotten == ([TOKEN] if is_forgotten else [])


# ---- one batch after another ---------------------------------------------------------------------------------------


def test_it_waits_where_nothing_could_be_done_and_only_there(ledger: Ledger, channel: grpc.Channel) -> None:
    waits = Waits(1)
    fill(ledger, token(1), token(2), "blob:v9:x")
    assert PayloadPurger(Store(), channel, batch_size=2, wait=waits).run()
    assert len(ledger.limits) == 2  # two deleted; then the retry, which waits
    assert waits.seconds == [60.0]
    waits = Waits(1)
    fill(ledger, TOKEN, "blob:v9:x")
    assert PayloadPurger(Store(), channel, batch_size=2, wait=waits).run()
    assert len(ledger.limits) == 4  # one of two was deleted: it got on


def test_a_scheduler_without_a_ledger_ends_it() -> None:
    with serving(None) as address, grpc.insecure_channel(address) as channel:
        assert not PayloadPurger(Store(), channel, wait=Waits(1)).run()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "durabletask-payloads-purger"]


def test_it_has_one_thread_until_it_is_stopped(ledger: Ledger, channel: grpc.Channel) -> None:
    fill(ledger, TOKEN)
    deleting, go_on = threading.Event(), threading.Event()

    class Waiting(Inventory):
        def delete_unchanged(self, stored: StoredPayload) -> bool:
            deleting.set()
            return go_on.wait(30)

    store = Store()
    store.scripted = Waiting()
    purger = PayloadPurger(store, channel)  # which waits for a minute after the batch, unless it is stopped
    purger.start()
    purger.start()
    assert deleting.wait(30)
    assert len(threads()) == 1
    stopper = threading.Thread(target=purger.stop)
    stopper.start()
    stopper.join(0.1)
    assert stopper.is_alive()  # until the batch that is under way has ended
    go_on.set()
    stopper.join(30)
    assert ledger.states() == ["deleted"]
    assert threads() == []
    purger.start()
    assert threads() == []


def test_it_may_be_stopped_from_its_own_thread(ledger: Ledger, channel: grpc.Channel) -> None:
    fill(ledger, token(1), token(2))

    returned = threading.Event()

    class Stopping(PayloadObserver):
        def purged(self, purge: Purge) -> None:
            purger.stop()
            returned.set()

    purger = PayloadPurger(Store(), channel, batch_size=1, observer=Stopping())
    purger.start()
    for thread in threads():
        thread.join(30)
    assert ledger.states() == ["deleted", "pending"]
    assert returned.is_set()


def test_a_wait_ends_when_it_is_stopped(ledger: Ledger, channel: grpc.Channel) -> None:
    asked = threading.Event()
    ledger.fault = asked.set  # there are no rows: it waits for a minute
    with PayloadPurger(Store(), channel) as purger:
        purger.start()
        assert asked.wait(30)
        assert len(threads()) == 1
    assert threads() == []


@pytest.mark.parametrize("error", [RuntimeError("no credential"), KeyError("no credential")])
def test_a_call_that_cannot_be_sent_is_tried_again(
    error: Exception, channel: grpc.Channel, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> PurgeReport:
        raise error

    waits = Waits(2)
    purger = PayloadPurger(Store(), channel, wait=waits)
    monkeypatch.setattr(purger, "run_once", fail)
    assert purger.run()
    assert waits.seconds == [60.0, 60.0]
    assert caplog.messages == [f"call failed, will retry code={type(error).__name__} seconds=60"] * 2


def test_a_refusal_is_logged_with_its_code(
    ledger: Ledger, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.fault = lambda: grpc.StatusCode.UNAUTHENTICATED
    assert PayloadPurger(Store(), channel, wait=Waits(1)).run()
    assert caplog.messages == ["call failed, will retry code=UNAUTHENTICATED seconds=60"]


@pytest.mark.parametrize("error", [RuntimeError("no thread"), KeyError("x")])
def test_only_what_the_end_of_the_interpreter_causes_ends_it(
    error: Exception, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead:
        def is_alive(self) -> bool:
            return False

    def fail() -> PurgeReport:
        raise error

    waits = Waits(1)
    purger = PayloadPurger(Store(), channel, wait=waits)
    monkeypatch.setattr(purger, "run_once", fail)
    monkeypatch.setattr("durabletask_payloads.purge._purger.main_thread", Dead)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError):
            purger.run()
    else:
        assert purger.run()
    assert len(waits.seconds) == isinstance(error, KeyError)


def test_the_log_has_a_count_for_each_outcome_that_occurred(
    ledger: Ledger, channel: grpc.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    fill(ledger, token(1), token(2), "blob:v9:x")
    with caplog.at_level(logging.INFO):
        PayloadPurger(Store(), channel).run_once()
    (line,) = caplog.messages
    assert line.startswith("purged rows=3 seconds=")
    assert line.endswith(" deleted=2 unknown_token=1")


def test_each_outcome_has_a_reason() -> None:
    assert all(len(outcome.reason) > 10 for outcome in PurgeOutcome)


def test_one_that_was_stopped_does_nothing(ledger: Ledger, channel: grpc.Channel) -> None:
    purger = PayloadPurger(Store(), channel)
    purger.close()
    purger.start()
    assert purger.run()
    assert ledger.limits == []


def test_an_error_while_the_interpreter_shuts_down_ends_it(
    ledger: Ledger, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Dead:
        def is_alive(self) -> bool:
            return False

    def no_thread() -> PurgeReport:
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    purger = PayloadPurger(Store(), channel, wait=Waits(1))
    monkeypatch.setattr(purger, "run_once", no_thread)
    monkeypatch.setattr("durabletask_payloads.purge._purger.main_thread", Dead)
    with pytest.raises(RuntimeError):
        purger.run()
    with caplog.at_level(logging.INFO):
        purger.start()
        for thread in threading.enumerate():
            if thread.name == "durabletask-payloads-purger":
                assert thread.daemon
                thread.join()
    assert caplog.messages == ["purger ended, the interpreter shuts down"]
