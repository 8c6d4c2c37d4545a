"""Metrics of known runs through the real OpenTelemetry SDK, exact in number and sum, and the spans of failures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from google.protobuf.wrappers_pb2 import StringValue
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader, Sum
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from tests.support.scripted_store import ScriptedStore
from tests.support.sdk_backend import quiet, sdk_backend, without_idle_second

from durabletask_payloads import (
    Abandonment,
    Externalizer,
    PayloadNotFoundError,
    PayloadTokenError,
    Purge,
    Substitution,
)
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.observers.opentelemetry import OpenTelemetryObserver

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from durabletask.task import ActivityContext, OrchestrationContext, Task

TEXT = "x" * 10_000
JSON_BYTES = len(TEXT) + 2  # with the quotes


class Point(NamedTuple):
    """A data point: how many, and their sum; None for a counter."""

    number: int
    sum: float | None


class Telemetry:
    """An observer and what it has measured."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._meters = MeterProvider([self._reader])
        self.observer = OpenTelemetryObserver(self._meters, tracers)

    @property
    def spans(self) -> Iterable[Any]:
        return self._spans.get_finished_spans()

    def points(self, name: str) -> dict[tuple[str, ...], Point]:
        """Return the data points of a metric by the values of their attributes, in alphabetical order of the keys."""
        points: dict[tuple[str, ...], Point] = {}
        for metric in self.metrics():
            if metric.name != f"durabletask.payloads.{name}":
                continue
            for point in metric.data.data_points:
                attributes: Mapping[str, object] = point.attributes or {}
                key = tuple(str(attributes[name]) for name in sorted(attributes))
                match metric.data:
                    case Histogram():
                        points[key] = Point(point.count, point.sum)
                    case Sum():
                        points[key] = Point(point.value, None)
                    case _:
                        raise AssertionError(metric)
        return points

    def metrics(self) -> Iterable[Any]:
        data = self._reader.get_metrics_data()
        return () if data is None else data.resource_metrics[0].scope_metrics[0].metrics

    def end(self) -> None:
        self._meters.shutdown()


@pytest.fixture
def telemetry() -> Generator[Telemetry]:
    telemetry = Telemetry()
    yield telemetry
    telemetry.end()


def chain(context: OrchestrationContext, text: str) -> Generator[Task[Any], Any, Any]:
    for _ in range(3):
        text = yield context.call_activity(echo, input=text)
    return text


def echo(_: ActivityContext, text: str) -> str:
    return text


def test_an_orchestration_in_numbers_and_sums(telemetry: Telemetry) -> None:
    """Worker and client have one cache each, so the client's input is the only download of the worker."""
    store = ScriptedStore()
    with (
        sdk_backend() as address,
        Externalizer(store, observer=telemetry.observer) as of_worker,
        Externalizer(store) as of_client,
        TaskHubGrpcWorker(
            host_address=address, interceptors=[PayloadInterceptor(of_worker)], **quiet(TaskHubGrpcWorker)
        ) as worker,
        TaskHubGrpcClient(
            host_address=address, interceptors=[PayloadInterceptor(of_client)], **quiet(TaskHubGrpcClient)
        ) as client,
    ):
        without_idle_second(worker)
        worker.add_orchestrator(chain)
        worker.add_activity(echo)
        worker.start()
        instance = client.schedule_new_orchestration(chain, input=TEXT)
        state = client.wait_for_orchestration_completion(instance, timeout=30)
        assert state is not None
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        stats = of_worker.stats
    uploads = {
        ("upload", "ScheduleTaskAction.input", "ok"): 3,
        ("upload", "ActivityResponse.result", "ok"): 3,
        ("upload", "CompleteOrchestrationAction.result", "ok"): 1,
    }
    downloads = {
        ("download", "ExecutionStartedEvent.input", "ok"): 1,
        # Turns two, three and four.
        ("download", "ExecutionStartedEvent.input", "cached"): 3,
        ("download", "ActivityRequest.input", "cached"): 3,
        ("download", "TaskScheduledEvent.input", "cached"): 1 + 2 + 3,
        ("download", "TaskCompletedEvent.result", "cached"): 1 + 2 + 3,
    }
    counts = {**uploads, **downloads}
    assert telemetry.points("transfers") == {key: Point(count, None) for key, count in counts.items()}
    assert telemetry.points("size") == {key: Point(count, count * JSON_BYTES) for key, count in counts.items()}
    durations = telemetry.points("duration")
    assert {key: point.number for key, point in durations.items()} == {
        key: count for key, count in counts.items() if key[2] == "ok"
    }
    assert all(point.sum is not None and point.sum > 0 for point in durations.values())
    assert sum(uploads.values()) == stats.uploads
    assert stats.downloads == 1
    assert len(list(telemetry.spans)) == stats.uploads + stats.downloads
    lengths = [(span.end_time - span.start_time) / 1e9 for span in telemetry.spans]
    assert sum(lengths) == pytest.approx(sum(point.sum or 0 for point in durations.values()), abs=1e-6)


