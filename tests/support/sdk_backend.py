"""The SDK's own in-memory backend, as it is. For tests/end_to_end, tests/examples and tests/benchmarks.

Uses only what the SDK has had since 1.4: the SDK matrix runs the end-to-end tests with its oldest release too.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from typing import TYPE_CHECKING, Any

from durabletask.testing import InMemoryOrchestrationBackend
from tests.support.ports import reserved_port

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.worker import TaskHubGrpcWorker


@contextlib.contextmanager
def sdk_backend(of: type[InMemoryOrchestrationBackend] = InMemoryOrchestrationBackend) -> Generator[str]:
    """Start it, or one of a class of its kind, on a free port; yields its address."""
    with reserved_port() as port:
        running = of(port=port)
        running.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            running.stop()


def quiet(of: type) -> dict[str, Any]:
    """Return the argument of a worker or client that keeps the SDK's log out of the output.

    Older releases have no `logger`.
    """
    if "logger" not in inspect.signature(of).parameters:
        return {"log_handler": logging.NullHandler()}
    return {"logger": quiet_logger()}


def quiet_logger() -> logging.Logger:
    """Return a logger that writes nothing."""
    logger = logging.Logger("quiet")
    logger.addHandler(logging.NullHandler())
    return logger


def without_idle_second(worker: TaskHubGrpcWorker) -> None:
    """Let `worker.stop()` return at once where no work is being done.

    The SDK's three consumers of work check once a second whether the worker stops, which adds a second to each test
    that has one. They still wait for work that is being done.
    """
    # Any: it is private, and older releases may not have it.
    manager: Any = getattr(worker, "_async_worker_manager", None)
    if manager is None:
        return
    shutdown = manager.shutdown

    def shutdown_and_wake() -> None:  # the SDK calls it on the loop of the consumers
        shutdown()
        for queue in (manager.activity_queue, manager.orchestration_queue, manager.entity_batch_queue):
            for getter in getattr(queue, "_getters", ()):
                if not getter.done():
                    getter.set_exception(asyncio.TimeoutError())  # as after the second

    manager.shutdown = shutdown_and_wake
