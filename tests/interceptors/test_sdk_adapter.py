"""`durabletask_payloads.sdk`, and the worker and client for the Durable Task Scheduler with our interceptors."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
import pytest
from durabletask import payload
from durabletask.azuremanaged.client import AsyncDurableTaskSchedulerClient, DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.backend import RedeliveringBackend, client_on, register, worker_on
from tests.support.fixtures import needs_sdk_payloads
from tests.support.hub import FUNCTIONS, calls_digest, calls_produce
from tests.support.scripted_store import MAXIMUM, THRESHOLD, ScriptedStore, prove
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadTooLargeError
from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors
from durabletask_payloads.sdk import SdkPayloadStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tests.support.server import ScriptedServer

LARGE = "x" * 5_000


# ---- the adapter ---------------------------------------------------------------------------------------------------


def test_the_adapter_is_a_store_of_the_sdk(store: ScriptedStore) -> None:
    adapter: payload.PayloadStore = SdkPayloadStore(store)
    token = adapter.upload(LARGE.encode(), instance_id="order-1")
    assert store.instance_id(token) == "order-1"
    assert adapter.download(token) == LARGE.encode()
    assert asyncio.run(adapter.download_async(asyncio.run(adapter.upload_async(b"y" * 5_000)))) == b"y" * 5_000
    assert adapter.is_known_token(token)
    assert not adapter.is_known_token(LARGE)
    assert adapter.options == payload.LargePayloadStorageOptions(THRESHOLD, MAXIMUM)
    with pytest.raises(PayloadTooLargeError):
        adapter.upload(b"x" * (MAXIMUM + 1))


@needs_sdk_payloads
def test_the_sdk_moves_payloads_with_its_own_hooks_and_reads_what_the_interceptors_wrote(
    hub_address: str, store: ScriptedStore, externalizer: Externalizer
) -> None:
    adapter = SdkPayloadStore(store)
    with worker_on(hub_address, FUNCTIONS, payload_store=adapter) as worker:
        worker.start()
        with client_on(hub_address, [PayloadInterceptor(externalizer)]) as client:
            instance = client.schedule_new_orchestration(calls_digest, input=LARGE)
            state = client.wait_for_orchestration_completion(instance, timeout=20)
            assert state is not None
            assert state.get_output() == 5_000
        with TaskHubGrpcClient(host_address=hub_address, payload_store=adapter) as client:
            instance = client.schedule_new_orchestration(calls_produce, input=5_000)
            state = client.wait_for_orchestration_completion(instance, timeout=20)
            assert state is not None
            assert state.get_output() == 5_000


# ---- the Durable Task Scheduler ------------------------------------------------------------------------------------


def dts(address: str, interceptors: Any) -> dict[str, Any]:
    return {
        "host_address": address,
        "taskhub": "hub-1",
        "token_credential": None,
        "secure_channel": False,
        "interceptors": interceptors,
    }


def test_worker_and_client_of_the_scheduler_take_the_interceptor(
    backend: RedeliveringBackend, hub_address: str, store: ScriptedStore, externalizer: Externalizer
) -> None:
    interceptors = [PayloadInterceptor(externalizer)]
    with DurableTaskSchedulerWorker(**dts(hub_address, interceptors)) as worker:
        register(worker, FUNCTIONS)
        worker.start()
        with DurableTaskSchedulerClient(**dts(hub_address, interceptors)) as client:
            instance = client.schedule_new_orchestration(calls_digest, input=LARGE)
            state = client.wait_for_orchestration_completion(instance, timeout=20)
            assert state is not None
            assert state.get_output() == 5_000
            instance = client.schedule_new_orchestration(calls_produce, input=MAXIMUM + 1)
            state = client.wait_for_orchestration_completion(instance, timeout=20)
            assert state is not None
            assert state.runtime_status is OrchestrationStatus.FAILED
    assert len(store) > 0
    assert backend.capabilities == [[pb.WORKER_CAPABILITY_LARGE_PAYLOADS]]


class Answered(grpc.UnaryStreamClientInterceptor):
    """Sees when the failed completion of ours, which is a call of the stream's kind, has its answer."""

    def __init__(self) -> None:
        self.was_answered = threading.Event()

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = continuation(client_call_details, request)
        if client_call_details.method.endswith("CompleteActivityTask"):
            call.add_callback(self.was_answered.set)
        return call


def test_the_calls_that_we_make_carry_the_metadata_of_the_scheduler(
    address: str, server: ScriptedServer, store: ScriptedStore, externalizer: Externalizer
) -> None:
    """Its interceptor is below ours, so that it sees them too."""
    prove(externalizer, store)
    gone, slow = store.upload(b"gone" * 1_000), store.upload(b"slow" * 1_000)
    store.delete(gone)
    store.delay = lambda data: 20.0
    items = [
        pb.WorkItem(
            completionToken=token,
            activityRequest=pb.ActivityRequest(name="digest", input=StringValue(value=text)),
        )
        for token, text in (("gone", gone), ("slow", slow))
    ]

    def answer(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        yield from items
        while context.is_active():
            time.sleep(0.01)

    server.answers["GetWorkItems"] = answer
    answered = Answered()
    with DurableTaskSchedulerWorker(**dts(address, [PayloadInterceptor(externalizer), answered])) as worker:
        worker.start()
        assert answered.was_answered.wait(20)
        wait_until(lambda: store.downloads == 1, what="the download that `stop` finds")
        worker.stop()
    store.released.set()
    assert len(server.named("AbandonTaskActivityWorkItem")) == 1
    by_rpc = dict(server.metadata)
    for rpc in ("GetWorkItems", "CompleteActivityTask", "AbandonTaskActivityWorkItem"):
        assert by_rpc[rpc]["taskhub"] == "hub-1"
        assert by_rpc[rpc]["workerid"] == by_rpc["GetWorkItems"]["workerid"]


@pytest.mark.parametrize("with_us", [True, False])
def test_in_aio_what_streams_carries_no_metadata_of_the_scheduler_with_us_or_without(
    with_us: bool, address: str, server: ScriptedServer, externalizer: Externalizer
) -> None:
    """grpc.aio files the SDK's interceptor under unary calls only. When this fails the SDK has mended it: say so."""

    async def use() -> None:
        interceptors = async_payload_interceptors(externalizer) if with_us else []
        async with AsyncDurableTaskSchedulerClient(**dts(address, interceptors)) as client:
            await client.get_orchestration_history("order-1")
            await client.schedule_new_orchestration("settle", input=LARGE)

    asyncio.run(use())
    by_rpc = dict(server.metadata)
    assert by_rpc["StartInstance"]["taskhub"] == "hub-1"
    assert "taskhub" not in by_rpc["StreamInstanceHistory"]
