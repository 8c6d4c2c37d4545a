"""Stores that return what they must not: an error that names their class, and nothing of a message changes.

Such a store may be somebody else's: written for the SDK, or a subclass of ours that went wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from tests.externalizer.forms import Form, both_forms

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadError,
    PayloadStoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

OPTIONS = LargePayloadStorageOptions(threshold_bytes=1_000)


class StrangeStore(InMemoryPayloadStore):
    """Stores what it gets, and answers as `token_for` and `payload_for` say."""

    def __init__(self) -> None:
        super().__init__(OPTIONS)
        # Any: what breaks the interface cannot have its types.
        self.token_for: Callable[[bytes, str], Any] = lambda payload, token: token
        self.payload_for: Callable[[bytes], Any] = lambda payload: payload

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        token: str = self.token_for(data, super().upload(data, instance_id=instance_id))
        return token

    def download(self, token: str) -> bytes:
        payload: bytes = self.payload_for(super().download(token))
        return payload


NAME = re.escape(f"{StrangeStore.__module__}.{StrangeStore.__qualname__}")


def tasks(*inputs: str) -> pb.OrchestratorResponse:
    actions = [
        pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=StringValue(value=each))) for each in inputs
    ]
    return pb.OrchestratorResponse(instanceId="i", actions=actions)


def large(name: str) -> str:
    return f"{name} " + "x" * 2_000


@pytest.fixture
def store() -> StrangeStore:
    return StrangeStore()


NO_TOKENS = {
    "None": None,
    "bytes": b"blob:v1:durabletask-payloads:00000000000000000000000000000000",
    "a number": 7,
    "other text": "stored",
    "no text": "",
    "a token and more": "blob:v1:durabletask-payloads:00000000000000000000000000000000\n",
    "the payload": large("b"),
}


@both_forms
@pytest.mark.parametrize("answer", NO_TOKENS.values(), ids=NO_TOKENS)
def test_a_token_that_is_none(answer: object, form: Form, store: StrangeStore) -> None:
    store.token_for = lambda payload, token: answer if payload.startswith(b"b") else token
    message = tasks(large("a"), large("b"), large("c"))
    before = message.SerializeToString(deterministic=True)
    with Externalizer(store) as externalizer:
        with pytest.raises(PayloadError, match=NAME):
            form.externalize(externalizer, message)
        assert message.SerializeToString(deterministic=True) == before
        # Only what nobody has a token of stays in the store.
        assert [store.download(token)[:1] for token in store.tokens] == [b"b"]
        store.token_for = lambda payload, token: token
        form.externalize(externalizer, message)
        form.deexternalize(externalizer, message)
        assert message.SerializeToString(deterministic=True) == before


@both_forms
def test_one_token_for_two_payloads(form: Form, store: StrangeStore) -> None:
    """None of the two can be trusted, and the token may be that of another message: it is not deleted."""
    shared = store.upload(b"of another message")
    own: list[str] = []

    def token_for(payload: bytes, token: str) -> str:
        if payload.startswith(b"c"):
            own.append(token)
            return token
        return shared

    store.token_for = token_for
    message = tasks(large("a"), large("b"), large("c"))
    before = message.SerializeToString(deterministic=True)
    with Externalizer(store) as externalizer:
        with pytest.raises(PayloadError, match=f"{NAME}.*one token"):
            form.externalize(externalizer, message)
        assert message.SerializeToString(deterministic=True) == before
        assert shared in store.tokens
        assert len(own) == 1
        assert own[0] not in store.tokens
        other = tasks(shared)
        form.deexternalize(externalizer, other)
        assert other == tasks("of another message")  # not what the cache had of the other two


@both_forms
def test_equal_payloads_have_one_token(form: Form, store: StrangeStore) -> None:
    message = tasks(large("a"), large("a"))
    with Externalizer(store) as externalizer:
        form.externalize(externalizer, message)
        form.deexternalize(externalizer, message)
    assert message == tasks(large("a"), large("a"))
    assert len(store) == 1


NO_BYTES = {"None": None, "text": "text", "a bytearray": bytearray(b"text"), "a number": 7}


@both_forms
@pytest.mark.parametrize("answer", NO_BYTES.values(), ids=NO_BYTES)
def test_bytes_that_are_none(answer: object, form: Form, store: StrangeStore) -> None:
    message = tasks(large("a"), large("b"))
    with Externalizer(store, cache_bytes=0) as externalizer:
        form.externalize(externalizer, message)
        before = message.SerializeToString(deterministic=True)
        store.payload_for = lambda payload: answer if payload.startswith(b"b") else payload
        with pytest.raises(PayloadError, match=NAME):
            form.deexternalize(externalizer, message)
        assert message.SerializeToString(deterministic=True) == before
        store.payload_for = lambda payload: payload
        form.deexternalize(externalizer, message)
    assert message == tasks(large("a"), large("b"))


@both_forms
def test_a_strange_answer_is_not_kept(form: Form, store: StrangeStore) -> None:
    """The next reader asks the store again."""
    token = store.upload(b"payload")
    store.payload_for = bytearray
    with Externalizer(store) as externalizer:
        with pytest.raises(PayloadError, match=NAME):
            form.deexternalize(externalizer, tasks(token))
        store.payload_for = lambda payload: payload
        message = tasks(token)
        form.deexternalize(externalizer, message)
        assert message == tasks("payload")


class Undeletable(InMemoryPayloadStore):
    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        if data.startswith(b"no"):
            raise PayloadStoreUnavailableError("down")
        return super().upload(data, instance_id=instance_id)

    def delete(self, token: str) -> None:
        raise PayloadStoreUnavailableError("down, too")


@both_forms
def test_an_upload_that_cannot_be_deleted_again_is_named_in_the_log(
    form: Form, caplog: pytest.LogCaptureFixture
) -> None:
    store = Undeletable(OPTIONS)
    actions = [
        pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=StringValue(value=text)))
        for text in ("a" * 2_000, "no" * 1_000)
    ]
    message = pb.OrchestratorResponse(actions=actions)
    # One at a time, so that the first one is stored.
    with Externalizer(store, concurrency=1) as externalizer:
        with pytest.raises(PayloadStoreUnavailableError, match=r"^down$"):
            form.externalize(externalizer, message)
        assert externalizer.stats.deletions == 0
    assert message == pb.OrchestratorResponse(actions=actions)
    (token,) = store.tokens
    assert caplog.messages == [f"payload of an unsent message not deleted token={token} error=down, too"]


@pytest.mark.parametrize(
    ("store", "said"),
    [
        (InMemoryPayloadStore, "store is the class InMemoryPayloadStore: pass an instance of it"),
        (OPTIONS, "store is of type LargePayloadStorageOptions, the options of one: pass the store that is made of"),
        ("memory:", "store is of type str: it must be a payload store, as in BlobPayloadStore("),
    ],
)
def test_what_is_no_store(store: Any, said: str) -> None:  # as from code that is not type-checked
    with pytest.raises(TypeError, match=f"^{re.escape(said)}"):
        Externalizer(store)
