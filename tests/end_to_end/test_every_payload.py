"""The list that the SDK tests its own large payloads with, and what it leaves out: here on a real Azurite.

That a payload was externalized is seen through a client without our interceptor: it finds a token.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import ContainerClient
from durabletask.client import OrchestrationQuery, OrchestrationStatus, TaskHubGrpcClient
from durabletask.entities import EntityInstanceId
from durabletask.task import when_all
from tests.end_to_end.hub import Hub, hub_on

from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.client import OrchestrationState
    from durabletask.entities import EntityContext
    from durabletask.task import ActivityContext, OrchestrationContext, Task
    from tests.support.azurite import Azurite

Steps = "Generator[Task[Any], Any, Any]"
CONTAINER = "where-the-options-say"


@pytest.fixture(scope="module")
def running_hub(azurite: Azurite) -> Generator[Hub]:
    options = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=CONTAINER)
    with BlobPayloadStore(options) as store, hub_on(store) as hub:
        # One by one: their inputs differ in type.
        hub.worker.add_orchestrator(echo)
        hub.worker.add_orchestrator(pass_through)
        hub.worker.add_orchestrator(collect)
        hub.worker.add_orchestrator(await_event)
        hub.worker.add_orchestrator(report)
        hub.worker.add_orchestrator(count_down)
        hub.worker.add_orchestrator(parent)
        hub.worker.add_orchestrator(use_entity)
        hub.worker.add_activity(produce)
        hub.worker.add_entity(keeper)
        hub.worker.start()
        yield hub


@pytest.fixture
def hub(running_hub: Hub) -> Hub:
    """The one hub of this module, with its counts at 0."""
    running_hub.count_from_here()
    return running_hub


def large(letter: str, size: int = 1_000_000) -> str:
    """Text of `size` bytes that does not compress to nothing."""
    digest = hashlib.sha256(letter.encode()).hexdigest()
    return (letter + digest) * (size // 65) + letter * (size % 65)


def digest_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


# ---- the application -------------------------------------------------------------------------------------------------


def produce(_: ActivityContext, letter: str) -> str:
    return large(letter)


def echo(_: OrchestrationContext, value: str) -> str:
    return digest_of(value)


def pass_through(_: OrchestrationContext, value: str) -> str:
    return value


def collect(context: OrchestrationContext, letters: str) -> Generator[Task[Any], Any, Any]:
    results: list[str] = yield when_all([context.call_activity(produce, input=letter) for letter in letters])
    return [digest_of(result) for result in results]


def await_event(context: OrchestrationContext, _: None) -> Generator[Task[Any], Any, Any]:
    value: str = yield context.wait_for_external_event("go")
    return digest_of(value)


def report(context: OrchestrationContext, letter: str) -> Generator[Task[Any], Any, Any]:
    context.set_custom_status(large(letter))
    yield context.wait_for_external_event("go")
    return "done"


def count_down(context: OrchestrationContext, state: dict[str, Any]) -> Any:
    if state["left"]:
        context.continue_as_new({"left": state["left"] - 1, "text": state["text"]})
        return None
    return digest_of(state["text"])


def parent(context: OrchestrationContext, letter: str) -> Generator[Task[Any], Any, Any]:
    result: str = yield context.call_sub_orchestrator(pass_through, input=large(letter))
    return digest_of(result)


def use_entity(context: OrchestrationContext, letter: str) -> Generator[Task[Any], Any, Any]:
    entity = EntityInstanceId("keeper", "called")
    yield context.call_entity(entity, "put", large(letter))
    kept: str = yield context.call_entity(entity, "get")
    return digest_of(kept)


def keeper(context: EntityContext, value: str | None) -> str | None:
    if context.operation == "put":
        context.set_state(value)
        return None
    return context.get_state(str)


# ---- the list --------------------------------------------------------------------------------------------------------


def completed(hub: Hub, instance: str) -> OrchestrationState:
    state = hub.client.wait_for_orchestration_completion(instance, timeout=60)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED, state.failure_details
    return state


def result_of(hub: Hub, instance: str) -> Any:
    return json.loads(completed(hub, instance).serialized_output or "null")


def raw_state(hub: Hub, instance: str) -> OrchestrationState:
    state = hub.raw.get_orchestration_state(instance)
    assert state is not None
    return state


def is_token(hub: Hub, text: str | None) -> bool:
    return text is not None and hub.externalizer.store.is_known_token(text)


def test_large_input(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(echo, input=large("a", 5_000_000))
    state = completed(hub, instance)
    assert state.serialized_output == json.dumps(digest_of(large("a", 5_000_000)))
    assert state.serialized_input == json.dumps(large("a", 5_000_000))
    assert is_token(hub, raw_state(hub, instance).serialized_input)
    assert not is_token(hub, raw_state(hub, instance).serialized_output)


def test_large_activity_result(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(collect, input="a")
    assert result_of(hub, instance) == [digest_of(large("a"))]
    assert hub.uploads == 1
    assert hub.downloads == 0, "written through to the cache"


def test_large_input_and_output(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(pass_through, input=large("b"))
    assert result_of(hub, instance) == large("b")
    raw = raw_state(hub, instance)
    assert is_token(hub, raw.serialized_input)
    assert is_token(hub, raw.serialized_output)


def test_large_event(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(await_event)
    hub.client.raise_orchestration_event(instance, "go", data=large("c"))
    assert result_of(hub, instance) == digest_of(large("c"))
    assert hub.uploads == 1


def test_terminate_with_large_output(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(await_event)
    hub.client.wait_for_orchestration_start(instance, timeout=60)
    hub.client.terminate_orchestration(instance, output=large("d"))
    state = hub.client.wait_for_orchestration_completion(instance, timeout=60)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.TERMINATED
    assert state.serialized_output == json.dumps(large("d"))
    assert is_token(hub, raw_state(hub, instance).serialized_output)


def test_fan_out_of_large_results(hub: Hub) -> None:
    letters = "abcdefghij"  # 10 MB of history, were it not for the tokens
    instance = hub.client.schedule_new_orchestration(collect, input=letters)
    assert result_of(hub, instance) == [digest_of(large(letter)) for letter in letters]
    assert hub.uploads == 10


def test_large_custom_status(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(report, input="e")
    hub.client.wait_for_orchestration_start(instance, timeout=60)
    hub.client.raise_orchestration_event(instance, "go")
    assert completed(hub, instance).serialized_custom_status == json.dumps(large("e"))
    assert is_token(hub, raw_state(hub, instance).serialized_custom_status)


def test_continue_as_new_with_large_input(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(count_down, input={"left": 3, "text": large("f")})
    assert result_of(hub, instance) == digest_of(large("f"))
    assert hub.uploads == 4


def test_sub_orchestration_with_large_input_and_output(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(parent, input="g")
    assert result_of(hub, instance) == digest_of(large("g"))
    assert hub.uploads == 2


def test_entity_state_and_operation(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(use_entity, input="h")
    assert result_of(hub, instance) == digest_of(large("h"))
    entity = hub.client.get_entity(EntityInstanceId("keeper", "called"))
    assert entity is not None
    assert large("h") in str(entity.get_state(str))
    seen = hub.raw.get_entity(EntityInstanceId("keeper", "called"))
    assert seen is not None
    assert "blob:v1:" in str(seen.get_state())
    (listed,) = hub.client.get_all_entities()  # no other test here has an entity
    assert large("h") in str(listed.get_state(str))


def test_query_with_inputs_and_outputs(hub: Hub) -> None:
    instances = [hub.client.schedule_new_orchestration(pass_through, input=large(letter)) for letter in "ijk"]
    for instance in instances:
        completed(hub, instance)
    states = hub.client.get_all_orchestration_states(OrchestrationQuery(fetch_inputs_and_outputs=True))
    found = {
        state.instance_id: (state.serialized_input, state.serialized_output)
        for state in states
        if state.instance_id in instances
    }
    assert found == {
        instance: (json.dumps(large(letter)), json.dumps(large(letter)))
        for instance, letter in zip(instances, "ijk", strict=True)
    }


@pytest.mark.skipif(not hasattr(TaskHubGrpcClient, "get_orchestration_history"), reason="this SDK streams no history")
def test_history_stream(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(collect, input="lm")
    completed(hub, instance)
    text = repr(hub.client.get_orchestration_history(instance))
    assert large("l") in text
    assert large("m") in text
    assert "blob:v1:" not in text
    assert "blob:v1:" in repr(hub.raw.get_orchestration_history(instance))


@pytest.mark.skipif(
    "reason" not in inspect.signature(TaskHubGrpcClient.suspend_orchestration).parameters,
    reason="this SDK takes no reason",
)
def test_suspend_and_resume_reason(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(await_event)
    hub.client.wait_for_orchestration_start(instance, timeout=60)
    hub.client.suspend_orchestration(instance, reason=large("n"))
    hub.client.resume_orchestration(instance, reason=large("o"))
    hub.client.raise_orchestration_event(instance, "go", data="small")
    assert result_of(hub, instance) == digest_of("small")
    assert hub.uploads == 2
    events = repr(hub.client.get_orchestration_history(instance))
    assert large("n") in events
    assert large("o") in events


def test_small_payloads_stay_inline(hub: Hub) -> None:
    instance = hub.client.schedule_new_orchestration(pass_through, input="x" * 200_000)
    completed(hub, instance)
    assert raw_state(hub, instance).serialized_output == json.dumps("x" * 200_000)
    assert hub.uploads == 0


def test_blobs_are_where_the_options_say(hub: Hub, azurite: Azurite) -> None:
    instance = hub.client.schedule_new_orchestration(echo, input=large("p"))
    completed(hub, instance)
    token = raw_state(hub, instance).serialized_input
    assert token is not None
    assert token.startswith(f"blob:v1:{CONTAINER}:")
    with ContainerClient.from_connection_string(azurite.connection_string, CONTAINER) as container:
        blob = container.get_blob_client(token.rpartition(":")[2]).get_blob_properties()
    assert blob.content_settings.content_encoding == "gzip"
    assert instance in (blob.metadata or {}).values()
