"""The SDK's worker and clients on its in-memory backend over real gRPC, with our interceptors.

Uses only what the SDK has had since 1.4, since the SDK matrix runs this with its oldest release too.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import socket
from typing import TYPE_CHECKING, Any

from durabletask.client import TaskHubGrpcClient
from durabletask.testing import InMemoryOrchestrationBackend
from durabletask.worker import TaskHubGrpcWorker

from durabletask_payloads import Externalizer
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask_payloads import PayloadStoreLike


class Hub:
    """One worker and two clients of one backend.

    Attributes:
        worker: with our interceptor; the test adds its functions and starts it.
        client: with our interceptor.
        raw: a client without it: sees what the backend has, tokens.
        externalizer: what worker and client share.
    """

    def __init__(
        self, address: str, worker: TaskHubGrpcWorker, client: TaskHubGrpcClient, externalizer: Externalizer
    ) -> None:
        self.address = address
        self.worker = worker
        self.client = client
        self.raw = TaskHubGrpcClient(host_address=address, **quiet(TaskHubGrpcClient))
        self.externalizer = externalizer
        self.count_from_here()

    def count_from_here(self) -> None:
        """Let `uploads` and `downloads` begin with 0."""
        self._before = self.externalizer.stats

    @property
    def uploads(self) -> int:
        return self.externalizer.stats.uploads - self._before.uploads

    @property
    def downloads(self) -> int:
        return self.externalizer.stats.downloads - self._before.downloads


@contextlib.contextmanager
def hub_on(store: PayloadStoreLike) -> Generator[Hub]:
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(backend())
        externalizer = stack.enter_context(Externalizer(store))
        interceptors = [PayloadInterceptor(externalizer)]
        client = TaskHubGrpcClient(host_address=address, interceptors=interceptors, **quiet(TaskHubGrpcClient))
        stack.callback(client.close)
        worker = TaskHubGrpcWorker(host_address=address, interceptors=interceptors, **quiet(TaskHubGrpcWorker))
        hub = Hub(address, worker, client, externalizer)
        stack.callback(hub.raw.close)
        with worker:
            yield hub


@contextlib.contextmanager
def backend() -> Generator[str]:
    """The SDK's in-memory backend on a free port; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    running = InMemoryOrchestrationBackend(port=port)
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop()


def quiet(of: type) -> dict[str, Any]:
    """The argument that keeps the SDK's log out of the test's output."""
    if "logger" not in inspect.signature(of).parameters:
        return {"log_handler": logging.NullHandler()}
    logger = logging.Logger("quiet")
    logger.addHandler(logging.NullHandler())
    return {"logger": logger}
