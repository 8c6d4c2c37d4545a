"""Reports of work items that do not complete as usual: log lines, and events for the observer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from durabletask_payloads.interceptors._protocol import log
from durabletask_payloads.observers._base import Abandonment, Substitution
from durabletask_payloads.observers._safe import SafeObserver

if TYPE_CHECKING:
    import durabletask.internal.orchestrator_service_pb2 as pb
    import grpc

    from durabletask_payloads.observers._base import PayloadObserver

    from .kinds import WorkItem


class Reports:
    """Logs, and tells an observer. Safe for any number of threads."""

    def __init__(self, observer: PayloadObserver | None) -> None:
        self._safe = None if observer is None else SafeObserver(observer)

    def arrived(self, item: WorkItem, work: pb.WorkItem) -> None:
        """Note for the observer which span `item` belongs to."""
        if self._safe is not None:
            with suppress(AttributeError):  # older schemas do not have all of the fields
                item.trace = item.trace_of(work)

    def abandoning(self, item: WorkItem, delay: float, error: BaseException) -> None:
        """Report that `item` is abandoned in `delay` seconds."""
        log.warning("abandoning work item %s delay=%.2g error=%s", item.log_fields, delay, error)
        if self._safe is not None:
            self._safe.tell(self._safe.observer.abandoned, Abandonment(item.kind, item.instance_id, delay, error))

    def failed(self, item: WorkItem, error: BaseException) -> None:
        """Report that `item` was completed as failed, and the server accepted that."""
        self._substituted(Substitution(item.kind, item.instance_id, "failed", error))

    def truncated(self, item: WorkItem, error: BaseException) -> None:
        """Report that `item` was completed with a truncated completion, and the server accepted that."""
        self._substituted(Substitution(item.kind, item.instance_id, "truncated", error))

    def operations_failed(self, item: WorkItem) -> None:
        """Report the operations that were taken out of a batch."""
        for position, _, error in item.failed:
            log.error("failing entity operation %s operation=%d error=%s", item.log_fields, position, error)
            self._substituted(Substitution(item.kind, item.instance_id, "operation failed", error))

    def _substituted(self, substitution: Substitution) -> None:
        if self._safe is not None:
            self._safe.tell(self._safe.observer.substituted, substitution)


class NotAcceptedError(Exception):
    """A substitute completion was not accepted: the reason for an abandonment, never raised."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(f"its substitute completion was not accepted: {code.name}")
