"""The soak: many orchestrations, storage that fails and restarts, a worker that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
from azure.storage.blob import ContainerClient
from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationState, OrchestrationStatus
from durabletask.entities import EntityInstanceId
from google.protobuf.wrappers_pb2 import StringValue
from tests.slow.soak.application import TALLY
from tests.slow.soak.callers import AioCaller, SyncCaller
from tests.slow.soak.cases import LEDGERS, LOST, TOO_LARGE, cases_of, digest
from tests.slow.soak.report import Deliveries, Payloads, Report
from tests.slow.soak.resources import Resources
from tests.slow.soak.storage import FlakyStorage
from tests.slow.soak.worker import CONTAINER, Farewell, Line, store_on
from tests.support.azurite import Azurite
from tests.support.backend import RedeliveringBackend, client_on, running

from durabletask_payloads import Externalizer, PayloadError, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durabletask.task import FailureDetails
    from durabletask.testing.in_memory_backend import OrchestrationInstance
    from tests.slow.soak.callers import Caller
    from tests.slow.soak.cases import Case

_T = TypeVar("_T")

_ROOT = Path(__file__).parents[3]
IN_FLIGHT = 24  # orchestrations at a time; each takes a thread of the backend while it is waited for
DOWN_SECONDS = 3.0
# When it happens: once this share of the orchestrations has ended.
KILLS = (0.15, 0.55)
RESTARTS = (0.35, 0.75)


def soak(*, seed: int, count: int = 200, seconds: float = 170.0) -> Report:
    """Run it. Nothing is raised for what goes wrong in it: see the report.

    Args:
        seed: decides the orchestrations, their sizes, and what fails; not how threads and processes interleave.
        count: how many orchestrations.
        seconds: after these, what has not ended is stuck.
    """
    # What libraries make once for a process and keep, as gRPC its pollers, is there before we look.
    asyncio.run(_Soak(Report(seed=1, count=6), time.monotonic() + 60, disturbed=False).run())
    before = Resources.now()
    report = Report(seed, count)
    started = time.monotonic()
    asyncio.run(_Soak(report, started + seconds, disturbed=True).run())
    report.seconds = time.monotonic() - started
    report.left += before.left()
    return report


# ---- the parts -----------------------------------------------------------------------------------------------------


class _Backend(RedeliveringBackend):
    """With what the soak has to know of it."""

    def __init__(self) -> None:
        super().__init__()
        self._requeued: Counter[str] = Counter()

    def _wait_for_state(
        self, instance_id: str, predicate: Callable[[OrchestrationInstance], bool], timeout: float | None
    ) -> OrchestrationInstance | None:
        # The SDK's own lets a parent wait for ever once its child has taken 30 s.
        return super()._wait_for_state(instance_id, predicate, 600.0 if timeout is None else timeout)

    def _requeue(self, key: tuple[str, str]) -> bool:
        is_known = super()._requeue(key)
        self._requeued[key[0]] += is_known
        return is_known

    @property
    def under_way(self) -> int:
        """How many work items are with a worker."""
        with self._lock:
            return len(self._delivered)

    def counts(self) -> list[Deliveries]:
        with self._lock:
            found: list[Deliveries] = []
            for kind in ("activity", "entity", "orchestration"):
                times = [number for work, number in self.deliveries.items() if work.kind == kind]
                abandoned = sum(number for work, number in self.abandonments.items() if work.kind == kind)
                lost = self._requeued[kind] - abandoned
                found.append(Deliveries(kind, len(times), sum(times), abandoned, lost, max(times, default=0)))
            return found

    def references(self) -> set[str]:
        """The names of all blobs that it still refers to."""
        with self._lock:
            texts = [event.SerializeToString() for one in self._instances.values() for event in one.history]
            values = [value for one in self._instances.values() for value in (one.input, one.output, one.custom_status)]
            values += [entity.serialized_state for entity in self._entities.values()]
            texts += [value.encode() for value in values if value is not None]
        token = re.compile(rf"blob:v1:{CONTAINER}:([0-9a-f]{{32}})".encode())
        return {name.decode() for text in texts for name in token.findall(text)}


class _Worker:
    """The worker's process, which can be killed and started again."""

    def __init__(self, address: str, connection_string: str, folder: Path) -> None:
        self._arguments = [address, connection_string, str(folder / "worker.log")]
        self._log = folder / "worker.log"
        self._errors = folder / "worker.err"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with open(self._errors, "a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.slow.soak.worker", *self._arguments],
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()

    def stop(self) -> Farewell:
        """End it in order."""
        process, self._process = self._process, None
        assert process is not None, "it was started"
        with process:
            try:
                output, _ = process.communicate(timeout=30)
            finally:
                process.kill()
        if process.returncode != 0:
            raise RuntimeError(f"the worker ended with {process.returncode}: {self._errors.read_text()[-2000:]}")
        return Farewell(*json.loads(output))

    def lines(self) -> list[Line]:
        return [Line(*json.loads(line)) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def said(self) -> str:
        """What it wrote to its standard error."""
        return self._errors.read_text()


# ---- the run -------------------------------------------------------------------------------------------------------


class _Soak:
    def __init__(self, report: Report, deadline: float, *, disturbed: bool) -> None:
        self._report = report
        self._deadline = deadline
        self._disturbed = disturbed
        self._cases = cases_of(report.seed, report.count)
        self._over = 0  # ended, or stuck
        self._how: dict[str, str] = {}  # by instance, of those that ended
        self._chance = random.Random(f"soak {report.seed}")

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
            azurite = stack.enter_context(Azurite(folder / "azurite"))
            storage = stack.enter_context(FlakyStorage(azurite.port, self._report.seed))
            storage.failing = self._disturbed
            connection_string = azurite.connection_string_at(storage.port)
            backend = _Backend()
            address = stack.enter_context(running(backend))
            worker = _Worker(address, connection_string, folder)
            stack.callback(worker.kill)
            store = stack.enter_context(store_on(connection_string))
            externalizer = stack.enter_context(Externalizer(store))
            pool = stack.enter_context(ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="soak-client"))
            client = client_on(address, [PayloadInterceptor(externalizer)])
            stack.callback(client.close)
            aio_client = AsyncTaskHubGrpcClient(
                host_address=address,
                interceptors=async_payload_interceptors(externalizer),
                logger=logging.Logger("quiet", logging.CRITICAL),
            )
            stack.push_async_callback(aio_client.close)
            raw = stack.enter_context(grpc.insecure_channel(address))

            worker.start()
            sync = SyncCaller(client, pool)
            callers: list[Caller] = [sync, AioCaller(aio_client)]
            disturbing = asyncio.create_task(self._disturb(backend, azurite, worker))
            places = asyncio.Semaphore(IN_FLIGHT)
            await asyncio.gather(
                *(self._follow(case, callers[number % 2], places, raw) for number, case in enumerate(self._cases))
            )
            await disturbing
            if not self._report.stuck:
                await self._check_entities(sync, backend)
            await self._check_blobs(backend, azurite)
            farewell = self._report.farewell = await asyncio.to_thread(worker.stop)
            self._report.left += [f"in the worker, {what}" for what in farewell.left]
            self._take_down(backend, storage, worker)

    # ---- disturb the worker and the storage ----------------------------------------------------------------

    async def _disturb(self, backend: _Backend, azurite: Azurite, worker: _Worker) -> None:
        if not self._disturbed:
            return
        for share, is_kill in sorted([*((share, True) for share in KILLS), *((share, False) for share in RESTARTS)]):
            while self._over < share * len(self._cases):
                await asyncio.sleep(0.02)
            if is_kill:
                while (held := backend.under_way) == 0 and self._over < len(self._cases):
                    await asyncio.sleep(0.001)
                self._report.kills.append(held)
                await asyncio.to_thread(worker.kill)
                worker.start()
            else:
                started = time.monotonic()
                await asyncio.to_thread(azurite.stop)
                await asyncio.sleep(DOWN_SECONDS)
                await asyncio.to_thread(azurite.start)
                self._report.downtimes.append(time.monotonic() - started)

    # ---- one orchestration ----------------------------------------------------------------------------------

    async def _follow(self, case: Case, caller: Caller, places: asyncio.Semaphore, raw: grpc.Channel) -> None:
        async with places:
            try:
                if case.error == LOST:
                    await asyncio.to_thread(_start_with_lost_input, case, raw)
                else:
                    await self._insist("schedule", lambda: caller.start(case))
                for number, data in enumerate(case.events):
                    await asyncio.sleep(self._chance.uniform(0, 0.2))
                    await self._insist("raise event", partial(caller.raise_event, case, f"event-{number}", data))
                state = await self._insist("wait", lambda: self._wait(case, caller))
                how = self._how[case.instance_id] = self._judged(case, state)
                self._report.ended[case.kind, how] += 1
            except TimeoutError:
                self._report.stuck.append(f"{case.instance_id} ({case.kind})")
            except Exception as error:
                self._report.wrong.append(f"{case.instance_id}: the client raised {type(error).__name__}: {error}")
            finally:
                self._over += 1

    async def _wait(self, case: Case, caller: Caller) -> OrchestrationState:
        left = self._deadline - time.monotonic()
        if left < 1:
            raise TimeoutError
        # What was lost stays lost: the client would not get it either.
        state = await caller.wait(case, left, payloads=case.error != LOST)
        assert state is not None, "the backend has forgotten an instance"
        return state

    async def _insist(self, what: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """As an application would: what our error calls transient is tried again."""
        attempt = 0
        while True:
            try:
                return await call()
            except PayloadError as error:
                if error.permanent:
                    raise
                self._report.retries[f"{what}: {type(error).__name__}"] += 1
                attempt += 1
                if time.monotonic() > self._deadline:
                    raise TimeoutError from error
                await asyncio.sleep(min(2.0, 0.1 * 2**attempt) * self._chance.uniform(0.5, 1.0))

    def _judged(self, case: Case, state: OrchestrationState) -> str:
        """How it ended. What must not be is noted."""
        wrong: list[str] = []
        if state.runtime_status is OrchestrationStatus.COMPLETED:
            how = "completed"
            if case.error is not None:
                wrong.append(f"completed, where it must fail with {case.error}")
            elif digest(state.get_output()) != case.output:
                wrong.append("its output is not what it must be")
            if case.custom_status is not None and digest(state.get_custom_status()) != case.custom_status:
                wrong.append("its custom status is not what it must be")
            if case.input_stays and digest(state.get_input()) != digest(case.input):
                wrong.append("its input is not what it was started with")
        else:
            error = _our_error(state.failure_details)
            how = f"failed with {error}"
            if state.runtime_status is not OrchestrationStatus.FAILED:
                wrong.append(f"it is {state.runtime_status}")
            # Storage that is down for too long may fail anything; nothing else may.
            if error not in (case.error, PayloadStoreUnavailableError.__name__):
                wrong.append(f"it failed with {error or 'an error that is not ours'}: {state.failure_details}")
            if error == TOO_LARGE and "max_stored_payload_bytes" not in str(state.failure_details):
                wrong.append(f"its error does not name the setting: {state.failure_details}")
        self._report.wrong += [f"{case.instance_id}: {line[:500]}" for line in wrong]
        return how

    # ---- at the end -----------------------------------------------------------------------------------------

    async def _check_entities(self, sync: SyncCaller, backend: _Backend) -> None:
        async def state_of(entity_id: EntityInstanceId) -> Any:
            metadata = await self._insist("get entity", lambda: sync.entity(entity_id))
            return None if metadata is None else json.loads(metadata.get_state(str) or "null")

        wrong = self._report.wrong
        added = Counter(cast("list[str]", await state_of(TALLY) or []))
        for case in self._cases:
            how = self._how.get(case.instance_id, "")
            times = added[case.instance_id]
            if case.kind == "entities with locks" and (times > 1 or (how == "completed" and times == 0)):
                wrong.append(f"{case.instance_id}: added to the tally {times} times")
            if case.kind == "entity result too large" and TOO_LARGE in how:
                kept = await state_of(EntityInstanceId("ledger", case.instance_id))
                if kept != case.input["text"]:
                    wrong.append(f"{case.instance_id}: its entity has lost its state")
        keys = [*(f"shared-{number}" for number in range(LEDGERS)), *(case.instance_id for case in self._cases)]
        for key in keys:
            holder = backend.holder_of(str(EntityInstanceId("ledger", key)))
            if holder is not None:
                wrong.append(f"the ledger {key} is still locked")

    async def _check_blobs(self, backend: _Backend, azurite: Azurite) -> None:
        def names() -> set[str]:
            with ContainerClient.from_connection_string(azurite.connection_string, CONTAINER) as container:
                return set(container.list_blob_names()) if container.exists() else set()

        stored = await asyncio.to_thread(names)
        referenced = backend.references() - {case.input for case in self._cases if case.error == LOST}
        missing = referenced - stored
        self._report.payloads = Payloads(len(stored), len(referenced), len(missing))
        self._report.wrong += [f"the blob {name} is gone, and is still referred to" for name in sorted(missing)]

    def _take_down(self, backend: _Backend, storage: FlakyStorage, worker: _Worker) -> None:
        report = self._report
        report.requests = storage.connections
        report.asked = Counter(line.split(" ", 1)[0] for line in storage.requests)
        report.faults = storage.faults
        report.deliveries = backend.counts()
        for line in worker.lines():
            report.logged[f"{line.kind} {line.error}".strip()] += 1
            if line.error not in ("", PayloadStoreUnavailableError.__name__):
                report.wrong.append(f"the worker logged {line.error}: {line.text}")
        if "Traceback" in (said := worker.said()):
            report.wrong.append(f"the worker wrote to its standard error: {said[-2000:]}")


def _start_with_lost_input(case: Case, raw: grpc.Channel) -> None:
    request = pb.CreateInstanceRequest(
        instanceId=case.instance_id,
        name=case.function.__name__,
        input=StringValue(value=f"blob:v1:{CONTAINER}:{case.input}"),
    )
    cast("Any", stubs.TaskHubSidecarServiceStub)(raw).StartInstance(request)


def _our_error(failure: FailureDetails | None) -> str:
    """The name of the error of ours that `failure` comes from, or ""."""
    while failure is not None:
        module, _, name = failure.error_type.rpartition(".")
        if module == "durabletask_payloads":
            return name
        if failure.inner_failure is None and "gave up after" in failure.message:
            # The backend tells a parent the text of what its child failed with, and not the class.
            return PayloadStoreUnavailableError.__name__
        failure = failure.inner_failure
    return ""
