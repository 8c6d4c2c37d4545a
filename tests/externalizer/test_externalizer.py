"""Plan, validate, transfer, commit: nothing is lost and nothing half done, in both forms."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.payload import LargePayloadStorageOptions as SdkOptions
from durabletask.payload import PayloadStore as SdkPayloadStore
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue
from tests.externalizer.counting_store import CountingStore
from tests.externalizer.forms import Form, both_forms
from tests.support.observer import Seen

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTooLargeError,
    Transfer,
    deexternalize_payloads,
    deexternalize_payloads_async,
    externalize_payloads,
    externalize_payloads_async,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

SMALL = LargePayloadStorageOptions(threshold_bytes=1_000, max_stored_payload_bytes=50_000)


def text(value: str) -> StringValue:
    return StringValue(value=value)


def tasks(*inputs: str) -> pb.OrchestratorResponse:
    """A response with an action for each of `inputs`."""
    return pb.OrchestratorResponse(
        instanceId="i",
        actions=[pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=text(value))) for value in inputs],
    )


def inputs_of(response: pb.OrchestratorResponse) -> list[str]:
    return [action.scheduleTask.input.value for action in response.actions]


def history(results: Iterable[str]) -> pb.OrchestratorRequest:
    return pb.OrchestratorRequest(
        pastEvents=[pb.HistoryEvent(taskCompleted=pb.TaskCompletedEvent(result=text(value))) for value in results]
    )


def results_of(request: pb.OrchestratorRequest) -> list[str]:
    return [event.taskCompleted.result.value for event in request.pastEvents]


@both_forms
def test_a_message_goes_out_and_comes_back(form: Form) -> None:
    store = InMemoryPayloadStore(SMALL)
    with Externalizer(store) as ours, Externalizer(store) as theirs:
        message = tasks("a" * 2_000, "small", "b" * 3_000)
        before = message.SerializeToString()
        receipt = form.externalize(ours, message, instance_id="i")
        assert inputs_of(message) == [receipt.payloads[0].token, "small", receipt.payloads[1].token]
        assert [payload[::2] for payload in receipt.payloads] == [
            ("ScheduleTaskAction.input", 2_000),
            ("ScheduleTaskAction.input", 3_000),
        ]
        assert {store.instance_id(token) for token in store.tokens} == {"i"}
        form.deexternalize(theirs, message)
        assert message.SerializeToString() == before


@both_forms
@pytest.mark.parametrize("letter", ["a", "é", "☃", "🎁"])
def test_size_is_that_of_the_utf_8_text_and_the_threshold_itself_stays(form: Form, letter: str) -> None:
    store = InMemoryPayloadStore(SMALL)
    at_the_threshold = letter * (1_000 // len(letter.encode())) + "." * (1_000 % len(letter.encode()))
    with Externalizer(store) as externalizer:
        message = pb.ActivityResponse(result=text(at_the_threshold))
        assert not form.externalize(externalizer, message)
        assert message.result.value == at_the_threshold
        assert form.externalize(externalizer, pb.ActivityResponse(result=text(at_the_threshold + ".")))
    assert len(store) == 1


@both_forms
def test_a_payload_over_the_maximum_is_refused_before_any_upload(form: Form) -> None:
    store = CountingStore(SMALL)
    message = tasks("a" * 2_000, "b" * 50_001)
    before = message.SerializeToString()
    with Externalizer(store) as externalizer, pytest.raises(PayloadTooLargeError) as caught:
        form.externalize(externalizer, message)
    assert message.SerializeToString() == before
    assert store.calls["upload"] == 0
    for part in ("50001", "50000", "max_stored_payload_bytes", "ScheduleTaskAction.input"):
        assert part in str(caught.value)
    assert "bbb" not in str(caught.value)
    assert caught.value.permanent


@both_forms
def test_a_store_that_fails_in_the_middle_leaves_the_message_and_no_orphan(form: Form) -> None:
    store = CountingStore(SMALL)
    store.fail_upload_at = 6
    message = tasks(*(str(i) * 2_000 for i in range(9)))
    before = message.SerializeToString()
    with Externalizer(store, concurrency=2) as externalizer:
        with pytest.raises(PayloadStoreUnavailableError) as caught:
            form.externalize(externalizer, message)
        assert message.SerializeToString() == before
        assert len(store) == 0
        assert store.calls["delete"] == 5
        assert not caught.value.permanent
        assert externalizer.stats.failures >= 1
        assert externalizer.stats.cached_payloads == 0


@both_forms
def test_a_token_that_can_not_be_resolved_leaves_all_of_the_message(form: Form) -> None:
    store = InMemoryPayloadStore(SMALL)
    tokens = [store.upload(str(i).encode() * 2_000) for i in range(3)]
    store.delete(tokens[1])
    message = history(tokens)
    with Externalizer(store) as externalizer, pytest.raises(PayloadNotFoundError):
        form.deexternalize(externalizer, message)
    assert results_of(message) == tokens


@both_forms
def test_a_payload_that_is_no_text_is_an_integrity_error_without_its_content(form: Form) -> None:
    store = InMemoryPayloadStore(SMALL)
    message = pb.ActivityRequest(input=text(store.upload(b"secret \xff")))
    before = message.SerializeToString()
    with Externalizer(store) as externalizer, pytest.raises(PayloadIntegrityError) as caught:
        form.deexternalize(externalizer, message)
    assert message.SerializeToString() == before
    assert "ActivityRequest.input" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


@both_forms
def test_equal_payloads_and_equal_tokens_are_moved_once(form: Form) -> None:
    store = CountingStore(SMALL)
    message = tasks(*["same" * 1_000] * 5, "other" * 1_000)
    with Externalizer(store) as ours, Externalizer(store) as theirs:
        receipt = form.externalize(ours, message)
        assert store.calls["upload"] == 2
        assert len(receipt.payloads) == 6
        form.deexternalize(theirs, message)
        assert store.calls["download"] == 2
        assert inputs_of(message) == ["same" * 1_000] * 5 + ["other" * 1_000]


@both_forms
def test_what_was_uploaded_or_downloaded_is_not_downloaded_again(form: Form) -> None:
    store = CountingStore(SMALL)
    seen = Seen()
    with Externalizer(store, observer=seen) as ours, Externalizer(store) as theirs:
        message = tasks("a" * 2_000, "b" * 2_000)
        form.externalize(ours, message)
        tokens = inputs_of(message)
        for _ in range(3):
            form.deexternalize(ours, history(tokens))
        assert store.calls["download"] == 0
        assert [transfer.direction for transfer in seen.of(Transfer)] == ["upload"] * 2 + ["cached"] * 6
        assert ours.stats.cache_hits == 6
        for _ in range(3):
            form.deexternalize(theirs, history(tokens))
        assert store.calls["download"] == 2
        assert theirs.stats.downloads == theirs.stats.cache_misses == 2
        assert theirs.stats.cached_bytes == theirs.stats.downloaded_bytes == 4_000


@both_forms
def test_nothing_is_kept_of_what_another_store_holds(form: Form) -> None:
    ours, theirs = InMemoryPayloadStore(SMALL), InMemoryPayloadStore(SMALL)
    with Externalizer(ours) as externalizer, Externalizer(theirs) as other:
        message = tasks("a" * 2_000)
        form.externalize(externalizer, message)
        with pytest.raises(PayloadNotFoundError):
            form.deexternalize(other, message)
        with pytest.raises(AttributeError):
            setattr(externalizer, "store", theirs)  # noqa: B010 - which type checkers refuse


@both_forms
def test_a_receipt_takes_back(form: Form) -> None:
    store = InMemoryPayloadStore(SMALL)
    with Externalizer(store) as externalizer:
        message = tasks("é" * 2_000, "small")
        before = message.SerializeToString()
        form.externalize(externalizer, message).restore()
        assert message.SerializeToString() == before
        assert len(store) == 1

        receipt = form.externalize(externalizer, message)
        assert len(store) == 2
        form.rollback(receipt)
        assert message.SerializeToString() == before
        assert len(store) == 1
        assert not receipt
        form.rollback(receipt)
        assert len(store) == 1


@both_forms
def test_a_rolled_back_token_is_not_served_from_the_cache(form: Form) -> None:
    store = InMemoryPayloadStore(SMALL)
    with Externalizer(store) as externalizer:
        receipt = form.externalize(externalizer, tasks("a" * 2_000))
        token = receipt.payloads[0].token
        form.rollback(receipt)
        with pytest.raises(PayloadNotFoundError):
            form.deexternalize(externalizer, history([token]))


def test_cancelling_leaves_the_message_and_no_orphan() -> None:
    store = CountingStore(SMALL)
    message = tasks(*(str(i) * 2_000 for i in range(4)))
    before = message.SerializeToString()

    async def cancel_in_the_middle() -> None:
        with Externalizer(store, concurrency=2) as externalizer:
            store.gate.clear()
            call = asyncio.ensure_future(externalizer.externalize_async(message))
            while store.calls["upload"] < 2:
                await asyncio.sleep(0.001)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            store.gate.set()
            # All slots are free again: another call is not held up by the cancelled one.
            await asyncio.wait_for(externalizer.externalize_async(tasks("x" * 2_000, "y" * 2_000)), timeout=10)

    asyncio.run(cancel_in_the_middle())
    assert message.SerializeToString() == before
    assert len(store) == 2  # of the other call: `close` has waited for what was deleted in the background


# ---- budget ---------------------------------------------------------------------------------------------------------


@both_forms
def test_many_payloads_at_the_threshold_are_brought_under_the_budget_largest_first(form: Form) -> None:
    store = InMemoryPayloadStore()
    sizes = [262_144 - 1_000 * i for i in range(40)]
    with Externalizer(store) as externalizer:
        message = tasks(*(chr(33 + i) * size for i, size in enumerate(sizes)))
        assert message.ByteSize() > 9_000_000
        receipt = form.externalize(externalizer, message)
        assert message.ByteSize() <= 3_900_000
        kept = sorted(len(value) for value in inputs_of(message) if not value.startswith("blob:"))
        moved = sorted(payload.raw_bytes for payload in receipt.payloads)
        assert kept == sorted(sizes)[: len(kept)]
        # and not one more than needed
        assert message.ByteSize() + moved[0] > 3_900_000


@both_forms
def test_what_the_threshold_takes_out_counts_for_the_budget(form: Form) -> None:
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        receipt = form.externalize(externalizer, tasks("a" * 4_500_000, *["b" * 2_000] * 10))
        assert [payload.raw_bytes for payload in receipt.payloads] == [4_500_000]


@both_forms
def test_without_a_budget_only_the_threshold_counts(form: Form) -> None:
    with Externalizer(InMemoryPayloadStore(), message_budget_bytes=None) as externalizer:
        assert not form.externalize(externalizer, tasks(*["x" * 262_144] * 40))


@both_forms
def test_diagnostics_go_out_over_the_budget_only_and_metadata_never(form: Form) -> None:
    def failed(stack_trace: str) -> pb.ActivityResponse:
        return pb.ActivityResponse(failureDetails=pb.TaskFailureDetails(stackTrace=text(stack_trace)))

    store = InMemoryPayloadStore(SMALL)
    with Externalizer(store, message_budget_bytes=20_000) as externalizer:
        assert not form.externalize(externalizer, failed("t" * 15_000))
        receipt = form.externalize(externalizer, failed("t" * 25_000))
        assert [payload.path for payload in receipt.payloads] == ["TaskFailureDetails.stackTrace"]
        assert not form.externalize(externalizer, pb.CreateInstanceRequest(version=text("v" * 25_000)))


@both_forms
def test_over_the_budget_nothing_no_larger_than_a_token_goes(form: Form) -> None:
    store = InMemoryPayloadStore(SMALL)
    with Externalizer(store, message_budget_bytes=1_000) as externalizer:
        message = tasks(*["x" * 500] * 40, "y" * 600)
        receipt = form.externalize(externalizer, message)
        assert [payload.raw_bytes for payload in receipt.payloads] == [600]


# ---- bounds and sharing ---------------------------------------------------------------------------------------------


def test_one_bound_for_all_messages_threads_and_tasks() -> None:
    store = CountingStore(SMALL)
    store.gate.clear()
    with Externalizer(store, concurrency=3) as externalizer:

        def in_threads(letter: str) -> None:
            externalizer.externalize(tasks(letter * 2_000, letter * 2_001))

        async def in_tasks() -> None:
            await asyncio.gather(*(externalizer.externalize_async(tasks(f"{i}" * 2_000)) for i in range(4)))

        threads = [threading.Thread(target=in_threads, args=(letter,)) for letter in "abcd"]
        threads.append(threading.Thread(target=asyncio.run, args=(in_tasks(),)))
        for thread in threads:
            thread.start()
        for _ in range(3):
            assert store.entered.acquire(timeout=10)
        # No fourth one comes, however long it is waited for; the event set right after lets all go on.
        assert not store.entered.acquire(timeout=0.1)
        store.gate.set()
        for thread in threads:
            thread.join(10)
    assert store.most_at_once == 3
    assert len(store) == 12


def test_nothing_of_the_pool_outlives_the_externalizer() -> None:
    before = set(threading.enumerate())  # those of earlier tests may end meanwhile
    with Externalizer(InMemoryPayloadStore(SMALL)) as externalizer:
        externalizer.externalize(tasks("a" * 2_000, "b" * 2_000))
        assert set(threading.enumerate()) - before
    assert set(threading.enumerate()) <= before
    message = tasks("a" * 2_000, "b" * 2_000)
    with pytest.raises(PayloadStoreUnavailableError, match="closed"):
        externalizer.externalize(message)
    assert inputs_of(message) == ["a" * 2_000, "b" * 2_000]
    externalizer.close()


def test_nothing_to_transfer_needs_no_thread_and_outside_the_main_thread_neither_does_a_single_payload() -> None:
    before = set(threading.enumerate())  # those of earlier tests may end meanwhile
    with Externalizer(InMemoryPayloadStore(SMALL)) as externalizer:
        externalizer.externalize(tasks("small"))
        externalizer.deexternalize(history(["x"] * 100))
        thread = threading.Thread(target=externalizer.externalize, args=(tasks("a" * 2_000, "small"),))
        thread.start()
        thread.join()
        assert set(threading.enumerate()) <= before


# ---- settings, stores of others, unknown messages ------------------------------------------------------------------


def test_settings_are_checked() -> None:
    store = InMemoryPayloadStore()
    with pytest.raises(ValueError, match="concurrency is 0"):
        Externalizer(store, concurrency=0)
    with pytest.raises(ValueError, match="cache_bytes is -1"):
        Externalizer(store, cache_bytes=-1)
    with pytest.raises(ValueError, match=r"message_budget_bytes is 10\b.*threshold_bytes.* 262144"):
        Externalizer(store, message_budget_bytes=10)


@pytest.mark.parametrize(
    ("threshold", "maximum", "said"),
    [
        (-1, 10, r"threshold_bytes is -1: .*0 to 1048576"),
        (1_048_577, 2_000_000, r"threshold_bytes is 1048577: .*0 to 1048576"),
        (1_000, 999, r"max_stored_payload_bytes is 999: .*threshold_bytes, which is 1000"),
    ],
)
def test_options_are_checked_once(threshold: int, maximum: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LargePayloadStorageOptions(threshold_bytes=threshold, max_stored_payload_bytes=maximum)


@pytest.mark.parametrize("message", [Timestamp(), StringValue(value="x" * 2_000)])
@both_forms
def test_a_message_of_another_schema_is_a_type_error_with_its_name(
    form: Form, message: Timestamp | StringValue
) -> None:
    with Externalizer(InMemoryPayloadStore(SMALL)) as externalizer:
        for call in (form.externalize, form.deexternalize):
            with pytest.raises(TypeError, match=message.DESCRIPTOR.full_name):
                call(externalizer, message)


class StoreForTheSdk(SdkPayloadStore):
    """A store that was written for the SDK, with tokens of its own form."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    @property
    def options(self) -> SdkOptions:
        return SdkOptions(threshold_bytes=1_000)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        token = f"mine://{instance_id}/{len(self.kept)}"
        self.kept[token] = data
        return token

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        return self.kept[token]

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return value.startswith("mine://")


