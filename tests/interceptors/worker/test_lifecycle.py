"""Close, exit, fork, and storage that is moved away: nothing is completed as failed, nothing is lost, nothing hangs."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from durabletask import entities, task
from tests.interceptors.worker.ending_probe import two_digests
from tests.support.backend import RedeliveringBackend, worker_on
from tests.support.hub import Hub, digest
from tests.support.waiting import wait_until

from durabletask_payloads import DirectoryPayloadStore, Externalizer, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.support.azurite import Azurite
    from tests.support.hub import Flow

    from durabletask_payloads import PayloadStore

OPTIONS = LargePayloadStorageOptions(threshold_bytes=1_000)
SIZE = 5_000
REPOSITORY = Path(__file__).parents[3]


def failures(backend: RedeliveringBackend) -> list[str]:
    """The completions that the backend got as failed ones."""
    return [str(completion) for completion in tuple(backend.completions) if _is_failed(completion)]


def _is_failed(completion: pb.ActivityResponse | pb.OrchestratorResponse | pb.EntityBatchResult) -> bool:
    if isinstance(completion, pb.OrchestratorResponse):
        ends = [action.completeOrchestration for action in completion.actions]
        return any(end.orchestrationStatus == pb.ORCHESTRATION_STATUS_FAILED for end in ends)
    if isinstance(completion, pb.EntityBatchResult) and any(r.HasField("failure") for r in completion.results):
        return True
    return completion.HasField("failureDetails")


@contextlib.contextmanager
def hub_on(backend: RedeliveringBackend, address: str, store: PayloadStore) -> Generator[Hub]:
    with contextlib.ExitStack() as stack:
        externalizer = stack.enter_context(Externalizer(store, cache_bytes=0))
        yield Hub(backend, address, externalizer, stack)


@contextlib.contextmanager
def working(address: str, functions: list[Callable[..., Any]], interceptor: PayloadInterceptor) -> Generator[None]:
    """Run a worker."""
    worker = worker_on(address, functions, [interceptor])
    worker.start()
    try:
        yield
    finally:
        worker.stop()


# ---- closed before the worker ---------------------------------------------------------------------------------------


class Gate:
    """An application whose functions stop, each kind where it is told to, until the gate is opened."""

    def __init__(self, kind: str) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()
        self._kind = kind

    def _stop(self, kind: str) -> None:
        if kind == self._kind:
            self.reached.set()
            assert self.opened.wait(30)

    def functions(self) -> list[Callable[..., Any]]:
        def flow(orchestration: task.OrchestrationContext, counts: list[int]) -> Flow:
            self._stop("orchestration")
            tasks: list[task.Task[Any]] = [
                orchestration.call_activity(echo, input="a" * SIZE * number) for number in range(1, counts[0] + 1)
            ]
            answers: list[str] = yield task.when_all(tasks)
            state: str = yield orchestration.call_entity(entities.EntityInstanceId("store", "1"), "set", "s" * SIZE)
            return [len(answer) for answer in answers] + [len(state)]

        def echo(context: task.ActivityContext, text: str) -> str:
            self._stop("activity")
            return text

        def store(entity: entities.EntityContext, value: str) -> str:
            self._stop("entity")
            entity.set_state(value)
            return value

        return [flow, echo, store]


class Storage:
    """A store and an Externalizer that a worker uses, and what closes one of them too early."""

    def __init__(self, what: str, make: Callable[[], PayloadStore], stack: contextlib.ExitStack) -> None:
        self.store = stack.enter_context(make())
        self.externalizer = stack.enter_context(Externalizer(self.store, cache_bytes=0))
        self.close = self.externalizer.close if what == "Externalizer" else self.store.close
        self.again: Callable[[], PayloadStore] = lambda: stack.enter_context(make())
        message = pb.ActivityResponse()  # so that the store is proven
        message.result.value = "p" * SIZE
        self.externalizer.externalize(message)
        self.externalizer.deexternalize(message)


@pytest.fixture(params=["Externalizer", "store"])
def storage(request: pytest.FixtureRequest, azurite: Azurite, container: str, tmp_path: Path) -> Generator[Storage]:
    blob = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string, container_name=container, threshold_bytes=1_000
    )
    make: Callable[[], PayloadStore] = (
        (lambda: DirectoryPayloadStore(tmp_path / "payloads", OPTIONS))
        if request.param == "Externalizer"
        else (lambda: BlobPayloadStore(blob))
    )
    with contextlib.ExitStack() as stack:
        yield Storage(request.param, make, stack)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("kind", "count"), [("orchestration", 1), ("orchestration", 2), ("activity", 2), ("entity", 1)]
)
def test_what_is_completed_after_it_is_abandoned(
    kind: str, count: int, storage: Storage, backend: RedeliveringBackend, hub_address: str
) -> None:
    gate = Gate(kind)
    with hub_on(backend, hub_address, storage.again()) as hub:
        with working(hub_address, gate.functions(), PayloadInterceptor(storage.externalizer)):
            instance_id = hub.client.schedule_new_orchestration("flow", input=[count])
            assert gate.reached.wait(30)
            storage.close()
            gate.opened.set()
            wait_until(lambda: backend.abandonments.total() >= 3, what="the third abandonment")
        assert failures(backend) == []
        with working(hub_address, gate.functions(), hub.interceptor):
            assert hub.end_of(instance_id).output == [*[SIZE, 2 * SIZE][:count], SIZE]
    assert failures(backend) == []


@pytest.mark.usefixtures("fast")
def test_what_arrives_after_it_is_abandoned(storage: Storage, backend: RedeliveringBackend, hub_address: str) -> None:
    with hub_on(backend, hub_address, storage.again()) as hub:
        instance_id = hub.client.schedule_new_orchestration(digests, input="i" * SIZE)
        storage.close()
        with working(hub_address, [digests], PayloadInterceptor(storage.externalizer)):
            wait_until(lambda: backend.abandonments.total() >= 3, what="the third abandonment")
        assert backend.completions == []
        with working(hub_address, [digests], hub.interceptor):
            assert hub.end_of(instance_id).output == SIZE


def digests(orchestration: task.OrchestrationContext, text: str) -> int:
    return len(text)


# ---- exit without stop ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(*arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run a probe of this folder: its name, and its arguments."""
    module, *rest = arguments
    command = [sys.executable, "-W", "error", "-m", f"tests.interceptors.worker.{module}", *rest]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.parametrize("what", ["with", "without"])
