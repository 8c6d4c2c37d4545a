"""Tokens whose payload cannot be read, for a caller that decides about each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.externalizer.forms import both_forms

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    PayloadIntegrityError,
    PayloadNotFoundError,
)

if TYPE_CHECKING:
    from tests.externalizer.forms import Form

    from durabletask_payloads import PlannedDownload

LARGE = "x" * 5_000


def states(*texts: str) -> pb.QueryInstancesResponse:
    return pb.QueryInstancesResponse(
        orchestrationState=[pb.OrchestrationState(input=StringValue(value=t)) for t in texts]
    )


@both_forms
@pytest.mark.parametrize("cache_bytes", [0, 1_000_000])
def test_their_fields_keep_them_and_all_others_get_their_payloads(cache_bytes: int, form: Form) -> None:
    store = InMemoryPayloadStore()
    good, gone, no_text = store.upload(LARGE.encode()), store.upload(b"gone"), store.upload(b"\xff\xfe")
    store.delete(gone)
    met: list[tuple[str, str, type[Exception]]] = []

    def note(download: PlannedDownload, error: Exception) -> None:
        met.append((download.token, download.path, type(error)))

    with Externalizer(store, cache_bytes=cache_bytes) as externalizer:
        for _ in range(2):  # the second time the cache has what it may
            message = states(gone, good, "small", no_text, gone, good)
            form.deexternalize(externalizer, message, on_unreadable=note)
            assert message == states(gone, LARGE, "small", no_text, gone, LARGE)
            assert sorted(met) == sorted(
                [
                    (gone, "OrchestrationState.input", PayloadNotFoundError),
                    (no_text, "OrchestrationState.input", PayloadIntegrityError),
                ]
            )
            met.clear()


@both_forms
@pytest.mark.parametrize("body", [None, b"\xff\xfe"])
def test_what_the_caller_raises_ends_the_call_and_the_message_is_as_it_was(body: bytes | None, form: Form) -> None:
    store = InMemoryPayloadStore()
    good, bad = store.upload(LARGE.encode()), store.upload(body or b"gone")
    if body is None:
        store.delete(bad)
    reason = ValueError("of the caller")

    def refuse(download: PlannedDownload, error: Exception) -> None:
        assert message == states(good, bad)
        raise reason

    message = states(good, bad)
    with Externalizer(store) as externalizer, pytest.raises(ValueError, match="of the caller") as caught:
        form.deexternalize(externalizer, message, on_unreadable=refuse)
    assert caught.value is reason
    assert message == states(good, bad)
