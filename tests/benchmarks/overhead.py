"""What the interceptors cost where nothing is large: an orchestration through them, and one without them, in turn."""

from __future__ import annotations

import contextlib
import gc
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from durabletask import client, task
from durabletask.worker import TaskHubGrpcWorker
from tests.benchmarks.chain import backend, quiet
from tests.benchmarks.rows import Row

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Generator

_ACTIVITIES = 20
_TIMEOUT_SECONDS = 60


def small_chain(context: task.OrchestrationContext, count: int) -> Generator[task.Task[Any], Any, Any]:
    total = 0
    for number in range(count):
        total += yield context.call_activity(small, input=number)
    return total


def small(context: task.ActivityContext, number: int) -> int:
    return number


def overhead_row(*, rounds: int) -> Row:
    """An orchestration of 20 activities; the row's ratio is the median of the ratios of its rounds."""
    with contextlib.ExitStack() as stack:
        without = stack.enter_context(_hub([]))
        externalizer = stack.enter_context(Externalizer(InMemoryPayloadStore()))
        through = stack.enter_context(_hub([PayloadInterceptor(externalizer)]))
        for hub in (without, through) * 3:
            _seconds(hub)
        pairs: list[tuple[float, float]] = []
        gc.collect()
        gc.disable()
        for number in range(rounds):
            if number % 2:
                second = _seconds(through)
                pairs.append((_seconds(without), second))
            else:
                pairs.append((_seconds(without), _seconds(through)))
        gc.enable()
    reference = median(pair[0] for pair in pairs)
    ratio = median(pair[0] / pair[1] for pair in pairs)
    return Row(
        f"orchestration of {_ACTIVITIES} activities, nothing large: none against interceptors",
        1 / 1.03,
        reference,
        reference / ratio,
    )


@contextlib.contextmanager
def _hub(interceptors: list[PayloadInterceptor]) -> Generator[client.TaskHubGrpcClient]:
    with backend() as address:
        arguments: dict[str, Any] = {"host_address": address, "interceptors": interceptors or None, "logger": quiet()}
        with TaskHubGrpcWorker(**arguments) as worker, client.TaskHubGrpcClient(**arguments) as hub:
            worker.add_orchestrator(small_chain)
            worker.add_activity(small)
            worker.start()
            yield hub


def _seconds(hub: client.TaskHubGrpcClient) -> float:
    started = time.perf_counter()
    instance = hub.schedule_new_orchestration(small_chain, input=_ACTIVITIES)
    state = hub.wait_for_orchestration_completion(instance, timeout=_TIMEOUT_SECONDS)
    assert state is not None
    assert state.runtime_status is client.OrchestrationStatus.COMPLETED
    return time.perf_counter() - started
