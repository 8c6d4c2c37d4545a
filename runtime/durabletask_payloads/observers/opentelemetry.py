"""Metrics and spans for OpenTelemetry. Needs the extra `[otel]`: `pip install "durabletask-payloads[otel]"`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as _error:
    raise ImportError(
        f"OpenTelemetryObserver needs opentelemetry-api ({_error}): pip install durabletask-payloads[otel]"
    ) from _error

from durabletask_payloads._version import __version__

from ._base import PayloadObserver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from ._base import Abandonment, Purge, Substitution, TraceParent, Transfer, TransferFailure

__all__ = ["OpenTelemetryObserver"]

_SCOPE: Final = "durabletask_payloads"
_PREFIX: Final = "durabletask.payloads"

# The defaults of OpenTelemetry are for milliseconds, and end at 10,000.
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BYTES: Final = tuple(float(4**power * 1024) for power in range(10))  # 1 KiB to 256 MiB

_propagator: Final = TraceContextTextMapPropagator()


class OpenTelemetryObserver(PayloadObserver):
    """Counts and times transfers, and makes a span for each that took time. For `Externalizer(observer=...)`.

    Spans are children of the SDK's: an upload of a client of the span that is current where it was called, a transfer
    of a worker of the span that its work item carries. Neither payloads nor tokens, nor the texts of errors, which may
    hold tokens, become attributes. Safe for any number of threads.

    Args:
        meter_provider: where the instruments are made; None for the global one.
        tracer_provider: where the spans are made; None for the global one, which the SDK's spans go to.
    """

    def __init__(
        self, meter_provider: MeterProvider | None = None, tracer_provider: TracerProvider | None = None
    ) -> None:
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self._tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        self._transfers = meter.create_counter(
            f"{_PREFIX}.transfers", "{transfer}", "Payloads that were moved, found in the cache, or could not be moved."
        )
        self._size = meter.create_histogram(
            f"{_PREFIX}.size",
            "By",
            "Size of the payloads that were moved or found in the cache, before compression.",
            explicit_bucket_boundaries_advisory=_BYTES,
        )
        self._duration = meter.create_histogram(
            f"{_PREFIX}.duration",
            "s",
            "Duration of transfers, with the wait for a free slot.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._abandonments = meter.create_counter(
            f"{_PREFIX}.abandonments", "{work_item}", "Work items that were abandoned, to be delivered again."
        )
        self._substitutes = meter.create_counter(
            f"{_PREFIX}.substitutes", "{completion}", "Completions that a failure was sent for, or a truncated one."
        )
        self._purged = meter.create_counter(
            f"{_PREFIX}.purged", "{row}", "Rows of the scheduler's ledger of purged payloads that were reported."
        )

    def transferred(self, transfer: Transfer) -> None:
        """Count and time `transfer`; a span for it unless the payload was in the cache."""
        is_cached = transfer.direction == "cached"
        direction = "download" if is_cached else transfer.direction
        attributes = _attributes(direction, transfer.path, "cached" if is_cached else "ok")
        self._transfers.add(1, attributes)
        self._size.record(transfer.raw_bytes, attributes)
        if not is_cached:
            self._duration.record(transfer.seconds, attributes)
            size = {f"{_PREFIX}.size": transfer.raw_bytes}
            self._span(direction, transfer.seconds, transfer.trace, {**attributes, **size}, None)

    def failed(self, failure: TransferFailure) -> None:
        """Count and time `failure`, and make a span with an error for it."""
        error = type(failure.error).__name__
        attributes = {**_attributes(failure.direction, failure.path, "failed"), "error.type": error}
        self._transfers.add(1, attributes)
        self._duration.record(failure.seconds, attributes)
        self._span(failure.direction, failure.seconds, failure.trace, attributes, error)

    def abandoned(self, abandonment: Abandonment) -> None:
        """Count `abandonment`."""
        error = type(abandonment.error).__name__
        self._abandonments.add(1, {f"{_PREFIX}.kind": abandonment.kind, "error.type": error})

    def substituted(self, substitution: Substitution) -> None:
        """Count `substitution`."""
        attributes = {
            f"{_PREFIX}.kind": substitution.kind,
            f"{_PREFIX}.outcome": substitution.outcome,
            "error.type": type(substitution.error).__name__,
        }
        self._substitutes.add(1, attributes)

    def purged(self, purge: Purge) -> None:
        """Count the rows of `purge`."""
        attributes = {f"{_PREFIX}.disposition": purge.disposition, f"{_PREFIX}.outcome": purge.outcome}
        self._purged.add(purge.rows, attributes)

    def _span(
        self,
        direction: str,
        seconds: float,
        parent: TraceParent | None,
        attributes: Mapping[str, str | int],
        error: str | None,
    ) -> None:
        """Make a span that ends now, and began `seconds` ago."""
        ended = time.time_ns()
        span = self._tracer.start_span(
            f"payload {direction}",
            _context_of(parent),
            trace.SpanKind.CLIENT,
            attributes,
            start_time=ended - round(seconds * 1e9),
        )
        if error is not None:
            span.set_status(trace.StatusCode.ERROR, error)
        span.end(ended)


def _attributes(direction: str, path: str, outcome: str) -> dict[str, str]:
    return {f"{_PREFIX}.direction": direction, f"{_PREFIX}.field": path, f"{_PREFIX}.outcome": outcome}


def _context_of(parent: TraceParent | None) -> Context | None:
    """Return the context to make a child of `parent` in; None for the current one."""
    if parent is None:
        return None
    headers = {"traceparent": parent.traceparent}
    if parent.tracestate:
        headers["tracestate"] = parent.tracestate
    return _propagator.extract(headers)
