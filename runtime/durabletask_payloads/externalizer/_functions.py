"""The four functions of `durabletask.payload.helpers`, with the same names and signatures: a drop-in.

Each call stands alone: it keeps no cache and leaves no thread. Who moves more than one message keeps an
`Externalizer` instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._externalizer import Externalizer
from ._planning import MESSAGE_BUDGET_BYTES, plan_downloads, prefixes_of, size_unless_small

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from durabletask_payloads.stores._base import PayloadStoreLike


def externalize_payloads(message: Message, store: PayloadStoreLike, *, instance_id: str | None = None) -> None:
    """Store the large payloads of `message` and put their tokens in their place: see `Externalizer.externalize`."""
    if size_unless_small(message, store.options.threshold_bytes, MESSAGE_BUDGET_BYTES):
        with _externalizer(store) as externalizer:
            externalizer.externalize(message, instance_id=instance_id)


def deexternalize_payloads(message: Message, store: PayloadStoreLike) -> None:
    """Put the payloads in the place of all tokens in `message`: see `Externalizer.deexternalize`."""
    if plan_downloads(message, prefixes_of(store), store.is_known_token):
        with _externalizer(store) as externalizer:
            externalizer.deexternalize(message)


async def externalize_payloads_async(
    message: Message, store: PayloadStoreLike, *, instance_id: str | None = None
) -> None:
    """`externalize_payloads` without blocking the event loop."""
    if size_unless_small(message, store.options.threshold_bytes, MESSAGE_BUDGET_BYTES):
        with _externalizer(store) as externalizer:  # makes no thread in its asynchronous form
            await externalizer.externalize_async(message, instance_id=instance_id)


async def deexternalize_payloads_async(message: Message, store: PayloadStoreLike) -> None:
    """`deexternalize_payloads` without blocking the event loop."""
    if plan_downloads(message, prefixes_of(store), store.is_known_token):
        with _externalizer(store) as externalizer:
            await externalizer.deexternalize_async(message)


def _externalizer(store: PayloadStoreLike) -> Externalizer:
    # The options of the SDK take any threshold, and one over the budget says that messages may be as large.
    budget = max(MESSAGE_BUDGET_BYTES, store.options.threshold_bytes)
    return Externalizer(store, cache_bytes=0, message_budget_bytes=budget)
