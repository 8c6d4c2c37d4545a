"""An event loop in a thread of a run: the seed decides which of its callbacks comes next, and time is virtual."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeVar

from tests.interleavings.scheduler import new_number

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import TypeAlias

    from tests.interleavings.scheduler import Scheduler

    # asyncio.Handle, which no public name of a loop tells.
    Handles: TypeAlias = deque[asyncio.Handle]

    PyFuture: TypeAlias = asyncio.Future[Any]
    PyTask: TypeAlias = asyncio.Task[Any]
else:  # those that are written in C hash by their addresses, and cannot be taught another way
    from asyncio.futures import _PyFuture as PyFuture
    from asyncio.tasks import _PyTask as PyTask

_T = TypeVar("_T")


class _Ready(deque[asyncio.Handle]):
    """Callbacks that are due. They come in order, as asyncio documents, but for tasks that are due one after the other.

    Any of those is the next one: tasks do not know in which order others are woken.
    """

    scheduler: Scheduler

    def popleft(self) -> asyncio.Handle:
        self.scheduler.switch()
        tasks = list(takewhile(_is_of_task, self))
        place = self.scheduler.random.randrange(max(len(tasks), 1))
        handle = self[place]
        del self[place]
        return handle


def _is_of_task(handle: asyncio.Handle) -> bool:
    callback: object = getattr(handle, "_callback", None)  # nothing public tells
    return isinstance(getattr(callback, "__self__", None), _Task)


class _Selector:
    """Waits for callbacks of other threads, in place of sockets."""

    def __init__(self, scheduler: Scheduler, ready: _Ready) -> None:
        self._scheduler = scheduler
        self._ready = ready

    def select(self, timeout: float | None = None) -> list[object]:
        if timeout is None or timeout > 0:
            self._scheduler.switch(lambda: bool(self._ready), timeout)
        return []

    def close(self) -> None:
        """Close nothing."""


class _Future(PyFuture):
    """A future that hashes to a number, as tasks do: a seed then repeats the order of sets of them."""

    def __init__(self, **kwargs: Any) -> None:
        self._number = new_number()
        super().__init__(**kwargs)

    def __hash__(self) -> int:
        return self._number


class _Task(PyTask):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = new_number()
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class SeededLoop(asyncio.BaseEventLoop):
    """Runs in the thread that makes it."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._ready = _Ready()
        self._ready.scheduler = scheduler
        self._selector = _Selector(scheduler, self._ready)

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(loop=self)

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        return _Task(coro, loop=self, **kwargs)

    def time(self) -> float:
        return self._scheduler.now

    def _process_events(self, event_list: list[object]) -> None:
        """Process none: there are no sockets."""

    def _write_to_self(self) -> None:
        """Wake nobody: the selector looks at what is due."""


def run(scheduler: Scheduler, main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Do what `asyncio.run` does, in the calling thread of a run."""
    loop = SeededLoop(scheduler)
    asyncio.set_event_loop(loop)
    try:
        try:
            return loop.run_until_complete(main())
        finally:
            others = sorted(asyncio.all_tasks(loop), key=hash)
            for task in others:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*others, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
