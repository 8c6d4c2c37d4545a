"""A chain of activities with large results, on the SDK and its in-memory backend: one process for each measurement.

As a program it runs one `Job` that it gets as JSON, and prints what came out of it as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from durabletask import client, task
from durabletask.extensions.azure_blob_payloads import BlobPayloadStore as SdkBlobPayloadStore
from durabletask.extensions.azure_blob_payloads import BlobPayloadStoreOptions as SdkBlobPayloadStoreOptions
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.payload import LargePayloadStorageOptions as SdkOptions
from durabletask.payload import PayloadStore as SdkPayloadStore
from durabletask.worker import TaskHubGrpcWorker
from tests.benchmarks import messages, processes
from tests.support.sdk_backend import quiet_logger, sdk_backend

from durabletask_payloads import DirectoryPayloadStore, Externalizer, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Side = Literal["reference", "ours", "nothing"]

_TIMEOUT_SECONDS = 300
_MAX_MESSAGE_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True)
class Job:
    """What a process has to do.

    Attributes:
        side: `payload_store=` of the SDK, our interceptors, or neither, with all limits raised.
        role: "both" runs the whole chain. "first" runs it too, but the orchestration then waits for an event, and a
            process with "second" takes over the worker, before the event is raised.
        activities: how long the chain is.
        result_bytes: the size of each result.
        connection_string: of the Azurite to use; a folder is used where it is None.
        folder: where payloads are, without Azurite.
        address: of the backend, for "second".
    """

    side: Side
    role: Literal["both", "first", "second"] = "both"
    activities: int = 50
    result_bytes: int = 1024 * 1024
    connection_string: str | None = None
    folder: str = ""
    address: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came out: wall time in seconds, and the downloads of the process, and of the second one."""

    seconds: float
    downloads: int
    second_downloads: int = 0


def run(job: Job) -> Outcome:
    """Do `job` in a process of its own."""
    return Outcome(**processes.run(__name__, job))


class CountingStore(SdkPayloadStore):
    """A store of the SDK's kind over a folder, which both sides take."""

    def __init__(self, folder: str) -> None:
        self._inner = DirectoryPayloadStore(folder, LargePayloadStorageOptions(threshold_bytes=1_000))
        self.downloads = 0

    @property
    def options(self) -> SdkOptions:
        return SdkOptions(threshold_bytes=1_000)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self._inner.upload(data, instance_id=instance_id)

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return await self._inner.upload_async(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        self.downloads += 1
        return self._inner.download(token)

    async def download_async(self, token: str) -> bytes:
        self.downloads += 1
        return await self._inner.download_async(token)

    def is_known_token(self, value: str) -> bool:
        return self._inner.is_known_token(value)


# ---- the application -----------------------------------------------------------------------------------------------


def large_chain(context: task.OrchestrationContext, plan: list[int]) -> Generator[task.Task[Any], Any, Any]:
    """`plan`: how many activities, how large their results, and whether to wait for an event at the end."""
    count, size, waits = plan
    total = 0
    for number in range(count):
        result: str = yield context.call_activity(large, input=[number, size])
        total += len(result)
    if waits:
        context.set_custom_status("waiting")
        yield context.wait_for_external_event("go on")
    return total


def large(context: task.ActivityContext, plan: list[int]) -> str:
    """Cheap, and different each time: neither the application nor equal payloads are to be measured."""
    number, size = plan
    return f"{number:06}" + messages.lines(size - 6)


# ---- the processes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wiring:
    """What a worker and a client are made with, and how many downloads there were."""

    arguments: dict[str, Any]
    downloads: Callable[[], int]


@contextlib.contextmanager
def wired(job: Job) -> Generator[Wiring]:
    """The arguments of worker and client for the side of `job`."""
    with contextlib.ExitStack() as stack:
        store: SdkPayloadStore | BlobPayloadStore
        counting: CountingStore | None = None
        if job.connection_string is None:
            store = counting = CountingStore(job.folder)
        elif job.side == "ours":
            own = BlobPayloadStoreOptions(connection_string=job.connection_string)
            store = stack.enter_context(BlobPayloadStore(own))
        else:
            sdk = SdkBlobPayloadStoreOptions(connection_string=job.connection_string)
            store = stack.enter_context(SdkBlobPayloadStore(sdk))
        arguments: dict[str, Any] = {"logger": quiet_logger()}
        if job.side == "ours":
            externalizer = stack.enter_context(Externalizer(store))
            arguments["interceptors"] = [PayloadInterceptor(externalizer)]
        elif job.side == "reference":
            arguments["payload_store"] = store
        else:
            arguments["channel_options"] = GrpcChannelOptions(
                max_receive_message_length=_MAX_MESSAGE_BYTES, max_send_message_length=_MAX_MESSAGE_BYTES
            )
        yield Wiring(arguments, lambda: counting.downloads if counting else 0)


@contextlib.contextmanager
def working(address: str, arguments: dict[str, Any]) -> Generator[None]:
    with TaskHubGrpcWorker(host_address=address, **arguments) as worker:
        worker.add_orchestrator(large_chain)
        worker.add_activity(large)
        worker.start()
        yield


def _main(job: Job) -> Outcome:
    if job.role == "second":
        with wired(job) as wiring, working(job.address, wiring.arguments):
            sys.stdin.read()  # until the first process closes it
            return Outcome(0.0, wiring.downloads())
    with (
        sdk_backend() as address,
        wired(job) as wiring,
        client.TaskHubGrpcClient(host_address=address, **wiring.arguments) as hub,
    ):
        return _run_chain(job, address, wiring, hub)


def _run_chain(job: Job, address: str, wiring: Wiring, hub: client.TaskHubGrpcClient) -> Outcome:
    with working(address, wiring.arguments):
        _finish(hub, hub.schedule_new_orchestration(large_chain, input=[1, job.result_bytes, 0]))  # to be warm
        warm = wiring.downloads()
        started = time.perf_counter()
        waits = job.role == "first"
        instance = hub.schedule_new_orchestration(large_chain, input=[job.activities, job.result_bytes, int(waits)])
        if not waits:
            _finish(hub, instance)
            return Outcome(time.perf_counter() - started, wiring.downloads() - warm)
        while (state := hub.get_orchestration_state(instance)) is None or not state.serialized_custom_status:
            time.sleep(0.02)
        first = wiring.downloads() - warm
    second = Job(job.side, "second", folder=job.folder, address=address)
    command = processes.command("tests.benchmarks.chain", second)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        hub.raise_orchestration_event(instance, "go on")
        _finish(hub, instance)
        said, _ = process.communicate("")
    return Outcome(time.perf_counter() - started, first, Outcome(**json.loads(said)).downloads)


def _finish(hub: client.TaskHubGrpcClient, instance: str) -> None:
    state = hub.wait_for_orchestration_completion(instance, timeout=_TIMEOUT_SECONDS)
    if state is None or state.runtime_status is not client.OrchestrationStatus.COMPLETED:
        raise RuntimeError(f"the chain ended as {state and state.runtime_status}: {state and state.failure_details}")


if __name__ == "__main__":
    outcome = _main(Job(**json.loads(sys.argv[1])))
    print(json.dumps(asdict(outcome)), flush=True)
    os._exit(0)  # the SDK's threads may take seconds to end
