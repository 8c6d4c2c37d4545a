"""The table of failures, end to end: the SDK's worker and client, real gRPC, the backend that delivers again.

Each docstring says what the reference does: the SDK's own `payload_store=`, durabletask 1.12.0.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from tests.support.backend import RedeliveringBackend, Work
from tests.support.hub import (
    LEDGER_ID,
    Hub,
    asks_with_lock,
    calls_digest,
    calls_produce,
    calls_raise_error,
    calls_returns,
    catches,
    fans_out,
    operates,
    raises,
    returns,
    returns_with_lock,
    waits_with_lock,
)
from tests.support.scripted_store import MAXIMUM, ScriptedStore, prove
from tests.support.waiting import wait_until

from durabletask_payloads import (
    Externalizer,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.support.backend import Completion

LARGE = "x" * 5_000
OVER = MAXIMUM + 1


@pytest.fixture
def hub(backend: RedeliveringBackend, hub_address: str, externalizer: Externalizer, fast: None) -> Generator[Hub]:
    with contextlib.ExitStack() as stack:
        yield Hub(backend, hub_address, externalizer, stack)


def failing(
    error: Callable[[], Exception], *, times: int = 1 << 30, payload: bytes = b""
) -> tuple[Callable[[bytes], None], list[int]]:
    """A hook of the store that raises `error` some times for payloads that begin so; and how often it did."""
    count = [0]

    def hook(data: bytes) -> None:
        if count[0] < times and data.startswith(payload):
            count[0] += 1
            raise error()

    return hook, count


@contextlib.contextmanager
def serving_others(externalizer: Externalizer, store: ScriptedStore) -> Generator[None]:
    """Let the store serve something else all the time: only then do deliveries count."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(0.005):
            prove(externalizer, store)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def down() -> Exception:
    return PayloadStoreUnavailableError("the store is down")


def gone() -> Exception:
    return PayloadNotFoundError("nothing is stored under the token")


# ---- a worker completes an activity --------------------------------------------------------------------------------


def test_an_activity_with_a_result_over_the_maximum_fails(hub: Hub) -> None:
    """The reference logs the error; the orchestration waits for ever."""
    hub.start()
    outcome = hub.run(calls_produce, OVER)
    assert outcome.failed
    assert f"ActivityResponse.result has {OVER + 2} bytes" in outcome.message
    assert "max_stored_payload_bytes" in outcome.message


def test_an_orchestrator_can_catch_the_failure_of_an_activity(hub: Hub) -> None:
    """The reference never gets there."""
    hub.start()
    outcome = hub.run(catches, OVER)
    assert outcome.completed
    assert "max_stored_payload_bytes" in outcome.output


def test_a_failed_activity_keeps_ids_and_token_and_is_not_to_be_retried(hub: Hub) -> None:
    hub.start()
    hub.run(calls_produce, OVER, instance_id="order-1")
    (response,) = [one for one in hub.backend.completions if isinstance(one, pb.ActivityResponse)]
    assert (response.instanceId, response.taskId) == ("order-1", 1)
    assert response.completionToken.startswith("activity-")
    assert not response.HasField("result")
    assert response.failureDetails.errorType == "durabletask_payloads.PayloadTooLargeError"
    assert response.failureDetails.isNonRetriable


def test_an_activity_is_given_back_while_the_store_is_down(hub: Hub, store: ScriptedStore) -> None:
    """The reference logs the error of the Azure client, after its retries; the orchestration waits for ever."""
    store.uploading, count = failing(down, times=3, payload=b'"rrr')
    hub.start()
    outcome = hub.run(calls_produce, 5_000, instance_id="order-1")
    assert outcome.output == 5_000
    assert count == [3]
    assert hub.backend.abandonments[Work("activity", "order-1", 1)] == 3
    assert any("PayloadStoreUnavailableError" in str(line) or "the store is down" in line for line in hub.logged)


@pytest.mark.slow
def test_an_activity_that_came_back_too_often_fails(hub: Hub, store: ScriptedStore, externalizer: Externalizer) -> None:
    store.uploading, count = failing(down, payload=b'"rrr')
    hub.start()
    with serving_others(externalizer, store):
        outcome = hub.run(calls_produce, 5_000, instance_id="order-1")
    assert outcome.failed
    assert "gave up after 10 deliveries: the store is down" in outcome.message
    assert count == [10]
    assert hub.backend.deliveries[Work("activity", "order-1", 1)] == 10


