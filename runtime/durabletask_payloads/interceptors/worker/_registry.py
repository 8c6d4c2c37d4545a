"""Registry of work items in flight and of their redelivery counts. Reports those that do not complete as usual."""

from __future__ import annotations

import time
from collections import OrderedDict
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from durabletask_payloads._lifecycle import renewed_after_fork
from durabletask_payloads.interceptors._protocol import log
from durabletask_payloads.interceptors._verdict import Backoff, Decision, Final, as_payload_error, decide
from durabletask_payloads.observers._base import Abandonment, Substitution
from durabletask_payloads.observers._safe import SafeObserver

from .kinds import KIND_BY_REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable

    import durabletask.internal.orchestrator_service_pb2 as pb

    from durabletask_payloads.externalizer._receipt import PayloadStats
    from durabletask_payloads.interceptors._verdict import Abandon, Direction
    from durabletask_payloads.observers._base import PayloadObserver

    from .kinds import Holder, WorkItem
    from .kinds._base import Completion, Key

    # Kind, instance id and task id: what stays the same over redeliveries, which may have other completion tokens.
    _Subject = tuple[str, str, int]

# More than a worker has in flight at once. An entry that is pushed out costs no payload: where failing a completion
# needs it, the work item is abandoned instead.
_MOST_ITEMS = 4096
_MOST_BYTES = 32 * 1024 * 1024


class _Failures(NamedTuple):
    """The failed deliveries of a subject: how many counted, how many there were, and what was served at the last."""

    counted: int = 0
    total: int = 0
    served: tuple[Direction, int] | None = None


