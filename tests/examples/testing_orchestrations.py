"""Tests of one's own orchestrations, with large payloads, and without any service.

    python testing_orchestrations.py        (or: pytest testing_orchestrations.py)

The task hub is the in-memory backend of the SDK. `InMemoryPayloadStore` tells what was stored: that a payload was
externalized, and for which instance. Needs `durabletask-payloads[sdk]` and pytest.
"""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker

from durabletask_payloads import InMemoryPayloadStore, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.task import ActivityContext, OrchestrationContext, Task


def repeat(_: ActivityContext, word: str) -> str:
    return word * 100_000


def report(context: OrchestrationContext, word: str) -> Generator[Task[Any], Any, Any]:
    text: str = yield context.call_activity(repeat, input=word)
    return text


# --8<-- [start:main]
@pytest.fixture
def store() -> InMemoryPayloadStore:
    return InMemoryPayloadStore()


@pytest.fixture
def client(store: InMemoryPayloadStore) -> Generator[TaskHubGrpcClient]:
    """A client of a task hub that runs `report`, with its payloads in `store`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    backend = create_test_backend(port=port)
    address = f"127.0.0.1:{port}"
    with (
        PayloadInterceptor(store) as payloads,
        TaskHubGrpcWorker(host_address=address, interceptors=[payloads]) as worker,
        TaskHubGrpcClient(host_address=address, interceptors=[payloads]) as client,
    ):
        worker.add_orchestrator(report)
        worker.add_activity(repeat)
        worker.start()
        yield client
    backend.stop()


def test_a_large_report_is_kept_in_the_store(client: TaskHubGrpcClient, store: InMemoryPayloadStore) -> None:
    instance_id = client.schedule_new_orchestration(report, input="page ")
    state = client.wait_for_orchestration_completion(instance_id, timeout=30)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED
    assert state.get_output(str) == "page " * 100_000
    assert len(store) == 2  # the result of the activity, and the output
    assert {store.instance_id(token) for token in store.tokens} == {instance_id}


def test_a_small_report_is_not(client: TaskHubGrpcClient, store: InMemoryPayloadStore) -> None:
    instance_id = client.schedule_new_orchestration(report, input="")
    state = client.wait_for_orchestration_completion(instance_id, timeout=30)
    assert state is not None
    assert state.get_output(str) == ""
    assert len(store) == 0


def test_an_outage_reaches_the_caller(
    client: TaskHubGrpcClient, store: InMemoryPayloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(data: bytes, *, instance_id: str | None = None) -> str:
        raise PayloadStoreUnavailableError("the store is unavailable")

    monkeypatch.setattr(store, "upload", unavailable)
    with pytest.raises(PayloadStoreUnavailableError):
        client.schedule_new_orchestration(report, input="x" * 300_000)


# --8<-- [end:main]


def main() -> None:
    sys.exit(pytest.main([__file__, "-v"]))


if __name__ == "__main__":
    main()
