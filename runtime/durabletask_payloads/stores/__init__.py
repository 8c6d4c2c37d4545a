"""Payload stores. What needs an extra has a module of its own: `stores.azure_blob` needs [azure]."""

from __future__ import annotations

from ._directory import DirectoryPayloadStore
from ._memory import InMemoryPayloadStore

__all__ = ["DirectoryPayloadStore", "InMemoryPayloadStore"]
