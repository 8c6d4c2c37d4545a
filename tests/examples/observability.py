"""Metrics and a trace of one orchestration with large payloads. `python -m tests.examples.observability [PICTURE]`.

Prints the trace as a tree and the metrics as a list; with the path of a picture, draws the trace too. Instead of the
in-memory exporters an application has those of its observability backend.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.sdk_backend import quiet, without_idle_second
from tests.support.tracing_backend import tracing_backend

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.observers.opentelemetry import OpenTelemetryObserver

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from durabletask.task import ActivityContext, OrchestrationContext, Task
    from opentelemetry.sdk.trace import ReadableSpan


def settle(context: OrchestrationContext, order: str) -> Generator[Task[Any], Any, Any]:
    invoice = yield context.call_activity(bill, input=order)
    archived = yield context.call_activity(archive, input=invoice)
    return archived


def bill(_: ActivityContext, order: str) -> str:
    return order * 2


def archive(_: ActivityContext, invoice: str) -> str:
    return f"{len(invoice)} characters"


class Span(NamedTuple):
    """A span of the trace: its depth in the tree, its name, and when it began and ended, in seconds."""

    depth: int
    name: str
    began: float
    ended: float


def run(spans: InMemorySpanExporter, reader: InMemoryMetricReader) -> None:
    """Run one orchestration. The providers are the global ones, which the SDK writes its spans to."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(MeterProvider([reader]))

    store, observer = InMemoryPayloadStore(), OpenTelemetryObserver()
    with (
        tracing_backend() as address,
        Externalizer(store, observer=observer) as of_worker,
        Externalizer(store, observer=observer) as of_client,  # as in another process, which has another cache
        TaskHubGrpcWorker(
            host_address=address, interceptors=[PayloadInterceptor(of_worker)], **quiet(TaskHubGrpcWorker)
        ) as worker,
        TaskHubGrpcClient(
            host_address=address, interceptors=[PayloadInterceptor(of_client)], **quiet(TaskHubGrpcClient)
        ) as client,
    ):
        without_idle_second(worker)
        worker.add_orchestrator(settle)
        worker.add_activity(bill)
        worker.add_activity(archive)
        worker.start()
        with trace.get_tracer("web shop").start_as_current_span("POST /orders"):
            client.schedule_new_orchestration(settle, input="x" * 1_000_000, instance_id="order-17")
            state = client.wait_for_orchestration_completion("order-17", timeout=30)
    assert state is not None
    assert state.runtime_status is OrchestrationStatus.COMPLETED


def tree_of(spans: Sequence[ReadableSpan]) -> Iterator[Span]:
    """Yield the spans of one trace, parents before children, and those in the order in which they began."""
    children: dict[int | None, list[ReadableSpan]] = defaultdict(list)
    known = {span.context.span_id for span in spans if span.context is not None}
    for span in sorted(spans, key=lambda one: one.start_time or 0):
        parent = None if span.parent is None else span.parent.span_id
        children[parent if parent in known else None].append(span)
    first = min(span.start_time or 0 for span in spans)

    def walk(parent: int | None, depth: int) -> Iterator[Span]:
        for span in children.get(parent, ()):
            began, ended = ((time or 0) - first for time in (span.start_time, span.end_time))
            field = (span.attributes or {}).get("durabletask.payloads.field")
            yield Span(depth, span.name if field is None else f"{span.name} {field}", began / 1e9, ended / 1e9)
            if span.context is not None:
                yield from walk(span.context.span_id, depth + 1)

    return walk(None, 0)


def points_of(reader: InMemoryMetricReader) -> Iterator[str]:
    """Yield a line for each data point of our metrics, without those of time."""
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        if metric.unit == "s":
            continue
        for point in metric.data.data_points:
            attributes = {key.rpartition(".")[2]: value for key, value in (point.attributes or {}).items()}
            words = " ".join(f"{key}={value}" for key, value in attributes.items())
            match point:
                case HistogramDataPoint():
                    yield f"{metric.name} {words}: {point.sum:,} {metric.unit} in {point.count}"
                case NumberDataPoint():
                    yield f"{metric.name} {words}: {point.value}"
                case _:
                    raise AssertionError(metric)


def draw(tree: Sequence[Span], path: Path) -> None:
    """Draw `tree` as bars over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.4 * len(tree) + 1), layout="constrained")
    axes: Any = figure.subplots()  # whose methods are not wholly typed
    for row, span in enumerate(tree):
        ours = span.name.startswith("payload")
        width = max(span.ended - span.began, 0.0002) * 1000
        axes.barh(row, width, left=span.began * 1000, color="tab:orange" if ours else "tab:blue")
    axes.set_yticks(range(len(tree)), ["    " * span.depth + span.name for span in tree], ha="left")
    axes.tick_params(axis="y", pad=400, length=0)
    axes.invert_yaxis()
    axes.set_xlabel("ms")
    axes.set_title("One orchestration: spans of the SDK (blue) and of payloads (orange)")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(str(path), dpi=100)  # pyright: ignore[reportUnknownMemberType] # as above


def main() -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    run(spans, reader)
    tree = list(tree_of(spans.get_finished_spans()))
    for span in tree:
        print(f"{'  ' * span.depth}{span.name}  {(span.ended - span.began) * 1000:.1f} ms")
    print()
    for point in points_of(reader):
        print(point)
    if len(sys.argv) > 1:
        draw(tree, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
