"""Registry of work items in flight, and of their redelivery counts."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING

from durabletask_payloads.interceptors._verdict import Backoff, decide, is_transient

from .kinds import KIND_BY_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable

    import durabletask.internal.orchestrator_service_pb2 as pb

    from durabletask_payloads.interceptors._verdict import Abandon, Final

    from .kinds import Holder, WorkItem
    from .kinds._base import Completion, Key

    # Kind, instance id and task id: what stays the same over redeliveries, which may have other completion tokens.
    _Subject = tuple[str, str, int]

# More than a worker has in flight at once. An entry that is pushed out costs no payload: only a completion that fails
# may then have to be abandoned instead, or leave a lock to the backend.
_MOST_ITEMS = 4096


class Registry:
    """Work items in flight, and the verdict on those that fail. Bounded: the oldest entries go first.

    Safe for any number of threads.

    Args:
        max_deliveries: after how many deliveries with a transient error a work item is completed as failed.
        transfers: counts the transfers of the store that succeeded.
    """

    def __init__(self, max_deliveries: int, transfers: Callable[[], int]) -> None:
        if max_deliveries < 1:
            raise ValueError(f"max_deliveries is {max_deliveries}: an item has to be delivered at least once")
        self._max_deliveries = max_deliveries
        self._backoff = Backoff(transfers)
        self._lock = Lock()
        # No LRUCache: it is written in Python, and every work item of the worker passes through here.
        self._items: OrderedDict[Key, WorkItem] = OrderedDict()
        self._returns: OrderedDict[_Subject, int] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    def arrived(self, work: pb.WorkItem, holder: Holder) -> WorkItem | None:
        """Register `work`; None if it is no work item: a ping, or a kind that this version does not know."""
        kind = KIND_BY_REQUEST.get(work.WhichOneof("request") or "")
        if kind is None:
            return None
        item = kind.arrived(work, holder)
        key = item.key
        with self._lock:
            self._items[key] = item
            self._items.move_to_end(key)
            if len(self._items) > _MOST_ITEMS:
                self._items.popitem(last=False)
        return item

    def find(self, kind: type[WorkItem], completion: Completion) -> WorkItem:
        """Return the work item that `completion` is for: as it arrived, or what the completion tells of it."""
        key = kind.key_of(completion)
        with self._lock:
            return self._items.get(key) or kind(*key[1:])

    def completed(self, kind: type[WorkItem], completion: Completion) -> None:
        """Forget the work item of a `completion` that the server accepted."""
        key = kind.key_of(completion)
        with self._lock:
            item = self._items.pop(key, None)
            if self._returns:
                self._returns.pop(key[:3] if item is None else _subject(item), None)

    def done(self, item: WorkItem) -> None:
        """Forget `item`, which was completed."""
        with self._lock:
            self._items.pop(item.key, None)
            self._returns.pop(_subject(item), None)

    def abandoned(self, item: WorkItem) -> None:
        """Forget `item`, which was abandoned, but not how often it was delivered."""
        with self._lock:
            self._items.pop(item.key, None)

    def abandoned_by_worker(self, kind: type[WorkItem], token: str) -> None:
        """Forget the work item that the SDK abandons. If several activities have the same token, they stay."""
        with self._lock:
            keys = [key for key in self._items if key[0] == kind.kind and key[3] == token]
            if len(keys) == 1:
                del self._items[keys[0]]

    def judge(self, item: WorkItem, error: Exception) -> Abandon | Final:
        """Decide what becomes of `item`, which failed with `error`, and count the delivery if that is transient."""
        deliveries = self._count(item) if is_transient(error) else 0
        return decide(error, deliveries, self._max_deliveries, lambda: self._backoff.delay(deliveries))

    def delay(self, item: WorkItem) -> float:
        """Count a delivery of `item`, which has to be abandoned, and return the seconds to wait before."""
        return self._backoff.delay(self._count(item))

    def _count(self, item: WorkItem) -> int:
        with self._lock:
            subject = _subject(item)
            count = self._returns.pop(subject, 0) + 1
            self._returns[subject] = count
            if len(self._returns) > _MOST_ITEMS:
                self._returns.popitem(last=False)
            return count


def _subject(item: WorkItem) -> _Subject:
    return item.kind, item.instance_id, item.task_id