# ---- a worker completes an orchestration ---------------------------------------------------------------------------


def test_an_orchestration_with_a_result_over_the_maximum_fails(hub: Hub) -> None:
    """The reference logs the error; the client waits for ever."""
    hub.start()
    outcome = hub.run(returns, OVER)
    assert outcome.failed
    assert f"CompleteOrchestrationAction.result has {OVER + 2} bytes" in outcome.message
    assert outcome.error_type == "durabletask_payloads.PayloadTooLargeError"


def test_the_parent_sees_the_failure_of_its_child(hub: Hub) -> None:
    """The reference: both wait for ever. The parent gets the text, wrapped once more."""
    hub.start()
    outcome = hub.run(calls_returns, OVER, instance_id="order-1")
    assert outcome.failed
    assert f"CompleteOrchestrationAction.result has {OVER + 2} bytes" in outcome.message


def test_an_orchestration_that_fails_in_a_critical_section_frees_the_lock(hub: Hub) -> None:
    """The reference: the orchestration is stuck, and so is everybody who wants the lock.

    Its result is too large: the SDK has released the lock in the same response, and that is kept.
    """
    hub.start()
    outcome = hub.run(returns_with_lock, OVER)
    assert outcome.failed
    assert hub.backend.holder_of(LEDGER_ID) is None
    assert hub.run(returns_with_lock, 10).completed


def test_an_orchestration_that_fails_with_a_lock_still_held_frees_it(hub: Hub) -> None:
    """The reference: as above. Here the SDK wants to go on, so it has released nothing: we do."""
    hub.start()
    outcome = hub.run(asks_with_lock, OVER, instance_id="order-1")
    assert outcome.failed
    assert f"ScheduleTaskAction.input has {OVER + 2} bytes" in outcome.message
    assert hub.backend.holder_of(LEDGER_ID) is None
    (response,) = [one for one in hub.backend.completions if isinstance(one, pb.OrchestratorResponse)][-1:]
    unlock, complete = response.actions
    assert unlock.sendEntityMessage.entityUnlockSent.targetInstanceId.value == LEDGER_ID
    assert unlock.sendEntityMessage.entityUnlockSent.parentInstanceId.value == "order-1"
    assert complete.completeOrchestration.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED
    assert hub.run(returns_with_lock, 10).completed


def test_an_orchestration_is_given_back_while_the_store_is_down(hub: Hub, store: ScriptedStore) -> None:
    """The reference logs the error of the Azure client; the client waits for ever."""
    store.uploading, _ = failing(down, times=3)
    hub.start()
    outcome = hub.run(returns, 5_000, instance_id="order-1")
    assert outcome.output == "r" * 5_000
    assert hub.backend.abandonments[Work("orchestration", "order-1", 0)] == 3


# ---- a worker completes an entity batch ----------------------------------------------------------------------------


def test_of_an_entity_batch_only_the_result_over_the_maximum_fails(hub: Hub) -> None:
    """The reference logs the error; everybody who called the entity waits for ever, and it is stuck.

    What the operation did to the state is kept: it is not rolled back.
    """
    hub.start()
    hub.put_state("before")
    outcome = hub.run(operates, [["put", LARGE], ["grow", OVER], ["get", None]])
    first, second, third = outcome.output
    assert (first, third) == (5_000, 5_000)
    assert f"OperationResultSuccess.result has {OVER + 2} bytes" in second


def test_an_entity_batch_with_a_state_over_the_maximum_fails_and_keeps_the_state(
    hub: Hub, store: ScriptedStore
) -> None:
    """The reference: as above. The state stays as it arrived, a token, and what the batch wanted is not done."""
    hub.start()
    hub.put_state(LARGE)
    token = hub.backend.state_of(LEDGER_ID)
    assert token in store.tokens
    outcome = hub.run(operates, [["get", None], ["swell", OVER]])
    assert all(f"EntityBatchResult.entityState has {OVER + 2} bytes" in text for text in outcome.output)
    assert hub.backend.state_of(LEDGER_ID) == token
    assert hub.backend.state_of("@ledger@other") is None
    (batch,) = [one for one in hub.backend.completions if isinstance(one, pb.EntityBatchResult)][-1:]
    assert batch.HasField("failureDetails")
    assert len(batch.operationInfos) == len(batch.results) == 2
    assert hub.run(operates, [["get", None]]).output == [5_000]


