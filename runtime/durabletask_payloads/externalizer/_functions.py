"""The four functions of `durabletask.payload.helpers`, with the same names and signatures: a drop-in.

Each call stands alone: it keeps no cache and leaves no thread. To move more than one message, keep an `Externalizer`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ._externalizer import Externalizer
from ._planning import MESSAGE_BUDGET_BYTES, plan_downloads, plan_uploads, prefixes_of
from ._sizing import Sizing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._planning import UploadPlan

_SIZING: Final = Sizing()


def externalize_payloads(message: Message, store: PayloadStoreLike, *, instance_id: str | None = None) -> None:
    """Store the large payloads of `message` and put their tokens in their place: see `Externalizer.externalize`."""
    plan = _plan(message, store)
    if plan is not None:
        with _externalizer(store) as externalizer:
            externalizer.carry_out(plan, instance_id=instance_id)


def deexternalize_payloads(message: Message, store: PayloadStoreLike) -> None:
    """Put the payloads in the place of all tokens in `message`: see `Externalizer.deexternalize`."""
    if plan_downloads(message, prefixes_of(store), store.is_known_token):
        with _externalizer(store) as externalizer:
            externalizer.deexternalize(message)


async def externalize_payloads_async(
    message: Message, store: PayloadStoreLike, *, instance_id: str | None = None
) -> None:
    """Do the same as `externalize_payloads` without blocking the event loop."""
    plan = _plan(message, store)
    if plan is not None:
        await _alone(store, lambda externalizer: externalizer.carry_out_async(plan, instance_id=instance_id))


async def deexternalize_payloads_async(message: Message, store: PayloadStoreLike) -> None:
    """Do the same as `deexternalize_payloads` without blocking the event loop."""
    if plan_downloads(message, prefixes_of(store), store.is_known_token):
        await _alone(store, lambda externalizer: externalizer.deexternalize_async(message))


async def _alone(store: PayloadStoreLike, call: Callable[[Externalizer], Awaitable[object]]) -> None:
    externalizer = _externalizer(store)
    is_cancelled = False
    try:
        await call(externalizer)
    except asyncio.CancelledError:
        is_cancelled = True  # uploads under way are deleted in the background
        raise
    finally:
        externalizer.close(wait=not is_cancelled)


def _plan(message: Message, store: PayloadStoreLike) -> UploadPlan | None:
    threshold = store.options.threshold_bytes
    budget = MESSAGE_BUDGET_BYTES if threshold < MESSAGE_BUDGET_BYTES else _budget(threshold)  # most need no call
    judged = _SIZING.judge(message, threshold, budget)
    return None if judged.is_small else plan_uploads(message, store, judged.size, budget, _SIZING)


def _budget(threshold: int) -> int:
    # The SDK's options accept any threshold; one over the budget says that messages may be as large.
    return max(MESSAGE_BUDGET_BYTES, threshold)


def _externalizer(store: PayloadStoreLike) -> Externalizer:
    return Externalizer(store, cache_bytes=0, message_budget_bytes=_budget(store.options.threshold_bytes))
