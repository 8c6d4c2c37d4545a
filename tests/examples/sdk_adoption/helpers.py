"""Move large payloads out of protobuf messages into a `PayloadStore`, and back.

The fields to move are found by the walkers of `durabletask.internal.payload_walkers`, generated from the .proto: one
function for each message type and direction, which collects fields in a plan and does no I/O. This module then moves
them, one after the other: those that were moved before an error stay moved.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, TypeVar, cast

from durabletask.internal.payload_walkers.plan import DeexternalizePlan, ExternalizePlan
from durabletask.internal.payload_walkers.tables import DEEXTERNALIZE, EXTERNALIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import NoReturn

    from durabletask.internal.payload_walkers.plan import PlannedDownload, PlannedUpload
    from durabletask.payload.store import PayloadStore
    from google.protobuf.message import Message

logger = logging.getLogger("durabletask-payloads")

_Plan = TypeVar("_Plan", ExternalizePlan, DeexternalizePlan)


def externalize_payloads(msg: Message, store: PayloadStore, *, instance_id: str | None = None) -> None:
    """Upload each payload of `msg` that is over the store's threshold, and put its token in its place.

    Raises:
        ValueError: a payload is over `max_stored_payload_bytes`.
    """
    for upload in _uploads(msg, store):
        _put_token(upload, store.upload(upload.data, instance_id=instance_id))


async def externalize_payloads_async(msg: Message, store: PayloadStore, *, instance_id: str | None = None) -> None:
    """Do what `externalize_payloads` does, with the asynchronous methods of the store."""
    for upload in _uploads(msg, store):
        _put_token(upload, await store.upload_async(upload.data, instance_id=instance_id))


def deexternalize_payloads(msg: Message, store: PayloadStore) -> None:
    """Download the payload of each token in `msg`, and put it in the place of the token."""
    for download in _downloads(msg, store):
        _put_payload(download, store.download(download.token))


async def deexternalize_payloads_async(msg: Message, store: PayloadStore) -> None:
    """Do what `deexternalize_payloads` does, with the asynchronous methods of the store."""
    for download in _downloads(msg, store):
        _put_payload(download, await store.download_async(download.token))


def _uploads(msg: Message, store: PayloadStore) -> Iterator[PlannedUpload]:
    threshold = max(store.options.threshold_bytes, 0)  # an empty text always stays
    maximum = store.options.max_stored_payload_bytes
    if msg.ByteSize() <= threshold:  # no part of it can be larger
        return
    # The maximum is checked when it is a field's turn, below: the fields before it are uploaded.
    plan = ExternalizePlan(threshold, sys.maxsize, store.is_known_token)
    _walk(EXTERNALIZE, msg, plan)
    for upload in plan.uploads:
        size = len(upload.data)
        if size > maximum:
            raise ValueError(f"{upload.path} has {size} bytes, which exceeds the maximum of {maximum} bytes")
        yield upload


def _downloads(msg: Message, store: PayloadStore) -> list[PlannedDownload]:
    def is_token(text: str) -> bool:
        return text != "" and store.is_known_token(text)

    prefix: str = getattr(store, "token_prefix", "")  # stores that are no subclass of PayloadStore have been taken, too
    plan = DeexternalizePlan((prefix,), is_token)
    _walk(DEEXTERNALIZE, msg, plan)
    return plan.downloads


def _walk(walkers: Mapping[str, Callable[[NoReturn, _Plan], None]], msg: Message, plan: _Plan) -> None:
    walker = walkers.get(msg.DESCRIPTOR.full_name)
    if walker is not None:  # other messages have no payloads
        # The table goes by the type of the message, which no type checker can follow.
        cast("Callable[[Message, _Plan], None]", walker)(msg, plan)


def _put_token(upload: PlannedUpload, token: str) -> None:
    upload.field.value = token
    name = upload.path.rpartition(".")[2]
    logger.debug("Externalized %d-byte payload in field '%s' -> %s", len(upload.data), name, token)


def _put_payload(download: PlannedDownload, data: bytes) -> None:
    download.field.value = data.decode()
    logger.debug("De-externalized token %s -> %d bytes", download.token, len(data))
