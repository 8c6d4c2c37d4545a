"""Settings of an Externalizer, whose a payload is, and what is told and undone of a commit."""

from __future__ import annotations

import asyncio
import gc
import inspect
import time
import weakref
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.externalizer.forms import both_forms
from tests.support.observer import Seen
from tests.support.waiting import wait_until

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadObserver,
    PayloadStoreUnavailableError,
    Transfer,
    TransferFailure,
    UploadPlan,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.externalizer.forms import Form

LARGE = "x" * 5_000


class OwningStore(InMemoryPayloadStore):
    """Keeps whose each payload is, and fails to upload or delete some."""

    def __init__(self) -> None:
        super().__init__(LargePayloadStorageOptions(threshold_bytes=1_000))
        self.owners: list[str | None] = []
        self.bad_uploads: set[bytes] = set()
        self.bad_deletions: set[str] = set()

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        if data in self.bad_uploads:
            raise PayloadStoreUnavailableError("down")
        self.owners.append(instance_id)
        return super().upload(data, instance_id=instance_id)

    def delete(self, token: str) -> None:
        if token in self.bad_deletions:
            raise PayloadStoreUnavailableError("down")
        super().delete(token)


@pytest.fixture
def store() -> OwningStore:
    return OwningStore()


@pytest.fixture
def externalizer(store: OwningStore) -> Iterator[Externalizer]:
    with Externalizer(store) as externalizer:
        yield externalizer


def events(*texts: str) -> pb.OrchestratorResponse:
    """A response that sends an event for each text: to other instances."""
    actions = [
        pb.OrchestratorAction(sendEvent=pb.SendEventAction(name="paid", data=StringValue(value=text))) for text in texts
    ]
    return pb.OrchestratorResponse(actions=actions)


# ---- settings ------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_documentation() -> None:
    settings = inspect.signature(Externalizer).parameters
    assert settings["concurrency"].default == 8
    assert settings["cache_bytes"].default == 64 * 1024 * 1024


def test_what_is_no_store() -> None:
    for store, message in (
        (InMemoryPayloadStore, "store is the class InMemoryPayloadStore: pass an instance of it"),
        (LargePayloadStorageOptions(), "store is of type LargePayloadStorageOptions, the options of one"),
        (object(), "store is of type object: it must be a payload store"),
    ):
        with pytest.raises(TypeError, match=message):
            Externalizer(store)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # that is the point


