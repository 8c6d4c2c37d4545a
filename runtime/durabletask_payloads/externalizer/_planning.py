"""Which payloads of a message are to be uploaded: first a proof in C that none is, and a walk where there is no proof.

Most messages hold nothing that is large, and then the proof is 10 to 100 times faster than a walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from google.protobuf.message import Message

from ._plan import DeexternalizePlan, ExternalizePlan, PlannedDownload, PlannedUpload, mean_bytes
from ._walkers import walkers_by_class

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durabletask_payloads.stores._base import PayloadStoreLike

MESSAGE_BUDGET_BYTES = 3_900_000
"""How large an outgoing message may be: gRPC takes 4 MiB, and its headers and the transport need some of that."""

# No token is longer, in bytes: v2 with a long account URL, or a v1 one with an instance id as its folder. Only the
# message budget uses it, to tell before an upload what that would save.
_LONGEST_TOKEN = 512

# `ByteSize()` of a message makes a copy of it. Where that is some MB, it is faster to ask each part for its size: from
# this many parts of this mean size on, in bytes.
_MANY = 8
_LARGE = 8_000


def size_unless_small(message: Message, threshold: int, budget: int | None) -> int:
    """The size of `message` in bytes; 0 if it is sure, without a walk, that nothing of it has to be uploaded.

    Args:
        message: a message of the Durable Task protos.
        threshold: how large a payload may be and stay, in bytes.
        budget: how large `message` may be, in bytes; None if it may have any size.
    """
    walkers = walkers_by_class[type(message)]
    parts_of = walkers.parts
    if (
        parts_of is None
        or not walkers.was_large
        or len(parts := parts_of(message)) < _MANY
        or mean_bytes(parts) < _LARGE
    ):
        size = message.ByteSize()
        if parts_of is not None:
            walkers.was_large = size > threshold
        if size <= threshold:
            return 0
        if parts_of is None or (budget is not None and size > budget):
            return size
    measured = _measured(message)
    if measured is None or (budget is not None and measured.size > budget):
        return message.ByteSize()
    return measured.size if measured.largest > threshold else 0


def plan_uploads(message: Message, store: PayloadStoreLike, size: int, budget: int | None) -> list[PlannedUpload]:
    """The payloads of a `message` of `size` bytes to upload: those over the threshold, and what the budget takes.

    The size is not asked for again here: for a moment that takes as much memory as two further copies of `message`.

    Raises:
        PayloadTooLargeError: one is over `max_stored_payload_bytes`.
    """
    planned = _walk(message, store, store.options.threshold_bytes)
    if budget is not None and size > budget:
        size -= sum(len(upload.data) - _LONGEST_TOKEN for upload in planned)
        planned += _over_budget(message, store, size - budget, planned)
    return planned


def smallest_bytes(message: Message, store: PayloadStoreLike) -> int:
    """The size that `message` would have with all that can be stored taken out of it, in bytes."""
    size = message.ByteSize()
    maximum = store.options.max_stored_payload_bytes
    for upload in _walk(message, store, _LONGEST_TOKEN, maximum=size, include_diagnostics=True):
        if len(upload.data) <= maximum:
            size -= len(upload.data) - _LONGEST_TOKEN
    return size


def plan_downloads(
    message: Message, prefixes: tuple[str, ...], is_token: Callable[[str], bool]
) -> list[PlannedDownload]:
    """The tokens of `message`: those that `is_token` takes of the texts that begin with one of `prefixes`."""
    walk = walkers_by_class[type(message)].deexternalize
    if walk is None:
        return []
    plan = DeexternalizePlan(prefixes, is_token)
    walk(message, plan)
    return plan.downloads


def prefixes_of(store: PayloadStoreLike) -> tuple[str, ...]:
    """How the tokens of `store` begin. One written for the SDK does not tell: is_known_token gets all text then."""
    return _as_text(getattr(store, "token_prefixes", None))


@lru_cache(maxsize=64)
def _as_text(prefixes: tuple[bytes, ...] | None) -> tuple[str, ...]:
    return ("",) if prefixes is None else tuple(prefix.decode() for prefix in prefixes)


def _walk(
    message: Message,
    store: PayloadStoreLike,
    threshold: int,
    *,
    maximum: int | None = None,
    include_diagnostics: bool = False,
) -> list[PlannedUpload]:
    if maximum is None:
        maximum = store.options.max_stored_payload_bytes
    plan = ExternalizePlan(threshold, maximum, store.is_known_token, include_diagnostics=include_diagnostics)
    walk = walkers_by_class[type(message)].externalize
    if walk is not None:
        walk(message, plan)
    return plan.uploads


def _over_budget(
    message: Message, store: PayloadStoreLike, excess: int, planned: Sequence[PlannedUpload]
) -> list[PlannedUpload]:
    """The largest payloads that are not `planned` yet, until they save `excess` bytes, or all there are."""
    if excess <= 0:
        return []
    taken = {id(upload.field) for upload in planned}
    rest = _walk(message, store, _LONGEST_TOKEN, include_diagnostics=True)
    rest = [upload for upload in rest if id(upload.field) not in taken]
    rest.sort(key=lambda upload: len(upload.data), reverse=True)
    chosen: list[PlannedUpload] = []
    for upload in rest:
        if excess <= 0:
            break
        chosen.append(upload)
        excess -= len(upload.data) - _LONGEST_TOKEN
    return chosen


class _Measured(NamedTuple):
    """The sizes of a message and of its largest field or item of a field, in bytes or somewhat more."""

    size: int
    largest: int


def _measured(message: Message) -> _Measured | None:
    """The sizes of `message`, part by part; None if they can not be told."""
    size = largest = 0
    for field, value in message.ListFields():
        if isinstance(value, Message):
            sizes = [value.ByteSize()]
        elif isinstance(value, Mapping):
            return None
        elif field.message_type is not None:
            sizes = [part.ByteSize() for part in value]
        else:  # of no scalar, or list of them, does the wire take more than four bytes for each character it prints
            sizes = [4 * len(str(value))]
        size += sum(sizes) + 16 * len(sizes)  # with the tag and the length
        largest = max(largest, *sizes)
    return _Measured(size, largest)
