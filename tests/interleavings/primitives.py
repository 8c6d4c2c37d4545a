"""The names of `threading`, `queue` and `time` that a run replaces. Each operation is a switch point of the scheduler.

Outside of a run, as in a finalizer, nothing waits: what would have to is an error.
"""

from __future__ import annotations

import concurrent.futures
import queue
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from tests.interleavings.scheduler import RealThread, new_number, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from tests.interleavings.scheduler import Actor

_T = TypeVar("_T")


def _until(is_ready: Callable[[], bool], timeout: float | None = None, *, interruptible: bool = False) -> bool:
    """Wait for `is_ready`; return whether it is."""
    scheduler = running()
    if scheduler is not None:
        return scheduler.switch(is_ready, timeout, interruptible=interruptible)
    if not is_ready() and timeout is None:
        raise RuntimeError("outside of a run nobody can be waited for")
    return is_ready()


def pause() -> None:
    """Pass a switch point."""
    scheduler = running()
    if scheduler is not None:
        scheduler.switch()


class _Guard:
    """What `with` needs of a lock or semaphore."""

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        raise NotImplementedError

    def release(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


class Lock(_Guard):
    """threading.Lock."""

    def __init__(self) -> None:
        self._is_held = False

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        seconds = 0.0 if not blocking else None if timeout is None or timeout < 0 else timeout
        if not _until(lambda: not self._is_held, seconds):
            return False
        self._is_held = True
        return True

    def release(self) -> None:
        if not self._is_held:
            raise RuntimeError("release unlocked lock")
        self._is_held = False
        pause()

    def locked(self) -> bool:
        return self._is_held


class RLock(_Guard):
    """threading.RLock."""

    def __init__(self) -> None:
        self._owner: int | None = None
        self._count = 0

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        me = threading.get_ident()
        seconds = 0.0 if not blocking else None if timeout is None or timeout < 0 else timeout
        if self._owner != me and not _until(lambda: self._owner is None, seconds):
            return False
        self._owner = me
        self._count += 1
        return True

    def release(self) -> None:
        if self._owner != threading.get_ident():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if self._count == 0:
            self._owner = None
            pause()

    def let_go(self) -> int:
        """Release it however often it is held; return how often."""
        if self._owner != threading.get_ident():
            raise RuntimeError("cannot wait on un-acquired lock")
        count, self._count, self._owner = self._count, 0, None
        return count

    def take_back(self, count: int) -> None:
        """Acquire it so many times."""
        self.acquire()
        self._count = count


class Condition(RLock):
    """threading.Condition, with a lock of its own. Notifying wakes waiters in any order, as POSIX has it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters: list[object] = []

    def wait(self, timeout: float | None = None) -> bool:
        me = object()
        self._waiters.append(me)
        count = self.let_go()
        try:
            return _until(lambda: me not in self._waiters, timeout, interruptible=True)
        finally:
            if me in self._waiters:
                self._waiters.remove(me)
            self.take_back(count)

    def wait_for(self, predicate: Callable[[], _T], timeout: float | None = None) -> _T:
        end = None if timeout is None else Time.monotonic() + timeout
        while not (result := predicate()):
            left = None if end is None else end - Time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        scheduler = running()
        for _ in range(min(n, len(self._waiters))):
            self._waiters.pop(scheduler.random.randrange(len(self._waiters)) if scheduler is not None else 0)

    def notify_all(self) -> None:
        self._waiters.clear()


class Semaphore(_Guard):
    """threading.Semaphore."""

    def __init__(self, value: int = 1) -> None:
        self._value = value

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        if not _until(lambda: self._value > 0, timeout if blocking else 0.0):
            return False
        self._value -= 1
        return True

    def release(self, n: int = 1) -> None:
        self._value += n
        pause()

    @property
    def free(self) -> int:
        """How many may still enter."""
        return self._value


class BoundedSemaphore(Semaphore):
    """threading.BoundedSemaphore."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._bound = value

    def release(self, n: int = 1) -> None:
        if self._value + n > self._bound:
            raise ValueError("Semaphore released too many times")
        super().release(n)


class Event:
    """threading.Event."""

    def __init__(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        pause()
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        pause()

    def clear(self) -> None:
        self._is_set = False
        pause()

    def wait(self, timeout: float | None = None) -> bool:
        return _until(lambda: self._is_set, timeout, interruptible=True)


class SimpleQueue(Generic[_T]):
    """queue.SimpleQueue."""

    def __init__(self) -> None:
        self._items: deque[_T] = deque()

    def put(self, item: _T, block: bool = True, timeout: float | None = None) -> None:
        self._items.append(item)
        pause()

    def get(self, block: bool = True, timeout: float | None = None) -> _T:
        if not _until(lambda: bool(self._items), timeout if block else 0.0):
            raise queue.Empty
        return self._items.popleft()

    def get_nowait(self) -> _T:
        return self.get(block=False)

    def empty(self) -> bool:
        return not self._items

    def qsize(self) -> int:
        return len(self._items)


class Future(concurrent.futures.Future[_T]):
    """concurrent.futures.Future. As threads it hashes to a number, so that a seed repeats the order of sets."""

    def __init__(self) -> None:
        super().__init__()
        self._number = new_number()

    def __hash__(self) -> int:
        return self._number


class Thread(RealThread):
    """threading.Thread."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[object] = (),
        kwargs: Mapping[str, object] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self._number = new_number()
        self.name = name or f"Thread-{self._number}"
        self.daemon = bool(daemon)
        self.is_over = False
        self.actor: Actor | None = None
        self._work = None if target is None else lambda: target(*args, **(kwargs or {}))

    def __hash__(self) -> int:
        return self._number

    def run(self) -> None:
        _threads[threading.get_ident()] = self
        try:
            if self._work is not None:
                self._work()
        finally:
            self._work = None
            del _threads[threading.get_ident()]

    def start(self) -> None:
        scheduler = running()
        if scheduler is None:
            raise RuntimeError("outside of a run no thread can be started")
        if self.actor is not None:
            raise RuntimeError("threads can only be started once")
        self.actor = scheduler.begin(self)
        scheduler.switch()

    def join(self, timeout: float | None = None) -> None:
        _until(lambda: self.is_over, timeout, interruptible=True)

    def is_alive(self) -> bool:
        return self.actor is not None and not self.is_over


_threads: dict[int, Thread] = {}


def current_thread() -> Thread | threading.Thread:
    """threading.current_thread, in a run. Between runs a store of another test may be collected, which asks too."""
    return _threads.get(threading.get_ident()) or threading.current_thread()


def main_thread() -> Thread:
    """threading.main_thread: the first thread of the run."""
    return next(thread for thread in _threads.values() if thread.name == "main")


class Threading:
    """The module `threading`."""

    Lock = Lock
    RLock = RLock
    Condition = Condition
    Semaphore = Semaphore
    BoundedSemaphore = BoundedSemaphore
    Event = Event
    Thread = Thread
    current_thread = staticmethod(current_thread)
    main_thread = staticmethod(main_thread)
    get_ident = staticmethod(threading.get_ident)
    local = threading.local


class Queue:
    """The module `queue`."""

    SimpleQueue = SimpleQueue
    Empty = queue.Empty


class Time:
    """The module `time`, on the virtual clock."""

    get_clock_info = staticmethod(time.get_clock_info)
    time = staticmethod(time.time)

    @staticmethod
    def monotonic() -> float:
        scheduler = running()
        return time.monotonic() if scheduler is None else scheduler.now

    perf_counter = monotonic

    @staticmethod
    def sleep(seconds: float) -> None:
        scheduler = running()
        if scheduler is not None:
            scheduler.sleep(seconds)


class Random:
    """What the package uses of the module `random`, by the seed."""

    @staticmethod
    def uniform(a: float, b: float) -> float:
        scheduler = running()
        return random.uniform(a, b) if scheduler is None else scheduler.random.uniform(a, b)


# What stands for what, by identity.
REPLACEMENTS: Final[tuple[tuple[object, object], ...]] = (
    (threading, Threading),
    (queue, Queue),
    (time, Time),
    (random, Random),
    (threading.Lock, Lock),
    (threading.RLock, RLock),
    (threading.Condition, Condition),
    (threading.Semaphore, Semaphore),
    (threading.BoundedSemaphore, BoundedSemaphore),
    (threading.Event, Event),
    (threading.Thread, Thread),
    (threading.current_thread, current_thread),
    (threading.main_thread, main_thread),
    (queue.SimpleQueue, SimpleQueue),
    (concurrent.futures.Future, Future),
)
