"""The streams that a sync channel returns: work items, each handed over as soon as it is resolved, and histories."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import Condition, Thread
from typing import TYPE_CHECKING, NamedTuple, cast

import grpc

from ._calls import CallDetails, EndedLocallyError
from ._messages import abandonment
from ._policy import (
    FAREWELL_SECONDS,
    MOST_WAITING,
    OWN_TIMEOUT_SECONDS,
    Deexternalize,
    Send,
    Verdict,
    carry_out,
    log,
    log_if_exhausted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message

    from ._calls import CallIterator, Metadata, StreamContinuation
    from ._policy import Policy, Resolution, Step
    from ._work_items import WorkItem


class _Entry:
    """A message that was read."""

    __slots__ = ("error", "is_ready", "item", "message")

    def __init__(self, message: Message, is_ready: bool, item: WorkItem | None = None) -> None:
        self.message = message
        self.is_ready = is_ready
        self.item = item
        self.error: Exception | None = None


class ResolvingStream(grpc.Call):
    """A stream that is read ahead by a thread of its own and resolved by others.

    The threads start when there is something to resolve: until then the caller's thread reads, since handing a
    message to another thread takes longer than all else here. They end with the stream; one that is in a download
    ends after it. Iterate it from one thread; `cancel` from any.
    """

    def __init__(self, call: CallIterator[Message], policy: Policy, timeout: float | None) -> None:
        self._call = call
        self._policy = policy
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._changed = Condition()
        self._reader: Thread | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._is_stopping = False  # it was cancelled, or the deadline has passed
        self._has_ended = False  # nothing is read any more
        self._error: Exception | None = None

    # ---- what the kinds of streams do differently -----------------------------------------------------------

    def _look_at(self, message: Message) -> _Entry:
        """A message was read: is there something to resolve?"""
        raise NotImplementedError

    def _put(self, entry: _Entry) -> None:
        """Keep `entry` until it is handed over, and have it resolved. Waits for room."""
        raise NotImplementedError

    def _next_ready(self) -> Message | None:
        """The next message to hand over, if there is one now. Called with the lock held; may raise for it."""
        raise NotImplementedError

    def _is_empty(self) -> bool:
        """Whether nothing will be ready any more once nothing is read any more. Called with the lock held."""
        raise NotImplementedError

    def _wind_up(self, error: Exception | None) -> None:
        """Nothing is read any more."""
        raise NotImplementedError

    # ---- reading --------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        if self._reader is None and not self._has_ended:
            entry = self._read_one()
            if entry is not None and entry.is_ready:
                return entry.message
            if entry is not None:
                self._put(entry)
                self._reader = Thread(target=self._read, name="durabletask-payloads-reader", daemon=True)
                self._reader.start()
        return self._wait_for_next()

    def _read_one(self) -> _Entry | None:
        try:
            return self._look_at(next(self._call))
        except StopIteration:
            self._end(None)
        except Exception as error:
            self._end(error)
        return None

    def _read(self) -> None:
        while not self._is_stopping:
            entry = self._read_one()
            if entry is None:
                return
            self._put(entry)
        self._end(None)

    def _end(self, error: Exception | None) -> None:
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

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self._policy.externalizer.concurrency, thread_name_prefix="durabletask-payloads-resolver"
            )
        return self._pool

    # ---- grpc.Call ------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        with self._changed:
            if self._has_ended and not self._is_stopping:
                self._error = self._error or _cancelled()
            self._is_stopping = True
            self._changed.notify_all()
        return self._call.cancel()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return self._call.add_callback(callback)

    def is_active(self) -> bool:
        return self._call.is_active()

    def time_remaining(self) -> float:
        return self._call.time_remaining()

    def code(self) -> grpc.StatusCode:
        return self._call.code()

    def details(self) -> str:
        return self._call.details()

    def initial_metadata(self) -> Metadata:
        return self._call.initial_metadata()

    def trailing_metadata(self) -> Metadata:
        return self._call.trailing_metadata()

    def __getattr__(self, name: str) -> object:  # what grpc's own streams have beyond that: the surface of a future
        return getattr(self._call, name)


def _cancelled() -> EndedLocallyError:
    return EndedLocallyError(grpc.StatusCode.CANCELLED, "cancelled by the application")


# ---- work items ----------------------------------------------------------------------------------------------------


class _Due(NamedTuple):
    at: float
    number: int
    item: WorkItem


class WorkItemStream(ResolvingStream):
    """GetWorkItems: what has no token passes at once, the rest in the order in which it is resolved."""

    def __init__(
        self,
        call: CallIterator[Message],
        policy: Policy,
        timeout: float | None,
        continuation: StreamContinuation,
        details: grpc.ClientCallDetails,
        request: Message,
    ) -> None:
        super().__init__(call, policy, timeout)
        self._continuation = continuation
        self._details = details
        self._request = request
        self._numbers = itertools.count()
        self._ready: deque[_Entry] = deque()
        self._takes_back = True  # until it winds up
        self._held: dict[int, WorkItem] = {}  # by identity: resolving, or waiting for that, or to be given back
        self._due: list[_Due] = []
        self._giver: Thread | None = None

    def _look_at(self, message: Message) -> _Entry:
        item = self._policy.items.arrived(cast("pb.WorkItem", message), self)  # what the method returns
        return _Entry(message, item is None or not self._policy.externalizer.has_tokens(message), item)

    def _put(self, entry: _Entry) -> None:
        item = entry.item
        with self._changed:
            if entry.is_ready or item is None:
                self._changed.wait_for(lambda: self._is_stopping or len(self._ready) < MOST_WAITING)
                self._ready.append(entry)
                self._changed.notify_all()
                return
            self._changed.wait_for(lambda: self._is_stopping or len(self._held) < MOST_WAITING)
            self._held[id(item)] = item
        self._threads().submit(self._resolve, entry, item)

    def _resolve(self, entry: _Entry, item: WorkItem) -> None:
        work = cast("pb.WorkItem", entry.message)  # as in _look_at
        flow: Generator[Step[object], None, Resolution] = self._policy.resolve(item, work)
        resolution = carry_out(flow, self._do)
        if resolution.verdict is Verdict.ABANDON:
            self.give_back(item, resolution.delay)
            return
        with self._changed:
            is_held = self._held.pop(id(item), None) is not None
            if is_held and resolution.verdict is Verdict.DELIVER:
                self._ready.append(entry)
            self._changed.notify_all()

    def _do(self, step: Step[object]) -> None:
        if isinstance(step, Deexternalize):
            self._policy.externalizer.deexternalize(step.message)
        elif isinstance(step, Send):
            step.code = self._send(step.name, step.message, OWN_TIMEOUT_SECONDS)
        else:
            raise AssertionError(f"{step} is no step of a work item that arrives")

    def _next_ready(self) -> Message | None:
        return self._ready.popleft().message if self._ready else None

    def _is_empty(self) -> bool:
        return not self._ready

    # ---- giving back ----------------------------------------------------------------------------------------

    def give_back(self, item: WorkItem, delay: float) -> bool:
        with self._changed:
            if not self._takes_back or self._is_stopping:
                return False
            heapq.heappush(self._due, _Due(time.monotonic() + delay, next(self._numbers), item))
            if self._giver is None:
                self._giver = Thread(target=self._give_back_in_time, name="durabletask-payloads-giver", daemon=True)
                self._giver.start()
            self._changed.notify_all()
            return True

    def _give_back_in_time(self) -> None:
        while True:
            with self._changed:
                if not self._takes_back or self._is_stopping or not self._due:
                    self._giver = None
                    return
                wait = self._due[0].at - time.monotonic()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
                item = heapq.heappop(self._due).item
            self._abandon([item], OWN_TIMEOUT_SECONDS)
            with self._changed:
                self._held.pop(id(item), None)
                self._changed.notify_all()

    def _wind_up(self, error: Exception | None) -> None:
        log_if_exhausted(error)
        with self._changed:
            items = {id(due.item): due.item for due in self._due} | self._held
            if self._is_stopping:
                items |= {id(entry.item): entry.item for entry in self._ready if entry.item is not None}
                self._ready.clear()
            self._due.clear()
            self._held.clear()
            self._takes_back = False
            self._changed.notify_all()
        self._abandon(items.values(), FAREWELL_SECONDS)

    def _abandon(self, items: Iterable[WorkItem], timeout: float) -> None:
        """Give all of `items` back at the same time."""
        calls: list[tuple[WorkItem, CallIterator[Message]]] = []
        for item in items:
            self._policy.items.given_back(item)
            details = CallDetails(self._details, timeout=timeout, rpc=item.kind.abandon)
            try:
                calls.append((item, self._continuation(details, abandonment(item.kind, self._request, item.token))))
            except ValueError as error:  # the channel is closed: the server gives it to another worker by itself
                log.info("the %s was not given back: %s", item, error)
        for item, call in calls:
            try:
                for _ in call:
                    pass
            except grpc.RpcError as error:
                log.warning("the %s could not be given back: %s", item, error)

    def _send(self, rpc: str, message: Message, timeout: float) -> grpc.StatusCode:
        try:
            for _ in self._continuation(CallDetails(self._details, timeout=timeout, rpc=rpc), message):
                pass
        except grpc.RpcError as error:
            return error.code()
        except ValueError:  # the channel is closed
            return grpc.StatusCode.CANCELLED
        return grpc.StatusCode.OK


# ---- histories -----------------------------------------------------------------------------------------------------


class HistoryStream(ResolvingStream):
    """StreamInstanceHistory: in order, with some chunks resolved ahead."""

    def __init__(
        self, call: CallIterator[Message], policy: Policy, timeout: float | None, instance_id: str | None
    ) -> None:
        super().__init__(call, policy, timeout)
        self._instance_id = instance_id
        self._chunks: deque[_Entry] = deque()

    def _look_at(self, message: Message) -> _Entry:
        return _Entry(message, not self._policy.externalizer.has_tokens(message))

    def _put(self, entry: _Entry) -> None:
        with self._changed:
            ahead = self._policy.externalizer.concurrency
            self._changed.wait_for(lambda: self._is_stopping or len(self._chunks) < ahead)
            self._chunks.append(entry)
            self._changed.notify_all()
        if not entry.is_ready:
            self._threads().submit(self._resolve, entry)

    def _resolve(self, entry: _Entry) -> None:
        try:
            self._policy.deexternalize(entry.message, self._instance_id)
        except Exception as error:
            entry.error = error
        with self._changed:
            entry.is_ready = True
            self._changed.notify_all()

    def _next_ready(self) -> Message | None:
        if not self._chunks or not self._chunks[0].is_ready:
            return None
        chunk = self._chunks.popleft()
        if chunk.error is not None:
            self._error = chunk.error
            self.cancel()
            raise chunk.error
        return chunk.message

    def _is_empty(self) -> bool:
        return not self._chunks

    def _wind_up(self, error: Exception | None) -> None:
        if error is not None:  # it is passed on at once, whatever is still under way
            with self._changed:
                self._chunks.clear()
