"""An event loop in a thread of its own, for a client that must stay on one loop while callers come from anywhere."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ._blob_client import RequestFailedError, lacks_threads, no_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

_T = TypeVar("_T")

# How long `stop` waits for the thread, in seconds: a DNS query that hangs cannot be interrupted.
_JOIN_SECONDS = 5.0


class BackgroundLoop:
    """Runs coroutines in a daemon thread until `stop`.

    Args:
        name: the thread's name.
        on_stop: is awaited in the thread when everything else in it has ended.

    Raises:
        RequestFailedError: the process gets no more threads or files.
        ClientClosedError: it ends.
    """

    def __init__(self, name: str, on_stop: Callable[[], Awaitable[None]]) -> None:
        self._pid = os.getpid()
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._lock = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, args=(started, on_stop), name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise no_thread(error) from error
        try:
            self._loop, self._stopping = started.result()
        except OSError as error:
            raise RequestFailedError(
                trouble=f"cannot be asked: this process gets no event loop ({error.strerror})",
                advice="raise its limit of open files, or find what holds them",
            ) from error

    @property
    def is_of_this_process(self) -> bool:
        """False in a child that was forked: threads stay behind."""
        return self._pid == os.getpid()

    def submit(self, coroutine: Coroutine[None, None, _T]) -> Future[_T]:
        """Start `coroutine` in the thread. Cancelling the future cancels it.

        Raises:
            RuntimeError: the loop was stopped.
        """
        try:
            with self._lock:
                if self._ended:
                    raise RuntimeError("the loop was stopped")
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise

    def stop(self) -> None:
        """Cancel what is running, release all, end the thread. A second call does nothing."""
        with suppress(RuntimeError):  # stopped already
            self._loop.call_soon_threadsafe(self._stopping.set)
        if threading.current_thread() is not self._thread:  # the garbage collector may call from there
            self._thread.join(_JOIN_SECONDS)

    def _run(
        self, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]], on_stop: Callable[[], Awaitable[None]]
    ) -> None:
        serving = self._serve(started, on_stop)
        try:
            asyncio.run(serving)
        except OSError as error:
            serving.close()
            if started.done():
                raise
            started.set_exception(error)  # or the caller would wait for ever
        except RuntimeError as error:
            # Of the thread in which asyncio ends its executor, the last thing it does: Python 3.12 refuses it at exit.
            if not ("shutdown" in str(error) or lacks_threads(error)):
                raise

    async def _serve(
        self, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]], on_stop: Callable[[], Awaitable[None]]
    ) -> None:
        stopping = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stopping))
        await stopping.wait()
        with self._lock:  # what is submitted from now on might never begin, and its future would never be done
            self._ended = True
        await asyncio.sleep(0)  # until then it has begun
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await on_stop()