class Registry:
    """Work items in flight, and the verdict on those that fail. Holds no payloads, but entity states that are inline.

    Bounded in entries and bytes: the oldest go first. Safe for any number of threads.

    Args:
        max_deliveries: with how many deliveries that count a failure is final; see `decide`.
        stats: what the store has served so far.
        clock: returns seconds.
        observer: told of abandonments and substitutes.

    Raises:
        ValueError: `max_deliveries` is less than 1.
    """

    def __init__(
        self,
        max_deliveries: int,
        stats: Callable[[], PayloadStats],
        clock: Callable[[], float] = time.monotonic,
        observer: PayloadObserver | None = None,
    ) -> None:
        if max_deliveries < 1:
            raise ValueError(f"max_deliveries is {max_deliveries}: an item has to be delivered at least once")
        self._max_deliveries = max_deliveries
        self._stats = stats
        self._clock = clock
        self._safe = None if observer is None else SafeObserver(observer)
        self._renew()
        renewed_after_fork(self, type(self)._renew)

    def _renew(self) -> None:
        self._backoff: dict[Direction, Backoff] = {
            "upload": Backoff("upload", lambda: self.served("upload"), self._clock),
            "download": Backoff("download", lambda: self.served("download"), self._clock),
        }
        self._lock = Lock()
        # No LRUCache: it is written in Python, and every work item of the worker passes through here.
        self._items: OrderedDict[Key, WorkItem] = OrderedDict()
        self._bytes = 0
        self._failures: OrderedDict[_Subject, _Failures] = OrderedDict()

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    @property
    def bytes(self) -> int:
        """How much the entries hold, in bytes, beside their ids."""
        return self._bytes

    def served(self, direction: Direction) -> int:
        """Return how many transfers in `direction` the store has served."""
        stats = self._stats()
        return stats.uploads if direction == "upload" else stats.downloads

    def arrived(self, work: pb.WorkItem, holder: Holder) -> WorkItem | None:
        """Register `work`; None if it is no work item: a ping, or a kind that this version does not know."""
        kind = KIND_BY_REQUEST.get(work.WhichOneof("request") or "")
        if kind is None:
            return None
        item = kind.arrived(work, holder)
        if self._safe is not None:
            with suppress(AttributeError):  # older schemas do not have all of the fields
                item.trace = item.trace_of(work)
        key = item.key
        with self._lock:
            self._forget(key)
            self._items[key] = item
            self._bytes += item.held_bytes
            while len(self._items) > _MOST_ITEMS or self._bytes > _MOST_BYTES:
                self._bytes -= self._items.popitem(last=False)[1].held_bytes
        return item

    def find(self, kind: type[WorkItem], completion: Completion) -> WorkItem:
        """Return the work item that `completion` is for: as it arrived, or what the completion tells of it."""
        key = kind.key_of(completion)
        with self._lock:
            return self._items.get(key) or kind(*key[1:])

    def completed(self, kind: type[WorkItem], completion: Completion, *, accepted: bool) -> None:
        """Forget the work item of a `completion` that ended, and its failures if the server accepted it."""
        key = kind.key_of(completion)
        with self._lock:
            item = self._forget(key)
            if accepted and self._failures:
                self._failures.pop(key[:3] if item is None else _subject(item), None)

    def done(self, item: WorkItem) -> None:
        """Forget `item`, which was completed, and its failures."""
        with self._lock:
            self._forget(item.key)
            self._failures.pop(_subject(item), None)

    def abandoned(self, item: WorkItem) -> None:
        """Forget `item`, which was abandoned or whose completion was refused, but not how often it failed."""
        with self._lock:
            self._forget(item.key)

    def abandoned_by_worker(self, kind: type[WorkItem], token: str) -> None:
        """Forget the work item that the SDK abandons. If several activities have the same token, they stay."""
        with self._lock:
            keys = [key for key in self._items if key[0] == kind.kind and key[3] == token]
            if len(keys) == 1:
                self._forget(keys[0])

    def stream_ended(self, holder: Holder) -> None:
        """Forget the work items of a stream: the server delivers those that are not completed again."""
        with self._lock:
            for key in [key for key, item in self._items.items() if item.holder is holder]:
                self._forget(key)

    # ---- reports ----------------------------------------------------------------------------------------------

    def abandoning(self, item: WorkItem, delay: float, error: BaseException, hint: str = "") -> None:
        """Report that `item` is abandoned in `delay` seconds, with a hint for the log."""
        log.warning("abandoning work item %s delay=%.2g error=%s%s", item.log_fields, delay, error, hint)
        if self._safe is not None:
            self._safe.tell(lambda observer: observer.abandoned, Abandonment(item.kind, item.instance_id, delay, error))

    def completed_as_failed(self, item: WorkItem, error: BaseException) -> None:
        """Report that the server accepted the failure of `item`."""
        self._substituted(Substitution(item.kind, item.instance_id, "failed", error))

    def completed_truncated(self, item: WorkItem, error: BaseException) -> None:
        """Report that the server accepted a truncated completion of `item`."""
        self._substituted(Substitution(item.kind, item.instance_id, "truncated", error))

    def operations_failed(self, item: WorkItem) -> None:
        """Report the operations that were taken out of a batch."""
        for position, _, error in item.failed:
            log.error("failing entity operation %s operation=%d error=%s", item.log_fields, position, error)
            self._substituted(Substitution(item.kind, item.instance_id, "operation failed", error))

    def _substituted(self, substitution: Substitution) -> None:
        if self._safe is not None:
            self._safe.tell(lambda observer: observer.substituted, substitution)

    # ---- verdicts ---------------------------------------------------------------------------------------------

    def judge(self, item: WorkItem, error: BaseException, direction: Direction) -> Abandon | Final:
        """Decide what becomes of `item`, a transfer of which failed with `error`, and count the delivery."""
        served = self.served(direction)
        with self._lock:
            before = self._failures.get(_subject(item), _Failures())
            decision = self._decide(error, direction, before, served)
            failures = self._count(item, before, (direction, served), counts=decision is not Decision.WAIT)
        match decision:
            case Decision.FAIL:
                return Final(error)
            case Decision.GIVE_UP:
                final = as_payload_error(error, f"gave up after {failures.counted} deliveries: {error}")
                final.__cause__ = error
                return Final(final)
            case Decision.COUNT | Decision.WAIT:
                return self._backoff[direction].delay(failures.counted)

    def is_final(self, item: WorkItem, error: BaseException, direction: Direction) -> bool:
        """Return whether a further error of the delivery of `item` that was judged last is final, too."""
        with self._lock:
            judged = self._failures.get(_subject(item), _Failures())
            before = judged._replace(counted=max(judged.counted - 1, 0))
            return self._decide(error, direction, before, self.served(direction)) in (Decision.FAIL, Decision.GIVE_UP)

    def retry_later(self, item: WorkItem) -> Abandon:
        """Return how long to wait before `item` is abandoned for a reason that says nothing about the store."""
        with self._lock:
            before = self._failures.get(_subject(item), _Failures())
            failures = self._count(item, before, before.served, counts=False)
        return self._backoff["download"].delay(failures.total)

    def _decide(self, error: BaseException, direction: Direction, before: _Failures, served: int) -> Decision:
        return decide(
            error,
            proven=served > 0,
            progressed=before.served != (direction, served),
            deliveries=before.counted,
            max_deliveries=self._max_deliveries,
        )

    def _count(
        self, item: WorkItem, before: _Failures, served: tuple[Direction, int] | None, *, counts: bool
    ) -> _Failures:
        subject = _subject(item)
        self._failures.pop(subject, None)
        failures = self._failures[subject] = _Failures(before.counted + counts, before.total + 1, served)
        if len(self._failures) > _MOST_ITEMS:
            self._failures.popitem(last=False)
        return failures

    def _forget(self, key: Key) -> WorkItem | None:
        item = self._items.pop(key, None)
        if item is not None:
            self._bytes -= item.held_bytes
        return item


def _subject(item: WorkItem) -> _Subject:
    return item.kind, item.instance_id, item.task_id
