"""GetWorkItems as the worker sees it: deexternalized work items, and those held to be abandoned."""

from __future__ import annotations

import time
from collections import deque
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import grpc

from durabletask_payloads.interceptors._peers import look_for_client_without
from durabletask_payloads.interceptors._protocol import OWN_TIMEOUT_SECONDS, is_about_size, log
from durabletask_payloads.interceptors._read_ahead import Entry, ReadAheadStream
from durabletask_payloads.interceptors._verdict import Abandon
from durabletask_payloads.observers._safe import within

from ._arrival import Arrival, deexternalize_arrival

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message

    from durabletask_payloads.externalizer._externalizer import Externalizer
    from durabletask_payloads.interceptors._calls import CallIterator

    from ._registry import Registry
    from .kinds import WorkItem

# How many work items of one stream may wait for a transfer or to be abandoned. Past that, reading stops.
MOST_WAITING = 128

# How many may wait to be abandoned. They hold ids, and what arrived if the server may be unable to take them back.
_MOST_DUE = 4096

# How long the end of a stream waits for its work items to be abandoned.
FAREWELL_SECONDS = 1.0

# How soon work items that wait because the store is unavailable are abandoned once it serves again.
_POLL_SECONDS = 0.25

# Answers to an abandonment after which the item is still ours. After any other the server does not know it any more.
_TRY_AGAIN = frozenset(
    {
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNKNOWN,
    }
)


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
    """A work item to abandon.

    Attributes:
        entry: what arrived, kept where the server may be unable to take the item back: then it is tried again.
        since: when `abandon` was decided.
    """

    item: WorkItem
    entry: _Arrived | None
    abandon: Abandon
    since: float


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
        self._can_abandon: bool | None = None
        self._externalizer = externalizer
        self._registry = registry
        self._calls = calls
        self._ready: deque[_Arrived] = deque()
        self._is_open = True  # until it winds up
        # No call may begin there any more: grpcio 1.85 crashes when the first call of a method is made on a closed
        # channel (grpc#43455).
        self._is_channel_closed = False
        # By identity: all that the end of the stream has to abandon; those of them that wait to be deexternalized, or
        # are in that; and those whose completion or abandonment is being sent, which nobody else may abandon.
        self._held: dict[int, WorkItem] = {}
        self._resolving: set[int] = set()
        self._finishing: set[int] = set()
        self._due: list[_Due] = []
        self._abandoner: Thread | None = None

    # ---- arrival ----------------------------------------------------------------------------------------------

    def _look_at(self, message: Message) -> _Arrived:
        work = cast("pb.WorkItem", message)  # what the method returns
        item = self._registry.arrived(work, self)
        if item is not None:
            look_for_client_without(work)
        try:
            return _Arrived(message, item is None or not self._externalizer.has_tokens(message), item)
        except BaseException:  # of the store's is_known_token: it is raised again where the item can be abandoned
            return _Arrived(message, item is None, item)

    def _put(self, entry: _Arrived) -> None:
        item = entry.item
        with self._changed:
            if entry.is_ready or item is None:
                self._wait_for_room(lambda: len(self._ready) < MOST_WAITING)
                self._ready.append(entry)
                self._changed.notify_all()
                return
            self._wait_for_room(lambda: len(self._resolving) < MOST_WAITING and len(self._due) < _MOST_DUE)
            self._held[id(item)] = item
            self._submit(entry, item)

    def _submit(self, entry: _Arrived, item: WorkItem) -> None:
        self._resolving.add(id(item))
        try:
            self._threads().submit(self._deexternalize, entry, item)
        except RuntimeError:
            # The interpreter shuts down: no payload can be downloaded here any more. That may take as long as the
            # stream, and what arrives there would be delayed again and again. So the stream ends.
            self._resolving.discard(id(item))
            self._is_stopping = True
            self._changed.notify_all()
            self._cancel_call()

    def _deexternalize(self, entry: _Arrived, item: WorkItem) -> None:
        work = cast("pb.WorkItem", entry.message)  # as in _look_at
        with self._changed:
            if id(item) not in self._held:  # the stream has ended and abandoned it
                return
        try:
            with within(item.trace):
                outcome = deexternalize_arrival(item, work, self._externalizer, self._registry, self._complete)
        except BaseException as error:  # a defect of ours must not hold the item for ever
            log.exception("deexternalizing work item failed %s", item.log_fields)
            outcome = self._registry.retry_later(item)
            self._registry.abandoning(item, outcome.delay, error)
        with self._changed:
            self._resolving.discard(id(item))
            was_finishing = id(item) in self._finishing
            self._finishing.discard(id(item))
            self._changed.notify_all()
            if not isinstance(outcome, Abandon):
                is_held = self._held.pop(id(item), None) is not None
                if is_held and outcome is Arrival.HAND_OVER:
                    self._ready.append(entry)
                return
            if self._is_open:
                if not self._is_stopping:  # otherwise the end of the stream, which is near, abandons it
                    self._schedule(item, entry, outcome)
                return
            if was_finishing:  # so the end of the stream did not abandon it
                self._finishing.add(id(item))
        if was_finishing:
            self._abandon([item], FAREWELL_SECONDS)
            with self._changed:
                self._finishing.discard(id(item))
                self._changed.notify_all()

    def _complete(self, item: WorkItem, completion: Message) -> grpc.StatusCode:
        """Send a completion of ours. From here on the end of the stream does not abandon `item`."""
        with self._changed:
            if id(item) not in self._held:  # the stream has ended and abandoned it
                return grpc.StatusCode.CANCELLED
            self._finishing.add(id(item))
        try:
            return _outcome(self._calls.send(item, completion, OWN_TIMEOUT_SECONDS))
        except BaseException as error:
            self._is_channel_closed = self._is_channel_closed or _is_of_closed_channel(error)
            return _code_of(item, error)

    def _next_ready(self) -> Message | None:
        return self._ready.popleft().message if self._ready else None

    def _is_empty(self) -> bool:
        return not self._ready

    # ---- abandon ----------------------------------------------------------------------------------------------

    @property
    def can_abandon(self) -> bool | None:
        return self._can_abandon

    @can_abandon.setter
    def can_abandon(self, can_abandon: bool | None) -> None:
        with self._changed:
            is_news = can_abandon is False and self._can_abandon is not False
            self._can_abandon = can_abandon
        if is_news:
            log.warning("the server cannot take work items back, they stay here and are tried again code=UNIMPLEMENTED")

    def abandon_later(self, item: WorkItem, abandon: Abandon) -> bool:
        """Abandon `item` after its delay, or when the stream ends. Return False if it has ended. Does not wait."""
        with self._changed:
            if self._is_open:  # the end of the stream abandons what is scheduled
                self._schedule(item, None, abandon)
            return self._is_open

    def wait(self, abandon: Abandon) -> bool:
        """Wait as long as `abandon` says, shorter once the store serves something. Block the calling thread.

        Returns:
            False at once when the stream ends or is cancelled.
        """
        since = time.monotonic()
        with self._changed:
            while self._is_open and not self._is_stopping:
                (left,) = self._seconds_left([(abandon, since)])
                if left <= 0:
                    return True
                self._changed.wait(min(_POLL_SECONDS, left))
        return False

    def _seconds_left(self, waiting: Iterable[tuple[Abandon, float]]) -> list[float]:
        """Return how long each of some items still has to wait, from what was decided and when."""
        now = time.monotonic()
        served = {"upload": self._registry.served("upload"), "download": self._registry.served("download")}
        return [
            since + (abandon.delay if served[abandon.direction] == abandon.served else abandon.least_delay) - now
            for abandon, since in waiting
        ]

    def _schedule(self, item: WorkItem, entry: _Arrived | None, abandon: Abandon) -> None:
        self._due.append(_Due(item, None if self.can_abandon else entry, abandon, time.monotonic()))
        if self._abandoner is None and not self._is_stopping:
            self._abandoner = Thread(target=self._abandon_when_due, name="durabletask-payloads-abandoner", daemon=True)
            try:
                self._abandoner.start()
            except RuntimeError:  # the interpreter shuts down, or there are no more threads: the next item tries again
                self._abandoner = None
        self._changed.notify_all()

    def _abandon_when_due(self) -> None:
        while True:
            with self._changed:
                if not self._is_open or self._is_stopping or not self._due:
                    self._abandoner = None
                    return
                left = self._seconds_left([(due.abandon, due.since) for due in self._due])
                if min(left) > 0:
                    self._changed.wait(min(_POLL_SECONDS, *left))
                    continue
                ready = [due for due, seconds in zip(self._due, left, strict=True) if seconds <= 0]
                self._due = [due for due, seconds in zip(self._due, left, strict=True) if seconds > 0]
                self._finishing.update(id(due.item) for due in ready)
            codes = self._abandon([due.item for due in ready], OWN_TIMEOUT_SECONDS)
            with self._changed:
                for due, code in zip(ready, codes, strict=True):
                    self._abandoned(due, code)
                self._changed.notify_all()

    def _abandoned(self, due: _Due, code: grpc.StatusCode) -> None:
        """Note the answer to an abandonment, and do what is left to do. Called with the lock held."""
        item, entry = due.item, due.entry
        self._finishing.discard(id(item))
        if code is grpc.StatusCode.UNIMPLEMENTED and entry is not None and self._is_open:
            self._submit(entry, item)
        elif code in _TRY_AGAIN and self._is_open and not self._is_stopping:
            self._schedule(item, entry, self._registry.retry_later(item))
        else:
            self._held.pop(id(item), None)

    def _wind_up(self, error: BaseException | None) -> None:
        _log_if_exhausted(error)
        with self._changed:
            self._is_channel_closed = self._is_channel_closed or _is_of_closed_channel(error)
            items = {id(due.item): due.item for due in self._due} | self._held
            if self._is_stopping:
                items |= {id(entry.item): entry.item for entry in self._ready if entry.item is not None}
                self._ready.clear()
            for finishing in self._finishing:
                items.pop(finishing, None)
            self._due.clear()
            self._held.clear()
            self._is_open = False
            self._changed.notify_all()
        farewell = time.monotonic() + FAREWELL_SECONDS
        self._abandon(list(items.values()), FAREWELL_SECONDS)
        with self._changed:  # the channel may be closed as soon as this returns
            self._changed.wait_for(lambda: not self._finishing, max(farewell - time.monotonic(), 0.0))
        self._registry.stream_ended(self)

    def _abandon(self, items: Sequence[WorkItem], timeout: float) -> list[grpc.StatusCode]:
        """Abandon all of `items` at the same time, if the server can. Return the codes of the answers; never raises."""
        if self._is_channel_closed:  # the server gives them to another worker
            return [grpc.StatusCode.CANCELLED] * len(items)
        if self.can_abandon is False:
            return [grpc.StatusCode.UNIMPLEMENTED] * len(items)
        begun: list[CallIterator[Message] | None] = []
        failed: dict[int, grpc.StatusCode] = {}  # by position: a call of gRPC's is an exception, too
        for item in items:
            try:
                begun.append(self._calls.abandon(item, timeout))
            except BaseException as error:
                failed[len(begun)] = _code_of(item, error)
                begun.append(None)
        codes: list[grpc.StatusCode] = []
        for item, call in zip(items, begun, strict=True):
            try:
                codes.append(failed[len(codes)] if call is None else _outcome(call))
            except BaseException as error:
                codes.append(_code_of(item, error))
            if codes[-1] in (grpc.StatusCode.OK, grpc.StatusCode.UNIMPLEMENTED):
                self.can_abandon = codes[-1] is grpc.StatusCode.OK
            if codes[-1] is not grpc.StatusCode.UNIMPLEMENTED and codes[-1] not in _TRY_AGAIN:
                self._registry.abandoned(item)
        return codes


