"""Moving from the SDK's `payload_store=` to the interceptor, process by process, while orchestrations run.

    python moving_from_payload_store.py

Workers and clients that have moved, and those that have not, read what the others wrote: here in both directions.
It runs offline: the task hub is the in-memory backend of the SDK, and payloads are in memory. DURABLETASK_HUB=host:port
names another task hub. With AZURE_STORAGE_CONNECTION_STRING payloads are in Blob Storage, where the processes that have
not moved use the SDK's own store. Needs `durabletask-payloads[sdk,azure]`.
"""

from __future__ import annotations

import os
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from durabletask.client import TaskHubGrpcClient
from durabletask.extensions.azure_blob_payloads import BlobPayloadStore as SdkBlobPayloadStore
from durabletask.extensions.azure_blob_payloads import BlobPayloadStoreOptions as SdkBlobPayloadStoreOptions
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker

from durabletask_payloads import InMemoryPayloadStore, PayloadStore
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.sdk import SdkPayloadStore
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.payload import PayloadStore as OldStore
    from durabletask.task import OrchestrationContext


# --8<-- [start:main]
@contextmanager
def stores() -> Generator[tuple[OldStore, PayloadStore]]:
    """Yield the store of processes that have not moved yet, and that of those that have."""
    connection_string = os.environ.get("AZURE_STORAGE_CONNECTION_STRING")
    if connection_string is None:
        shared = InMemoryPayloadStore()
        yield SdkPayloadStore(shared), shared  # by this adapter `payload_store=` takes any store of this package
        return
    sdk_options = SdkBlobPayloadStoreOptions(connection_string=connection_string)
    # Until the last process has moved, write what the SDK's store can read.
    options = BlobPayloadStoreOptions(connection_string=connection_string, layout="python-sdk")
    with closing(SdkBlobPayloadStore(sdk_options)) as old, BlobPayloadStore(options) as new:
        yield old, new


def shout(_: OrchestrationContext, text: str) -> str:
    return text.upper()


def run(worker: TaskHubGrpcWorker, client: TaskHubGrpcClient) -> str:
    with worker, client:
        worker.add_orchestrator(shout)
        worker.start()
        instance_id = client.schedule_new_orchestration(shout, input="x" * 5_000_000)
        state = client.wait_for_orchestration_completion(instance_id, timeout=60)
    return f"{state.runtime_status.name}, {len(state.get_output(str) or ''):,} characters" if state else "not found"


def main() -> None:
    with task_hub() as hub, stores() as (old, new), PayloadInterceptor(new) as payloads:
        worker = TaskHubGrpcWorker(host_address=hub, interceptors=[payloads])
        client = TaskHubGrpcClient(host_address=hub, payload_store=old)
        print(f"the worker has moved: {run(worker, client)}")
        worker = TaskHubGrpcWorker(host_address=hub, payload_store=old)
        client = TaskHubGrpcClient(host_address=hub, interceptors=[payloads])
        print(f"the client has moved: {run(worker, client)}")


# --8<-- [end:main]


@contextmanager
def task_hub() -> Generator[str]:
    """Yield the address in DURABLETASK_HUB, or that of an in-memory backend on a free port."""
    if address := os.environ.get("DURABLETASK_HUB"):
        yield address
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    backend = create_test_backend(port=port)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        backend.stop()


if __name__ == "__main__":
    main()
