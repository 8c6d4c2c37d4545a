"""GetWorkItems as the worker sees it: deexternalized work items, and those held to be abandoned."""

from __future__ import annotations

import heapq
import itertools
import time
from collections import deque
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import grpc

from durabletask_payloads.interceptors._protocol import OWN_TIMEOUT_SECONDS, log
from durabletask_payloads.interceptors._read_ahead import Entry, ReadAheadStream
from durabletask_payloads.interceptors._verdict import Abandon

from ._arrival import Arrival, deexternalize_arrival

if TYPE_CHECKING:
    from collections.abc import Iterable

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message

    from durabletask_payloads.externalizer._externalizer import Externalizer
    from durabletask_payloads.interceptors._calls import CallIterator

    from ._registry import Registry
    from .kinds import WorkItem

# How many work items of one stream may wait for a transfer or to be abandoned. Past that, reading stops.
MOST_WAITING = 128

# How long the end of a stream waits for its work items to be abandoned.
FAREWELL_SECONDS = 1.0


class StreamCalls(Protocol):
    """gRPC, as a stream of work items sees it: calls of its own over the same channel, which come back as streams."""

    def send(self, item: WorkItem, completion: Message, timeout: float) -> CallIterator[Message]:
        """Begin to complete `item`. May raise whatever an interceptor below raises, ValueError once it is closed."""
        ...

    def abandon(self, item: WorkItem, timeout: float) -> CallIterator[Message]:
        """Begin to abandon `item`. May raise as `send` does."""
        ...


class _Arrived(Entry):
    """An entry that may carry a work item."""

    __slots__ = ("item",)

    def __init__(self, message: Message, is_ready: bool, item: WorkItem | None) -> None:
        super().__init__(message, is_ready)
        self.item = item


class _Due(NamedTuple):
    at: float
    number: int
    item: WorkItem


