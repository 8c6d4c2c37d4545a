"""Plans: which payloads of a message to move, decided by one walk and without I/O."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import durabletask_payloads_walkers as walkers
from durabletask_payloads._errors import PayloadTooLargeError

from ._plan import DeexternalizePlan, ExternalizePlan, PlannedDownload, PlannedUpload, check_maximum
from ._sizing import estimate
from ._walkers import walkers_by_class

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._sizing import Sizing

MESSAGE_BUDGET_BYTES = 3_900_000
"""The default limit of an outgoing message, in bytes: gRPC accepts 4 MiB, headers and transport included."""

LONGEST_TOKEN = 512
"""No store of this package writes a longer token, in bytes. Tells, before an upload, how much it saves at least."""


class OverBudget(NamedTuple):
    """The sizes of a message that is over `message_budget_bytes`, in bytes.

    Attributes:
        size: with all of its payloads.
        smallest: with every payload replaced by a token that the store can take.
        budget: the limit.
    """

    size: int
    smallest: int
    budget: int


class UploadPlan(NamedTuple):
    """The payloads to upload for one message.

    Attributes:
        uploads: the payloads, in the order of the walk; those that only the budget asks for come last, largest first.
        error: set when a payload is over `max_stored_payload_bytes`, so that the message cannot be externalized.
        over_budget: set when the message as a whole is over `message_budget_bytes`, or so nearly that it was not
            measured, since its uploads make it fit.
    """

    uploads: Sequence[PlannedUpload] = ()
    error: PayloadTooLargeError | None = None
    over_budget: OverBudget | None = None

    @property
    def fits(self) -> bool:
        """Whether the message is within its budget once `uploads` are stored."""
        return self.over_budget is None or self.over_budget.smallest <= self.over_budget.budget


NOTHING_TO_UPLOAD = UploadPlan()


def plan_uploads(
    message: Message, store: PayloadStoreLike, size: int | None, budget: int | None, sizing: Sizing
) -> UploadPlan:
    """Plan the uploads for `message`: payloads over the threshold, and what the budget asks for.

    Args:
        message: a message of the Durable Task protos.
        store: its options have threshold and maximum.
        size: the size of `message` by `sizing`, in bytes; None if it was not measured. It is a parameter because
            measuring takes, for a moment, as much memory as two further copies.
        budget: the largest that a message may be, in bytes; None for no limit.
        sizing: learns from the plan.
    """
    is_within = size is not None and (budget is None or size <= budget)
    planned = _plan_measured(message, store) if is_within else _plan_within(message, store, size, budget)
    sizing.learn(message, planned.uploads)
    return planned


def _plan_measured(message: Message, store: PayloadStoreLike) -> UploadPlan:
    plan = ExternalizePlan(store.options.threshold_bytes, sys.maxsize, store.is_known_token)
    _walk(message, plan)
    return UploadPlan(plan.uploads, _error(plan.uploads, store.options.max_stored_payload_bytes))


def _plan_within(message: Message, store: PayloadStoreLike, size: int | None, budget: int | None) -> UploadPlan:
    """Plan by one walk that collects whatever could help; the sizes then decide."""
    threshold, maximum = store.options.threshold_bytes, store.options.max_stored_payload_bytes
    plan = ExternalizePlan(min(threshold, LONGEST_TOKEN), sys.maxsize, store.is_known_token, include_diagnostics=True)
    _walk(message, plan)
    chosen: list[PlannedUpload] = []
    rest: list[PlannedUpload] = []
    for upload in plan.uploads:
        is_payload = walkers.FIELDS[upload.path] == "payload"
        (chosen if is_payload and len(upload.data) > threshold else rest).append(upload)
    error = _error(chosen, maximum)
    rest = [upload for upload in rest if _saving(upload) > 0 and len(upload.data) <= maximum]
    rest.sort(key=lambda upload: len(upload.data), reverse=True)
    storable = sum(_saving(upload) for upload in chosen if _saving(upload) > 0 and len(upload.data) <= maximum)
    storable += sum(_saving(upload) for upload in rest)
    if budget is None:
        return UploadPlan(chosen, error)
    if size is None:
        size = _measured(message, plan.uploads, budget, storable=storable, must_be_exact=len(rest) > 0)
    if size <= budget:
        return UploadPlan(chosen, error)
    saved = sum(_saving(upload) for upload in chosen)
    smallest = size - storable
    for upload in rest:
        if size - saved <= budget:
            break
        chosen.append(upload)
        saved += _saving(upload)
    return UploadPlan(chosen, error, OverBudget(size, smallest, budget))


def _measured(
    message: Message, uploads: Sequence[PlannedUpload], budget: int, *, storable: int, must_be_exact: bool
) -> int:
    """Return the size of `message`, estimated where that leads to the same plan: `ByteSize()` copies it twice."""
    size = estimate(message, uploads)
    if size is not None and (size <= budget or (size - storable <= budget and not must_be_exact)):
        return size
    return message.ByteSize()


def _walk(message: Message, plan: ExternalizePlan) -> None:
    walk = walkers_by_class[type(message)].externalize
    if walk is not None:
        walk(message, plan)


def _saving(upload: PlannedUpload) -> int:
    return len(upload.data) - LONGEST_TOKEN


def _error(uploads: Sequence[PlannedUpload], maximum: int) -> PayloadTooLargeError | None:
    for upload in uploads:
        try:
            check_maximum(upload.path, len(upload.data), maximum)
        except PayloadTooLargeError as error:
            return error
    return None


def plan_downloads(
    message: Message, prefixes: tuple[str, ...], is_token: Callable[[str], bool]
) -> list[PlannedDownload]:
    """Plan the downloads for `message`: of the texts that begin with one of `prefixes`, those that are tokens."""
    walk = walkers_by_class[type(message)].deexternalize
    if walk is None:
        return []
    plan = DeexternalizePlan(prefixes, is_token)
    walk(message, plan)
    return plan.downloads


def prefixes_of(store: PayloadStoreLike) -> tuple[str, ...]:
    """Return how tokens of `store` begin. A store written for the SDK does not tell: is_known_token gets every text."""
    return _as_text(getattr(store, "token_prefixes", None))


@lru_cache(maxsize=64)
def _as_text(prefixes: tuple[bytes, ...] | None) -> tuple[str, ...]:
    return ("",) if prefixes is None else tuple(prefix.decode() for prefix in prefixes)
