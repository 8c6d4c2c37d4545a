"""The sweep: on a hub at work, at scale, broken off and gone on with, and what it never deletes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from tests.operations.hub_at_work import play_and_sweep
from tests.operations.simulation import NOW, SimulatedContainer, SimulatedHub, digits_of, is_garbage, token_of

from durabletask_payloads import PayloadAccessDeniedError, PayloadError, PayloadNotFoundError
from durabletask_payloads.operations._hub import HubError
from durabletask_payloads.operations._mentions import SweepState, mentions_in
from durabletask_payloads.operations._sweep import SweepReport, SweepSettings, sweep
from durabletask_payloads.stores._inventory import StoredPayload

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.azurite import Azurite

DELETE = SweepSettings(delete=True, rate=1e6)
BLOBS = 2000


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SweepState]:
    state = SweepState(tmp_path / "sweep.state")
    yield state
    state.close()


def swept(container: SimulatedContainer) -> set[int]:
    """The numbers of the blobs that were deleted, each once."""
    assert max(container.deleted) <= 1
    return {number for number in range(container.size) if container.deleted[number]}


ALL_GARBAGE = {number for number in range(BLOBS) if is_garbage(number)}


# ---- a hub at work, and at scale ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_hub_at_work(seed: int, tmp_path: Path) -> None:
    play_and_sweep((tmp_path / "payloads").as_uri(), seed, tmp_path, each=12)


@pytest.mark.slow
def test_a_hub_at_work_on_azurite(azurite: Azurite, container: str, tmp_path: Path) -> None:
    play_and_sweep(f"azurite://127.0.0.1:{azurite.port}/{container}", 3, tmp_path, each=8)


def test_at_scale() -> None:
    """Three times broken off; the full size is that of `python -m tests.operations scale`."""
    program = [sys.executable, "-m", "tests.operations.scale_probe", "50000"]
    ran = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    measured = json.loads(ran.stdout)
    assert measured["resumptions"] == 3
    assert measured["most_mb"] < 300


# ---- the hub is read to its end, or nothing is deleted -----------------------------------------------------------


class FailingHub(SimulatedHub):
    """Fails in one of its calls, at the last moment."""

    def __init__(self, where: str) -> None:
        super().__init__(BLOBS, 100)
        if where == "instances":
            self.fails = lambda number: number == 99
        self._where = where

    def history(self, instance_id: str) -> Iterator[pb.HistoryChunk]:
        yield from super().history(instance_id)
        if self._where == "history" and instance_id == "order-99":
            raise HubError("broken by the test")

    def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]:
        if self._where == "entities":
            raise HubError("broken by the test")
        return super().entities()


@pytest.mark.parametrize("where", ["instances", "history", "entities"])
def test_nothing_is_deleted_where_the_hub_fails(where: str, state: SweepState) -> None:
    container = SimulatedContainer(BLOBS)
    for _ in range(2):  # the second one must not go on with half of the mentions
        with pytest.raises(HubError, match="broken by the test"):
            sweep(container, FailingHub(where), state, DELETE)
        assert not container.deletions
    report = sweep(container, SimulatedHub(BLOBS, 100), state, DELETE)
    assert swept(container) == ALL_GARBAGE
    assert report.resumed


def test_an_empty_hub_is_taken_for_the_wrong_one(state: SweepState) -> None:
    container = SimulatedContainer(BLOBS)
    with pytest.raises(HubError, match="no instances and no entities"):
        sweep(container, SimulatedHub(BLOBS, 0), state, DELETE)
    assert not container.deletions


class ShiftingHub(SimulatedHub):
    """Leaves out an instance in some listings, as a server that counts while others are purged.

    Attributes:
        left_out: the instance of each listing.
    """

    def __init__(self, *left_out: int) -> None:
        super().__init__(BLOBS, 100)
        self.left_out = list(left_out)

    def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]:
        left_out = self.left_out.pop(0) if self.left_out else -1
        return (one for one in super().instances() if one.instanceId != f"order-{left_out}")

    def instance(self, instance_id: str) -> pb.OrchestrationState | None:
        return None


def test_an_instance_that_a_listing_leaves_out(state: SweepState) -> None:
    container = SimulatedContainer(BLOBS)
    report = sweep(container, ShiftingHub(17), state, DELETE)
    assert swept(container) == ALL_GARBAGE
    assert report.run.instances == 100


class NeverSettles(ShiftingHub):
    """With each listing, one more instance than before."""

    def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]:
        self.left_out.append(0)
        shown = {f"order-{99 - number}" for number in range(50 + len(self.left_out))}
        return (one for one in SimulatedHub.instances(self) if one.instanceId in shown)


def test_a_hub_that_does_not_settle(state: SweepState) -> None:
    container = SimulatedContainer(BLOBS)
    with pytest.raises(HubError, match="sweep when less is purged"):
        sweep(container, NeverSettles(), state, DELETE)
    assert not container.deletions


# ---- broken off, and gone on with --------------------------------------------------------------------------------


def interrupt_at(*counts: int) -> Callable[[int], None]:
    left = sorted(counts)

    def before_deletion(count: int) -> None:
        if left and count >= left[0]:
            del left[0]
            raise KeyboardInterrupt

    return before_deletion


@pytest.mark.parametrize("seed", range(10))
def test_broken_off_and_gone_on_with(seed: int, tmp_path: Path, state: SweepState) -> None:
    """The same is deleted and counted as without a break, and the hub is read once."""
    whole = sweep(SimulatedContainer(BLOBS), SimulatedHub(BLOBS, 100), state, DELETE)
    container, hub = SimulatedContainer(BLOBS), SimulatedHub(BLOBS, 100)
    container.before_deletion = interrupt_at(*random.Random(seed).sample(range(400), 5))
    report: SweepReport | None = None
    breaks = 0
    while report is None:
        broken = SweepState(tmp_path / "broken.state")
        try:
            report = sweep(container, hub, broken, DELETE)
        except KeyboardInterrupt:
            breaks += 1
        finally:
            broken.close()
    assert breaks
    assert report.resumed
    assert report.tally == whole.tally
    assert swept(container) == ALL_GARBAGE
    assert hub.read == 100


def test_a_hub_that_was_read_long_ago_is_read_again(state: SweepState) -> None:
    """What is mentioned meanwhile is kept: as after a rewind, or a restart of an instance."""
    container = SimulatedContainer(BLOBS)
    container.before_deletion = interrupt_at(10)
    hub = SimulatedHub(BLOBS, 100)
    with pytest.raises(KeyboardInterrupt):
        sweep(container, hub, state, DELETE)
    gone = swept(container)
    container.now += timedelta(hours=2)

    class MentionsAll(SimulatedHub):
        def history(self, instance_id: str) -> Iterator[pb.HistoryChunk]:
            yield pb.HistoryChunk(events=[pb.HistoryEvent(eventId=1)])
            for number in range(int(instance_id[6:]), self.blobs, self.size):
                chunk = pb.HistoryChunk()
                chunk.events.add().eventRaised.input.value = f"see {token_of(number)}"
                yield chunk

    report = sweep(container, MentionsAll(BLOBS, 100), state, DELETE)
    assert report.resumed
    assert swept(container) == gone


@pytest.mark.parametrize(
    ("later", "settings"),
    [
        (timedelta(days=2), DELETE),
        (timedelta(0), replace(DELETE, age=timedelta(hours=30))),
        (timedelta(0), replace(DELETE, delete=False)),
    ],
)
def test_another_run_begins_anew(later: timedelta, settings: SweepSettings, state: SweepState) -> None:
    container, hub = SimulatedContainer(BLOBS), SimulatedHub(BLOBS, 100)
    container.before_deletion = interrupt_at(10)
    with pytest.raises(KeyboardInterrupt):
        sweep(container, hub, state, DELETE)
    deleted = container.deletions
    assert deleted >= 10
    container.now += later
    report = sweep(container, hub, state, settings)
    assert not report.resumed
    assert hub.read == 200
    assert report.tally.examined == BLOBS - deleted


def test_a_run_that_ended_is_not_gone_on_with(state: SweepState) -> None:
    container, hub = SimulatedContainer(BLOBS), SimulatedHub(BLOBS, 100)
    sweep(container, hub, state, DELETE)
    again = sweep(container, hub, state, DELETE)
    assert (again.resumed, again.tally.garbage, again.tally.examined) == (False, 0, BLOBS - len(ALL_GARBAGE))


def test_state_files_that_cannot_be_used(tmp_path: Path, state: SweepState) -> None:
    state.count_mentions()
    with pytest.raises(PayloadError, match="another sweep may be using it"):
        SweepState(tmp_path / "sweep.state")
    (tmp_path / "other").write_text("a text that is no database, and longer than the header of one" * 10)
    with pytest.raises(PayloadError, match="name another one"):
        SweepState(tmp_path / "other")


# ---- what is deleted, one payload at a time ----------------------------------------------------------------------

OLD = NOW - timedelta(days=2)
STORED = StoredPayload(digits_of(1), token_of(1), 10, OLD, "e", True, "order-1", 20, None)


class OnePayload(SimulatedContainer):
    """A container with one payload, and without metadata in its listing if `looked_at` has it."""

    def __init__(self, stored: StoredPayload, looked_at: StoredPayload | None = None) -> None:
        super().__init__(2)
        self._stored = stored
        self._looked_at = looked_at

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        if self._stored.name[:1] == partition:
            yield self._stored

    def look(self, token: str) -> StoredPayload:
        if self._looked_at is None:
            raise PayloadNotFoundError(f"{token} is gone")
        return self._looked_at


class OneInstance(SimulatedHub):
    """A hub with `order-1`, which mentions nothing."""

    def __init__(
        self, status: pb.OrchestrationStatus.ValueType, updated: datetime, entity: datetime | None = None
    ) -> None:
        super().__init__(0, 1)
        self._status = status
        self._updated = updated
        self._entity = entity

    def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]:
        found = pb.OrchestrationState(instanceId="order-1", orchestrationStatus=self._status)
        found.lastUpdatedTimestamp.FromDatetime(self._updated)
        yield found

    def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]:
        if self._entity is not None:
            found = pb.EntityMetadata(instanceId="@box@1")
            found.lastModifiedTime.FromDatetime(self._entity)
            yield found


ENDED = OneInstance(pb.ORCHESTRATION_STATUS_COMPLETED, OLD)


def only(report: SweepReport) -> set[str]:
    """What the one payload was counted as."""
    names = ("foreign", "unmanaged", "young", "mentioned", "waiting", "garbage", "changed")
    assert report.tally.examined == 1
    return {name for name in names if getattr(report.tally, name)}


@pytest.mark.parametrize(
    ("stored", "counted"),
    [
        (STORED, "garbage"),
        (replace(STORED, managed=False), "unmanaged"),
        (replace(STORED, token=""), "foreign"),
        (replace(STORED, modified=NOW - timedelta(hours=23)), "young"),
        (replace(STORED, modified=NOW + timedelta(hours=5)), "young"),
    ],
)
def test_what_is_deleted(stored: StoredPayload, counted: str, state: SweepState) -> None:
    container = OnePayload(stored)
    assert only(sweep(container, ENDED, state, DELETE)) == {counted}
    assert container.deletions == (counted == "garbage")


@pytest.mark.parametrize("managed", [True, False])
def test_a_listing_without_metadata(managed: bool, state: SweepState) -> None:
    listed = replace(STORED, managed=None, instance_id=None, raw_bytes=None)
    container = OnePayload(listed, replace(STORED, managed=managed))
    assert only(sweep(container, ENDED, state, DELETE)) == {"garbage" if managed else "unmanaged"}
    assert container.deletions == managed


def test_a_payload_that_goes_between_its_listing_and_a_look_at_it(state: SweepState) -> None:
    container = OnePayload(replace(STORED, managed=None))
    assert only(sweep(container, ENDED, state, DELETE)) == {"changed"}
    assert container.deletions == 0


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("hub", "waits"),
    [
        (OneInstance(pb.ORCHESTRATION_STATUS_RUNNING, OLD), True),
        (OneInstance(pb.ORCHESTRATION_STATUS_SUSPENDED, OLD + DAY), True),
        (OneInstance(pb.ORCHESTRATION_STATUS_RUNNING, OLD + DAY + timedelta(seconds=1)), False),
        (ENDED, False),
    ],
)
def test_an_instance_that_may_have_a_message_to_come(hub: OneInstance, waits: bool, state: SweepState) -> None:
    """Its worker is down for days: the payload of an event that waits is in no history."""
    container = OnePayload(STORED)
    assert only(sweep(container, hub, state, DELETE)) == {"waiting" if waits else "garbage"}
    assert container.deletions != waits


@pytest.mark.parametrize(("updated", "waits"), [(OLD, True), (NOW, False)])
def test_a_payload_of_an_unknown_instance(updated: datetime, waits: bool, state: SweepState) -> None:
    """A client of another SDK wrote it, with the mark but without the instance: any may have the message to come."""
    container = OnePayload(replace(STORED, instance_id=None))
    hub = OneInstance(pb.ORCHESTRATION_STATUS_RUNNING, updated)
    assert only(sweep(container, hub, state, DELETE)) == {"waiting" if waits else "garbage"}
    assert container.deletions != waits


@pytest.mark.parametrize("ran", [OLD, NOW])
def test_an_entity_that_may_have_a_message_to_come(ran: datetime, state: SweepState) -> None:
    container = OnePayload(replace(STORED, instance_id="@box@1"))
    hub = OneInstance(pb.ORCHESTRATION_STATUS_COMPLETED, OLD, entity=ran)
    assert only(sweep(container, hub, state, DELETE)) == {"waiting" if ran == OLD else "garbage"}


@pytest.mark.parametrize(
    "held", [pb.EntityMetadata(lockedBy=StringValue(value="order-2")), pb.EntityMetadata(backlogQueueSize=1)]
)
def test_an_entity_in_which_operations_wait(held: pb.EntityMetadata, state: SweepState) -> None:
    """The owner of a lock has the entity run, while the signals of others wait for the lock to go."""

    class Hub(OneInstance):
        def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]:
            for found in super().entities():
                found.MergeFrom(held)
                yield found

    container = OnePayload(replace(STORED, instance_id="@box@1"))
    hub = Hub(pb.ORCHESTRATION_STATUS_COMPLETED, OLD, entity=NOW)
    assert only(sweep(container, hub, state, DELETE)) == {"waiting"}
    assert not container.deletions


def test_what_any_entity_mentions_is_kept(state: SweepState) -> None:
    class Hub(OneInstance):
        def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]:
            yield from super().entities()
            found = pb.EntityMetadata(instanceId="@box@2", serializedState=StringValue(value=STORED.token))
            found.lastModifiedTime.FromDatetime(NOW)
            yield found

    container = OnePayload(STORED)
    hub = Hub(pb.ORCHESTRATION_STATUS_COMPLETED, OLD, entity=NOW)
    assert only(sweep(container, hub, state, DELETE)) == {"mentioned"}
    assert not container.deletions


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_local_clock_that_is_wrong(hours: int, state: SweepState, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + hours * 3600)
    young = OnePayload(replace(STORED, modified=NOW - timedelta(hours=23)))
    assert only(sweep(young, ENDED, state, DELETE)) == {"young"}
    old = OnePayload(replace(STORED, modified=NOW - timedelta(hours=25)))
    assert only(sweep(old, ENDED, state, DELETE)) == {"garbage"}


def test_the_right_to_write_is_needed_to_delete_only(state: SweepState, monkeypatch: pytest.MonkeyPatch) -> None:
    container = OnePayload(STORED)

    def refuse() -> datetime:
        raise PayloadAccessDeniedError("no right to write")

    monkeypatch.setattr(container, "service_time", refuse)
    assert sweep(container, ENDED, state, SweepSettings()).clock == "local"
    with pytest.raises(PayloadAccessDeniedError):
        sweep(container, ENDED, state, DELETE)
    assert not container.deletions


def test_by_age_without_a_hub(state: SweepState) -> None:
    container = SimulatedContainer(BLOBS)
    assert sweep(container, None, state, replace(DELETE, age=timedelta(days=3))).tally.young == BLOBS
    assert sweep(container, None, state, replace(DELETE, age=timedelta(days=1))).tally.garbage == BLOBS
    assert len(swept(container)) == BLOBS


def test_a_dry_run_deletes_nothing_and_estimates(state: SweepState) -> None:
    container = SimulatedContainer(BLOBS)
    report = sweep(container, SimulatedHub(BLOBS, 100), state, SweepSettings(rate=100))
    assert not container.deletions
    assert (report.tally.garbage, report.tally.mentioned) == (BLOBS // 5, BLOBS * 4 // 5)
    assert report.mentions == BLOBS * 4 // 5
    assert report.estimate is not None
    assert report.estimate.deletion_seconds == pytest.approx(200_000)


def test_settings() -> None:
    with pytest.raises(ValueError, match="the age is -1 day"):
        SweepSettings(timedelta(days=-1))
    for rate in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"the rate is {rate:g}"):
            SweepSettings(rate=rate)


# ---- mentions ----------------------------------------------------------------------------------------------------

DIGITS = "0123456789abcdef" * 2
URL = "https://account.blob.core.windows.net"


@pytest.mark.parametrize(
    "text",
    [
        f"blob:v1:container:{DIGITS}",
        f"blob:v1:container:order 17/{DIGITS}",
        f"blob:v1:container:{'ü' * 490}/{DIGITS}",
        f"blob:v2:{URL}/container/{DIGITS}",
        f"blob:v2:HTTPS://ACCOUNT.privatelink.example:443/container/{DIGITS}",
        f"object:v1:s3://bucket/pre/fix/{DIGITS}",
        f"failed: blob:v1:container:{DIGITS}: it was deleted",
        json.dumps({"a": [f"blob:v1:c-1:é/{DIGITS}"]}),
        json.dumps(json.dumps(f"blob:v2:{URL}/container/{DIGITS}")).replace("/", "\\/"),
        f"blob:v1:container:order%2F{DIGITS}&next",
        "blob:v1:" + "x" * 5000 + f" blob:v1:container:{DIGITS}",
        "blob:v1:x " * 3000 + f"blob:v1:container:{DIGITS}" + "blob:v1:x " * 3000,
        f"blob:v3:container:{DIGITS}",
        f"blob%3Av1%3Acontainer%3A{DIGITS}",
    ],
)
def test_mentions(text: str) -> None:
    state = pb.OrchestrationState(instanceId="order-1")
    state.customStatus.value = text
    state.input.value = "f" * 32
    assert mentions_in(state.SerializeToString()) == {bytes.fromhex(DIGITS)}


def test_all_of_many_mentions() -> None:
    numbers = range(3000)
    data = "".join(f"[{token_of(number)}{'x' * (number % 50)}]" for number in numbers).encode()
    assert mentions_in(data) == {bytes.fromhex(digits_of(number)) for number in numbers}


def test_ids_are_no_mentions() -> None:
    assert mentions_in(json.dumps({"id": DIGITS, "url": f"https://example/{DIGITS}"}).encode()) == set()
