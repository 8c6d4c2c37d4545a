"""What observers cost: nothing where there is none, and what OpenTelemetry adds; and how long the import takes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Literal

from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from tests.benchmarks import messages
from tests.benchmarks.rows import Row
from tests.benchmarks.timing import calling, medians

from durabletask_payloads import Externalizer, InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.externalizer._receipt import Counters
from durabletask_payloads.observers.opentelemetry import OpenTelemetryObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    _Item = TypeVar("_Item")
    _Result = TypeVar("_Result")

_IMPORT_SECONDS = 0.060  # what is allowed, on top of protobuf and grpc
_IMPORT = """\
import time
import google.protobuf.message, google.protobuf.message_factory, google.protobuf.wrappers_pb2, grpc
started = time.process_time()
import durabletask_payloads
print(time.process_time() - started)
"""


class _NoObserver(Counters):
    """Counts as `Counters` does, and knows of no observers."""

    def moved(
        self, direction: Literal["upload", "download", "cached"], path: str, token: str, raw_bytes: int, seconds: float
    ) -> None:
        self.count(direction)
        self.count(f"{direction} bytes", raw_bytes)

    def counted(
        self, direction: Literal["upload", "download"], path: str, transfer: Callable[[_Item], _Result], item: _Item
    ) -> _Result:
        try:
            return transfer(item)
        except Exception:
            self.count("failure")
            raise


def observed_rows(*, rounds: int, seconds: float) -> Iterator[Row]:
    """The hardest cases: the smallest message, and payloads so small that the store takes no time."""
    store = InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=1_000))
    telemetry = OpenTelemetryObserver(MeterProvider([InMemoryMetricReader()]), TracerProvider())
    with (
        Externalizer(store, cache_bytes=0) as plain,
        Externalizer(store, cache_bytes=0) as before,
        Externalizer(store, cache_bytes=0, observer=telemetry) as observed,
    ):
        # The downloads have the counters of their Externalizer, too.
        before._counters = before._downloads._counters = _NoObserver(None)  # pyright: ignore[reportPrivateUsage]
        small = messages.orchestrator_response(messages.payloads(1, 100))
        calls = {"plain": calling(plain.externalize, small), "observed": calling(observed.externalize, small)}
        found = medians(calls, rounds=rounds, seconds=seconds)
        case = "nothing large: no observer against OpenTelemetry"
        yield Row(case, 0.95, found["plain"], found["observed"])

        def there_and_back(externalizer: Externalizer) -> None:
            message = pb.ActivityResponse(result=StringValue(value="x" * 2_000))
            receipt = externalizer.externalize(message)
            externalizer.deexternalize(message)
            receipt.rollback()

        sides = {"before": before, "plain": plain, "observed": observed}
        calls = {name: calling(there_and_back, side) for name, side in sides.items()}
        found = medians(calls, rounds=rounds, seconds=seconds)
        case = "2 KB out and in, into memory: code without observers against no observer"
        yield Row(case, 0.95, found["before"], found["plain"])
        case = "2 KB out and in, into memory: no observer against OpenTelemetry"
        yield Row(case, None, found["plain"], found["observed"])


def import_row(*, rounds: int) -> Row:
    """CPU time of the import on top of protobuf and grpc, in new processes."""
    times = [
        float(subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True).stdout)
        for _ in range(rounds)
    ]
    case = "import durabletask_payloads, after protobuf and grpc: 60 ms against ours, CPU"
    return Row(case, 1.0, _IMPORT_SECONDS, min(times))  # what else the machine does only adds to it
