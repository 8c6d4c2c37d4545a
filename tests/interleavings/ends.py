"""`python -m tests.interleavings.ends --seeds 500`: processes that fork or end at any moment of their transfers.

The seed decides what is moved, when and how the process ends, and whether it forks before; not how threads interleave.
Each runs in a child of this process, which has no threads, and must end with code 0, say nothing, and leave no payload
in the store that is not whole. On POSIX systems only.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

import durabletask.internal.orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import (
    DirectoryPayloadStore,
    Externalizer,
    LargePayloadStorageOptions,
    PayloadStoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_SECONDS: Final = 30.0
_IN_MEMORY: Final = "/dev/shm"  # each upload waits for the disk
_OPTIONS: Final = LargePayloadStorageOptions(threshold_bytes=1_000)


def _tasks(name: str) -> pb.OrchestratorResponse:
    inputs = [StringValue(value=f"{name} {number} " + "x" * 2_000) for number in range(4)]
    actions = [pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=each)) for each in inputs]
    return pb.OrchestratorResponse(instanceId="i", actions=actions)


class _Application:
    """Threads and an event loop that move payloads, there and back, as long as the main thread lives."""

    def __init__(self, root: Path, random: random.Random) -> None:
        self.random = random
        self.store = DirectoryPayloadStore(root, _OPTIONS)
        self.externalizer = Externalizer(self.store, concurrency=3, cache_bytes=random.choice((0, 20_000)))
        self.is_ending = False
        self.is_stopping = False
        self._begun = threading.Semaphore(0)
        self._is_daemon = random.random() < 0.5

    def start(self) -> None:
        """Start them, and return when each has moved something."""
        works: list[Callable[[], None]] = [self._move, self._move, lambda: asyncio.run(self._move_async())]
        for number, work in enumerate(works):
            threading.Thread(target=self._told, args=(work,), name=f"mover {number}", daemon=self._is_daemon).start()
        for _ in works:
            if not self._begun.acquire(timeout=_PATIENCE_SECONDS):
                raise TimeoutError("a thread moves nothing")

    def _told(self, work: Callable[[], None]) -> None:
        try:
            work()
        except PayloadStoreUnavailableError:
            if not self.is_ending:
                raise

    @property
    def _goes_on(self) -> bool:
        return not self.is_stopping and threading.main_thread().is_alive()

    def _move(self) -> None:
        number = 0
        while self._goes_on:
            self.once(f"{threading.current_thread().name} {number}")
            number += 1
            self._begun.release()

    def once(self, name: str) -> None:
        """Move the payloads of a message there and back."""
        message, expected = _tasks(name), _tasks(name)
        self.externalizer.externalize(message)
        if message == expected or any(len(action.scheduleTask.input.value) > 100 for action in message.actions):
            raise ValueError("a payload stayed in its message")
        self.externalizer.deexternalize(message)
        if message != expected:
            raise ValueError("a payload came back as another one")

    async def _move_async(self) -> None:
        number = 0
        while self._goes_on:
            await asyncio.gather(*(self.once_async(f"task {number} {place}") for place in range(2)))
            number += 1
            self._begun.release()

    async def once_async(self, name: str) -> None:
        message, expected = _tasks(name), _tasks(name)
        await self.externalizer.externalize_async(message)
        await self.externalizer.deexternalize_async(message)
        if message != expected:
            raise ValueError("a payload came back as another one")


def _fork(application: _Application) -> None:
    """Fork in the middle. The child moves payloads by itself and ends in one of two ways; the parent goes on."""
    ends_at_once = application.random.random() < 0.5
    child = os.fork()
    if child == 0:
        application.once("child")
        asyncio.run(application.once_async("child, async"))
        threads = [threading.Thread(target=application.once, args=(f"child {number}",)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if ends_at_once:
            os._exit(0)
        sys.exit(0)
    if (code := _code_of(child, _PATIENCE_SECONDS)) != 0:
        raise RuntimeError(f"the forked child ended with {code}")
    application.once("parent, after the fork")


def _run(seed: int, root: Path) -> None:
    """Move payloads, and return, as the main program does, at some moment, in some way."""
    faulthandler.register(signal.SIGUSR1)  # for who waits in vain; its timer would hold up a forked child
    # Python 3.12 and later warn of any fork beside threads, which is what is tried here.
    warnings.simplefilter("ignore", DeprecationWarning)
    chance = random.Random(f"end {seed}")
    application = _Application(root, chance)
    application.start()
    for _ in range(chance.choice((0, 1, 1))):
        time.sleep(chance.uniform(0.0, 0.03))
        _fork(application)
    time.sleep(chance.uniform(0.0, 0.05))
    application.is_ending = True
    match chance.choice(("return", "stop", "close", "close without wait", "at exit")):
        case "stop":
            application.is_stopping = True
        case "close":
            application.externalizer.close()
        case "close without wait":
            application.externalizer.close(wait=False)
        case "at exit":
            atexit.register(application.once, "at exit")
        case _:
            pass


# ---- the process that looks on -------------------------------------------------------------------------------------


def _code_of(child: int, seconds: float) -> int | None:
    """Wait for a child process, and return its exit code; None if it had to be killed, after it said where it is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGUSR1)
    time.sleep(1.0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _fault_of(seed: int) -> str | None:
    """Run a seed in a child, and return what is wrong with its end."""
    # No `with`: the child leaves this function, too.
    folder = Path(tempfile.mkdtemp(prefix="ends-", dir=_IN_MEMORY if Path(_IN_MEMORY).is_dir() else None))
    root, said = folder / "payloads", folder / "said"
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with said.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        _run(seed, root)
        sys.exit(0)
    code = _code_of(child, 3 * _PATIENCE_SECONDS)
    text = said.read_text()
    damage = _damaged(root)
    shutil.rmtree(folder)
    if code != 0:
        return f"it hung\n{text}" if code is None else f"it ended with code {code}\n{text}"
    return f"it said\n{text}" if text else damage


def _damaged(root: Path) -> str | None:
    """Return what is wrong with the payloads that are left."""
    store = DirectoryPayloadStore(root, _OPTIONS)
    inventory = store.inventory()
    tokens = [stored.token for partition in inventory.partitions for stored in inventory.list_payloads(partition)]
    for token in filter(None, tokens):  # a file that was being written has none
        try:
            store.download(token)
        except Exception:
            return f"a payload that was left is damaged\n{traceback.format_exc()}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.interleavings.ends",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=100, help="how many; 100 by default")
    parser.add_argument("--first", type=int, default=0, help="the first one; 0 by default")
    arguments = parser.parse_args()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        fault = _fault_of(seed)
        if fault is not None:
            print(f"seed {seed} fails: {fault}")
            print(f"repeat it: python -m tests.interleavings.ends --first {seed} --seeds 1")
            return 1
    print(f"{arguments.seeds} processes ended well")
    return 0


if __name__ == "__main__":
    sys.exit(main())
