"""What the interceptors cost where nothing is large: an orchestration through them, and one without them, in turn."""

from __future__ import annotations

import contextlib
import gc
import time
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from durabletask import client, task
from durabletask.worker import TaskHubGrpcWorker
from tests.benchmarks.chain import backend, quiet
from tests.benchmarks.rows import Row

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

_Request = TypeVar("_Request")
_Call = TypeVar("_Call")

_ACTIVITIES = 20
_TIMEOUT_SECONDS = 60


def small_chain(context: task.OrchestrationContext, seconds: float) -> Generator[task.Task[Any], Any, Any]:
    total = 0
    for _ in range(_ACTIVITIES):
        total += yield context.call_activity(small, input=seconds)
    return total


def small(context: task.ActivityContext, seconds: float) -> int:
    """Takes `seconds`, as if it asked a service for something; 0 is the hardest case there is for what comes on top."""
    if seconds:
        time.sleep(seconds)
    return 1


class _Nothing(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """What gRPC itself takes for any interceptor."""

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], _Call],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> _Call:
        return continuation(client_call_details, request)

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], _Call],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> _Call:
        return continuation(client_call_details, request)


def overhead_rows(*, rounds: int) -> Iterator[Row]:
    """An orchestration of 20 activities; a row's ratio is the median of the ratios of its rounds."""
    with contextlib.ExitStack() as stack:
        externalizer = stack.enter_context(Externalizer(InMemoryPayloadStore()))
        hubs = [
            stack.enter_context(_hub(interceptors))
            for interceptors in ([], [PayloadInterceptor(externalizer)], [_Nothing()])
        ]
        # Without any work in it, an orchestration on this backend is gRPC's own time, in which nothing else waits: what
        # comes on top is shown, and judged where the activities do as much as one call to a service.
        yield _row(hubs, 0.0, "that do nothing", None, rounds // 2)
        yield _row(hubs, 0.005, "of 5 ms each", 1 / 1.03, rounds // 2)


def _row(
    hubs: Sequence[client.TaskHubGrpcClient], activity: float, activities: str, target: float | None, rounds: int
) -> Row:
    for hub in (*hubs, *hubs):
        _seconds(hub, activity)
    turns: list[list[float]] = []
    gc.collect()
    gc.disable()
    for number in range(rounds):
        order = [(number + i) % len(hubs) for i in range(len(hubs))]  # who goes first has the colder caches
        taken = {i: _seconds(hubs[i], activity) for i in order}
        turns.append([taken[i] for i in range(len(hubs))])
    gc.enable()
    reference = median(turn[0] for turn in turns)
    ours, nothing = (reference * median(turn[i] / turn[0] for turn in turns) for i in (1, 2))
    case = f"nothing large, {_ACTIVITIES} activities {activities}: no interceptors against ours, wall"
    return Row(case, target, reference, ours, floor=nothing, floor_is="interceptors that do nothing")


@contextlib.contextmanager
def _hub(interceptors: Sequence[PayloadInterceptor | _Nothing]) -> Generator[client.TaskHubGrpcClient]:
    with backend() as address:
        arguments: dict[str, Any] = {
            "host_address": address,
            "interceptors": list(interceptors) or None,
            "logger": quiet(),
        }
        with TaskHubGrpcWorker(**arguments) as worker, client.TaskHubGrpcClient(**arguments) as hub:
            worker.add_orchestrator(small_chain)
            worker.add_activity(small)
            worker.start()
            yield hub


def _seconds(hub: client.TaskHubGrpcClient, activity: float) -> float:
    started = time.perf_counter()
    instance = hub.schedule_new_orchestration(small_chain, input=activity)
    state = hub.wait_for_orchestration_completion(instance, timeout=_TIMEOUT_SECONDS)
    assert state is not None
    assert state.runtime_status is client.OrchestrationStatus.COMPLETED
    return time.perf_counter() - started
