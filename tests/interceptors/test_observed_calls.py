"""Transfers of client calls and histories are reported in the context of their caller, in whichever thread they run."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from tests.support.call_forms import opened
from tests.support.senders import Sender

from durabletask_payloads import Externalizer, PayloadObserver, Transfer

if TYPE_CHECKING:
    from tests.support.scripted_store import ScriptedStore
    from tests.support.server import ScriptedServer

LARGE = "x" * 5_000
caller: ContextVar[str] = ContextVar("caller", default="nobody")


class Callers(PayloadObserver):
    """Keeps who called, for each transfer."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def transferred(self, transfer: Transfer) -> None:
        self.names.append(caller.get())


def test_a_history(address: str, server: ScriptedServer, store: ScriptedStore) -> None:
    chunks = pb.HistoryChunk(), pb.HistoryChunk()
    for chunk in chunks:  # of two payloads: one that two calls need at the same time is downloaded once
        chunk.events.add().eventRaised.input.value = store.upload(LARGE.encode())
    sender = Sender(*chunks)
    sender.ended.set()
    server.answers["StreamInstanceHistory"] = sender
    observer = Callers()
    with (
        Externalizer(store, cache_bytes=0, observer=observer) as externalizer,
        opened("sync", address, externalizer) as form,
    ):
        token = caller.set("order-17")
        try:
            stream = form.stream("StreamInstanceHistory", pb.StreamInstanceHistoryRequest())
        finally:
            caller.reset(token)
        for _ in range(2):
            stream.next()
        with pytest.raises(StopIteration):
            stream.next()
    assert observer.names == ["order-17"] * 2


def test_a_request(address: str, server: ScriptedServer, store: ScriptedStore) -> None:
    observer = Callers()
    with Externalizer(store, observer=observer) as externalizer, opened("sync", address, externalizer) as form:
        token = caller.set("order-17")
        try:
            request = pb.CreateInstanceRequest(instanceId="order-17")
            request.input.value = LARGE
            form.call("StartInstance", request)
        finally:
            caller.reset(token)
    assert observer.names == ["order-17"]
