"""The base of the streams of a sync channel: messages are read ahead and deexternalized in threads."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Thread
from typing import TYPE_CHECKING, Generic, TypeVar

import grpc

from ._calls import EndedLocallyError, WrappedCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from ._calls import CallIterator

# How often a reader that waits for room looks whether its stream was dropped, which cannot wake it.
_POLL_SECONDS = 0.5


class Entry:
    """A message that was read.

    Attributes:
        is_ready: whether it can be handed over.
        is_taken: whether a thread deexternalizes it, or has done so.
        error: why it cannot be handed over.
    """

    __slots__ = ("error", "is_ready", "is_taken", "message")

    def __init__(self, message: Message, is_ready: bool) -> None:
        self.message = message
        self.is_ready = is_ready
        self.is_taken = False
        self.error: BaseException | None = None


_Entry = TypeVar("_Entry", bound=Entry)


class ReadAheadStream(ABC, Generic[_Entry]):
    """A stream that is read ahead by a thread of its own, while others deexternalize its messages.

    The threads start when there is something to deexternalize. Until then the caller's thread reads, since handing a
    message to another thread takes longer than everything else here. They end with the stream; one that is in a
    download ends after it. Iterate it from one thread; `cancel` from any. Its caller has a `HeldStream`.
    """

    def __init__(self, call: CallIterator[Message], concurrency: int, timeout: float | None) -> None:
        self._call = call
        self._concurrency = concurrency
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._changed = Condition()
        self._reader: Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._is_stopping = False  # it was cancelled, or the deadline has passed
        self._has_ended = False  # nothing is read any more
        self._error: BaseException | None = None

    # ---- what a kind of stream adds ---------------------------------------------------------------------------

    @abstractmethod
    def _look_at(self, message: Message) -> _Entry:
        """Return the entry for a message that was read."""

    @abstractmethod
    def _put(self, entry: _Entry) -> None:
        """Keep `entry` until it is handed over, and have it deexternalized. Waits for room."""

    @abstractmethod
    def _next_ready(self) -> Message | None:
        """Return the next message to hand over, if there is one now. Called with the lock held; may raise for it."""

    @abstractmethod
    def _is_empty(self) -> bool:
        """Return whether there will be nothing to hand over once reading has ended. Called with the lock held."""

    @abstractmethod
    def _wind_up(self, error: BaseException | None) -> None:
        """Finish after the last message was read."""

    # ---- reading ----------------------------------------------------------------------------------------------

    def __next__(self) -> Message:
        if self._reader is None and not self._has_ended:
            entry = self._read_one()
            if entry is not None and entry.is_ready:
                return entry.message
            if entry is not None:
                self._put(entry)
                self._start_reader()
        return self._wait_for_next()

    def _start_reader(self) -> None:
        self._reader = Thread(target=self._read, name="durabletask-payloads-reader", daemon=True)
        try:
            self._reader.start()
        except RuntimeError as error:  # this process gets no more threads: nobody would read on
            self._is_stopping = True
            self._cancel_call()
            self._end(error)

    def _read_one(self) -> _Entry | None:
        try:
            return self._look_at(next(self._call))
        except StopIteration:
            self._end(None)
        except Exception as error:
            self._end(error)
        return None

    def _read(self) -> None:
        try:
            while not self._is_stopping:
                entry = self._read_one()
                if entry is None:
                    return
                self._put(entry)
        except BaseException as error:  # whoever waits for a message would wait for ever
            self._is_stopping = True
            self._cancel_call()
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        try:
            self._wind_up(error)
        finally:
            if self._pool is not None:
                self._pool.shutdown(wait=False, cancel_futures=self._is_stopping)
            with self._changed:
                self._error = self._error or error or (_cancelled() if self._is_stopping else None)
                self._has_ended = True
                self._changed.notify_all()

    def _wait_for_next(self) -> Message:
        with self._changed:
            while True:
                message = None if self._is_stopping else self._next_ready()
                if message is not None:
                    self._changed.notify_all()
                    return message
                if self._has_ended and (self._is_stopping or self._is_empty()):
                    raise self._error or StopIteration
                remaining = None if self._deadline is None else self._deadline - time.monotonic()
                if remaining is not None and remaining <= 0 and not self._is_stopping:
                    self._error = EndedLocallyError(
                        grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed while payloads were downloaded"
                    )
                    self.cancel()
                    continue
                self._changed.wait(None if self._is_stopping else remaining)

    def _wait_for_room(self, has_room: Callable[[], bool]) -> None:
        """Wait until there is room, or the stream is stopping. Called with the lock held."""
        while not (self._is_stopping or has_room()):
            self._changed.wait(_POLL_SECONDS)

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="durabletask-payloads-deexternalize")
        return self._pool

    def cancel(self) -> bool:
        """End the call as cancelled by the application. Safe from any thread; return what the call returns."""
        with self._changed:
            if self._has_ended and not self._is_stopping:
                self._error = self._error or _cancelled()
            self._is_stopping = True
            self._changed.notify_all()
        return self._cancel_call()

    def _cancel_call(self) -> bool:
        """Cancel the call, and return what it returns. An interceptor below may have put an iterator in its place."""
        cancel = getattr(self._call, "cancel", None)
        return cancel is not None and bool(cancel())

    def drop(self) -> None:
        """End it, since nobody can read it any more. Takes no lock of ours: a garbage collection may call it."""
        if not self._has_ended:
            self._is_stopping = True
            self._cancel_call()


class HeldStream(WrappedCall, Generic[_Entry]):
    """A stream as its caller holds it. When nobody does any more, the call is cancelled, as gRPC cancels its own.

    The stream itself is held by its threads: it would go on, and wait for ever for somebody to take what it has read.
    """

    def __init__(self, call: object, stream: ReadAheadStream[_Entry]) -> None:
        super().__init__(call)
        self._stream = stream
        self._process = os.getpid()

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        return next(self._stream)

    def cancel(self) -> bool:
        return self._stream.cancel()

    def __del__(self) -> None:
        if self._process == os.getpid():  # after a fork it is the parent's
            self._stream.drop()


grpc.Call.register(HeldStream)  # for isinstance


def _cancelled() -> EndedLocallyError:
    return EndedLocallyError(grpc.StatusCode.CANCELLED, "cancelled by the application")