def test_a_failed_entity_operation_frees_the_lock(hub: Hub) -> None:
    """The reference: stuck, and the lock is held for ever."""
    hub.start()
    hub.put_state("before")
    hub.run(operates, [["grow", OVER]])
    assert hub.backend.holder_of(LEDGER_ID) is None
    assert hub.run(returns_with_lock, 10).completed


def test_an_entity_batch_is_given_back_while_the_store_is_down(hub: Hub, store: ScriptedStore) -> None:
    """The reference logs the error of the Azure client; the entity is stuck."""
    store.uploading, _ = failing(down, times=3, payload=b'"ggg')
    hub.start()
    outcome = hub.run(operates, [["put", "once"], ["grow", 5_000], ["get", None]])
    assert outcome.output == [4, "g" * 5_000, 4]
    assert hub.backend.abandonments[Work("entity", LEDGER_ID, 0)] == 3


# ---- too large for gRPC --------------------------------------------------------------------------------------------


def test_an_activity_that_fails_with_a_text_of_5_mb_ends_failed_with_a_cut_text(hub: Hub) -> None:
    """The reference: gRPC refuses the completion, the orchestration waits for ever."""
    hub.start()
    outcome = hub.run(calls_raise_error, 5_000_000)
    assert outcome.failed
    assert "eeeeeeee" in outcome.message
    assert "cut: 5000000 bytes" in outcome.message
    assert len(outcome.message) < 40_000


def test_an_orchestrator_that_fails_with_a_text_of_5_mb_ends_failed_with_a_cut_text(hub: Hub) -> None:
    """The reference: as above."""
    hub.start()
    outcome = hub.run(raises, 5_000_000)
    assert outcome.failed
    assert outcome.error_type.endswith("ValueError")
    assert "cut: 5000000 bytes" in outcome.message
    assert len(outcome.message) < 40_000


def test_a_text_that_is_known_to_be_too_large_goes_to_the_store_by_its_stack_trace(
    backend: RedeliveringBackend, hub_address: str, fast: None
) -> None:
    """With a budget it is not even tried: the text is cut first, and is whole in what is stored."""
    store = ScriptedStore(maximum=12_000_000)
    with contextlib.ExitStack() as stack:
        externalizer = stack.enter_context(Externalizer(store))
        hub = Hub(backend, hub_address, externalizer, stack)
        refused: list[object] = []
        backend.refuse = lambda completion: refused.append(completion)
        hub.start()
        outcome = hub.run(calls_raise_error, 5_000_000)
    assert outcome.failed
    assert "whole in stackTrace" in outcome.message
    assert len([one for one in refused if isinstance(one, pb.ActivityResponse)]) == 1
    assert any(b"e" * 5_000_000 in store.download(token) for token in store.tokens)


def test_a_completion_that_is_refused_for_its_size_is_replaced_by_a_failure(hub: Hub) -> None:
    """The reference logs the error; the orchestration waits for ever. 3,000 activities have no text that can be cut."""

    def refuse(completion: Completion) -> grpc.StatusCode | None:
        return grpc.StatusCode.RESOURCE_EXHAUSTED if completion.ByteSize() > 70_000 else None

    hub.backend.refuse = refuse
    hub.backend.refusal = "Received message larger than max (70001 vs. 70000)"
    hub.start()
    outcome = hub.run(fans_out, [3_000, 10])
    assert outcome.failed
    assert "OrchestratorResponse has" in outcome.message
    assert "its largest field is OrchestratorResponse.actions" in outcome.message


# ---- work items that arrive ----------------------------------------------------------------------------------------


