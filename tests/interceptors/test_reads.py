"""Responses with payloads that cannot be read, in both forms: what is shown, what raises, what is logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.call_forms import opened

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
)
from durabletask_payloads.interceptors import PayloadInterceptor, _client, async_payload_interceptors

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tests.support.call_forms import Form
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

ELSEWHERE = "blob:v1:another-container:" + "0" * 32
OF_ONE_INSTANCE = ["GetInstance", "WaitForInstanceStart", "WaitForInstanceCompletion"]
COMPLETED = pb.ORCHESTRATION_STATUS_COMPLETED


@pytest.fixture(autouse=True)
def only_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "durabletask_payloads")


def state(
    instance_id: str, *, status: pb.OrchestrationStatus.ValueType = pb.ORCHESTRATION_STATUS_RUNNING, **fields: str
) -> pb.OrchestrationState:
    made = pb.OrchestrationState(instanceId=instance_id, orchestrationStatus=status)
    for name, text in fields.items():
        cast("StringValue", getattr(made, name)).value = text  # all of them are
    return made


def query(form: Form, server: ScriptedServer, *states: pb.OrchestrationState) -> pb.QueryInstancesResponse:
    server.answers["QueryInstances"] = lambda request, context: pb.QueryInstancesResponse(orchestrationState=states)
    response = form.call("QueryInstances", pb.QueryInstancesRequest())
    assert isinstance(response, pb.QueryInstancesResponse)
    return response


def ask(rpc: str, form: Form, server: ScriptedServer, answer: pb.OrchestrationState) -> pb.OrchestrationState:
    server.answers[rpc] = lambda request, context: pb.GetInstanceResponse(exists=True, orchestrationState=answer)
    response = form.call(rpc, pb.GetInstanceRequest(instanceId="order-1", getInputsAndOutputs=True))
    assert isinstance(response, pb.GetInstanceResponse)
    return response.orchestrationState


def payload(number: int) -> str:
    return f"payload {number} " * 200


def gone_from(store: ScriptedStore) -> str:
    token = store.upload(b"gone" * 1000)
    store.delete(token)
    return token


# ---- shown ---------------------------------------------------------------------------------------------------------


def test_a_list_shows_everything_that_can_be_read_and_downloads_nothing_twice(
    form: Form, server: ScriptedServer, store: ScriptedStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The reference raises what its store raises, for the whole list."""
    tokens = [store.upload(payload(number).encode()) for number in range(6)]
    gone = gone_from(store)
    shown = query(
        form,
        server,
        state("order-0", input=tokens[0], output=tokens[1], status=COMPLETED),
        state("order-1", input=ELSEWHERE, output=tokens[2], customStatus="small"),
        state("order-2", input=tokens[3], output=gone, customStatus=tokens[4], status=COMPLETED),
        state("order-3", input=tokens[5]),
    )
    assert [(one.instanceId, one.input.value, one.output.value, one.customStatus.value) for one in (
        shown.orchestrationState
    )] == [
        ("order-0", payload(0), payload(1), ""),
        ("order-1", ELSEWHERE, payload(2), "small"),
        ("order-2", payload(3), gone, payload(4)),
        ("order-3", payload(5), "", ""),
    ]  # fmt: skip
    assert store.downloads == len(tokens)
    lines = sorted(record.getMessage() for record in caplog.records)
    assert len(lines) == 2
    expected = "payload unreadable, its token stays instance={} field=OrchestrationState.{} token={} error={}"
    assert lines[0].startswith(expected.format("order-1", "input", ELSEWHERE, f"{ELSEWHERE} points out of"))
    assert lines[1].startswith(expected.format("order-2", "output", gone, f"{gone}: payload not found"))


