"""Payloads that cannot be read, seen with the SDK's clients, sync and asynchronous, and with what it builds on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
import pytest
from durabletask.client import AsyncTaskHubGrpcClient, EntityQuery, OrchestrationQuery, OrchestrationStatus
from durabletask.entities import EntityInstanceId
from durabletask.extensions.history_export.activities import HistoryExportContext, run_export_instance_history
from durabletask.scheduled.client import AsyncScheduledTaskClient, ScheduledTaskClient
from durabletask.scheduled.models import ScheduleCreationOptions
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.backend import RedeliveringBackend, client_on, running, worker_on
from tests.support.hub import FUNCTIONS, returns
from tests.support.scripted_store import ScriptedStore
from tests.support.sdk_backend import quiet
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadNotFoundError, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durabletask.client import TaskHubGrpcClient

ELSEWHERE = "blob:v1:another-container:" + "0" * 32
SIZE = 5_000
GOOD, BAD = EntityInstanceId("ledger", "good"), EntityInstanceId("ledger", "bad")
PAYLOADS = OrchestrationQuery(fetch_inputs_and_outputs=True)


class Planted(NamedTuple):
    """A hub with readable and unreadable payloads.

    The orchestrations "good" and "done" are completed, and the output of "done" is gone from the store. "evil" has not
    started, and its input is a token of another container, from a client without an interceptor. The state of the
    entity `BAD` and of the schedule "gone" is gone too.
    """

    address: str
    store: ScriptedStore
    output_of_done: str
    state_of_bad: str


@pytest.fixture(scope="module")
def planted() -> Generator[Planted]:
    backend, store = RedeliveringBackend(), ScriptedStore()
    with (
        running(backend) as address,
        contextlib.closing(PayloadInterceptor(store)) as interceptor,
        contextlib.closing(client_on(address, [interceptor])) as client,
        grpc.insecure_channel(address) as channel,
    ):
        raw = stubs.TaskHubSidecarServiceStub(channel)
        worker = worker_on(address, FUNCTIONS, [interceptor])
        worker.configure_scheduled_tasks()
        worker.start()
        try:
            for instance_id in ("good", "done"):
                client.schedule_new_orchestration(returns, input=SIZE, instance_id=instance_id)
                client.wait_for_orchestration_completion(instance_id, timeout=20)
            for entity in (GOOD, BAD):
                client.signal_entity(entity, "put", "s" * SIZE)
            schedules = ScheduledTaskClient(client)
            for schedule_id in ("kept", "gone"):
                schedules.create_schedule(
                    ScheduleCreationOptions(
                        schedule_id,
                        "returns",
                        timedelta(hours=1),
                        orchestration_input="i" * SIZE,
                        start_at=datetime.now(timezone.utc) + timedelta(hours=1),
                    )
                )
            wait_until(lambda: all(backend.state_of(str(one)) for one in (GOOD, BAD)), what="the states")
            wait_until(lambda: backend.is_idle, what="the end of all work")
        finally:
            worker.stop()
        done = raw.GetInstance(pb.GetInstanceRequest(instanceId="done", getInputsAndOutputs=True))
        output_of_done = done.orchestrationState.output.value
        state_of_bad = backend.state_of(str(BAD))
        state_of_gone = backend.state_of("@schedule@gone")
        assert state_of_bad is not None
        assert state_of_gone is not None
        for token in (output_of_done, state_of_bad, state_of_gone):
            assert store.is_known_token(token)
            store.delete(token)
        raw.StartInstance(
            pb.CreateInstanceRequest(instanceId="evil", name="returns", input=StringValue(value=ELSEWHERE))
        )
        yield Planted(address, store, output_of_done, state_of_bad)


class Asker:
    """Asks a client of the SDK, either kind. Nothing is in a cache."""

    def __init__(self, kind: str, planted: Planted) -> None:
        self._is_sync = kind == "sync"
        self._planted = planted

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """Return what `question` returns for the client, awaited where that is asynchronous."""
        with Externalizer(self._planted.store, cache_bytes=0) as externalizer:
            if not self._is_sync:
                return asyncio.run(self._ask(question, externalizer))
            interceptor = PayloadInterceptor(externalizer)
            with contextlib.closing(client_on(self._planted.address, [interceptor])) as client:
                return question(client)

    async def _ask(self, question: Callable[[Any], Any], externalizer: Externalizer) -> Any:
        of = AsyncTaskHubGrpcClient
        # Any: the SDK's alias for interceptors is of another type than grpc's own for a list of them.
        interceptors: Any = async_payload_interceptors(externalizer)
        client = of(host_address=self._planted.address, interceptors=interceptors, **quiet(of))
        try:
            return await question(client)
        finally:
            await client.close()

    def scheduled(self, client: Any) -> Any:
        return ScheduledTaskClient(client) if self._is_sync else AsyncScheduledTaskClient(client)


@pytest.fixture(params=["sync", "aio"])
def asker(request: pytest.FixtureRequest, planted: Planted) -> Asker:
    return Asker(request.param, planted)


# ---- states --------------------------------------------------------------------------------------------------------


def test_one_instance_does_not_poison_the_list(asker: Asker, planted: Planted) -> None:
    """With the reference nobody gets a list of this hub until the instance is purged."""
    found = {one.instance_id: one for one in asker.ask(lambda client: client.get_all_orchestration_states(PAYLOADS))}
    assert json.loads(found["good"].serialized_output) == "r" * SIZE
    assert (found["done"].runtime_status, found["done"].serialized_output) == (
        OrchestrationStatus.COMPLETED,
        planted.output_of_done,
    )
    assert found["done"].serialized_input == str(SIZE)
    assert (found["evil"].runtime_status, found["evil"].serialized_input) == (OrchestrationStatus.PENDING, ELSEWHERE)


def test_the_state_of_one_instance_is_shown(asker: Asker) -> None:
    found = asker.ask(lambda client: client.get_orchestration_state("evil"))
    assert (found.runtime_status, found.serialized_input) == (OrchestrationStatus.PENDING, ELSEWHERE)


@pytest.mark.parametrize(
    "method", ["get_orchestration_state", "wait_for_orchestration_start", "wait_for_orchestration_completion"]
)
def test_a_result_that_is_gone_is_our_error_and_its_status_can_still_be_had(
    method: str, asker: Asker, planted: Planted
) -> None:
    def question(instance_id: str, fetch_payloads: bool) -> Callable[[Any], Any]:
        return lambda client: getattr(client, method)(instance_id, fetch_payloads=fetch_payloads)

    with pytest.raises(
        PayloadNotFoundError, match=rf"instance done: OrchestrationState\.output.*{planted.output_of_done}"
    ):
        asker.ask(question("done", True))
    assert asker.ask(question("done", False)).runtime_status is OrchestrationStatus.COMPLETED
    assert asker.ask(question("good", True)).get_output() == "r" * SIZE


def test_a_store_that_is_down_is_our_error_for_a_list_too(
    asker: Asker, planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: bytes) -> None:
        raise PayloadStoreUnavailableError("down")

    monkeypatch.setattr(planted.store, "downloading", fail)
    with pytest.raises(PayloadStoreUnavailableError, match=r"instance good: OrchestrationState\.output: down"):
        asker.ask(lambda client: client.get_all_orchestration_states(PAYLOADS))
    with pytest.raises(PayloadStoreUnavailableError, match=r"instance @.*good: EntityMetadata\.serializedState: down"):
        asker.ask(lambda client: client.get_all_entities(EntityQuery(include_state=True)))


# ---- entities and schedules ----------------------------------------------------------------------------------------


def test_one_entity_does_not_poison_the_list(asker: Asker, planted: Planted) -> None:
    query = EntityQuery(instance_id_starts_with="@ledger@", include_state=True)
    found = {one.id.key: one.get_state() for one in asker.ask(lambda client: client.get_all_entities(query))}
    assert found == {"good": json.dumps("s" * SIZE), "bad": planted.state_of_bad}


def test_the_metadata_of_an_entity_is_shown(asker: Asker, planted: Planted) -> None:
    found = asker.ask(lambda client: client.get_entity(BAD))
    assert (found.id, found.includes_state, found.get_state()) == (BAD, True, planted.state_of_bad)
    with pytest.raises(json.JSONDecodeError):  # so nobody takes the token for a state
        found.get_typed_state()
    assert asker.ask(lambda client: client.get_entity(GOOD)).get_typed_state() == "s" * SIZE


def test_schedules_with_large_states_are_listed_but_the_sdk_parses_a_token_as_json(asker: Asker) -> None:
    """A schedule is an entity, and the SDK's list of schedules parses the states of all: one token fails it.

    `get_all_entities` still shows which one it is, and each other schedule can be had by its id.
    """
    kept = asker.ask(lambda client: asker.scheduled(client).get_schedule("kept"))
    assert kept.schedule_id == "kept"
    with pytest.raises(json.JSONDecodeError):
        asker.ask(lambda client: asker.scheduled(client).list_schedules())
    query = EntityQuery(instance_id_starts_with="@schedule@", include_state=True)
    found = asker.ask(lambda client: client.get_all_entities(query))
    assert sorted(one.id.key for one in found) == ["gone", "kept"]


# ---- histories -----------------------------------------------------------------------------------------------------


def test_a_history_is_our_error_with_instance_and_field(asker: Asker, planted: Planted) -> None:
    with pytest.raises(PayloadNotFoundError, match=rf"instance done: \w+\.result: .*{planted.output_of_done}"):
        asker.ask(lambda client: client.get_orchestration_history("done"))
    assert any("r" * SIZE in str(event) for event in asker.ask(lambda client: client.get_orchestration_history("good")))


class Writer:
    """Keeps what is exported, by instance."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    def write(self, *, instance_id: str, payload: bytes, **_: Any) -> None:
        self.written[instance_id] = payload


def test_an_export_writes_whole_histories_only_and_tells_which_are_not(planted: Planted) -> None:
    """The SDK has it in a sync form only: it is an activity."""
    writer = Writer()

    def export(instance_id: str) -> dict[str, Any]:
        request = {
            "instance_id": instance_id,
            "format": {"kind": "Json", "schema_version": "1.0"},
            "destination": {"container": "exports"},
        }

        def question(client: TaskHubGrpcClient) -> dict[str, Any]:
            return run_export_instance_history(HistoryExportContext(client, writer), request)

        result: dict[str, Any] = Asker("sync", planted).ask(question)
        return result

    assert export("good") == {"instance_id": "good", "success": True, "error": None}
    failed = export("done")
    assert failed["success"] is False
    assert failed["error"].startswith("PayloadNotFoundError: instance done: OrchestrationState.output: ")
    assert list(writer.written) == ["good"]
    assert b"r" * SIZE in writer.written["good"]
