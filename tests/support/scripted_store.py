"""A store that fails, waits and counts as a test demands. For tests/interceptors."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import durabletask.internal.orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import InMemoryPayloadStore, LargePayloadStorageOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from durabletask_payloads import Externalizer, PayloadStore

THRESHOLD = 1024
MAXIMUM = 100_000


def nothing(payload: bytes) -> None:
    """Do nothing, as hooks do by default."""


class ScriptedStore(InMemoryPayloadStore):
    """By default payloads over 1 KiB are externalized, and none may be over 100,000 bytes.

    Attributes:
        uploading, downloading: called with each payload before it is stored or returned; what they raise is raised.
        delay: seconds before a payload is returned.
        released: set it to end the delays of all downloads that wait in threads.
        downloads: how many found their payload.
    """

    def __init__(self, *, threshold: int = THRESHOLD, maximum: int = MAXIMUM) -> None:
        super().__init__(LargePayloadStorageOptions(threshold_bytes=threshold, max_stored_payload_bytes=maximum))
        self.uploading: Callable[[bytes], None] = nothing
        self.downloading: Callable[[bytes], None] = nothing
        self.delay: Callable[[bytes], float] = lambda payload: 0.0
        self.released = threading.Event()
        self.downloads = 0

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        self.uploading(data)
        return super().upload(data, instance_id=instance_id)

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        self.uploading(data)
        return super().upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        payload = super().download(token)
        self.downloads += 1
        delay = self.delay(payload)
        if delay:
            self.released.wait(delay)
        self.downloading(payload)
        return payload

    async def download_async(self, token: str) -> bytes:
        payload = super().download(token)
        self.downloads += 1
        await asyncio.sleep(self.delay(payload))
        self.downloading(payload)
        return payload


def prove(externalizer: Externalizer, store: PayloadStore) -> None:
    """Let `store` serve an upload and a download, of which nothing stays: its errors are then no outage."""
    message = pb.ActivityResponse(result=StringValue(value="p" * (store.options.threshold_bytes + 1)))
    receipt = externalizer.externalize(message)
    externalizer.deexternalize(message)
    receipt.rollback()
    if isinstance(store, ScriptedStore):
        store.downloads = 0
