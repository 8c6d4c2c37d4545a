"""A worker whose main program ends without `stop`. For test_lifecycle.

Run it with the address of a backend, a folder for payloads, and what it is: the SDK's worker "with" the interceptor or
"without" it, or a "stream" that is read by hand. A worker prints "running" in its first turn, and "shutting down" when
that goes on, since the main program has ended.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
from durabletask import task
from tests.support.backend import worker_on
from tests.support.hub import digest

from durabletask_payloads import DirectoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from tests.support.hub import Flow

_is_running = threading.Event()


def two_digests(orchestration: task.OrchestrationContext, size: int) -> Flow:
    lengths: list[int] = yield task.when_all(
        [orchestration.call_activity(digest, input=letter * size) for letter in "ab"]
    )
    return sum(lengths)


@functools.wraps(two_digests)
def _two_digests_at_exit(orchestration: task.OrchestrationContext, size: int) -> Flow:
    if not _is_running.is_set():
        print("running", flush=True)
        _is_running.set()
        while not _is_shutting_down():
            time.sleep(0.01)
        print("shutting down", flush=True)
    return two_digests(orchestration, size)


def _is_shutting_down() -> bool:
    try:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(int)
    except RuntimeError:
        return True
    return False


def _read(address: str, interceptor: PayloadInterceptor) -> None:
    channel = grpc.intercept_channel(grpc.insecure_channel(address), interceptor)
    stream = stubs.TaskHubSidecarServiceStub(channel).GetWorkItems(pb.GetWorkItemsRequest())
    threading.Thread(target=lambda: list(stream), daemon=True).start()
    time.sleep(2)  # so that some work items are waiting to be abandoned


def main(address: str, root: str, what: str) -> None:
    interceptor = PayloadInterceptor(DirectoryPayloadStore(root, LargePayloadStorageOptions(threshold_bytes=1_000)))
    if what == "stream":
        _read(address, interceptor)
        return
    worker_on(address, [_two_digests_at_exit, digest], [interceptor] if what == "with" else []).start()
    _is_running.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
