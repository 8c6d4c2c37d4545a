"""A worker and clients of the SDK on its own in-memory backend, with our interceptors.

Uses only what the SDK has had since 1.4, since the SDK matrix runs this with its oldest release too.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from durabletask.client import TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from tests.support.sdk_backend import quiet, sdk_backend

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
    """Start a backend and connect to it; the caller adds functions to the worker and starts it."""
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(sdk_backend())
        externalizer = stack.enter_context(Externalizer(store))
        interceptors = [PayloadInterceptor(externalizer)]
        client = TaskHubGrpcClient(host_address=address, interceptors=interceptors, **quiet(TaskHubGrpcClient))
        stack.callback(client.close)
        worker = TaskHubGrpcWorker(host_address=address, interceptors=interceptors, **quiet(TaskHubGrpcWorker))
        hub = Hub(address, worker, client, externalizer)
        stack.callback(hub.raw.close)
        with worker:
            yield hub
