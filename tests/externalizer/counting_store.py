"""A store that counts its calls, fails from a given one on and holds them until released."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

from durabletask_payloads import InMemoryPayloadStore, LargePayloadStorageOptions, PayloadStoreUnavailableError


class CountingStore(InMemoryPayloadStore):
    """Does on demand what a real store cannot be made to do at a chosen moment.

    Attributes:
        calls: how often each of upload, download and delete was called.
        most_at_once: the largest number of uploads and downloads that ran at the same time.
        fail_upload_at, fail_download_at: the number, from 1, of the first call that fails.
        gate: uploads and downloads wait until it is set, as it is at first.
        entered: released once for each upload and download that begins.
    """

    def __init__(self, options: LargePayloadStorageOptions | None = None) -> None:
        super().__init__(options)
        self.calls: Counter[str] = Counter()
        self.most_at_once = 0
        self.fail_upload_at: int | None = None
        self.fail_download_at: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self._running = 0
        self._counting = threading.Lock()

    def _enter(self, what: str, fail_at: int | None) -> None:
        with self._counting:
            self.calls[what] += 1
            fails = fail_at is not None and self.calls[what] >= fail_at
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        self.entered.release()
        if fails:
            self._leave()
            raise PayloadStoreUnavailableError(f"scripted: {what} number {fail_at} fails")

    def _leave(self) -> None:
        with self._counting:
            self._running -= 1

    async def _gate_async(self) -> None:
        while not self.gate.is_set():
            await asyncio.sleep(0.001)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        self._enter("upload", self.fail_upload_at)
        try:
            self.gate.wait()
            return super().upload(data, instance_id=instance_id)
        finally:
            self._leave()

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        self._enter("upload", self.fail_upload_at)
        try:
            await self._gate_async()
            return InMemoryPayloadStore.upload(self, data, instance_id=instance_id)
        finally:
            self._leave()

    def download(self, token: str) -> bytes:
        self._enter("download", self.fail_download_at)
        try:
            self.gate.wait()
            return super().download(token)
        finally:
            self._leave()

    async def download_async(self, token: str) -> bytes:
        self._enter("download", self.fail_download_at)
        try:
            await self._gate_async()
            return InMemoryPayloadStore.download(self, token)
        finally:
            self._leave()

    def delete(self, token: str) -> None:
        self.calls["delete"] += 1
        super().delete(token)

    async def delete_async(self, token: str) -> None:
        self.delete(token)
