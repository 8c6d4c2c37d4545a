"""Worker and client of the Durable Task Scheduler in Azure, with large payloads.

    python scheduler.py

It runs offline: the task hub is the in-memory backend of the SDK, and payloads are in memory. ENDPOINT and TASKHUB name
a scheduler, as in ENDPOINT=https://<name>.<region>.durabletask.io, or its emulator, as in http://localhost:8080.
DURABLETASK_PAYLOADS_STORE is the URL of another store, as in azure://<account>/<container>.
Needs `durabletask-payloads[sdk,azure]`, durabletask.azuremanaged and azure-identity.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from azure.identity import DefaultAzureCredential
from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.testing import create_test_backend

from durabletask_payloads import Externalizer, store_from_url
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.task import OrchestrationContext


def length(_: OrchestrationContext, text: str) -> int:
    return len(text)


@contextmanager
def scheduler() -> Generator[str]:
    """Yield the URL in ENDPOINT, or that of an in-memory backend on a free port."""
    if endpoint := os.environ.get("ENDPOINT"):
        yield endpoint
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    backend = create_test_backend(port=port)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        backend.stop()


# --8<-- [start:main]
def main() -> None:
    store = store_from_url(os.environ.get("DURABLETASK_PAYLOADS_STORE", "memory:"))
    taskhub = os.environ.get("TASKHUB", "default")
    with scheduler() as endpoint, store, Externalizer(store) as externalizer:
        secure = endpoint.startswith("https://")
        credential = DefaultAzureCredential() if secure else None  # the emulator takes none
        address = endpoint.removeprefix("http://")
        payloads = PayloadInterceptor(externalizer)
        limit = GrpcChannelOptions(max_receive_message_length=64 * 1024 * 1024)
        with (
            DurableTaskSchedulerWorker(
                host_address=address,
                taskhub=taskhub,
                token_credential=credential,
                secure_channel=secure,
                interceptors=[payloads],
                channel_options=limit,
            ) as worker,
            DurableTaskSchedulerClient(
                host_address=address,
                taskhub=taskhub,
                token_credential=credential,
                secure_channel=secure,
                interceptors=[payloads],
                channel_options=limit,
            ) as client,
        ):
            worker.add_orchestrator(length)
            worker.start()
            instance_id = client.schedule_new_orchestration(length, input="x" * 5_000_000)
            state = client.wait_for_orchestration_completion(instance_id, timeout=60)
        if state is None:
            raise SystemExit(f"{instance_id} does not exist")
        print(f"{state.runtime_status.name} in task hub {taskhub!r}: {state.get_output(int):,} characters arrived")


# --8<-- [end:main]


if __name__ == "__main__":
    main()
