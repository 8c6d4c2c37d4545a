"""What scenarios are made of: threads, a store whose transfers take time and fail, messages, and what must be true."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import durabletask.internal.orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from tests.interleavings import event_loop
from tests.interleavings.primitives import Semaphore, Thread

from durabletask_payloads import (
    Externalizer,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadStoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable
    from typing import TypeAlias

    from google.protobuf.message import Message
    from tests.interleavings.scheduler import Scheduler

    Scenario: TypeAlias = Callable[["World"], None]

_T = TypeVar("_T")

SCRIPTED: Final = "the transfer fails, as scripted"
CACHE: Final = 1_000_000  # room for all payloads of a run
_OPTIONS: Final = LargePayloadStorageOptions(
    threshold_bytes=20, max_stored_payload_bytes=10_000, enable_compression=False
)


class World:
    """One run of a scenario.

    Attributes:
        scheduler: chooses who goes on.
        random: for what a scenario does.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.random = scheduler.random
        self._threads: list[Thread] = []

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def soon(self) -> None:
        """Wait some of the time that a transfer takes."""
        self.scheduler.sleep(self.random.choice((0.0, 0.1, 0.5, 1.0, 2.0)), interruptible=True)

    def start(self, work: Callable[[], object], name: str) -> Thread:
        thread = Thread(target=work, name=name)
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        """Wait for the threads that the scenario started."""
        for thread in self._threads:
            thread.join()

    def in_loop(self, main: Callable[[], Coroutine[Any, Any, None]], name: str = "loop") -> Thread:
        """Run `main` in an event loop on a thread of its own."""
        return self.start(lambda: event_loop.run(self.scheduler, main), name)

    def cancelled_sometimes(self, coroutine: Coroutine[Any, Any, _T]) -> Coroutine[Any, Any, _T | None]:
        """Await `coroutine` in a task that is cancelled after a while, or not; None if it was."""

        async def call() -> _T | None:
            task = asyncio.ensure_future(coroutine)
            if self.chance(0.4):
                await asyncio.sleep(self.random.choice((0.0, 0.1, 0.5, 1.0)))
                for _ in range(self.random.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            return None if task.cancelled() else task.result()

        return call()

    def require_alone(self) -> None:
        """Fail if a thread but the calling one is left."""
        self.scheduler.let_all_settle()
        others = self.scheduler.names() - {self.scheduler.current.name}
        assert not others, f"threads are left: {others}"


class SteppedStore(InMemoryPayloadStore):
    """Each transfer takes a while of virtual time, and fails by chance.

    Attributes:
        failing: the share of uploads and downloads that fail.
        served: how often each token was downloaded.
        stored: how many uploads succeeded.
        at_once: the most transfers at a time, with deletions.
        of_one_token: the most downloads of one token at a time.
    """

    def __init__(self, world: World, *, failing: float = 0.0) -> None:
        super().__init__(_OPTIONS)
        self._world = world
        self.failing = failing
        self.served: Counter[str] = Counter()
        self.stored = 0
        self.at_once = 0
        self.of_one_token = 0
        self._under_way: Counter[str] = Counter()

    @contextmanager
    def _transfer(self, what: str, *, failing: float) -> Generator[None]:
        self._under_way[what] += 1
        self.at_once = max(self.at_once, self._under_way.total())
        self.of_one_token = max(self.of_one_token, *(n for name, n in self._under_way.items() if name), 0, 0)
        try:
            self._world.soon()
            if self._world.chance(failing):
                raise PayloadStoreUnavailableError(SCRIPTED)
            yield
            self._world.scheduler.switch()
        finally:
            self._under_way[what] -= 1

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        with self._transfer("", failing=self.failing):
            self.stored += 1
            return super().upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        with self._transfer(token, failing=self.failing):
            self.served[token] += 1
            return super().download(token)

    def delete(self, token: str) -> None:
        with self._transfer("", failing=0.0):
            super().delete(token)

    def keep(self, text: str) -> str:
        """Store `text` at once."""
        return super().upload(text.encode())

    def text_of(self, token: str) -> str:
        """Return what is stored, at once."""
        return super().download(token).decode()


# ---- messages ------------------------------------------------------------------------------------------------------


def payload(name: object) -> str:
    return f"payload {name} " + "x" * 20


def tasks(*inputs: str) -> pb.OrchestratorResponse:
    """Return a message with so many payloads."""
    return pb.OrchestratorResponse(
        instanceId="i",
        actions=[
            pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=StringValue(value=text))) for text in inputs
        ],
    )


def inputs_of(message: pb.OrchestratorResponse) -> list[str]:
    return [action.scheduleTask.input.value for action in message.actions]


class Outcome:
    """What became of a call for `message`.

    Attributes:
        error: what it raised.
        is_done: it returned.
    """

    def __init__(self, message: pb.OrchestratorResponse) -> None:
        self.message = message
        self.before = inputs_of(message)
        self.error: BaseException | None = None
        self.is_done = False

    def of(self, call: Callable[[Message], object]) -> None:
        """Call it."""
        try:
            call(self.message)
            self.is_done = True
        except (PayloadStoreUnavailableError, KeyboardInterrupt) as error:
            self.error = error

    async def of_async(self, world: World, call: Callable[[Message], Coroutine[Any, Any, object]]) -> None:
        """Await it in a task that may be cancelled."""

        async def done() -> bool:
            await call(self.message)
            return True

        try:
            self.is_done = bool(await world.cancelled_sometimes(done()))
        except PayloadStoreUnavailableError as error:
            self.error = error

    def require(self, after: Iterable[str], *, errors: tuple[str, ...]) -> None:
        """Fail unless the message is as `after` if the call returned, else as before, with one of the `errors`."""
        assert inputs_of(self.message) == (list(after) if self.is_done else self.before)
        if isinstance(self.error, PayloadStoreUnavailableError):
            assert any(text in str(self.error) for text in errors), str(self.error)


def require_idle(externalizer: Externalizer, store: SteppedStore, world: World) -> None:
    """Fail if anything of a closed Externalizer is left: a slot, a download, a thread."""
    world.require_alone()
    assert store.at_once <= externalizer.concurrency, f"{store.at_once} transfers at a time"
    slots = externalizer._transfers.slots  # pyright: ignore[reportPrivateUsage]  # nothing public tells, here and below
    assert isinstance(slots, Semaphore)
    assert slots.free == externalizer.concurrency, f"{slots.free} of {externalizer.concurrency} slots are free"
    downloads = externalizer._cache._downloads  # pyright: ignore[reportPrivateUsage]
    assert not downloads, f"downloads are left: {downloads}"
