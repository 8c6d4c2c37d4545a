"""The failure table: what an error means, and how long a work item waits before it is abandoned."""

from __future__ import annotations

import itertools
import sys

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError, ServiceRequestError, ServiceResponseError

from durabletask_payloads import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStats,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
    SchemaMismatchError,
)
from durabletask_payloads.interceptors._verdict import Abandon, Backoff, Decision, Final, as_payload_error, decide
from durabletask_payloads.interceptors.worker import Registry
from durabletask_payloads.interceptors.worker.kinds import Activity


def answered(status: int) -> HttpResponseError:
    error = HttpResponseError("no")
    error.status_code = status
    return error


CERTAIN = [of("") for of in (PayloadTooLargeError, PayloadIntegrityError, SchemaMismatchError)]
MISSING = [of("") for of in (PayloadNotFoundError, PayloadTokenError)]
DOUBTFUL: list[BaseException] = [
    PayloadStoreUnavailableError(""),
    PayloadAccessDeniedError(""),
    PayloadError("refused"),
    KeyError("unknown"),
    RuntimeError("cannot schedule new futures after interpreter shutdown"),
    SystemExit(1),
    OSError(),
    ServiceRequestError("refused"),
    ResourceNotFoundError("gone"),
    answered(503),
    answered(400),
]


def decided(error: BaseException, *, proven: bool, progressed: bool, deliveries: int = 0) -> Decision:
    return decide(error, proven=proven, progressed=progressed, deliveries=deliveries, max_deliveries=10)


@pytest.mark.parametrize(("proven", "progressed"), list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize("error", CERTAIN)
def test_a_certain_error_is_final_at_once(error: BaseException, proven: bool, progressed: bool) -> None:
    assert decided(error, proven=proven, progressed=progressed) is Decision.FAIL


@pytest.mark.parametrize("progressed", [True, False])
@pytest.mark.parametrize("error", MISSING)
def test_a_missing_payload_is_final_on_a_proven_store_and_else_at_the_10th_delivery(
    error: BaseException, progressed: bool
) -> None:
    assert decided(error, proven=True, progressed=progressed) is Decision.FAIL
    verdicts = [decided(error, proven=False, progressed=progressed, deliveries=n) for n in range(10)]
    assert verdicts == [Decision.COUNT] * 9 + [Decision.GIVE_UP]


@pytest.mark.parametrize("error", DOUBTFUL, ids=lambda error: type(error).__name__)
def test_any_other_error_counts_only_while_a_proven_store_serves_others(error: BaseException) -> None:
    for deliveries in (0, 9, 1_000_000):
        assert decided(error, proven=False, progressed=True, deliveries=deliveries) is Decision.WAIT
        assert decided(error, proven=True, progressed=False, deliveries=deliveries) is Decision.WAIT
    verdicts = [decided(error, proven=True, progressed=True, deliveries=n) for n in range(10)]
    assert verdicts == [Decision.COUNT] * 9 + [Decision.GIVE_UP]


@pytest.mark.parametrize("error", [*CERTAIN, *MISSING, *DOUBTFUL], ids=lambda error: type(error).__name__)
def test_errors_keep_their_class_or_become_one_of_ours(error: BaseException) -> None:
    ours = as_payload_error(error, "text")
    assert str(ours) == "text"
    if isinstance(error, PayloadError):
        assert type(ours) is type(error)
    transient = isinstance(error, (OSError, ServiceRequestError)) or getattr(error, "status_code", None) == 503
    if not isinstance(error, PayloadError):
        assert type(ours) is (PayloadStoreUnavailableError if transient else PayloadError)
    assert type(as_payload_error(ServiceResponseError("no answer"), "text")) is PayloadStoreUnavailableError


@pytest.mark.parametrize(
    ("status", "is_transient"),
    [(status, status in (408, 429) or status >= 500) for status in (400, 407, 408, 409, 428, 429, 430, 499, 500, 501)],
)
def test_the_statuses_of_an_outage(status: int, is_transient: bool) -> None:
    ours = as_payload_error(answered(status), "text")
    assert type(ours) is (PayloadStoreUnavailableError if is_transient else PayloadError)


def test_errors_without_the_client_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "azure.core.exceptions")
    assert type(as_payload_error(KeyError("unknown"), "text")) is PayloadError
    assert type(as_payload_error(TimeoutError(), "text")) is PayloadStoreUnavailableError


# ---- one delivery after another ------------------------------------------------------------------------------------


class Simulation:
    """A registry on a store and a clock of the test."""

    def __init__(self, *, uploads: int = 0, downloads: int = 0) -> None:
        self.now = 0.0
        self.uploads, self.downloads = uploads, downloads
        self.registry = Registry(10, self.stats, clock=lambda: self.now)

    def stats(self) -> PayloadStats:
        return PayloadStats(self.uploads, 0, self.downloads, *[0] * 8)

    def fail(self, task: int, error: BaseException) -> Abandon | Final:
        verdict = self.registry.judge(Activity("order-1", task, f"token-{self.now}"), error, "download")
        if isinstance(verdict, Abandon):
            self.now += verdict.delay
        return verdict


