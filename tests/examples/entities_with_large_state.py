"""An entity whose state is larger than a gRPC message may be.

    python entities_with_large_state.py

It runs offline: the task hub is the in-memory backend of the SDK, and payloads are in memory. DURABLETASK_HUB=host:port
names another task hub, DURABLETASK_PAYLOADS_STORE the URL of another store. Needs `durabletask-payloads[sdk]`.
"""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from durabletask.client import TaskHubGrpcClient
from durabletask.entities import DurableEntity, EntityInstanceId
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker

from durabletask_payloads import Externalizer, store_from_url
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.task import OrchestrationContext, Task


# --8<-- [start:application]
class Journal(DurableEntity):
    """Keeps every entry that it was given, in one state. Large states go into the store after each batch."""

    def append(self, entry: str) -> int:
        entries: list[str] = [*self.get_state(list, []), entry]
        self.set_state(entries)
        return len(entries)


def keep_three(context: OrchestrationContext, entry: str) -> Generator[Task[Any], Any, Any]:
    journal = EntityInstanceId("Journal", context.instance_id)
    count = 0
    for _ in range(3):
        count = yield context.call_entity(journal, "append", entry)
    return count


# --8<-- [end:application]


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


# --8<-- [start:main]
def main() -> None:
    store = store_from_url(os.environ.get("DURABLETASK_PAYLOADS_STORE", "memory:"))
    with task_hub() as address, store, Externalizer(store) as externalizer:
        payloads = PayloadInterceptor(externalizer)
        with (
            TaskHubGrpcWorker(host_address=address, interceptors=[payloads]) as worker,
            TaskHubGrpcClient(host_address=address, interceptors=[payloads]) as client,
        ):
            worker.add_orchestrator(keep_three)
            worker.add_entity(Journal)
            worker.start()
            instance_id = client.schedule_new_orchestration(keep_three, input="entry " * 300_000)
            done = client.wait_for_orchestration_completion(instance_id, timeout=60)
            journal = client.get_entity(EntityInstanceId("Journal", instance_id))
        if done is None or journal is None:
            raise SystemExit(f"{instance_id} or its journal does not exist")
        entries: list[str] = journal.get_typed_state() or []
        print(f"{done.runtime_status.name}: the entity counts {done.get_output()} entries")
        print(f"its state has {sum(map(len, entries)):,} characters")


# --8<-- [end:main]
if __name__ == "__main__":
    main()
