"""A store's operations, sync or async, behind one interface. For tests/stores and tests/slow/faults."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from durabletask_payloads.stores._base import PayloadStore


class Form(Protocol):
    """How a test calls a store."""

    def upload(self, store: PayloadStore, data: bytes, instance_id: str | None = None) -> str: ...
    def download(self, store: PayloadStore, token: str) -> bytes: ...
    def delete(self, store: PayloadStore, token: str) -> None: ...


class SyncForm:
    def upload(self, store: PayloadStore, data: bytes, instance_id: str | None = None) -> str:
        return store.upload(data, instance_id=instance_id)

    def download(self, store: PayloadStore, token: str) -> bytes:
        return store.download(token)

    def delete(self, store: PayloadStore, token: str) -> None:
        store.delete(token)


class AsyncForm:
    """Each call on an event loop of its own."""

    def upload(self, store: PayloadStore, data: bytes, instance_id: str | None = None) -> str:
        return asyncio.run(store.upload_async(data, instance_id=instance_id))

    def download(self, store: PayloadStore, token: str) -> bytes:
        return asyncio.run(store.download_async(token))

    def delete(self, store: PayloadStore, token: str) -> None:
        asyncio.run(store.delete_async(token))


both_forms = pytest.mark.parametrize("form", [SyncForm(), AsyncForm()], ids=["sync", "async"])
