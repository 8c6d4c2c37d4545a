"""Arrivals: work items deexternalized before the worker sees them, or completed as failed in its place."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

import grpc

from durabletask_payloads._errors import PayloadNotFoundError, PayloadTokenError
from durabletask_payloads.interceptors._protocol import log
from durabletask_payloads.interceptors._verdict import Abandon

from ._truncation import NotAcceptedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message

    from durabletask_payloads.externalizer._externalizer import Externalizer

    from ._registry import Registry
    from .kinds import WorkItem


# A mistake that ends in such an error: the token is that of a store which the interceptor does not know.
_TWO_STORES: Final = ". If payload_store= of the SDK is set beside the interceptor, remove it, or give both one store"


class Arrival(Enum):
    """What becomes of a work item that arrived, if it is not abandoned."""

    HAND_OVER = "hand over"
    DROP = "drop"  # it was completed as failed


def deexternalize_arrival(
    item: WorkItem,
    work: pb.WorkItem,
    externalizer: Externalizer,
    registry: Registry,
    send: Callable[[WorkItem, Message], grpc.StatusCode],
) -> Arrival | Abandon:
    """Deexternalize `work` in place; if that fails for good, complete it as failed.

    Args:
        item: the entry of `work` in the registry.
        send: sends a completion of `item`, and returns the status code of the call.
    """
    try:
        externalizer.deexternalize(work)
        return Arrival.HAND_OVER
    except BaseException as reason:  # whatever a store raises concerns this item alone
        error = reason
    hint = _TWO_STORES if isinstance(error, PayloadNotFoundError | PayloadTokenError) else ""
    verdict = registry.judge(item, error, "download")
    if isinstance(verdict, Abandon):
        registry.abandoning(item, verdict.delay, error, hint)
        return verdict
    if item.has_parts:
        try:
            if item.take_out(work, externalizer.deexternalize, lambda part: registry.is_final(item, part, "download")):
                registry.operations_failed(item)
                return Arrival.HAND_OVER
        except BaseException as reason:
            return _abandon(item, reason, registry)
    log.error("completing work item as failed %s error=%s%s", item.log_fields, verdict.error, hint)
    code = send(item, item.failed_arrival(work, verdict.error))
    if code is grpc.StatusCode.OK:
        registry.done(item)
        registry.completed_as_failed(item, verdict.error)
        return Arrival.DROP
    return _abandon(item, NotAcceptedError(code), registry)


def _abandon(item: WorkItem, error: BaseException, registry: Registry) -> Abandon:
    later = registry.retry_later(item)
    registry.abandoning(item, later.delay, error)
    return later
