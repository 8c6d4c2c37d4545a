"""The results of a soak, and their summary."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.slow.soak.storage import CUT_BODY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.slow.soak.server import LostAnswers
    from tests.slow.soak.worker import Farewell


class Deliveries(NamedTuple):
    """Deliveries of the work items of one kind.

    Attributes:
        items: how many there were: an orchestration or an entity is one, however often it has work.
        deliveries: how often one was handed to a worker.
        abandoned: how many of these the worker abandoned.
        lost: how many of these a worker had when its process ended or its stream did.
        most: the most deliveries of one item.
    """

    kind: str
    items: int
    deliveries: int
    abandoned: int
    lost: int
    most: int


class Payloads(NamedTuple):
    """Blobs in the container at the end, and those that the backend still refers to."""

    stored: int
    referenced: int
    missing: int

    @property
    def garbage(self) -> int:
        """Those that nothing refers to, for `sweep`: after a refusal, an abandonment or a kill they stay."""
        return self.stored - self.referenced + self.missing


class Exit(NamedTuple):
    """An exit of a worker without stop: how many work items were in flight, and whether its process ended by itself."""

    held: int
    is_done: bool


class Memory(NamedTuple):
    """The resident memory of a worker at its end, without its cache, in bytes.

    Attributes:
        calm: of a worker without trouble.
        troubled: of the last one of the soak, which had the same orchestrations.
    """

    calm: int
    troubled: int

    @property
    def extra(self) -> int:
        return self.troubled - self.calm


@dataclass
class Report:
    """The results of a soak.

    Attributes:
        seconds: how long it took.
        ended: the number of orchestrations by kind and by how they ended.
        stuck: the instances that did not end in time.
        wrong: results that differ from the expected ones, a line each.
        left: what was not there before, here or in the last worker: threads, file descriptors, processes.
        kills: how many work items the worker held each time that it was killed.
        exits: of a worker's process without stop.
        downtimes: of the storage, in seconds.
        retries: how often a client was told to try again later, by call.
        requests: that came to the storage; `asked` has them by method, `faults` those that went wrong, by how.
        answers: those that the server lost, and the messages that it refused since it had taken them.
        logged: the warnings and errors of all workers, by what they say.
    """

    seed: int
    count: int
    seconds: float = 0.0
    ended: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    stuck: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    left: list[str] = field(default_factory=list[str])
    kills: list[int] = field(default_factory=list[int])
    exits: list[Exit] = field(default_factory=list[Exit])
    downtimes: list[float] = field(default_factory=list[float])
    retries: Counter[str] = field(default_factory=Counter[str])
    requests: int = 0
    asked: Counter[str] = field(default_factory=Counter[str])
    faults: Counter[str] = field(default_factory=Counter[str])
    deliveries: list[Deliveries] = field(default_factory=list[Deliveries])
    payloads: Payloads = field(default_factory=lambda: Payloads(0, 0, 0))
    answers: LostAnswers | None = None
    memory: Memory = field(default_factory=lambda: Memory(0, 0))
    logged: Counter[str] = field(default_factory=Counter[str])
    farewell: Farewell | None = None

    @property
    def failed_requests(self) -> int:
        """How many requests failed for certain."""
        return self.faults.total() - self.faults[CUT_BODY]

    @property
    def has_failed(self) -> bool:
        """Whether something is stuck, wrong, left behind, or neither ended nor stuck."""
        return bool(self.stuck or self.wrong or self.left) or self.ended.total() != self.count

    def line(self) -> str:
        """Return what matters in one line."""
        return (
            f"soak, seed {self.seed}: {self.count} orchestrations in {self.seconds:.0f} s: {self.ended.total()} ended, "
            f"{len(self.stuck)} stuck, {len(self.wrong)} wrong; {len(self.left)} left behind"
        )

    def summary(self) -> str:
        """Return all of it as text for the terminal."""
        lines = [self.line()]
        lines += [f"  {group:<26}  {what:<46}  {number:>7}" for group, what, number in self._rows()]
        for title, found in (("STUCK", self.stuck), ("WRONG", self.wrong), ("LEFT BEHIND", self.left)):
            if found:
                lines += [title, *(f"  {line}" for line in found)]
        return "\n".join(lines)

    def _rows(self) -> Iterator[tuple[str, str, object]]:
        for (kind, how), number in sorted(self.ended.items()):
            yield kind, how, number
        for held in self.kills:
            yield "worker killed (SIGKILL)", "work items that it held", held
        for exited in self.exits:
            yield "worker exited, no stop", "work items that it held", exited.held
        for exited in self.exits:
            yield "worker exited, no stop", "ended by itself, without SIGKILL", exited.is_done
        for seconds in self.downtimes:
            yield "storage stopped (SIGTERM)", "seconds until it was back", f"{seconds:.1f}"
        yield "requests to the storage", "all", self.requests
        for method, number in sorted(self.asked.items()):
            yield "requests to the storage", method, number
        yield "requests to the storage", "while it was down", self.requests - self.asked.total()
        yield "requests to the storage", "failed by us", self.failed_requests
        yield (
            "requests to the storage",
            "failed by us, in %",
            f"{100 * self.failed_requests / max(1, self.requests):.1f}",
        )
        for how, number in sorted(self.faults.items()):
            yield "failed by us", how, number
        if self.answers is not None:
            for method, number in sorted(self.answers.lost.items()):
                yield "taken, answer lost", method, number
            for method, number in sorted(self.answers.refused.items()):
                yield "refused, taken before", method, number
            yield "refused, taken before", "sent again by gRPC", self.answers.resent
        yield "blobs at the end", "stored", self.payloads.stored
        yield "blobs at the end", "referred to by the backend", self.payloads.referenced
        yield "blobs at the end", "referred to, but not there", self.payloads.missing
        yield "blobs at the end", "garbage, for sweep", self.payloads.garbage
        for work in self.deliveries:
            yield f"work items: {work.kind}", "different ones", work.items
            yield f"work items: {work.kind}", "deliveries", work.deliveries
            yield f"work items: {work.kind}", "deliveries that were abandoned", work.abandoned
            yield f"work items: {work.kind}", "deliveries that a lost worker held", work.lost
            yield f"work items: {work.kind}", "the most deliveries of one", work.most
        for call, number in sorted(self.retries.items()):
            yield "client, told to try again", call, number
        for message, number in sorted(self.logged.items()):
            yield "logged by the workers", message, number
        if self.farewell is not None:
            yield "the last worker", "uploads", self.farewell.uploads
            yield "the last worker", "downloads", self.farewell.downloads
            yield "the last worker", "hits of the cache", self.farewell.cache_hits
        yield "the last worker", "MiB resident, without its cache", f"{self.memory.troubled / 2**20:.0f}"
        yield "a worker without trouble", "MiB resident, without its cache", f"{self.memory.calm / 2**20:.0f}"
