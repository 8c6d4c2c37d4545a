"""A worker and a client whose payloads are larger than a gRPC message may be.

    python worker_and_client.py

It runs offline: the task hub is the in-memory backend of the SDK, and payloads are in memory. DURABLETASK_HUB=host:port
names another task hub, DURABLETASK_PAYLOADS_STORE the URL of another store. Needs `durabletask-payloads[sdk]`.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from durabletask.client import TaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker

from durabletask_payloads import Externalizer, store_from_url
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.task import ActivityContext, OrchestrationContext, Task


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


# --8<-- [start:application]
def shout(_: ActivityContext, text: str) -> str:
    return text.upper()


def proclaim(context: OrchestrationContext, text: str) -> Generator[Task[Any], Any, Any]:
    loud: str = yield context.call_activity(shout, input=text)
    return loud


# --8<-- [end:application]
# --8<-- [start:main]
def main() -> None:
    store = store_from_url(os.environ.get("DURABLETASK_PAYLOADS_STORE", "memory:"))
    with task_hub() as address, store, Externalizer(store) as externalizer:
        payloads = PayloadInterceptor(externalizer)  # one for both
        limit = GrpcChannelOptions(max_receive_message_length=64 * 1024 * 1024)
        with (
            TaskHubGrpcWorker(host_address=address, interceptors=[payloads], channel_options=limit) as worker,
            TaskHubGrpcClient(host_address=address, interceptors=[payloads], channel_options=limit) as client,
        ):
            worker.add_orchestrator(proclaim)
            worker.add_activity(shout)
            worker.start()
            instance_id = client.schedule_new_orchestration(proclaim, input="hear ye! " * 600_000)
            state = client.wait_for_orchestration_completion(instance_id, timeout=60)
        if state is None:
            raise SystemExit(f"{instance_id} does not exist")
        output = state.get_output(str) or ""
        print(f"{state.runtime_status.name}: {len(output):,} characters, {output[:8]}...")
        print(f"{externalizer.stats.uploads} payloads were stored, {externalizer.stats.downloads} downloaded")


# --8<-- [end:main]
if __name__ == "__main__":
    main()