@both_forms
def test_a_store_written_for_the_sdk_serves_as_well(form: Form) -> None:
    store = StoreForTheSdk()
    with Externalizer(store) as ours, Externalizer(store) as theirs:
        message = tasks("a" * 2_000, "small")
        before = message.SerializeToString()
        receipt = form.externalize(ours, message, instance_id="i")
        assert inputs_of(message) == ["mine://i/0", "small"]
        form.deexternalize(theirs, message)
        assert message.SerializeToString() == before
        form.rollback(receipt)  # has no delete: the payload stays
        assert len(store.kept) == 1


def test_the_four_functions_of_the_sdk() -> None:
    store = InMemoryPayloadStore(SMALL)
    threads = set(threading.enumerate())
    for form in ("sync", "async"):
        message = tasks("a" * 2_000, "b" * 2_000)
        before = message.SerializeToString()
        if form == "sync":
            externalize_payloads(message, store, instance_id="i")
        else:
            asyncio.run(externalize_payloads_async(message, store, instance_id="i"))
        assert all(store.is_known_token(value) for value in inputs_of(message))
        assert store.instance_id(inputs_of(message)[0]) == "i"
        if form == "sync":
            deexternalize_payloads(message, store)
        else:
            asyncio.run(deexternalize_payloads_async(message, store))
        assert message.SerializeToString() == before
    assert set(threading.enumerate()) <= threads


def test_a_process_ends_without_a_word() -> None:
    program = (
        "from durabletask_payloads import Externalizer, InMemoryPayloadStore\n"
        "from durabletask_payloads.interceptors import PayloadInterceptor\n"
        "kept = [PayloadInterceptor(Externalizer(InMemoryPayloadStore())) for _ in range(3)]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