def test_an_orchestration_whose_input_is_gone_fails(hub: Hub, store: ScriptedStore) -> None:
    """The reference: the work item is delivered again and again, for ever."""
    instance = hub.client.schedule_new_orchestration(calls_digest, input=LARGE)
    store.delete(store.tokens[0])
    hub.start()
    outcome = hub.end_of_raw(instance)
    assert outcome.failed
    assert outcome.error_type == "durabletask_payloads.PayloadNotFoundError"
    assert hub.backend.deliveries[Work("orchestration", instance, 0)] == 1


def test_an_orchestration_that_arrives_with_a_lock_held_and_can_not_be_resolved_frees_it(
    hub: Hub, store: ScriptedStore
) -> None:
    """The reference: as above, and the lock is held for ever."""
    hub.start()
    instance = hub.client.schedule_new_orchestration(waits_with_lock)
    wait_until(lambda: hub.backend.holder_of(LEDGER_ID) is not None, what="the lock")
    store.downloading, _ = failing(gone)
    hub.client.raise_orchestration_event(instance, "go", data=LARGE)
    outcome = hub.end_of(instance)
    assert outcome.failed
    assert "nothing is stored under the token" in outcome.message
    assert hub.backend.holder_of(LEDGER_ID) is None
    assert hub.run(returns_with_lock, 10).completed


def test_an_activity_whose_input_is_gone_fails(hub: Hub, store: ScriptedStore) -> None:
    """The reference: the activity fails too, as of the Azure client's error."""
    store.downloading, count = failing(gone, times=1, payload=b'"yyy')
    hub.start()
    outcome = hub.run(calls_digest, "y" * 5_000)
    assert count == [1]
    assert outcome.failed


def test_work_items_are_given_back_while_the_store_is_down(hub: Hub, store: ScriptedStore) -> None:
    """The reference: orchestrations are delivered again by their timeout, an activity fails for good."""
    store.downloading, count = failing(down, times=4)
    hub.start()
    outcome = hub.run(calls_digest, LARGE, instance_id="order-1")
    assert outcome.output == 5_000
    assert count == [4]
    assert sum(hub.backend.abandonments.values()) == 4


@pytest.mark.slow
def test_a_work_item_that_came_back_too_often_fails(hub: Hub, store: ScriptedStore, externalizer: Externalizer) -> None:
    """The reference: delivered for ever."""
    store.downloading, _count = failing(down, payload=b'"xxx')
    hub.start()
    instance = hub.client.schedule_new_orchestration(calls_digest, input=LARGE)
    with serving_others(externalizer, store):
        outcome = hub.end_of_raw(instance)
    assert outcome.failed
    assert "gave up after 10 deliveries" in outcome.message
    assert hub.backend.deliveries[Work("orchestration", instance, 0)] == 10


def test_of_an_entity_batch_that_arrives_only_the_operation_without_its_input_fails(
    hub: Hub, store: ScriptedStore
) -> None:
    """The reference: the batch is delivered again and again, the entity is stuck."""
    # The orchestration sees its own calls too, so that the payload is there for everybody but the first.
    store.downloading, count = failing(gone, times=2, payload=b'"yyy')
    hub.start()
    outcome = hub.run(operates, [["put", "first"], ["put", "y" * 5_000], ["get", None]])
    first, second, third = outcome.output
    assert (first, third) == (5, 5)
    assert "nothing is stored under the token" in second
    assert count == [2]


def test_an_entity_batch_whose_state_is_gone_fails_and_keeps_the_token(hub: Hub, store: ScriptedStore) -> None:
    """The reference: as above."""
    hub.start()
    hub.put_state(LARGE)
    token = hub.backend.state_of(LEDGER_ID)
    store.downloading, _ = failing(gone, payload=b'"xxx')
    outcome = hub.run(operates, [["get", None], ["get", None]])
    assert all("nothing is stored under the token" in text for text in outcome.output)
    assert hub.backend.state_of(LEDGER_ID) == token


def test_an_entity_batch_that_arrives_is_given_back_while_the_store_is_down(hub: Hub, store: ScriptedStore) -> None:
    """The reference: as above."""
    store.downloading, _ = failing(down, times=3, payload=b'"yyy')
    hub.start()
    outcome = hub.run(operates, [["put", "y" * 5_000], ["get", None]])
    assert outcome.output == [5_000, 5_000]
    assert hub.backend.abandonments[Work("entity", LEDGER_ID, 0)] == 3
