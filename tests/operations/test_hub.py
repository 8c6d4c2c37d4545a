"""Reading a task hub, with the SDK's worker and client on its in-memory backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from durabletask import entities, task
from durabletask.internal import orchestrator_service_pb2 as pb
from tests.support.backend import RedeliveringBackend, client_on, running, worker_on
from tests.support.ports import reserved_port
from tests.support.waiting import wait_until

from durabletask_payloads import InMemoryPayloadStore, LargePayloadStorageOptions, PayloadError
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.operations._hub import Hub, HubError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BOX = entities.EntityInstanceId("box", "1")


def waits(orchestration: task.OrchestrationContext, text: str) -> Any:
    yield orchestration.wait_for_external_event("go")
    return text


def box(entity: entities.EntityContext, text: str) -> None:
    entity.set_state(text)


class Recorder(grpc.ServerInterceptor):
    """Keeps the metadata of calls, and fails those that `fails` says by method and number."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str | bytes]] = []
        self.calls: list[str] = []
        self.fails: Callable[[str, int], bool] = lambda method, number: False

    # Any: as grpc's own stubs have it.
    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        method = handler_call_details.method.rpartition("/")[2]
        self.calls.append(method)
        self.metadata.append(dict(handler_call_details.invocation_metadata))
        if not self.fails(method, self.calls.count(method)):
            return continuation(handler_call_details)

        def fail(request: object, context: grpc.ServicerContext) -> object:
            context.abort(grpc.StatusCode.INTERNAL, "broken by the test")

        handle: Any = grpc.unary_unary_rpc_method_handler
        return handle(fail)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def address(recorder: Recorder) -> Iterator[str]:
    """A hub with 5 orchestrations, the first completed, and an entity; their payloads are tokens."""
    store = InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=100))
    with running(RedeliveringBackend(interceptors=[recorder])) as address:
        interceptor = PayloadInterceptor(store)
        client = client_on(address, [interceptor])
        with worker_on(address, [waits, box], [interceptor]) as worker:
            worker.start()
            for number in range(5):
                client.schedule_new_orchestration(waits, input=f"{number}" * 1000, instance_id=f"order-{number}")
            client.raise_orchestration_event("order-0", "go")
            client.wait_for_orchestration_completion("order-0", timeout=20)
            for number in range(1, 5):
                client.wait_for_orchestration_start(f"order-{number}", timeout=20)
            client.signal_entity(BOX, "set", "s" * 1000)
            wait_until(lambda: client.get_entity(BOX) is not None, what="the entity")
            yield address
        client.close()


@pytest.fixture
def hub(address: str, recorder: Recorder) -> Iterator[Hub]:
    recorder.calls.clear()
    recorder.metadata.clear()
    recorder.fails = lambda method, number: False
    with Hub(address, page_size=2) as hub:
        yield hub


def test_everything_is_listed_with_its_tokens(hub: Hub, recorder: Recorder) -> None:
    hub.ping()
    states = list(hub.instances())
    assert sorted(state.instanceId for state in states) == [f"order-{number}" for number in range(5)]
    assert recorder.calls.count("QueryInstances") == 3
    assert all(state.input.value.startswith("blob:v1:") for state in states)
    assert not any(state.input.value for state in hub.instances(payloads=False))
    (done,) = [state for state in states if state.instanceId == "order-0"]
    assert done.output.value.startswith("blob:v1:")
    events = [event for chunk in hub.history("order-0") for event in chunk.events]
    assert {event.executionStarted.input.value for event in events if event.HasField("executionStarted")} == {
        done.input.value
    }
    one = hub.instance("order-0")
    assert one is not None
    assert (one.input.value, one.output.value) == (done.input.value, done.output.value)
    (entity,) = hub.entities()
    assert entity.instanceId == "@box@1"
    assert entity.serializedState.value.startswith("blob:v1:")
    assert hub.entity("@box@1") == entity


def test_what_does_not_exist(hub: Hub) -> None:
    assert hub.instance("no such") is None
    assert hub.entity("@no@such") is None
    assert list(hub.history("no such")) == []


def test_a_page_that_fails(hub: Hub, recorder: Recorder) -> None:
    recorder.fails = lambda method, number: method == "QueryInstances" and number == 2
    with pytest.raises(HubError, match=r"QueryInstances after 2 instances: INTERNAL \(broken by the test\)") as caught:
        list(hub.instances())
    assert isinstance(caught.value, PayloadError)
    recorder.fails = lambda method, number: method == "StreamInstanceHistory"
    with pytest.raises(HubError, match="StreamInstanceHistory of 'order-0': INTERNAL"):
        list(hub.history("order-0"))
    recorder.fails = lambda method, number: method in ("GetInstance", "GetEntity")
    with pytest.raises(HubError, match="GetInstance of 'order-0': INTERNAL"):
        hub.instance("order-0")
    with pytest.raises(HubError, match="GetEntity of '@box@1': INTERNAL"):
        hub.entity("@box@1")


class EndlessStub:
    """Lists from the beginning, whatever comes after."""

    def __init__(self, channel: grpc.Channel) -> None:
        pass

    def QueryEntities(self, *_: object, **__: object) -> pb.QueryEntitiesResponse:
        answer = pb.QueryEntitiesResponse()
        answer.continuationToken.value = "here"
        return answer


def test_a_server_that_lists_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would fill the disk with mentions."""
    monkeypatch.setattr("durabletask_payloads.operations._hub.stubs.TaskHubSidecarServiceStub", EndlessStub)
    with Hub("localhost:1") as hub, pytest.raises(HubError, match="lists the same entities again and again"):
        list(hub.entities())


def test_no_hub_there() -> None:
    with (
        reserved_port() as port,
        Hub(f"http://127.0.0.1:{port}", taskhub="orders") as hub,
        pytest.raises(HubError, match=rf"127.0.0.1:{port}/orders failed in Hello: UNAVAILABLE .*check the address"),
    ):
        hub.ping()
    with pytest.raises(HubError, match=r"closed channel|no answer"):
        hub.ping()


class Credential:
    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        return AccessToken("the-secret", 4102444800)


class NoCredential:
    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        raise ClientAuthenticationError(message="the-secret of nobody")


def test_task_hub_and_credential_are_sent() -> None:
    """To a server without a worker, whose calls would be there too."""
    recorder = Recorder()
    with running(RedeliveringBackend(interceptors=[recorder])) as address:
        with client_on(address) as client:
            client.schedule_new_orchestration(waits, instance_id="order-0")
        for credential, authorization in ((None, None), (Credential(), "Bearer the-secret")):
            recorder.metadata.clear()
            with Hub(address, taskhub="orders", secure=False, credential=credential) as hub:
                hub.ping()
                list(hub.history("order-0"))
                assert hub.location == f"{address}/orders"
            assert [sent["taskhub"] for sent in recorder.metadata] == ["orders"] * 2
            assert [sent.get("authorization") for sent in recorder.metadata] == [authorization] * 2


def test_a_credential_that_gives_none(address: str) -> None:
    with (
        Hub(address, taskhub="orders", secure=False, credential=NoCredential()) as hub,
        pytest.raises(HubError, match=r"failed in Hello: no answer \(ClientAuthenticationError\)"),
    ):
        hub.ping()
    with pytest.raises(ValueError, match="name of the task hub"):
        Hub(address, credential=Credential())
