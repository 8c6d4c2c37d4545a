"""The failure table: what an error means, and how long a work item waits before it is abandoned."""

from __future__ import annotations

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from durabletask_payloads import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
    SchemaMismatchError,
)
from durabletask_payloads.interceptors import _verdict
from durabletask_payloads.interceptors._verdict import Abandon, Backoff, Final, decide


def answered(status: int) -> HttpResponseError:
    error = HttpResponseError("no")
    error.status_code = status
    return error


@pytest.mark.parametrize(
    "error",
    [
        PayloadStoreUnavailableError(""),
        OSError(),
        ConnectionResetError(),
        TimeoutError(),
        ServiceRequestError("refused"),
        ServiceResponseError("no answer"),
        *(answered(status) for status in (408, 429, 500, 503)),
    ],
)
def test_transient(error: Exception) -> None:
    assert _verdict.is_transient(error)
    assert type(_verdict.as_payload_error(error, "text")) is PayloadStoreUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        *(
            of("")
            for of in (
                PayloadError,
                PayloadTooLargeError,
                PayloadNotFoundError,
                PayloadAccessDeniedError,
                PayloadTokenError,
                PayloadIntegrityError,
                SchemaMismatchError,
            )
        ),
        KeyError("unknown ones, too"),
        RuntimeError(),
        ResourceNotFoundError("gone"),
        *(answered(status) for status in (400, 403, 404, 409)),
    ],
)
def test_permanent(error: Exception) -> None:
    assert not _verdict.is_transient(error)
    expected = type(error) if isinstance(error, PayloadError) else PayloadError
    assert type(_verdict.as_payload_error(error, "text")) is expected


# ---- the verdict ---------------------------------------------------------------------------------------------------


def test_a_permanent_error_is_final_and_a_transient_one_from_the_last_delivery_on() -> None:
    gone, down = PayloadNotFoundError("gone"), PayloadStoreUnavailableError("down")
    assert decide(gone, 0, 3, lambda: 0.5) == Final(gone)
    assert [decide(down, n, 3, lambda: 0.5) for n in (1, 2)] == [Abandon(0.5)] * 2
    verdict = decide(down, 3, 3, lambda: 0.5)
    assert isinstance(verdict, Final)
    assert str(verdict.error) == "gave up after 3 deliveries: down"
    assert verdict.error.__cause__ is down


# ---- the delay -----------------------------------------------------------------------------------------------------


def test_the_delay_grows_with_the_deliveries_from_a_quarter_of_a_second_to_half_a_minute() -> None:
    for deliveries, seconds in [(1, 0.25), (2, 0.5), (5, 4.0), (8, 30.0), (1_000, 30.0)]:
        for _ in range(20):
            assert 0.75 * seconds <= Backoff(lambda: 0).delay(deliveries) <= seconds


def test_the_delay_grows_for_new_items_too_while_nothing_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("durabletask_payloads.interceptors._verdict.time.monotonic", lambda: now[0])

    def longest(low: float, high: float) -> float:
        return high

    monkeypatch.setattr("durabletask_payloads.interceptors._verdict.random.uniform", longest)
    transfers = [0]
    backoff = Backoff(lambda: transfers[0])
    delays: list[float] = []
    for _ in range(4):
        delays += [backoff.delay(1), backoff.delay(1)]  # two items of one round
        now[0] += 100
    assert delays == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0, 2.0, 2.0]
    transfers[0] = 1  # the store is back
    assert backoff.delay(1) == 0.25