@pytest.mark.parametrize("setting", ["concurrency", "cache_bytes", "message_budget_bytes"])
def test_settings_of_another_type(setting: str, store: OwningStore) -> None:
    with pytest.raises(TypeError, match=setting):
        Externalizer(store, **{setting: "1"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # that is the point


def test_what_an_externalizer_tells_of_itself(store: OwningStore) -> None:
    seen = Seen()
    with Externalizer(store, observer=seen) as externalizer:
        assert externalizer.store is store
        assert externalizer.observer is seen


# ---- whose a payload is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "receivers", "owners"),
    [
        (["a", "b"], [], ["order-1", "order-1"]),
        (["a", "b"], ["order-2", None], ["order-2", "order-1"]),
        (["a", "a"], ["order-2", "order-2"], ["order-2"]),
        (["a", "a"], ["order-2", "order-3"], [None]),  # nobody's own: it is kept as long as anyone may need it
        (["a", "a"], ["order-2", None], [None]),
    ],
)
def test_a_payload_belongs_to_who_receives_it(
    texts: list[str],
    receivers: list[str | None],
    owners: list[str | None],
    externalizer: Externalizer,
    store: OwningStore,
) -> None:
    message = events(*(text * 5_000 for text in texts))
    fields = [action.sendEvent.data for action in message.actions]
    by_field = {id(field): one for field, one in zip(fields, receivers, strict=False) if one is not None}
    externalizer.carry_out(externalizer.plan(message), instance_id="order-1", receivers=by_field)
    assert sorted(store.owners, key=str) == sorted(owners, key=str)


# ---- what is told --------------------------------------------------------------------------------------------------


@both_forms
def test_equal_payloads_are_told_of_as_one_of_the_first_field(form: Form, store: OwningStore) -> None:
    seen = Seen()
    began = time.perf_counter()
    message = events(LARGE)
    message.customStatus.value = LARGE
    with Externalizer(store, observer=seen) as externalizer:
        first = externalizer.plan(message).uploads[0].path
        form.externalize(externalizer, message)
        (transfer,) = seen.of(Transfer)
        assert transfer[:4] == ("upload", first, message.customStatus.value, 5_000)
        assert 0 <= transfer.seconds <= time.perf_counter() - began
        store.bad_uploads.add(b"y" * 5_000)
        message = events("y" * 5_000)
        message.customStatus.value = "y" * 5_000
        with pytest.raises(PayloadStoreUnavailableError):
            form.externalize(externalizer, message)
        (failure,) = seen.of(TransferFailure)
        assert failure[:2] == ("upload", first)
        assert 0 <= failure.seconds <= time.perf_counter() - began


@both_forms
def test_text_that_is_none_is_told_of_with_its_first_field_and_position(form: Form, store: OwningStore) -> None:
    token = store.upload(b"abc\xff")
    state = pb.OrchestrationState(input=StringValue(value=token), output=StringValue(value=token))
    met: list[tuple[str, str]] = []
    with Externalizer(store) as externalizer:
        form.deexternalize(
            externalizer, state, on_unreadable=lambda download, error: met.append((download.path, str(error)))
        )
        text = f"OrchestrationState.input: what is stored under {token} is not UTF-8 text (byte 3 of 4)"
        assert met == [("OrchestrationState.input", text)]
        with pytest.raises(PayloadIntegrityError, match=r"^OrchestrationState.input: .*byte 3 of 4"):
            form.deexternalize(externalizer, state)
    assert (state.input.value, state.output.value) == (token, token)


class OtherTokens(OwningStore):
    """A store that returns no token."""

    token: object = 7

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.token  # type: ignore[return-value]  # pyright: ignore[reportReturnType]  # that is the point


@pytest.mark.parametrize(("token", "what"), [(7, "int, not text"), ("x", "text that its is_known_token rejects")])
def test_what_a_store_returned_is_named(token: object, what: str) -> None:
    store = OtherTokens()
    store.token = token
    with Externalizer(store) as externalizer, pytest.raises(PayloadError, match=rf"OtherTokens.upload returned {what}"):
        externalizer.externalize(events(LARGE))


# ---- what is undone ------------------------------------------------------------------------------------------------


def test_a_receipt_of_nothing(externalizer: Externalizer) -> None:
    for receipt in (
        externalizer.externalize(events("small")),
        externalizer.carry_out(UploadPlan()),
        asyncio.run(externalizer.carry_out_async(UploadPlan())),
    ):
        assert not receipt
        assert receipt.payloads == ()
        receipt.restore()
        receipt.rollback()
    assert externalizer.stats.deletions == 0


def test_a_deletion_that_fails_does_not_keep_the_others(
    externalizer: Externalizer, store: OwningStore, caplog: pytest.LogCaptureFixture
) -> None:
    message = events("a" * 5_000, "b" * 5_000, "c" * 5_000)
    before = message.SerializeToString()
    receipt = externalizer.externalize(message)
    bad = receipt.payloads[1].token
    store.bad_deletions.add(bad)
    receipt.rollback()
    assert message.SerializeToString() == before
    assert (len(store), externalizer.stats.deletions) == (1, 2)
    assert f"payload of an unsent message not deleted token={bad} error=down" in caplog.text


def test_what_was_forgotten_is_downloaded_again(externalizer: Externalizer, store: OwningStore) -> None:
    message = events(LARGE)
    (payload,) = externalizer.externalize(message).payloads
    store.delete(payload.token)
    assert externalizer.stats.cached_payloads == 1
    externalizer.forget(payload.token)
    assert externalizer.stats.cached_payloads == 0
    with pytest.raises(PayloadNotFoundError):
        externalizer.deexternalize(message)


# ---- what a failure holds ------------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("way", ["out", "in"])
def test_an_error_goes_with_its_payloads_when_nobody_holds_it(way: str, count: int, form: Form) -> None:
    """Without the garbage collector: until that runs, an outage would fill the memory."""
    store = OwningStore()
    texts = [str(number) * 5_000 for number in range(count)]
    store.bad_uploads.update(text.encode() for text in texts)
    tokens = [store.upload(b"%d" % number) for number in range(count)]
    for token in tokens:
        store.delete(token)

    async def error_of(externalizer: Externalizer) -> weakref.ref[PayloadError]:
        message = events(*(texts if way == "out" else tokens))
        try:  # here: asyncio.run would keep what passes it
            match way, form.is_async:
                case "out", False:
                    externalizer.externalize(message)
                case "out", True:
                    await externalizer.externalize_async(message)
                case _, False:
                    externalizer.deexternalize(message)
                case _:
                    await externalizer.deexternalize_async(message)
        except PayloadError as error:
            return weakref.ref(error)
        pytest.fail("the transfer succeeded")

    with Externalizer(store, observer=PayloadObserver()) as externalizer:
        gc.disable()
        try:
            error = asyncio.run(error_of(externalizer))
            # A thread may still be about to leave its frames.
            wait_until(lambda: error() is None, what="the end of the error", seconds=5)
        finally:
            gc.enable()
