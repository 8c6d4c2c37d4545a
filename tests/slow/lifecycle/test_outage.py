"""What a worker holds through an outage of the service, and after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from tests.slow.lifecycle.worker_probe import Held
from tests.support.backend import RedeliveringBackend, client_on, running
from tests.support.waiting import wait_until

from durabletask_payloads import DirectoryPayloadStore, Externalizer, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Generator

    import durabletask.internal.orchestrator_service_pb2 as pb

REPOSITORY = Path(__file__).parents[3]
MIB = 1024 * 1024

ORCHESTRATIONS = 120
LARGE = 60
CUTS = 3


class Unreliable(RedeliveringBackend):
    """Refuses all completions while it is out. Only the end of a stream delivers their work items again: see `cut`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_out = False
        self.refuse = lambda completion: grpc.StatusCode.UNAVAILABLE if self.is_out else None
        self._streams: list[grpc.ServicerContext] = []

    def GetWorkItems(
        self, request: pb.GetWorkItemsRequest, context: grpc.ServicerContext
    ) -> Generator[pb.WorkItem, None, None]:
        self._streams.append(context)
        yield from super().GetWorkItems(request, context)

    def cut(self) -> None:
        """End all streams."""
        while self._streams:
            self._streams.pop().cancel()


class Worker:
    """A worker in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def held(self, command: str = "") -> Held:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        return Held(*json.loads(self._process.stdout.readline()))


@pytest.mark.timeout(300)
def test_an_outage_of_the_service_leaves_nothing_in_a_worker(tmp_path: Path) -> None:
    """Completions are refused, streams are cut, and work items come again and again, with payloads of 0.5 MB."""
    root = tmp_path / "payloads"
    backend = Unreliable()
    store = DirectoryPayloadStore(root, LargePayloadStorageOptions(threshold_bytes=1_000))
    with running(backend) as address, Externalizer(store, cache_bytes=0) as externalizer:
        command = [sys.executable, "-m", "tests.slow.lifecycle.worker_probe", address, str(root)]
        with subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                _through_outage(backend, address, externalizer, Worker(process))
            finally:
                process.kill()


def _through_outage(backend: Unreliable, address: str, externalizer: Externalizer, worker: Worker) -> None:
    client = client_on(address, [PayloadInterceptor(externalizer)])

    def start(count: int, large: int) -> dict[str, str]:
        inputs = [os.urandom(MIB // 4).hex() if number < large else f"small {number}" for number in range(count)]
        return {client.schedule_new_orchestration("answers", input=text): text for text in inputs}

    def finish(started: dict[str, str]) -> None:
        for instance_id, text in started.items():
            state = client.wait_for_orchestration_completion(instance_id, timeout=60)
            assert state is not None
            assert state.get_output() == text
        wait_until(lambda: backend.is_idle, what="the end of all work")
        backend.completions.clear()

    finish(start(LARGE, LARGE))  # so that what the process needs anyway is there
    before = worker.held()
    backend.is_out = True
    started = start(ORCHESTRATIONS, LARGE)
    for _ in range(CUTS):
        time.sleep(0.4)
        backend.cut()
    backend.is_out = False
    backend.cut()
    finish(started)
    assert backend.deliveries.total() > ORCHESTRATIONS + 80, "there was no outage"
    after = worker.held()
    assert (after.entries, after.most_entry_bytes < 32 * MIB) == (0, True), after
    assert after.most_entries > 10, "the registry was not seen at work"
    assert after.rss - before.rss < 24 * MIB, (before, after)
    stopped = worker.held("stop")
    assert stopped.entries == 0
    assert stopped.rss - before.rss < 24 * MIB, (before, stopped)