def _outcome(call: CallIterator[Message]) -> grpc.StatusCode:
    for _ in call:
        pass
    return grpc.StatusCode.OK


def _code_of(item: WorkItem, error: BaseException) -> grpc.StatusCode:
    """Return the status code for what a call of ours for `item` raised, of gRPC or of an interceptor below."""
    if isinstance(error, grpc.RpcError):
        code = error.code()
    else:  # on a closed channel the server gives the item to another worker
        code = grpc.StatusCode.CANCELLED if _is_of_closed_channel(error) else grpc.StatusCode.UNKNOWN
    if code is not grpc.StatusCode.UNIMPLEMENTED:
        text = error if code is grpc.StatusCode.UNKNOWN else ""
        log.warning("call for work item failed %s code=%s error=%s", item.log_fields, code.name, text)
    return code


def _is_of_closed_channel(error: BaseException | None) -> bool:
    """Return whether a call ended, or could not begin, because its channel was closed on this side."""
    if isinstance(error, grpc.RpcError):  # only the details tell: a server may cancel, too
        return error.code() is grpc.StatusCode.CANCELLED and "Channel closed" in (error.details() or "")
    return isinstance(error, ValueError) and "Cannot invoke RPC" in str(error)


def _log_if_exhausted(error: BaseException | None) -> None:
    """Log the remedy when GetWorkItems ended because a work item was too large for the worker."""
    if not isinstance(error, grpc.RpcError) or error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return
    if is_about_size(error.details()):  # otherwise it is a quota, of which the SDK tells
        log.error(
            "stream of work items ended code=RESOURCE_EXHAUSTED details=%s remedy=a history is larger than the worker "
            "may receive, since many payloads that are each under the threshold add up: raise the limit, as "
            "GrpcChannelOptions(max_receive_message_length=...) of the worker's channel_options, or lower "
            "threshold_bytes of the store",
            error.details(),
        )
