"""Events: one a transfer and a failure, whatever the form of the call; an observer that raises harms nothing."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.externalizer.forms import Form, both_forms
from tests.support.observer import Seen
from tests.support.scripted_store import ScriptedStore

from durabletask_payloads import Externalizer, PayloadObserver, PayloadStoreUnavailableError, Transfer, TransferFailure

if TYPE_CHECKING:
    from durabletask_payloads import Abandonment

SIZES = (2_000, 3_000, 4_000)
caller: ContextVar[str] = ContextVar("caller", default="nobody")


def fan_out() -> pb.OrchestratorResponse:
    """A message with three large payloads: more than one, so that threads of the pool take part."""
    message = pb.OrchestratorResponse()
    for size in SIZES:
        message.actions.add().scheduleTask.input.CopyFrom(StringValue(value="x" * size))
    return message


@both_forms
def test_one_event_a_transfer(form: Form) -> None:
    store, seen = ScriptedStore(), Seen()
    with Externalizer(store, observer=seen, cache_bytes=0) as externalizer:
        message = fan_out()
        form.externalize(externalizer, message)
        tokens = {action.scheduleTask.input.value for action in message.actions}
        form.deexternalize(externalizer, message)
        assert externalizer.observer is seen
    transfers = seen.of(Transfer)
    assert len(seen.events) == len(transfers) == 6
    for direction in ("upload", "download"):
        some = [transfer for transfer in transfers if transfer.direction == direction]
        assert sorted(transfer.raw_bytes for transfer in some) == list(SIZES)
        assert {transfer.token for transfer in some} == tokens
        assert {transfer.path for transfer in some} == {"ScheduleTaskAction.input"}
        assert all(transfer.seconds > 0 and transfer.trace is None for transfer in some)


@both_forms
def test_one_event_a_failure(form: Form) -> None:
    store, seen = ScriptedStore(), Seen()
    error = PayloadStoreUnavailableError("the store is down")

    def fail(payload: bytes) -> None:
        if len(payload) == SIZES[1]:
            raise error

    with Externalizer(store, observer=seen, cache_bytes=0, concurrency=1) as externalizer:
        message = fan_out()
        store.uploading = fail
        with pytest.raises(PayloadStoreUnavailableError):
            form.externalize(externalizer, message)
        store.uploading = lambda payload: None
        form.externalize(externalizer, message)
        store.downloading = fail
        with pytest.raises(PayloadStoreUnavailableError):
            form.deexternalize(externalizer, message)
        failures = seen.of(TransferFailure)
        assert [failure.direction for failure in failures] == ["upload", "download"]
        assert all(failure.error is error and failure.path == "ScheduleTaskAction.input" for failure in failures)
        assert len(failures) == externalizer.stats.failures


@both_forms
def test_events_come_in_the_context_of_the_caller(form: Form) -> None:
    """So that the current span is that of the caller, in whichever thread the transfer runs."""
    callers: list[str] = []
    threads: set[int] = set()
    together = threading.Barrier(2)

    class Asks(PayloadObserver):
        def transferred(self, transfer: Transfer) -> None:
            callers.append(caller.get())
            threads.add(threading.get_ident())

    store = ScriptedStore()
    store.uploading = lambda payload: None if len(payload) == SIZES[0] else (together.wait(10), None)[1]
    token = caller.set("order-17")
    try:
        with Externalizer(store, observer=Asks()) as externalizer:
            form.externalize(externalizer, fan_out())
    finally:
        caller.reset(token)
    assert callers == ["order-17"] * 3
    assert len(threads) > 1


@both_forms
def test_an_observer_without_a_method_harms_nothing_and_is_logged(form: Form, caplog: pytest.LogCaptureFixture) -> None:
    """As one that is not type-checked may be."""

    class Partial:
        def abandoned(self, abandonment: Abandonment) -> None: ...

    def fail(_payload: bytes) -> None:
        raise PayloadStoreUnavailableError("the store is down")

    store = ScriptedStore()
    with Externalizer(store, observer=cast("PayloadObserver", Partial())) as externalizer:
        message = fan_out()
        form.externalize(externalizer, message)
        form.deexternalize(externalizer, message)
        assert message == fan_out()
        assert len(store) == externalizer.stats.uploads == 3
        store.uploading = fail
        with pytest.raises(PayloadStoreUnavailableError, match="the store is down"):
            form.externalize(externalizer, message)
    assert [record.getMessage() for record in caplog.records] == [
        "observer raised observer=Partial event=Transfer",
        "observer raised observer=Partial event=TransferFailure",
    ]


@both_forms
def test_an_observer_that_raises_harms_nothing_and_is_logged_once(form: Form, caplog: pytest.LogCaptureFixture) -> None:
    class Raises(PayloadObserver):
        def transferred(self, transfer: Transfer) -> None:
            raise RuntimeError("a defect of the observer")

        def abandoned(self, abandonment: Abandonment) -> None: ...

    with Externalizer(ScriptedStore(), observer=Raises()) as externalizer:
        message = fan_out()
        form.externalize(externalizer, message)
        form.deexternalize(externalizer, message)
        assert message == fan_out()
        assert externalizer.stats.uploads == 3
    (record,) = caplog.records
    assert record.getMessage() == "observer raised observer=Raises event=Transfer"
    assert "a defect of the observer" in caplog.text
