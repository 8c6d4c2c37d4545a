"""Reads all of a task hub into the state of a sweep: which payloads it mentions, and which instances may still run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ._hub import HubError
from ._mentions import mentions_in
from ._sdk import pb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.timestamp_pb2 import Timestamp

    from ._mentions import SweepState

_T = TypeVar("_T")

_ENDED: Final = frozenset(
    {
        pb.ORCHESTRATION_STATUS_COMPLETED,
        pb.ORCHESTRATION_STATUS_FAILED,
        pb.ORCHESTRATION_STATUS_CANCELED,
        pb.ORCHESTRATION_STATUS_TERMINATED,
    }
)
_BATCH: Final = 100
_MANY: Final = 50_000
_THREADS: Final = 8
_MOST_PASSES: Final = 5


class HubReading(Protocol):
    """What a sweep needs of a hub. See `Hub`."""

    @property
    def location(self) -> str: ...
    def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]: ...
    def instance(self, instance_id: str) -> pb.OrchestrationState | None: ...
    def history(self, instance_id: str) -> Iterator[pb.HistoryChunk]: ...
    def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]: ...


def read_hub(hub: HubReading, state: SweepState) -> Iterator[tuple[int, int]]:
    """Read states and histories of all instances, and the states of all entities.

    While instances are purged, some servers leave others out of a listing, since they count what they have listed. So
    the hub is listed again until that brings nothing to light that was there before.

    Yields:
        how many instances and entities were read so far.

    Raises:
        HubError: a call failed, or the listing does not settle. What was read is not complete then.
    """
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="durabletask-payloads-hub") as pool:
        reader = _Reader(hub, state, pool)
        for number in range(_MOST_PASSES):
            reader.missed = 0
            for batch in _batches(hub.instances(payloads=number == 0)):
                reader.add_instances(batch, is_first=number == 0)
                yield reader.instances, reader.entities
            for entities in _batches(hub.entities()):
                reader.add_entities(entities, is_first=number == 0)
                yield reader.instances, reader.entities
            reader.flush()
            if number and not reader.missed:
                return
    raise HubError(
        f"the task hub at {hub.location} was listed {_MOST_PASSES} times, and each time there was something that the "
        "listings before had left out: sweep when less is purged"
    )


class _Reader:
    """Adds instances and entities that are new to the state, and counts those that earlier listings left out."""

    def __init__(self, hub: HubReading, state: SweepState, pool: ThreadPoolExecutor) -> None:
        self._hub = hub
        self._state = state
        self._pool = pool
        self._newest_instance = self._newest_entity = 0.0
        self._mentions: set[bytes] = set()
        self.instances = self.entities = self.missed = 0

    def add_instances(self, batch: list[pb.OrchestrationState], *, is_first: bool) -> None:
        ran = [
            (one.instanceId, None if one.orchestrationStatus in _ENDED else _seconds(one.lastUpdatedTimestamp))
            for one in batch
        ]
        new = [one for one, is_new in zip(batch, self._state.add_instances(ran), strict=True) if is_new]
        if is_first:
            self._newest_instance = max([self._newest_instance, *(_seconds(one.createdTimestamp) for one in new)])
        else:
            self.missed += sum(_seconds(one.createdTimestamp) <= self._newest_instance for one in new)
        for found in self._pool.map(self._mentions_of, new, [is_first] * len(new)):
            self._add_mentions(found)
        self.instances += len(new)

    def _add_mentions(self, digits: set[bytes]) -> None:
        """Keep mentions until there are many: they go all over the file, and each transaction writes whole pages."""
        self._mentions |= digits
        if len(self._mentions) >= _MANY:
            self.flush()

    def flush(self) -> None:
        self._state.add_mentions(self._mentions)
        self._mentions.clear()

    def _mentions_of(self, listed: pb.OrchestrationState, is_whole: bool) -> set[bytes]:
        found = mentions_in(listed.SerializeToString())
        if not is_whole and (whole := self._hub.instance(listed.instanceId)) is not None:
            found |= mentions_in(whole.SerializeToString())
        for chunk in self._hub.history(listed.instanceId):
            found |= mentions_in(chunk.SerializeToString())
        return found

    def add_entities(self, batch: list[pb.EntityMetadata], *, is_first: bool) -> None:
        ran = [(one.instanceId, _last_run(one)) for one in batch]
        new = [one for one, is_new in zip(batch, self._state.add_instances(ran), strict=True) if is_new]
        if is_first:
            self._newest_entity = max([self._newest_entity, *(_seconds(one.lastModifiedTime) for one in new)])
        else:
            self.missed += sum(_seconds(one.lastModifiedTime) <= self._newest_entity for one in new)
        self._add_mentions({digits for one in batch for digits in mentions_in(one.SerializeToString())})
        self.entities += len(new)


def _last_run(entity: pb.EntityMetadata) -> float:
    """Return when an entity last did all that was sent to it: long ago, if operations wait in it.

    A lock holds back what others send, for as long as its owner likes, while the owner's own operations run.
    """
    return 0.0 if entity.HasField("lockedBy") or entity.backlogQueueSize else _seconds(entity.lastModifiedTime)


def _seconds(time: Timestamp) -> float:
    return time.ToMicroseconds() / 1e6


def _batches(items: Iterator[_T]) -> Iterator[list[_T]]:
    while batch := list(islice(items, _BATCH)):
        yield batch
