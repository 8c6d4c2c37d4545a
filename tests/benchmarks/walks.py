"""The walks: what each message costs when nothing of it has to move. No I/O.

Both sides get the same store, so that the walk alone makes the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from durabletask.payload import helpers as reference
from tests.benchmarks import messages
from tests.benchmarks.rows import Curve, Row
from tests.benchmarks.timing import calling, medians

import durabletask_payloads as ours
from durabletask_payloads import Externalizer, InMemoryPayloadStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from timeit import Timer

    from durabletask.payload import PayloadStore as SdkPayloadStore
    from google.protobuf.message import Message

_SIZES = {100: "100 B", 1_000: "1 KB", 100_000: "100 KB"}
_EVENTS = (10, 30, 100, 300, 1_000, 3_000, 10_000)


class Walks:
    """Measures with one store and one kept Externalizer.

    Args:
        rounds, seconds: how often, and how long at a time; see `medians`.
    """

    def __init__(self, *, rounds: int, seconds: float) -> None:
        self._rounds = rounds
        self._seconds = seconds
        self._store = InMemoryPayloadStore()
        # It has all that the SDK's helpers call, and is no subclass; the adapter would make each call slower.
        self._sdk_store = cast("SdkPayloadStore", self._store)
        self._kept = Externalizer(self._store)

    def rows(self) -> Iterator[Row]:
        # Not counted: until some memory is in use the reference has a pool of it made and freed at each call.
        self._out("", None, messages.orchestrator_response(messages.payloads(1, 100)))
        for size, name in _SIZES.items():
            # 100 payloads of 100 KB are more than gRPC takes in one message, and the budget would move some of them.
            many = 100 if size < 100_000 else 30
            for count, least in ((1, 15.0), (many, 80.0)):
                response = messages.orchestrator_response(messages.payloads(count, size))
                case = f"externalize OrchestratorResponse, {count} x {name}"
                yield self._out(case, self._least(size, least), response)
            for count, least in ((10, 25.0), (1_000, 50.0), (10_000, 40.0)):
                if count * size > 10_000_000:
                    continue
                request = messages.orchestrator_request(messages.payloads(count, size))
                case = f"deexternalize OrchestratorRequest, {count:,} x {name}"
                yield self._in(case, self._least(size, least), request)
            yield self._in(
                f"deexternalize ActivityRequest, {name}",
                self._least(size, 5.0, at_1_kb=3.0),
                messages.activity_request(messages.payload(size)),
            )
            yield self._out(
                f"externalize ActivityResponse, {name}",
                self._least(size, 1.0),
                messages.activity_response(messages.payload(size)),
            )
            yield self._in(
                f"deexternalize QueryInstancesResponse, 100 x 2 x {name}",
                self._least(size, 15.0),
                messages.query_response(messages.payloads(100, size)),
            )

    def curve(self) -> Curve:
        """deexternalize of a history without tokens, from 10 to 10,000 events of 100 bytes."""
        found = [self._in("", None, messages.orchestrator_request(messages.payloads(n, 100))) for n in _EVENTS]
        return Curve(
            title="deexternalize, no tokens, 100 bytes an event",
            x_label="events in the history",
            xs=_EVENTS,
            reference=tuple(row.reference for row in found),
            ours=tuple(row.ours for row in found),
            floor=tuple(row.floor or 0.0 for row in found),
            floor_is=found[0].floor_is,
        )

    def per_event(self) -> dict[int, float]:
        """Seconds for each event of a history without tokens, by the number of events, measured in alternation."""
        calls: dict[str, Timer] = {}
        for count in (100, 1_000, 10_000):
            message = messages.orchestrator_request(messages.payloads(count, 100))
            calls[str(count)] = calling(self._kept.deexternalize, message)
        # Short turns, and many: they are to differ by less than what the machine does from one second to the next.
        times = medians(calls, rounds=self._rounds * 8, seconds=self._seconds / 2)
        return {int(count): seconds / int(count) for count, seconds in times.items()}

    @staticmethod
    def _least(size: int, at_100_bytes: float, *, at_1_kb: float = 5.0) -> float:
        return {100: at_100_bytes, 1_000: min(at_100_bytes, at_1_kb)}.get(size, 1.0)

    def _out(self, case: str, least: float | None, message: Message) -> Row:
        return self._row(
            case,
            least,
            {
                "reference": calling(reference.externalize_payloads, message, self._sdk_store),
                "ours": calling(ours.externalize_payloads, message, self._store),
                "kept": calling(self._kept.externalize, message),
                "floor": calling(message.ByteSize),
            },
            "ByteSize()",
        )

    def _in(self, case: str, least: float | None, message: Message) -> Row:
        def search() -> int:
            return message.SerializeToString().rfind(b"blob:v")

        return self._row(
            case,
            least,
            {
                "reference": calling(reference.deexternalize_payloads, message, self._sdk_store),
                "ours": calling(ours.deexternalize_payloads, message, self._store),
                "kept": calling(self._kept.deexternalize, message),
                "floor": calling(search),
            },
            "SerializeToString().rfind()",
        )

    def _row(self, case: str, least: float | None, calls: dict[str, Timer], floor_is: str) -> Row:
        times = medians(calls, rounds=self._rounds, seconds=self._seconds)
        return Row(case, least, times["reference"], times["ours"], times["kept"], times["floor"], floor_is)