def test_a_turn_that_is_under_way_at_exit_is_completed_with_the_interceptor_as_without(
    what: str, backend: RedeliveringBackend, hub_address: str, tmp_path: Path
) -> None:
    """The SDK's worker keeps the process and its stream: what arrives there later must get to another worker."""
    store = DirectoryPayloadStore(tmp_path / "payloads", OPTIONS)
    with (
        hub_on(backend, hub_address, store) as hub,
        process("ending_probe", hub_address, str(tmp_path / "payloads"), what) as old,
    ):
        assert old.stdout is not None
        instance_id = hub.client.schedule_new_orchestration(two_digests, input=SIZE)
        assert old.stdout.readline() == "running\n"
        assert old.stdout.readline() == "shutting down\n"
        wait_until(lambda: len(backend.completions) > 0, what="the completion of the turn")
        if what == "with":  # without it, the SDK ends its stream when it cannot begin an activity
            wait_until(lambda: backend.abandonments.total() > 0, what="an abandonment by the process that ends")
        with working(hub_address, [two_digests, digest], hub.interceptor):
            assert hub.end_of(instance_id).output == 2 * SIZE
    assert failures(backend) == []


def test_work_items_that_wait_do_not_keep_a_process(
    backend: RedeliveringBackend, hub_address: str, tmp_path: Path
) -> None:
    """Nobody stops the stream: its threads are no reason to wait, and what it holds is delivered again."""
    store = DirectoryPayloadStore(tmp_path / "payloads", OPTIONS)
    with hub_on(backend, hub_address, store) as hub:
        ids = [hub.client.schedule_new_orchestration(digests, input="i" * SIZE) for _ in range(3)]
        (tmp_path / "payloads").rename(tmp_path / "away")
        with process("ending_probe", hub_address, str(tmp_path / "payloads"), "stream") as old:
            old.communicate(timeout=20)
            assert old.returncode == 0
        (tmp_path / "away").rename(tmp_path / "payloads")
        assert failures(backend) == []
        with working(hub_address, [digests], hub.interceptor):
            assert [hub.end_of(each).output for each in ids] == [SIZE] * 3


# ---- fork -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_children_work(azurite: Azurite, container: str, tmp_path: Path) -> None:
    """At random moments of transfers, and while every lock and slot is held."""
    with process("forking_probe", azurite.connection_string, container, str(tmp_path / "payloads")) as parent:
        output, _ = parent.communicate(timeout=100)
    expected = {
        "forked: worked": 8,
        "process: worked": 2,
        "forked with all locks held: worked": 1,
        "parent: worked": 1,
    }
    assert Counter(output.splitlines()) == expected, output
    assert parent.returncode == 0


# ---- a folder that is away ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("moment", ["arrival", "completion"])
def test_a_folder_that_is_away_delays_work_items_and_is_not_made_again(
    moment: str, backend: RedeliveringBackend, hub_address: str, tmp_path: Path
) -> None:
    """A share that is not mounted for a moment."""
    folder, away = tmp_path / "payloads", tmp_path / "away"
    gate = Gate("orchestration")
    with hub_on(backend, hub_address, DirectoryPayloadStore(folder, OPTIONS)) as hub, contextlib.ExitStack() as stack:
        worker = working(hub_address, [digests, *gate.functions()], hub.interceptor)
        ids = [hub.client.schedule_new_orchestration(digests, input="i" * SIZE) for _ in range(3)]
        if moment == "arrival":
            folder.rename(away)
            stack.enter_context(worker)
        else:
            stack.enter_context(worker)
            ids.append(hub.client.schedule_new_orchestration("flow", input=[2]))
            assert gate.reached.wait(30)
            folder.rename(away)
        gate.opened.set()
        wait_until(lambda: backend.abandonments.total() >= 3, what="the third abandonment")
        assert not folder.exists()
        assert failures(backend) == []
        away.rename(folder)
        assert [hub.end_of(each).output for each in ids] == [SIZE, SIZE, SIZE, [SIZE, 2 * SIZE, SIZE]][: len(ids)]
