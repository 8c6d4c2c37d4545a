"""The work items that are under way, and how often each came back."""

from __future__ import annotations

import itertools
import random
import time
from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock as ThreadLock
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from ._messages import ACTIVITY, ENTITY, ORCHESTRATION, held_locks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    import durabletask.internal.orchestrator_service_pb2 as pb

    from ._messages import Completion, Kind, Lock, Operation

    # Kind, instance id (empty for an entity: its completion does not name it), task id and completion token.
    _Key: TypeAlias = tuple[str, str, int, str]

# More than a worker has under way at once. What is pushed out costs no payload: only a failed completion may have
# to be given back instead, or leave a lock to the backend.
_MOST_ITEMS = 4096

_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 30.0


class Holder(Protocol):
    """The stream that a work item came from."""

    def give_back(self, item: WorkItem, delay: float) -> bool:
        """Abandon `item` in `delay` seconds, or when the stream ends. False if it has ended."""
        ...


class FailedOperation(NamedTuple):
    """An operation that was taken out of an entity batch: its place among the operations, and why."""

    position: int
    operation: Operation
    error: Exception


class _Subject(NamedTuple):
    """What is delivered again: another delivery may have another completion token."""

    kind: str
    instance_id: str
    task_id: int


@dataclass(slots=True)
class WorkItem:
    """What has to be known of a work item when it is completed.

    Attributes:
        is_known: whether it was seen when it arrived; else the next two are empty, which says nothing.
        history: what an orchestration is to replay: read only when it has to be failed, since that takes a walk.
        state: of an entity as it arrived, so mostly a token.
        failed: the operations that were taken out of an entity batch.
    """

    kind: Kind
    instance_id: str
    task_id: int
    token: str
    is_known: bool = False
    holder: Holder | None = None
    history: pb.OrchestratorRequest | None = None
    state: str | None = None
    failed: Sequence[FailedOperation] = ()

    @property
    def locks(self) -> tuple[Lock, ...]:
        """What the history of an orchestration holds locked."""
        return held_locks(self._events())

    @property
    def next_id(self) -> int:
        """The first action id that is free."""
        return 1 + max((event.eventId for event in self._events()), default=-1)

    def _events(self) -> Iterable[pb.HistoryEvent]:
        return () if self.history is None else itertools.chain(self.history.pastEvents, self.history.newEvents)

    @property
    def key(self) -> _Key:
        return self.kind.name, "" if self.kind is ENTITY else self.instance_id, self.task_id, self.token

    @property
    def subject(self) -> _Subject:
        return _Subject(self.kind.name, self.instance_id, self.task_id)

    def __str__(self) -> str:
        task = f" {self.task_id}" if self.kind is ACTIVITY else ""
        return f"{self.kind.name}{task} of {self.instance_id}" if task else f"{self.kind.name} {self.instance_id}"


def _key_of(kind: Kind, completion: Completion) -> _Key:
    """The key of the work item that `completion` is for."""
    if kind is ACTIVITY:
        activity = cast("pb.ActivityResponse", completion)  # by its kind, here and below
        return kind.name, activity.instanceId, activity.taskId, activity.completionToken
    if kind is ORCHESTRATION:
        return kind.name, cast("pb.OrchestratorResponse", completion).instanceId, 0, completion.completionToken
    return kind.name, "", 0, completion.completionToken


class WorkItems:
    """The registry. Safe for any number of threads; bounded, the oldest out first."""

    def __init__(self, max_deliveries: int) -> None:
        self._max_deliveries = max_deliveries
        self._lock = ThreadLock()
        # No LRUCache: that is written in Python, and each work item of everybody comes through here.
        self._items: OrderedDict[_Key, WorkItem] = OrderedDict()
        self._returns: OrderedDict[_Subject, int] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    def arrived(self, message: pb.WorkItem, holder: Holder) -> WorkItem | None:
        """Keep what has to be known of `message`; None if it is no work: a ping, or what this version does not know."""
        token = message.completionToken
        request = message.WhichOneof("request")
        if request == "activityRequest":
            activity = message.activityRequest
            instance_id = activity.orchestrationInstance.instanceId
            item = WorkItem(ACTIVITY, instance_id, activity.taskId, token, True, holder)
        elif request == "orchestratorRequest":
            history = message.orchestratorRequest
            item = WorkItem(ORCHESTRATION, history.instanceId, 0, token, True, holder, history)
        elif request == "entityRequest" or request == "entityRequestV2":
            batch = message.entityRequest if request == "entityRequest" else message.entityRequestV2
            item = WorkItem(ENTITY, batch.instanceId, 0, token, True, holder)
            if batch.HasField("entityState"):
                item.state = batch.entityState.value
        else:
            return None
        key = item.key
        with self._lock:
            self._items[key] = item
            self._items.move_to_end(key)
            if len(self._items) > _MOST_ITEMS:
                self._items.popitem(last=False)
        return item

    def find(self, kind: Kind, completion: Completion) -> WorkItem:
        """The work item that `completion` is for: as it arrived, or what the completion tells."""
        key = _key_of(kind, completion)
        with self._lock:
            return self._items.get(key) or WorkItem(kind, *key[1:])

    def completed(self, kind: Kind, completion: Completion) -> None:
        """`completion` got to the server."""
        key = _key_of(kind, completion)
        with self._lock:
            item = self._items.pop(key, None)
            if self._returns:
                self._returns.pop((item or WorkItem(kind, *key[1:])).subject, None)

    def done(self, item: WorkItem) -> None:
        """`item` was completed."""
        with self._lock:
            self._items.pop(item.key, None)
            if self._returns:
                self._returns.pop(item.subject, None)

    def given_back(self, item: WorkItem) -> None:
        """`item` was abandoned, and will be delivered again."""
        with self._lock:
            self._items.pop(item.key, None)

    def abandoned(self, kind: Kind, token: str) -> None:
        """The SDK abandons the item with `token`. Several activities may have one token: they stay."""
        with self._lock:
            keys = [key for key in self._items if key[0] == kind.name and key[3] == token]
            if len(keys) == 1:
                del self._items[keys[0]]

    def failed_again(self, item: WorkItem) -> int:
        """Count a delivery of `item` that ended with a transient error, and return how many there were."""
        with self._lock:
            count = self._returns.pop(item.subject, 0) + 1
            self._returns[item.subject] = count
            if len(self._returns) > _MOST_ITEMS:
                self._returns.popitem(last=False)
            return count

    def is_last(self, deliveries: int) -> bool:
        return deliveries >= self._max_deliveries


class Backoff:
    """How long a work item is kept before it is given back: to give it back at once would be a hot loop.

    Grows with the deliveries of the item, and with the rounds in which the store failed and nothing else got
    through. Safe for any number of threads.
    """

    def __init__(self, transfers: Callable[[], int]) -> None:
        self._transfers = transfers
        self._lock = ThreadLock()
        self._seen = -1
        self._round = 0
        self._round_ends = 0.0

    def delay(self, deliveries: int) -> float:
        """Seconds to wait after the delivery with this number failed."""
        now = time.monotonic()
        with self._lock:
            transfers = self._transfers()
            if transfers != self._seen:
                self._seen = transfers
                self._round = 0
                self._round_ends = 0.0
            if now >= self._round_ends:
                self._round += 1
                self._round_ends = now + _seconds(self._round)
            return _seconds(max(self._round, deliveries)) * random.uniform(0.75, 1.0)


def _seconds(step: int) -> float:
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(step - 1, 20))
