"""An application, with worker and client of the SDK on the backend that redelivers. For tests/interceptors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from durabletask import entities, task
from durabletask.client import OrchestrationState, OrchestrationStatus
from tests.support.backend import RedeliveringBackend, client_on, worker_on
from tests.support.waiting import wait_until

from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    from durabletask.worker import TaskHubGrpcWorker

    from durabletask_payloads import Externalizer

    Flow: TypeAlias = Generator[task.Task[Any], Any, Any]

LEDGER = entities.EntityInstanceId("ledger", "1")
LEDGER_ID = str(LEDGER)


# ---- the application: the first parameters `orchestration` and `entity` tell the kind ------------------------------


def produce(context: task.ActivityContext, size: int) -> str:
    return "r" * size


def digest(context: task.ActivityContext, text: str) -> int:
    return len(text)


def raise_error(context: task.ActivityContext, size: int) -> str:
    raise ValueError("e" * size)


def ledger(entity: entities.EntityContext, value: Any) -> Any:
    """put: a state; get: its length; grow: a result; swell: a state, a result and a signal."""
    if entity.operation == "put":
        entity.set_state(value)
    if entity.operation == "grow":
        return "g" * value
    if entity.operation == "swell":
        entity.set_state("s" * value)
        entity.signal_entity(entities.EntityInstanceId("ledger", "other"), "put", "signalled")
    return len(entity.get_state(str, ""))


def calls_produce(orchestration: task.OrchestrationContext, size: int) -> Flow:
    result: str = yield orchestration.call_activity(produce, input=size)
    return len(result)


def calls_digest(orchestration: task.OrchestrationContext, text: str) -> Flow:
    length: int = yield orchestration.call_activity(digest, input=text)
    return length


def catches(orchestration: task.OrchestrationContext, size: int) -> Flow:
    try:
        yield orchestration.call_activity(produce, input=size)
    except task.TaskFailedError as error:
        return str(error)
    return "no error"


def calls_raise_error(orchestration: task.OrchestrationContext, size: int) -> Flow:
    yield orchestration.call_activity(raise_error, input=size)


def raises(orchestration: task.OrchestrationContext, size: int) -> None:
    raise ValueError("e" * size)


def returns(orchestration: task.OrchestrationContext, size: int) -> str:
    return "r" * size


def calls_returns(orchestration: task.OrchestrationContext, size: int) -> Flow:
    yield orchestration.call_sub_orchestrator(returns, input=size, instance_id=f"{orchestration.instance_id}-child")


def returns_with_lock(orchestration: task.OrchestrationContext, size: int) -> Flow:
    with (yield orchestration.lock_entities([LEDGER])):
        yield orchestration.call_entity(LEDGER, "put", "locked")
        return "r" * size


def asks_with_lock(orchestration: task.OrchestrationContext, size: int) -> Flow:
    with (yield orchestration.lock_entities([LEDGER])):
        yield orchestration.call_activity(digest, input="a" * size)


def waits_with_lock(orchestration: task.OrchestrationContext, _: Any) -> Flow:
    with (yield orchestration.lock_entities([LEDGER])):
        text: str = yield orchestration.wait_for_external_event("go")
        return len(text)


def waits(orchestration: task.OrchestrationContext, _: Any) -> Flow:
    text: str = yield orchestration.wait_for_external_event("go")
    return len(text)


def operates(orchestration: task.OrchestrationContext, calls: list[Any]) -> Flow:
    """Call the ledger, all at once; returns a result or an error each."""
    results: list[Any] = []
    for call in [orchestration.call_entity(LEDGER, name, value) for name, value in calls]:
        try:
            result: Any = yield call
            results.append(result)
        except Exception as error:
            results.append(str(error))
    return results


def fans_out(orchestration: task.OrchestrationContext, calls: list[int]) -> Flow:
    """As many activities as calls[0], each with an input of calls[1] bytes of JSON."""
    count, size = calls
    lengths: list[int] = yield task.when_all(
        [orchestration.call_activity(digest, input="f" * (size - 2)) for _ in range(count)]
    )
    return sum(lengths)


FUNCTIONS: list[Callable[..., Any]] = [
    produce,
    digest,
    raise_error,
    ledger,
    calls_produce,
    calls_digest,
    catches,
    calls_raise_error,
    raises,
    returns,
    calls_returns,
    returns_with_lock,
    asks_with_lock,
    waits_with_lock,
    waits,
    operates,
    fans_out,
]


# ---- the hub -------------------------------------------------------------------------------------------------------


class Hub:
    """A client on a backend, and a worker that `start` starts.

    Attributes:
        logged: what the SDK's worker has logged at level ERROR.
    """

    def __init__(
        self,
        backend: RedeliveringBackend,
        address: str,
        externalizer: Externalizer,
        stack: contextlib.ExitStack,
        *,
        max_deliveries: int = 10,
    ) -> None:
        self.backend = backend
        self.address = address
        self.logged: list[str] = []
        self.interceptor = PayloadInterceptor(externalizer, max_deliveries=max_deliveries)
        self.client = client_on(address, [self.interceptor])
        stack.callback(self.client.close)
        self._stack = stack

    def start(self, **arguments: Any) -> TaskHubGrpcWorker:
        """Start a worker; it is stopped at the end of the test."""
        worker = worker_on(self.address, FUNCTIONS, [self.interceptor], logger=self._logger(), **arguments)
        self._stack.callback(worker.stop)
        worker.start()
        return worker

    def run(self, function: Callable[..., Any], value: Any = None, *, instance_id: str | None = None) -> Outcome:
        """Run an orchestration to its end."""
        return self.end_of(self.client.schedule_new_orchestration(function, input=value, instance_id=instance_id))

    def end_of(self, instance_id: str, *, seconds: int = 40) -> Outcome:
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=seconds)
        assert state is not None
        return Outcome(state)

    def end_of_raw(self, instance_id: str, *, seconds: int = 40) -> Outcome:
        """`end_of` without the input and output, which cannot be deexternalized."""
        state = self.client.wait_for_orchestration_completion(instance_id, fetch_payloads=False, timeout=seconds)
        assert state is not None
        return Outcome(state)

    def put_state(self, text: str) -> None:
        """Give the ledger a state, and wait until it has it."""
        self.client.signal_entity(LEDGER, "put", text)
        wait_until(lambda: self.backend.state_of(LEDGER_ID) is not None and self.backend.is_idle, what="the signal")

    def _logger(self) -> logging.Logger:
        logger = logging.Logger("worker")
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self.logged.append(  # type: ignore[method-assign] # one line of a class
            f"{record.getMessage()} {record.exc_info[1] if record.exc_info else ''}"
        )
        logger.addHandler(handler)
        return logger


class Outcome:
    """How an orchestration ended."""

    def __init__(self, state: OrchestrationState) -> None:
        self.failed = state.runtime_status is OrchestrationStatus.FAILED
        self.completed = state.runtime_status is OrchestrationStatus.COMPLETED
        self.output: Any = state.get_output() if self.completed else None
        self.message = state.failure_details.message if state.failure_details else ""
        self.error_type = state.failure_details.error_type if state.failure_details else ""
