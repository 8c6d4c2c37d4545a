"""A container and a task hub of any size, made up as they are listed, so that they take hardly any memory.

Blob n belongs to instance n % instances. Every fifth is mentioned by none, as after a purge or a kill.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Final

import durabletask.internal.orchestrator_service_pb2 as pb

from durabletask_payloads.operations._hub import HubError
from durabletask_payloads.stores._inventory import PARTITIONS, StoredPayload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

NOW: Final = datetime(2026, 6, 1, tzinfo=timezone.utc)
_CONTAINER: Final = "durabletask-payloads"
_MIX: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1


def digits_of(number: int) -> str:
    """The digits of blob n: all partitions have their share."""
    return f"{number * _MIX & _MASK:016x}{number:016x}"


def token_of(number: int) -> str:
    return f"blob:v1:{_CONTAINER}:{digits_of(number)}"


def is_garbage(number: int) -> bool:
    return number % 5 == 4


class SimulatedContainer:
    """An inventory of `size` blobs, all two days old.

    Attributes:
        size: how many there were.
        deleted: a byte for each: how often it was deleted.
        before_deletion: is called with how many were deleted so far.
        now: the time by the service's clock.
    """

    location = "simulated"
    partitions: Sequence[str] = PARTITIONS

    def __init__(self, size: int) -> None:
        self.size = size
        self.deleted = bytearray(size)
        self.deletions = 0
        self.before_deletion: Callable[[int], None] = lambda count: None
        self.now = NOW
        # The numbers of a partition, as 4 bytes each: nothing else of a blob is kept.
        self._of: dict[str, bytearray] = {name: bytearray() for name in PARTITIONS}
        for number in range(size):
            self._of[digits_of(number)[:1]] += number.to_bytes(4, "big")

    def numbers(self, partition: str) -> Iterator[int]:
        packed = self._of[partition]
        for start in range(0, len(packed), 4):
            yield int.from_bytes(packed[start : start + 4], "big")

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        modified = NOW - timedelta(days=2)
        for number in self.numbers(partition):
            if not self.deleted[number]:
                name = digits_of(number)
                yield StoredPayload(
                    name, token_of(number), 1000, modified, f'"{number}"', True, f"order-{number}", 3000, None
                )

    def look(self, token: str) -> StoredPayload:
        raise AssertionError("all metadata was listed")

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        self.before_deletion(self.deletions)
        self.deletions += 1
        number = int(stored.name[16:], 16)
        self.deleted[number] += 1
        return True

    def name_of(self, token: str) -> str | None:
        return token.rpartition(":")[2]

    def service_time(self) -> datetime:
        return self.now


class SimulatedHub:
    """A hub whose instances mention the blobs of a container that are not garbage.

    Attributes:
        fails: says whether the listing fails before the n-th instance.
    """

    location = "simulated"

    def __init__(self, blobs: int, instances: int) -> None:
        self.blobs = blobs
        self.size = instances
        self.fails: Callable[[int], bool] = lambda number: False
        self.read = 0

    def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]:
        for number in range(self.size):
            if self.fails(number):
                raise HubError("broken by the test")
            state = pb.OrchestrationState(
                instanceId=f"order-{number}", orchestrationStatus=pb.ORCHESTRATION_STATUS_COMPLETED
            )
            state.createdTimestamp.FromSeconds(number + 1)
            yield state

    def instance(self, instance_id: str) -> pb.OrchestrationState | None:
        raise AssertionError("none is missed")

    def history(self, instance_id: str) -> Iterator[pb.HistoryChunk]:
        self.read += 1
        chunk = pb.HistoryChunk()
        for number in range(int(instance_id[6:]), self.blobs, self.size):
            if not is_garbage(number):
                chunk.events.add().taskCompleted.result.value = token_of(number)
        yield chunk

    def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]:
        return iter(())
