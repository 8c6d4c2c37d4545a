"""Fixtures of the tests of the worker's side, which is synchronous."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.call_forms import Form, opened
from tests.support.scripted_store import ScriptedStore, prove

from durabletask_payloads import Externalizer

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture
def externalizer(store: ScriptedStore) -> Generator[Externalizer]:
    """Without a cache, and on a store that is proven: it has served an upload and a download."""
    with Externalizer(store, cache_bytes=0, message_budget_bytes=None) as externalizer:
        prove(externalizer, store)
        yield externalizer


@pytest.fixture
def form(address: str, externalizer: Externalizer) -> Generator[Form]:
    """A sync channel to `server`."""
    with opened("sync", address, externalizer) as form:
        yield form