@pytest.mark.parametrize(
    "error", [PayloadNotFoundError, PayloadTokenError, PayloadIntegrityError, PayloadTooLargeError]
)
@pytest.mark.parametrize("rpc", OF_ONE_INSTANCE)
def test_a_state_is_shown_whatever_is_wrong_with_one_payload(
    rpc: str, error: type[PayloadError], form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    bad, good = store.upload(b"bad" * 1000), store.upload(payload(1).encode())

    def fail(data: bytes) -> None:
        if data.startswith(b"bad"):
            raise error("of one payload")

    store.downloading = fail
    shown = ask(rpc, form, server, state("order-1", input=bad, output=good, status=COMPLETED))
    assert (shown.input.value, shown.output.value) == (bad, payload(1))


def test_what_is_no_text_stays_a_token(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    bad, good = store.upload(b"\xff" * 2000), store.upload(payload(1).encode())
    shown = query(form, server, state("order-1", input=bad, output=bad), state("order-2", input=good))
    first, second = shown.orchestrationState
    assert (first.input.value, first.output.value, second.input.value) == (bad, bad, payload(1))


@pytest.mark.parametrize("status", sorted(set(pb.OrchestrationStatus.values()) - {COMPLETED}))
def test_the_output_of_an_instance_that_is_not_completed_stays_a_token(
    status: int, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """A failed one is looked at to learn that it failed."""
    gone = gone_from(store)
    answer = state("order-1", output=gone, status=cast("Any", status))  # an enum value is an int at run time
    answer.failureDetails.errorMessage = "out of stock"
    answer.failureDetails.stackTrace.value = gone
    shown = ask("WaitForInstanceCompletion", form, server, answer)
    assert (shown.orchestrationStatus, shown.output.value, shown.failureDetails) == (
        status,
        gone,
        answer.failureDetails,
    )


def test_the_state_of_an_entity_stays_a_token(form: Form, server: ScriptedServer, store: ScriptedStore) -> None:
    gone, good = gone_from(store), store.upload(payload(1).encode())
    entities = [
        pb.EntityMetadata(instanceId="@ledger@1", backlogQueueSize=3, serializedState=StringValue(value=gone)),
        pb.EntityMetadata(instanceId="@ledger@2", serializedState=StringValue(value=good)),
    ]
    server.answers["GetEntity"] = lambda request, context: pb.GetEntityResponse(exists=True, entity=entities[0])
    server.answers["QueryEntities"] = lambda request, context: pb.QueryEntitiesResponse(entities=entities)
    one = form.call("GetEntity", pb.GetEntityRequest(instanceId="@ledger@1"))
    all_of_them = form.call("QueryEntities", pb.QueryEntitiesRequest())
    assert isinstance(one, pb.GetEntityResponse)
    assert isinstance(all_of_them, pb.QueryEntitiesResponse)
    assert one.entity == entities[0]
    assert [entity.serializedState.value for entity in all_of_them.entities] == [gone, payload(1)]


# ---- raised --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rpc", OF_ONE_INSTANCE)
def test_the_output_of_a_completed_instance_asked_for_by_itself_is_our_error(
    rpc: str, form: Form, server: ScriptedServer, store: ScriptedStore
) -> None:
    """It is what was asked for: a token in its place would pass for the result. The same token may be the input."""
    gone = gone_from(store)
    answer = state("order-1", input=gone, output=gone, status=COMPLETED)
    with pytest.raises(
        PayloadNotFoundError, match=rf"^instance order-1: OrchestrationState\.output: .*{gone}"
    ) as caught:
        ask(rpc, form, server, answer)
    assert isinstance(caught.value.__cause__, PayloadNotFoundError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PayloadStoreUnavailableError("down"), PayloadStoreUnavailableError),
        (PayloadAccessDeniedError("no right"), PayloadAccessDeniedError),
        (TimeoutError("no answer"), PayloadStoreUnavailableError),
        (PayloadError("of no known kind"), PayloadError),
        (KeyError("a store of another make"), PayloadError),
        (RuntimeError("a store of another make"), PayloadError),
    ],
)
@pytest.mark.parametrize("rpc", ["QueryInstances", "QueryEntities", "GetInstance", "GetEntity"])
def test_what_may_be_about_the_store_as_a_whole_is_our_error_with_instance_and_field(
    rpc: str,
    error: Exception,
    expected: type[PayloadError],
    form: Form,
    server: ScriptedServer,
    store: ScriptedStore,
) -> None:
    """A list of tokens would look like the loss of everything, while it is an outage or a wrong key."""
    token, good = store.upload(b"bad" * 1000), store.upload(payload(1).encode())

    def fail(data: bytes) -> None:
        if data.startswith(b"bad"):
            raise error

    store.downloading = fail
    orchestrations = [state("order-1", input=good), state("order-2", input=token)]
    entities = [
        pb.EntityMetadata(instanceId="@ledger@1", serializedState=StringValue(value=good)),
        pb.EntityMetadata(instanceId="@ledger@2", serializedState=StringValue(value=token)),
    ]
    answers: dict[str, tuple[Message, Message, str]] = {
        "QueryInstances": (
            pb.QueryInstancesRequest(),
            pb.QueryInstancesResponse(orchestrationState=orchestrations),
            r"instance order-2: OrchestrationState\.input: ",
        ),
        "GetInstance": (
            pb.GetInstanceRequest(instanceId="order-2"),
            pb.GetInstanceResponse(exists=True, orchestrationState=orchestrations[1]),
            r"instance order-2: OrchestrationState\.input: ",
        ),
        "QueryEntities": (
            pb.QueryEntitiesRequest(),
            pb.QueryEntitiesResponse(entities=entities),
            r"instance @ledger@2: EntityMetadata\.serializedState: ",
        ),
        "GetEntity": (
            pb.GetEntityRequest(instanceId="@ledger@2"),
            pb.GetEntityResponse(exists=True, entity=entities[1]),
            r"instance @ledger@2: EntityMetadata\.serializedState: ",
        ),
    }
    request, answer, text = answers[rpc]
    server.answers[rpc] = lambda request, context: answer
    with pytest.raises(expected, match=text) as caught:
        form.call(rpc, request)
    assert type(caught.value) is expected
    assert caught.value.__cause__ is error


def test_an_outage_between_two_downloads_of_a_list_leaves_no_warning(
    form: Form, server: ScriptedServer, store: ScriptedStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is shown, so nothing is said to be; the next poll says it."""
    gone, down = gone_from(store), store.upload(payload(1).encode())

    def fail(data: bytes) -> None:
        raise PayloadStoreUnavailableError("down")

    store.downloading = fail
    states = [state("order-1", input=gone), state("order-2", input=down)]
    with pytest.raises(PayloadStoreUnavailableError):
        query(form, server, *states)
    assert caplog.records == []
    store.downloading = lambda data: None
    query(form, server, *states)
    assert len(caplog.records) == 1


def test_a_store_that_fails_to_tell_a_token_is_our_error(
    form: Form, server: ScriptedServer, externalizer: Externalizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(value: str) -> bool:
        raise KeyError("a bug of the store")

    monkeypatch.setattr(externalizer, "_is_token", fail)
    with pytest.raises(PayloadError, match="a bug of the store"):
        query(form, server, state("order-1", input=ELSEWHERE))


@pytest.mark.parametrize("kind", ["sync", "aio"])
def test_with_raise_every_payload_that_cannot_be_read_is_our_error_with_instance_and_field(
    kind: str, address: str, server: ScriptedServer, store: ScriptedStore, externalizer: Externalizer
) -> None:
    """The reference raises ResourceNotFoundError of the Azure client, which names neither."""
    here, gone = store.upload(payload(1).encode()), gone_from(store)
    entity = pb.EntityMetadata(instanceId="@ledger@1", serializedState=StringValue(value=gone))
    server.answers["GetEntity"] = lambda request, context: pb.GetEntityResponse(exists=True, entity=entity)
    server.answers["QueryEntities"] = lambda request, context: pb.QueryEntitiesResponse(entities=[entity])
    with opened(kind, address, externalizer, unreadable="raise") as form:
        with pytest.raises(PayloadNotFoundError, match=rf"instance order-2: OrchestrationState\.output: .*{gone}"):
            query(form, server, state("order-1", input=here), state("order-2", output=gone))
        for rpc in OF_ONE_INSTANCE:
            with pytest.raises(PayloadNotFoundError, match=rf"instance order-1: OrchestrationState\.input: .*{gone}"):
                ask(rpc, form, server, state("order-1", input=gone))
        for rpc, request in (("GetEntity", pb.GetEntityRequest()), ("QueryEntities", pb.QueryEntitiesRequest())):
            with pytest.raises(PayloadNotFoundError, match=rf"instance @ledger@1: EntityMetadata\.\w+: .*{gone}"):
                form.call(rpc, request)


def test_another_value_of_the_option_is_refused() -> None:
    store = InMemoryPayloadStore()
    wrong = cast("Any", "tokens")  # which the checkers refuse
    with pytest.raises(ValueError, match="unreadable is 'tokens': it must be 'token' or 'raise'"):
        PayloadInterceptor(store, unreadable=wrong)
    with pytest.raises(ValueError, match="unreadable is 'tokens': it must be 'token' or 'raise'"):
        async_payload_interceptors(store, unreadable=wrong)


# ---- logged --------------------------------------------------------------------------------------------------------


def test_a_poll_warns_once_for_each_token_and_remembers_a_bounded_number(
    form: Form,
    server: ScriptedServer,
    store: ScriptedStore,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_client, "_REMEMBERED", 4)
    tokens = [gone_from(store) for _ in range(5)]
    for _ in range(3):
        query(form, server, *(state(f"order-{number}", input=token) for number, token in enumerate(tokens[:3])))
    assert len(caplog.records) == 3
    for token in tokens[3:] * 2:
        query(form, server, state("order-9", input=token))
    assert len(caplog.records) == 5
    query(form, server, state("order-9", input=gone_from(store)))  # one too many: all are forgotten
    query(form, server, state("order-0", input=tokens[0]))
    assert len(caplog.records) == 7