def test_units(telemetry: Telemetry) -> None:
    error = PayloadNotFoundError("gone")
    observer = telemetry.observer
    with Externalizer(ScriptedStore(), observer=observer) as externalizer:
        externalizer.externalize(pb.ActivityResponse(result=StringValue(value=TEXT)))
    observer.abandoned(Abandonment("activity", "order-17", 0.5, error))
    observer.substituted(Substitution("activity", "order-17", "failed", error))
    observer.purged(Purge("absent", "deleted", 3))
    assert {metric.name.removeprefix("durabletask.payloads."): metric.unit for metric in telemetry.metrics()} == {
        "transfers": "{transfer}",
        "size": "By",
        "duration": "s",
        "abandonments": "{work_item}",
        "substitutes": "{completion}",
        "purged": "{row}",
    }


def test_a_failure_is_counted_by_its_error_and_shows_no_token(telemetry: Telemetry) -> None:
    store = ScriptedStore()
    with Externalizer(store, observer=telemetry.observer, cache_bytes=0) as externalizer:
        message = pb.ActivityResponse(result=StringValue(value=TEXT))
        externalizer.externalize(message)
        token = message.result.value
        store.delete(token)
        with pytest.raises(PayloadNotFoundError, match=token):
            externalizer.deexternalize(message)
    key = ("download", "ActivityResponse.result", "failed", "PayloadNotFoundError")
    assert telemetry.points("transfers")[key] == Point(1, None)
    assert telemetry.points("duration")[key].number == 1
    assert key not in telemetry.points("size")
    _, span = telemetry.spans
    assert span.status.status_code is StatusCode.ERROR
    assert token not in span.to_json()
    assert not span.events


def test_work_items_are_counted_by_kind_and_error(telemetry: Telemetry) -> None:
    gone, elsewhere = PayloadNotFoundError("gone"), PayloadTokenError("elsewhere")
    for _ in range(2):
        telemetry.observer.abandoned(Abandonment("orchestration", "order-17", 0.5, gone))
    telemetry.observer.substituted(Substitution("entity", "ledger", "operation failed", elsewhere))
    telemetry.observer.substituted(Substitution("activity", "order-17", "truncated", gone))
    assert telemetry.points("abandonments") == {("orchestration", "PayloadNotFoundError"): Point(2, None)}
    assert telemetry.points("substitutes") == {
        ("entity", "operation failed", "PayloadTokenError"): Point(1, None),
        ("activity", "truncated", "PayloadNotFoundError"): Point(1, None),
    }


def test_rows_of_the_ledger_are_counted_by_what_became_of_them(telemetry: Telemetry) -> None:
    telemetry.observer.purged(Purge("absent", "deleted", 3))
    telemetry.observer.purged(Purge("denied", "retry", 1))
    telemetry.observer.purged(Purge("absent", "deleted", 2))
    assert telemetry.points("purged") == {
        ("deleted", "absent"): Point(5, None),
        ("retry", "denied"): Point(1, None),
    }
