"""The soak: many orchestrations, storage that fails and restarts, a server that loses answers, workers that die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
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
from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationState
from durabletask.entities import EntityInstanceId
from durabletask.grpc_options import GrpcChannelOptions, GrpcRetryPolicyOptions
from google.protobuf.wrappers_pb2 import StringValue
from tests.slow.soak.application import TALLY
from tests.slow.soak.callers import AioCaller, SyncCaller
from tests.slow.soak.cases import LEDGERS, LOST, TOO_LARGE, cases_of
from tests.slow.soak.judge import judged, lost_token, wrong_lines
from tests.slow.soak.process import WorkerProcess
from tests.slow.soak.report import Exit, Memory, Payloads, Report
from tests.slow.soak.resources import Resources
from tests.slow.soak.server import LostAnswers, SoakBackend
from tests.slow.soak.storage import FlakyStorage
from tests.slow.soak.worker import CONTAINER, store_on
from tests.support.azurite import Azurite
from tests.support.backend import client_on, running

from durabletask_payloads import Externalizer, PayloadError
from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.slow.soak.callers import Caller
    from tests.slow.soak.cases import Case

_T = TypeVar("_T")

IN_FLIGHT = 24  # orchestrations at a time; each takes a thread of the backend while it is waited for
WAIT_SECONDS = 20.0  # of one call of a client for the end of an orchestration
DOWN_SECONDS = 3.0
# When it happens: once this share of the orchestrations has ended.
KILLS = (0.12, 0.5)
EXITS = (0.22, 0.62)  # and one more in the middle of the first restart
RESTARTS = (0.35, 0.8)
# Of the last worker, beyond that of a worker that had the same orchestrations and no trouble.
MOST_EXTRA_BYTES = 30 * 1024 * 1024


def soak(*, seed: int, count: int = 200, patience: float = 120.0) -> Report:
    """Run a round. Nothing is raised for what goes wrong in it: see the report.

    Args:
        seed: decides the orchestrations, their sizes, and what fails; not how threads and processes interleave.
        count: how many orchestrations.
        patience: what has not ended is stuck when no other has for so many seconds. A slow machine takes longer as a
            whole, but always ends one after the other.
    """
    cases = cases_of(seed, count)
    # Those of the last worker, without trouble. What libraries make once for a process and keep, as gRPC its pollers,
    # is there before we look.
    calm = Report(seed, count)
    last = cases[int(count * max(*KILLS, *EXITS)) :]
    asyncio.run(_Soak(calm, last, patience, disturbed=False).run())
    before = Resources.now()
    report = Report(seed, count)
    started = time.monotonic()
    asyncio.run(_Soak(report, cases, patience, disturbed=True).run())
    report.seconds = time.monotonic() - started
    report.left += before.left()
    report.stuck += [f"without trouble: {line}" for line in calm.stuck]
    report.wrong += [f"without trouble: {line}" for line in calm.wrong]
    report.left += [f"without trouble: {line}" for line in calm.left]
    report.memory = Memory(calm.memory.troubled, report.memory.troubled)
    if report.memory.extra > MOST_EXTRA_BYTES:
        report.wrong.append(
            f"the last worker has {report.memory} bytes, over {MOST_EXTRA_BYTES} more than a worker without trouble"
        )
    return report


# ---- the run -------------------------------------------------------------------------------------------------------


class _Soak:
    def __init__(self, report: Report, cases: list[Case], patience: float, *, disturbed: bool) -> None:
        self._report = report
        self._patience = patience
        self._last_end = time.monotonic()  # when an orchestration ended
        self._disturbed = disturbed
        self._cases = cases
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
            answers = LostAnswers(self._report.seed, losing=self._disturbed)
            backend = SoakBackend(answers)
            address = stack.enter_context(running(backend))
            worker = WorkerProcess(address, connection_string, folder)
            stack.callback(worker.kill)
            store = stack.enter_context(store_on(connection_string))
            externalizer = stack.enter_context(Externalizer(store))
            pool = stack.enter_context(ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="soak-client"))
            options = GrpcChannelOptions(retry_policy=GrpcRetryPolicyOptions())
            client = client_on(address, [PayloadInterceptor(externalizer)], channel_options=options)
            stack.callback(client.close)
            aio_client = AsyncTaskHubGrpcClient(
                host_address=address,
                interceptors=async_payload_interceptors(externalizer),
                channel_options=options,
                logger=logging.Logger("quiet", logging.CRITICAL),
            )
            stack.push_async_callback(aio_client.close)
            raw = stack.enter_context(grpc.insecure_channel(address, options.to_grpc_options()))

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
            await self._check_worker(backend, worker)
            self._take_down(backend, storage, answers, worker)

    # ---- disturb the worker and the storage ----------------------------------------------------------------

    async def _disturb(self, backend: SoakBackend, azurite: Azurite, worker: WorkerProcess) -> None:
        if not self._disturbed:
            return
        kill = partial(self._kill, backend, worker)
        leave = partial(self._exit, backend, worker)
        restart = partial(self._restart, azurite)
        troubles: dict[float, Callable[[], Awaitable[None]]] = {
            **dict.fromkeys(KILLS, kill),
            **dict.fromkeys(EXITS, leave),
            **dict.fromkeys(RESTARTS, restart),
            RESTARTS[0]: partial(restart, leave),
        }
        for share in sorted(troubles):
            while self._over < share * len(self._cases):
                await asyncio.sleep(0.02)
            await troubles[share]()

    async def _kill(self, backend: SoakBackend, worker: WorkerProcess) -> None:
        self._report.kills.append(await self._under_way(backend))
        await asyncio.to_thread(worker.kill)
        worker.start()

    async def _exit(self, backend: SoakBackend, worker: WorkerProcess) -> None:
        await asyncio.to_thread(worker.vitals)  # it is up, and not just about to be
        held = await self._under_way(backend)
        self._report.exits.append(Exit(held, await asyncio.to_thread(worker.exit)))

    async def _under_way(self, backend: SoakBackend) -> int:
        while (held := backend.under_way) == 0 and self._over < len(self._cases):
            await asyncio.sleep(0.001)
        return held

    async def _restart(self, azurite: Azurite, meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        started = time.monotonic()
        await asyncio.to_thread(azurite.stop)
        await asyncio.sleep(DOWN_SECONDS / 2)
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(DOWN_SECONDS / 2)
        await asyncio.to_thread(azurite.start)
        self._report.downtimes.append(time.monotonic() - started)

    # ---- one orchestration ----------------------------------------------------------------------------------

    async def _follow(self, case: Case, caller: Caller, places: asyncio.Semaphore, raw: grpc.Channel) -> None:
        async with places:
            try:
                if case.error == LOST:
                    await self._deliver("schedule", lambda: asyncio.to_thread(_start_with_lost_input, case, raw))
                else:
                    await self._deliver("schedule", lambda: caller.start(case))
                for number, data in enumerate(case.events):
                    await asyncio.sleep(self._chance.uniform(0, 0.2))
                    await self._deliver("raise event", partial(caller.raise_event, case, f"event-{number}", data))
                state = await self._insist("wait", lambda: self._wait(case, caller))
                how, wrong = judged(case, state)
                self._how[case.instance_id] = how
                self._report.wrong += wrong
                self._report.ended[case.kind, how] += 1
            except TimeoutError:
                self._report.stuck.append(f"{case.instance_id} ({case.kind})")
            except Exception as error:
                self._report.wrong.append(f"{case.instance_id}: the client raised {type(error).__name__}: {error}")
            finally:
                self._over += 1
                self._last_end = time.monotonic()

    @property
    def _is_stuck(self) -> bool:
        return time.monotonic() - self._last_end > self._patience

    async def _wait(self, case: Case, caller: Caller) -> OrchestrationState:
        while True:
            try:
                state = await caller.wait(case, WAIT_SECONDS, payloads=True)
            except TimeoutError:
                if self._is_stuck:
                    raise
                continue
            assert state is not None, "the backend has forgotten an instance"
            return state

    async def _deliver(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        """As an application would: a message that the server has is delivered."""
        try:
            await self._insist(what, call)
        except grpc.RpcError as error:
            if _code(error) is not grpc.StatusCode.ALREADY_EXISTS:
                raise
            self._report.retries[f"{what}: ALREADY_EXISTS, it was taken"] += 1

    async def _insist(self, what: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """As an application would: what our error calls transient is tried again, and UNAVAILABLE."""
        attempt = 0
        while True:
            try:
                return await call()
            except (PayloadError, grpc.RpcError) as error:
                told = _transient(error)
                if not told:
                    raise
                self._report.retries[f"{what}: {told}"] += 1
                attempt += 1
                if self._is_stuck:
                    raise TimeoutError from error
                await asyncio.sleep(min(2.0, 0.1 * 2**attempt) * self._chance.uniform(0.5, 1.0))

    # ---- at the end -----------------------------------------------------------------------------------------

    async def _check_entities(self, sync: SyncCaller, backend: SoakBackend) -> None:
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

    async def _check_blobs(self, backend: SoakBackend, azurite: Azurite) -> None:
        def names() -> set[str]:
            with ContainerClient.from_connection_string(azurite.connection_string, CONTAINER) as container:
                return set(container.list_blob_names()) if container.exists() else set()

        stored = await asyncio.to_thread(names)
        referenced = backend.references() - {case.input for case in self._cases if case.error == LOST}
        missing = referenced - stored
        self._report.payloads = Payloads(len(stored), len(referenced), len(missing))
        self._report.wrong += [f"the blob {name} is gone, and is still referred to" for name in sorted(missing)]

    async def _check_worker(self, backend: SoakBackend, worker: WorkerProcess) -> None:
        """Nothing is in flight: the last worker holds nothing."""
        report = self._report
        deadline = time.monotonic() + 60
        while (vitals := await asyncio.to_thread(worker.vitals)).items and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        if vitals.items or vitals.registry_bytes:
            report.left.append(f"in the registry, {vitals.items} items of {vitals.registry_bytes} bytes")
        if not backend.is_idle:
            report.left.append(f"in the backend, {backend.under_way} work items in flight")
        report.memory = Memory(0, vitals.resident_bytes)
        farewell = report.farewell = await asyncio.to_thread(worker.stop)
        if farewell.items:
            report.left.append(f"in the registry, {farewell.items} items after the end of the stream")
        report.left += [f"in the worker, {what}" for what in farewell.left]

    def _take_down(
        self, backend: SoakBackend, storage: FlakyStorage, answers: LostAnswers, worker: WorkerProcess
    ) -> None:
        report = self._report
        report.requests = storage.connections
        report.asked = Counter(line.split(" ", 1)[0] for line in storage.requests)
        report.faults = storage.faults
        report.answers = answers
        report.deliveries = backend.counts()
        lines = worker.lines()
        for line in lines:
            report.logged[f"{line.kind} {line.error}".strip()] += 1
        report.wrong += wrong_lines(lines, self._cases)
        if "Traceback" in (said := worker.said()):
            report.wrong.append(f"the worker wrote to its standard error: {said[-2000:]}")


def _transient(error: PayloadError | grpc.RpcError) -> str:
    """Return the name of an error after which the same call may succeed, or ""."""
    if isinstance(error, PayloadError):
        return "" if error.permanent else type(error).__name__
    return "UNAVAILABLE" if _code(error) is grpc.StatusCode.UNAVAILABLE else ""


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    return cast("grpc.Call", error).code()  # all that a call raises have one


def _start_with_lost_input(case: Case, raw: grpc.Channel) -> None:
    request = pb.CreateInstanceRequest(
        instanceId=case.instance_id,
        name=case.function.__name__,
        input=StringValue(value=lost_token(case)),
    )
    cast("Any", stubs.TaskHubSidecarServiceStub)(raw).StartInstance(request)
