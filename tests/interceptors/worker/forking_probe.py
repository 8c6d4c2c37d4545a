"""A process that forks children while it moves payloads, and reports those that hang or fail. For test_lifecycle.

Run it with the connection string of an Azurite, a container name and an empty folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback
import warnings
from typing import TYPE_CHECKING, Any, Protocol, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import DirectoryPayloadStore, Externalizer, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from google.protobuf.message import Message

SECONDS = 10
FORKS = 8
SPAWNED = 2


class Lock(Protocol):
    def acquire(self, blocking: bool = ...) -> bool: ...
    def release(self) -> None: ...


class Details(grpc.ClientCallDetails):
    def __init__(self, rpc: str) -> None:
        self.method = f"/TaskHubSidecarService/{rpc}"
        self.timeout = None
        self.metadata = None
        self.credentials = None


class Answer:
    """A call that was answered with OK."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK


class Application:
    """What a process shares with its children: two stores, and an Externalizer and an interceptor for each."""

    def __init__(self, connection_string: str, container: str, root: str) -> None:
        blob = BlobPayloadStoreOptions(
            connection_string=connection_string, container_name=container, threshold_bytes=1_000
        )
        folder = LargePayloadStorageOptions(threshold_bytes=1_000)
        stores = (BlobPayloadStore(blob), DirectoryPayloadStore(root, folder))
        self.externalizers = [Externalizer(store, cache_bytes=20_000) for store in stores]
        self.interceptors = [PayloadInterceptor(externalizer) for externalizer in self.externalizers]
        self.stopping = threading.Event()

    def use(self, name: str) -> None:
        """Move several payloads each way, in each form."""
        for externalizer, interceptor in zip(self.externalizers, self.interceptors, strict=True):
            message, expected = _tasks(name), _tasks(name)
            externalizer.externalize(message)
            assert message != expected
            with Externalizer(externalizer.store, cache_bytes=0) as reader:
                reader.deexternalize(message)
            assert message == expected
            asyncio.run(self._use_async(externalizer, f"{name}, async"))
            _complete(interceptor, _tasks(f"{name}, completed"))
            _complete(interceptor, pb.OrchestratorResponse(instanceId="i"))
            assert externalizer.stats.uploads

    async def _use_async(self, externalizer: Externalizer, name: str) -> None:
        message, expected = _tasks(name), _tasks(name)
        await externalizer.externalize_async(message)
        await externalizer.deexternalize_async(message)
        assert message == expected

    def keep_using(self) -> None:
        while not self.stopping.is_set():
            self.use(f"{threading.get_ident()} {random.random()}")


def _tasks(name: str) -> pb.OrchestratorResponse:
    inputs = [StringValue(value=f"{name} {number} " + "x" * 2_000) for number in range(3)]
    actions = [pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=each)) for each in inputs]
    return pb.OrchestratorResponse(instanceId="i", actions=actions)


def _complete(interceptor: PayloadInterceptor, completion: pb.OrchestratorResponse) -> None:
    sent: list[int] = []

    def send(details: grpc.ClientCallDetails, request: Message) -> Any:  # a call; of its methods one is needed
        sent.append(request.ByteSize())
        return Answer()

    interceptor.intercept_unary_unary(send, Details("CompleteOrchestratorTask"), completion)
    assert len(sent) == 1
    assert sent[0] < 2_000


def _child(application: Application, name: str) -> int:
    faulthandler.dump_traceback_later(SECONDS - 1)
    try:
        # It starts afresh: a thread of the parent may have been half through a change of the cache.
        assert all(each.stats.cached_payloads == 0 for each in application.externalizers)
        application.use(name)
    except BaseException:
        traceback.print_exc()
        return 1
    return 7


def _fork(application: Application, name: str) -> int:
    child = os.fork()
    if child == 0:
        os._exit(_child(application, name))
    return child


def _wait(child: int, name: str) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            print(f"{name}: " + ("worked" if code == 7 else f"exit code {code}"), flush=True)
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(f"{name}: hung", flush=True)


def _locks() -> Iterator[Lock]:
    """Yield all locks and semaphores that objects of this package hold."""
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("durabletask_payloads") and hasattr(thing, "__dict__"):
            for value in cast("dict[str, object]", vars(thing)).values():  # of an object that may be anything
                if type(value).__name__ in ("lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"):
                    yield cast("Lock", value)


@contextlib.contextmanager
def _all_held() -> Generator[int]:
    """Hold every lock and every slot, as if threads were in the middle of everything."""
    held: list[Lock] = []
    for lock in {id(lock): lock for lock in _locks()}.values():
        while lock.acquire(blocking=False):
            held.append(lock)
    try:
        yield len(held)
    finally:
        for lock in held:
            lock.release()


def _spawned(application: Application, name: str) -> None:
    sys.exit(_child(application, name))


def main(connection_string: str, container: str, root: str) -> None:
    # Python 3.12 and later warn of any fork beside threads, which is what is tried here.
    warnings.simplefilter("ignore", DeprecationWarning)
    application = Application(connection_string, container, root)
    application.use("parent")
    threads = [threading.Thread(target=application.keep_using) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(FORKS):
        time.sleep(random.uniform(0.0, 0.05))
        _wait(_fork(application, f"child {number}"), "forked")
    fork = multiprocessing.get_context("fork")
    for number in range(SPAWNED):
        child = fork.Process(target=_spawned, args=(application, f"process {number}"))
        child.start()
        child.join(SECONDS)
        print("process: " + ("worked" if child.exitcode == 7 else f"exit code {child.exitcode}"), flush=True)
        child.kill()
    application.stopping.set()
    for thread in threads:
        thread.join()
    with _all_held() as held:
        assert held > 20, held
        child_id = _fork(application, "with all locks")
        _wait(child_id, "forked with all locks held")
    application.use("parent, after all")
    print("parent: worked", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
