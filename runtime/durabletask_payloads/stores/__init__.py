"""Payload stores. Two modules need an extra: `stores.azure_blob` [azure] and `stores.object_store` [object-store]."""

from __future__ import annotations

from ._directory import DirectoryPayloadStore
from ._memory import InMemoryPayloadStore

__all__ = ["DirectoryPayloadStore", "InMemoryPayloadStore"]