def test_an_outage_of_a_day_fails_nothing() -> None:
    hub = Simulation(uploads=5, downloads=5)
    deliveries = 0
    while hub.now < 24 * 3600:
        for task in range(20):
            assert isinstance(hub.fail(task, PayloadStoreUnavailableError("down")), Abandon)
            deliveries += 1
    assert deliveries < 20 * 24 * 60 * 3  # and is no hot loop
    started = hub.now
    hub.fail(1, PayloadStoreUnavailableError("down"))
    assert 45 <= hub.now - started <= 60


@pytest.mark.parametrize("error", [PayloadStoreUnavailableError("down"), PayloadAccessDeniedError("no role yet")])
def test_a_store_that_never_worked_fails_nothing(error: PayloadError) -> None:
    hub = Simulation()
    for _ in range(1_000):
        assert isinstance(hub.fail(1, error), Abandon)


def test_one_bad_item_among_good_ones_ends_at_its_10th_delivery() -> None:
    hub = Simulation(downloads=1)
    verdicts: list[Abandon | Final] = []
    while not verdicts or isinstance(verdicts[-1], Abandon):
        hub.downloads += 1  # another one
        verdicts.append(hub.fail(1, PayloadStoreUnavailableError("of this blob alone")))
    assert len(verdicts) == 10
    assert isinstance(verdicts[-1], Final)
    assert str(verdicts[-1].error) == "gave up after 10 deliveries: of this blob alone"


def test_a_payload_that_is_not_found_is_given_two_minutes_on_a_store_that_is_not_proven() -> None:
    hub = Simulation()
    for _ in range(9):
        assert isinstance(hub.fail(1, PayloadNotFoundError("gone")), Abandon)
    assert 90 < hub.now < 130
    assert isinstance(hub.fail(1, PayloadNotFoundError("gone")), Final)


def test_an_upload_proves_nothing_about_downloads() -> None:
    hub = Simulation(uploads=10)
    assert isinstance(hub.fail(1, PayloadNotFoundError("gone")), Abandon)
    hub.downloads = 1
    assert isinstance(hub.fail(1, PayloadNotFoundError("gone")), Final)


def test_a_store_that_can_be_read_and_not_written_fails_no_completion_and_is_no_hot_loop() -> None:
    hub = Simulation(uploads=1)
    item = Activity("order-1", 1, "token-1")
    delays: list[float] = []
    for _ in range(100):
        hub.downloads += 1
        verdict = hub.registry.judge(item, PayloadStoreUnavailableError("read-only"), "upload")
        assert isinstance(verdict, Abandon)
        delays.append(verdict.delay)
        hub.now += verdict.delay
    assert delays[-1] >= 45


# ---- the delay -----------------------------------------------------------------------------------------------------


def test_the_delay_grows_with_the_failures_from_a_quarter_of_a_second_to_a_minute() -> None:
    for failures, seconds in [(0, 0.25), (1, 0.25), (2, 0.5), (5, 4.0), (8, 32.0), (9, 60.0), (1_000, 60.0)]:
        for _ in range(20):
            delay = Backoff("upload", lambda: 0).delay(failures)
            assert 0.75 * seconds <= delay.least_delay == delay.delay <= seconds


def test_the_delay_grows_for_new_items_too_while_nothing_gets_through() -> None:
    now, served = [0.0], [0]
    backoff = Backoff("upload", lambda: served[0], clock=lambda: now[0], jitter=lambda: 1.0)
    delays: list[Abandon] = []
    for _ in range(4):
        delays += [backoff.delay(1), backoff.delay(1)]  # two items of one round
        now[0] += 100
    assert [delay.delay for delay in delays] == [0.25, 0.25, 0.375, 0.375, 0.5625, 0.5625, 0.84375, 0.84375]
    assert {delay.least_delay for delay in delays} == {0.25}  # if the store serves something meanwhile
    served[0] = 1  # the store is back
    assert backoff.delay(1) == Abandon(0.25, 0.25, "upload", 1)


def test_a_round_of_an_outage_lasts_as_long_as_its_delay() -> None:
    now = [0.0]
    backoff = Backoff("upload", lambda: 0, clock=lambda: now[0], jitter=lambda: 0.5)
    for moment, delay in [(0.0, 0.125), (0.2, 0.125), (0.25, 0.1875), (0.62, 0.1875), (0.625, 0.28125)]:
        now[0] = moment
        assert backoff.delay(1) == Abandon(delay, 0.125, "upload", 0)


def test_a_new_round_begins_as_soon_as_something_was_served() -> None:
    now, served = [0.0], [0]
    backoff = Backoff("upload", lambda: served[0], clock=lambda: now[0], jitter=lambda: 1.0)
    backoff.delay(1)
    served[0] = 1
    now[0] = 0.1  # within the first round
    backoff.delay(1)
    now[0] = 0.3  # within the second one, which began at 0.1
    assert backoff.delay(1).delay == 0.25
    now[0] = 0.35
    assert backoff.delay(1).delay == 0.375
