"""What the interceptors cost where nothing is large: an orchestration through them, and through one that does nothing.

As a program it does one `Job` that it gets as JSON, and prints the seconds that the orchestrations took.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import grpc
from durabletask import client, task
from durabletask.worker import TaskHubGrpcWorker
from tests.benchmarks.processes import run
from tests.benchmarks.rows import Row
from tests.support.sdk_backend import quiet_logger, sdk_backend

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

_Request = TypeVar("_Request")
_Call = TypeVar("_Call")

Side = Literal["none", "ours", "do nothing"]  # which interceptors

_ACTIVITIES = 20
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class Job:
    """What a process has to do.

    Attributes:
        activity_seconds: how long each activity takes.
        rounds: how many orchestrations on each side, after some that are not counted.
    """

    activity_seconds: float
    rounds: int


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
    """Shows what gRPC itself takes for any interceptor."""

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


def overhead_rows(*, processes: int, rounds: int) -> Iterator[Row]:
    """An orchestration of 20 activities: the ratio is the median of those of all rounds.

    The sides take turns in one process, since what else the machine does changes within seconds; in several processes
    one after the other, since the hub of one side may run some percent faster for as long as it lives.
    """
    # Without any work in it, an orchestration on this backend is gRPC's own time, in which nothing else waits: the
    # overhead is shown, and judged where the activities do as much as one call to a service.
    for seconds, activities, target in ((0.0, "that do nothing", None), (0.005, "of 5 ms each", 0.98)):
        turns: list[dict[Side, float]] = []
        for _ in range(processes):
            turns += run(__name__, Job(seconds, rounds))["turns"]
        reference = median(turn["do nothing"] for turn in turns)
        ours = reference * median(turn["ours"] / turn["do nothing"] for turn in turns)
        without = reference * median(turn["none"] / turn["do nothing"] for turn in turns)
        case = (
            f"nothing large, {_ACTIVITIES} activities {activities}: an interceptor that does nothing against ours, wall"
        )
        yield Row(case, target, reference, ours, floor=without, floor_is="no interceptors")


def _main(job: Job) -> None:
    interceptors: dict[Side, list[PayloadInterceptor | _Nothing]] = {
        "none": [],
        "ours": [PayloadInterceptor(Externalizer(InMemoryPayloadStore()))],
        "do nothing": [_Nothing()],
    }
    with contextlib.ExitStack() as stack:
        hubs: dict[Side, client.TaskHubGrpcClient] = {
            side: stack.enter_context(_hub(chosen)) for side, chosen in interceptors.items()
        }
        for hub in (*hubs.values(), *hubs.values()):
            _seconds(hub, job.activity_seconds)
        turns: list[dict[Side, float]] = []
        for number in range(job.rounds):
            gc.collect()
            first = number % len(hubs)  # who goes first has the colder caches
            turn: dict[Side, float] = {}
            for side, hub in [*hubs.items(), *hubs.items()][first : first + len(hubs)]:
                turn[side] = _seconds(hub, job.activity_seconds)
            turns.append(turn)
        print(json.dumps({"turns": turns}), flush=True)
        os._exit(0)  # the SDK's threads may take seconds to end


@contextlib.contextmanager
def _hub(interceptors: Sequence[PayloadInterceptor | _Nothing]) -> Generator[client.TaskHubGrpcClient]:
    with sdk_backend() as address:
        arguments: dict[str, Any] = {
            "host_address": address,
            "interceptors": list(interceptors) or None,
            "logger": quiet_logger(),
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


if __name__ == "__main__":
    _main(Job(**json.loads(sys.argv[1])))