class WorkItemStream(ReadAheadStream[_Arrived]):
    """GetWorkItems: items without tokens pass at once, the others in the order in which they are deexternalized."""

    def __init__(
        self,
        call: CallIterator[Message],
        timeout: float | None,
        externalizer: Externalizer,
        registry: Registry,
        calls: StreamCalls,
    ) -> None:
        super().__init__(call, externalizer.concurrency, timeout)
        self._externalizer = externalizer
        self._registry = registry
        self._calls = calls
        self._ready: deque[_Arrived] = deque()
        self._is_open = True  # until it winds up
        # By identity: waiting to be deexternalized, in that, or to be abandoned; and those of them whose completion
        # is being sent, which nobody else may abandon.
        self._held: dict[int, WorkItem] = {}
        self._completing: set[int] = set()
        self._numbers = itertools.count()
        self._due: list[_Due] = []
        self._abandoner: Thread | None = None

    # ---- arrival ----------------------------------------------------------------------------------------------

    def _look_at(self, message: Message) -> _Arrived:
        item = self._registry.arrived(cast("pb.WorkItem", message), self)  # what the method returns
        return _Arrived(message, item is None or not self._externalizer.has_tokens(message), item)

    def _put(self, entry: _Arrived) -> None:
        item = entry.item
        with self._changed:
            if entry.is_ready or item is None:
                self._changed.wait_for(lambda: self._is_stopping or len(self._ready) < MOST_WAITING)
                self._ready.append(entry)
                self._changed.notify_all()
                return
            self._changed.wait_for(lambda: self._is_stopping or len(self._held) < MOST_WAITING)
            self._held[id(item)] = item
        self._threads().submit(self._deexternalize, entry, item)

    def _deexternalize(self, entry: _Arrived, item: WorkItem) -> None:
        work = cast("pb.WorkItem", entry.message)  # as in _look_at
        outcome = deexternalize_arrival(item, work, self._externalizer, self._registry, self._complete)
        if isinstance(outcome, Abandon):
            self._abandon_held(item, outcome.delay)
            return
        with self._changed:
            self._completing.discard(id(item))
            is_held = self._held.pop(id(item), None) is not None
            if is_held and outcome is Arrival.HAND_OVER:
                self._ready.append(entry)
            self._changed.notify_all()

    def _complete(self, item: WorkItem, completion: Message) -> grpc.StatusCode:
        """Send a completion of ours. From here on the end of the stream does not abandon `item`."""
        with self._changed:
            if id(item) not in self._held:  # the stream has ended and abandoned it
                return grpc.StatusCode.CANCELLED
            self._completing.add(id(item))
        try:
            for _ in self._calls.send(item, completion, OWN_TIMEOUT_SECONDS):
                pass
        except grpc.RpcError as error:
            return error.code()
        except ValueError:  # the channel is closed
            return grpc.StatusCode.CANCELLED
        return grpc.StatusCode.OK

    def _next_ready(self) -> Message | None:
        return self._ready.popleft().message if self._ready else None

    def _is_empty(self) -> bool:
        return not self._ready

    # ---- abandon ----------------------------------------------------------------------------------------------

    def abandon_later(self, item: WorkItem, delay: float) -> bool:
        with self._changed:
            if not self._is_open or self._is_stopping:
                return False
            self._schedule(item, delay)
            return True

    def _abandon_held(self, item: WorkItem, delay: float) -> None:
        with self._changed:
            was_completing = id(item) in self._completing
            self._completing.discard(id(item))
            if self._is_open:
                if not self._is_stopping:  # otherwise the end of the stream, which is near, abandons it
                    self._schedule(item, delay)
                return
        if was_completing:  # so the end of the stream did not abandon it
            self._abandon([item], OWN_TIMEOUT_SECONDS)

    def _schedule(self, item: WorkItem, delay: float) -> None:
        heapq.heappush(self._due, _Due(time.monotonic() + delay, next(self._numbers), item))
        if self._abandoner is None:
            self._abandoner = Thread(target=self._abandon_when_due, name="durabletask-payloads-abandoner", daemon=True)
            self._abandoner.start()
        self._changed.notify_all()

    def _abandon_when_due(self) -> None:
        while True:
            with self._changed:
                if not self._is_open or self._is_stopping or not self._due:
                    self._abandoner = None
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
        _log_if_exhausted(error)
        with self._changed:
            items = {id(due.item): due.item for due in self._due} | self._held
            if self._is_stopping:
                items |= {id(entry.item): entry.item for entry in self._ready if entry.item is not None}
                self._ready.clear()
            for completing in self._completing:
                items.pop(completing, None)
            self._due.clear()
            self._held.clear()
            self._is_open = False
            self._changed.notify_all()
        self._abandon(items.values(), FAREWELL_SECONDS)

    def _abandon(self, items: Iterable[WorkItem], timeout: float) -> None:
        """Abandon all of `items` at the same time."""
        begun: list[tuple[WorkItem, CallIterator[Message]]] = []
        for item in items:
            self._registry.abandoned(item)
            try:
                begun.append((item, self._calls.abandon(item, timeout)))
            except ValueError as error:  # the channel is closed: the server gives the item to another worker
                log.info("%s was not abandoned: %s", item, error)
        for item, call in begun:
            try:
                for _ in call:
                    pass
            except grpc.RpcError as error:
                log.warning("%s could not be abandoned: %s", item, error)


grpc.Call.register(WorkItemStream)  # for isinstance


def _log_if_exhausted(error: BaseException | None) -> None:
    """Log the remedy when GetWorkItems ended because a work item was too large for the worker."""
    if isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        log.error(
            "GetWorkItems ended with RESOURCE_EXHAUSTED (%s): a history is larger than the worker may receive, since "
            "many payloads that are each under the threshold add up. Raise the limit, as "
            "GrpcChannelOptions(max_receive_message_length=...) of the worker's channel_options, or lower "
            "threshold_bytes of the store",
            error.details(),
        )
