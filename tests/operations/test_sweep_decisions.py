"""What a sweep does with each payload, on a container of a few: at the limits, and when something fails midway."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from tests.operations.simulation import NOW, SimulatedContainer, SimulatedHub, digits_of, token_of

from durabletask_payloads import PayloadNotFoundError, PayloadStoreUnavailableError
from durabletask_payloads.operations._hub import HubError
from durabletask_payloads.operations._mentions import Run, SweepState
from durabletask_payloads.operations._sweep import SweepProgress, SweepSettings, sweep
from durabletask_payloads.stores._inventory import StoredPayload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
OLD = NOW - 2 * DAY
DELETE = SweepSettings(delete=True, rate=1e6)


def payload(number: int, *, size: int = 10, instance: str | None = "order-0") -> StoredPayload:
    return StoredPayload(digits_of(number), token_of(number), size, OLD, f"e{number}", True, instance, 20, None)


class Container(SimulatedContainer):
    """Has `held`, all in the first of two partitions.

    Attributes:
        answers: whether a payload is deleted, by its number, or what that raises; it is by default.
        found: what a look at each token finds.
    """

    partitions: Sequence[str] = ("", "00")

    def __init__(self, *held: StoredPayload) -> None:
        super().__init__(1)
        self.held = list(held)
        self.answers: dict[str, bool | Exception] = {}
        self.found: dict[str, StoredPayload] = {}
        self.gone: list[StoredPayload] = []

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        if not partition:
            yield from [stored for stored in self.held if stored not in self.gone]

    def look(self, token: str) -> StoredPayload:
        if token not in self.found:
            raise PayloadNotFoundError("gone")
        return self.found[token]

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        answer = self.answers.get(stored.name, True)
        if isinstance(answer, Exception):
            raise answer
        if answer:
            self.gone.append(stored)
        return answer


class Hub(SimulatedHub):
    """Has `order-0`, which ended, and mentions blobs 0 to 3 of 5; and `boxes` entities."""

    boxes = 0

    def __init__(self) -> None:
        super().__init__(5, 1)
        self.readings = 0

    def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]:
        self.readings += 1
        return super().instances()

    def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]:
        for number in range(self.boxes):
            found = pb.EntityMetadata(instanceId=f"@box@{number}")
            found.lastModifiedTime.FromDatetime(NOW)
            yield found


@pytest.fixture
def state(tmp_path: Path) -> Iterator[SweepState]:
    state = SweepState(tmp_path / "sweep.state")
    yield state
    state.close()


def test_garbage_is_deleted_as_it_was_listed(state: SweepState) -> None:
    container = Container(payload(3, size=7), payload(4, size=5), payload(9, size=3))
    report = sweep(container, Hub(), state, DELETE)
    assert sorted(stored.etag for stored in container.gone) == ["e4", "e9"]
    tally = report.tally
    assert (tally.examined, tally.examined_bytes, tally.garbage, tally.garbage_bytes) == (3, 15, 2, 8)
    assert (tally.mentioned, report.mentions, report.resumed, report.clock) == (1, 4, False, "service")
    assert report.estimate is None
    assert report.run.finished


def test_a_dry_run_says_the_same(state: SweepState) -> None:
    container = Container(payload(3, size=7), payload(4, size=5), payload(9, size=3))
    tally = sweep(container, Hub(), state, SweepSettings()).tally
    assert (tally.examined, tally.examined_bytes, tally.garbage, tally.garbage_bytes) == (3, 15, 2, 8)
    assert container.gone == []


def test_what_changed_is_left_and_counted(state: SweepState) -> None:
    container = Container(payload(4), payload(9))
    container.answers[digits_of(4)] = False
    tally = sweep(container, Hub(), state, DELETE).tally
    assert (tally.garbage, tally.garbage_bytes, tally.changed) == (1, 10, 1)


def test_what_is_gone_when_it_is_looked_at_is_counted_as_changed(state: SweepState) -> None:
    listed = [replace(payload(number), managed=None) for number in (4, 9, 14)]
    container = Container(*listed, payload(19))
    container.found[token_of(9)] = payload(9)
    container.found[token_of(14)] = replace(payload(14), managed=False)
    tally = sweep(container, Hub(), state, DELETE).tally
    assert (tally.garbage, tally.changed, tally.unmanaged) == (2, 1, 1)
    assert sorted(stored.etag for stored in container.gone) == ["e19", "e9"]


@pytest.mark.parametrize(("age", "is_young"), [(DAY, False), (DAY - SECOND, True), (DAY + SECOND, False)])
def test_the_grace_time(age: timedelta, is_young: bool, state: SweepState) -> None:
    container = Container(replace(payload(4), modified=NOW - age))
    tally = sweep(container, Hub(), state, DELETE).tally
    assert (tally.young, tally.garbage) == (is_young, not is_young)


@pytest.mark.parametrize(("grace", "is_young"), [(DAY, False), (3 * DAY, True)])
def test_a_delayed_signal_is_kept_only_by_a_grace_that_is_longer(
    grace: timedelta, is_young: bool, state: SweepState
) -> None:
    """The hub does not show it, and the entity runs meanwhile."""
    hub = Hub()
    hub.boxes = 1
    tally = sweep(Container(payload(4, instance="@box@0")), hub, state, SweepSettings(grace, delete=True)).tally
    assert (tally.young, tally.garbage) == (is_young, not is_young)


def test_a_deletion_that_fails_ends_the_sweep_and_the_next_one_goes_on(state: SweepState) -> None:
    container, hub = Container(payload(4), payload(9)), Hub()
    container.answers[digits_of(9)] = PayloadStoreUnavailableError("down")
    with pytest.raises(PayloadStoreUnavailableError):
        sweep(container, hub, state, DELETE)
    assert [stored.etag for stored in container.gone] == ["e4"]
    container.answers.clear()
    report = sweep(container, hub, state, DELETE)
    assert report.resumed
    assert (report.tally.examined, report.tally.garbage, report.tally.garbage_bytes) == (2, 2, 20)
    assert (report.tally.examined_bytes, len(container.gone)) == (20, 2)
    readings = hub.readings
    assert not sweep(container, hub, state, DELETE).resumed  # that one ended
    assert hub.readings > readings


@pytest.mark.parametrize(
    ("later", "is_resumed", "is_read"),
    [
        (timedelta(0), True, False),
        (timedelta(hours=1) - SECOND, True, False),
        (timedelta(hours=1), True, True),
        (DAY - SECOND, True, True),
        (DAY, False, True),
    ],
)
def test_how_long_a_run_can_be_gone_on_with(
    later: timedelta, is_resumed: bool, is_read: bool, state: SweepState
) -> None:
    container, hub = Container(payload(4)), Hub()
    container.answers[digits_of(4)] = PayloadStoreUnavailableError("down")
    with pytest.raises(PayloadStoreUnavailableError):
        sweep(container, hub, state, DELETE)
    container.answers.clear()
    container.now, readings = NOW + later, hub.readings
    report = sweep(container, hub, state, DELETE)
    assert report.resumed is is_resumed
    assert (hub.readings > readings) is is_read
    assert len(container.gone) == 1


@pytest.mark.parametrize("what", ["location", "hub", "no hub", "age", "mode"])
def test_another_run_is_not_gone_on_with(what: str, state: SweepState) -> None:
    container, hub = Container(payload(4)), Hub()
    container.answers[digits_of(4)] = PayloadStoreUnavailableError("down")
    with pytest.raises(PayloadStoreUnavailableError):
        sweep(container, hub, state, DELETE)
    container.answers.clear()
    settings = DELETE
    if what == "location":
        container.location = "another"
    elif what == "hub":
        hub.location = "another"
    elif what == "age":
        settings = replace(DELETE, age=DAY + SECOND)
    elif what == "mode":
        settings = SweepSettings()
    assert not sweep(container, None if what == "no hub" else hub, state, settings).resumed


def test_a_hub_with_entities_alone_is_one(state: SweepState) -> None:
    class WithoutInstances(Hub):
        def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]:
            return iter(())

    container, hub = Container(payload(4)), WithoutInstances()
    with pytest.raises(HubError, match="no instances and no entities"):
        sweep(container, hub, state, DELETE)
    assert container.gone == []
    hub.boxes = 1
    assert sweep(container, hub, state, DELETE).tally.garbage == 1


def test_progress(state: SweepState) -> None:
    seen: list[SweepProgress] = []
    sweep(Container(payload(3), payload(4)), Hub(), state, DELETE, seen.append)
    assert [progress.phase for progress in seen if progress.phase == "container"] == ["container"]
    assert seen[0][:5] == ("hub", 1, 0, 0, 2)
    last = seen[-1]
    assert last[:5] == ("container", 1, 0, 0, 2)
    assert (last.tally.examined, last.tally.garbage) == (2, 1)
    assert len(seen) >= 2


def test_progress_tells_instances_from_entities(state: SweepState) -> None:
    seen: list[SweepProgress] = []
    hub = Hub()
    hub.boxes = 2
    report = sweep(Container(payload(4)), hub, state, DELETE, seen.append)
    assert (report.run.instances, report.run.entities) == (1, 2)
    assert {progress[:3] for progress in seen if progress.entities} == {("hub", 1, 2), ("container", 1, 2)}


def test_what_is_left_is_counted(state: SweepState) -> None:
    """What is no payload by its name, and what nobody marked as one."""
    foreign = [replace(payload(number), token="") for number in (4, 9)]
    unmarked = [replace(payload(number), managed=False) for number in (14, 19, 24)]
    container = Container(*foreign, *unmarked)
    tally = sweep(container, Hub(), state, DELETE).tally
    assert (tally.examined, tally.foreign, tally.unmanaged, tally.garbage) == (5, 2, 3, 0)
    assert container.gone == []


def test_a_partition_that_is_done_is_not_listed_again(state: SweepState) -> None:
    class Flaky(Container):
        listed: ClassVar[list[str]] = []

        def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
            self.listed.append(partition)
            if self.listed == ["", "00"]:
                raise PayloadStoreUnavailableError("down")
            return super().list_payloads(partition)

    container = Flaky(payload(3), payload(4))
    with pytest.raises(PayloadStoreUnavailableError):
        sweep(container, Hub(), state, DELETE)
    report = sweep(container, Hub(), state, DELETE)
    assert report.resumed
    assert container.listed == ["", "00", "00"]
    assert (report.tally.examined, report.tally.mentioned, report.tally.garbage) == (2, 1, 1)


def test_that_the_hub_was_read_is_kept_before_the_container_is_listed(state: SweepState) -> None:
    """A sweep that is killed while it lists does not read the hub again."""

    class Watching(Container):
        location = "a container"
        kept: ClassVar[list[Run | None]] = []

        def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
            self.kept.append(state.run())
            return super().list_payloads(partition)

    container = Watching(payload(4))
    report = sweep(container, Hub(), state, DELETE)
    first = container.kept[0]
    assert first is not None
    assert (first.location, first.hub, first.hub_read, first.instances) == ("a container", Hub.location, True, 1)
    assert 0 < first.hub_seconds == report.run.hub_seconds < 60


def test_settings_at_their_limits() -> None:
    assert SweepSettings(age=timedelta(0), rate=0.001).delete is False
    with pytest.raises(ValueError, match="the age is"):
        SweepSettings(age=-SECOND)
    with pytest.raises(ValueError, match="the rate is 0"):
        SweepSettings(rate=0)
    assert (SweepSettings().age, SweepSettings().rate) == (DAY, 200.0)
