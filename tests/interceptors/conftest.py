"""Fixtures of the tests of the interceptors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.backend import RedeliveringBackend, running
from tests.support.call_forms import Form, opened
from tests.support.scripted_store import ScriptedStore
from tests.support.server import ScriptedServer, serving

from durabletask_payloads import Externalizer
from durabletask_payloads.interceptors import _verdict

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def externalizer(store: ScriptedStore) -> Generator[Externalizer]:
    """Without a cache: what arrives is downloaded."""
    with Externalizer(store, cache_bytes=0, message_budget_bytes=None) as externalizer:
        yield externalizer


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def address(server: ScriptedServer) -> Generator[str]:
    with serving(server) as address:
        yield address


@pytest.fixture(params=["sync", "aio"])
def form(request: pytest.FixtureRequest, address: str, externalizer: Externalizer) -> Generator[Form]:
    """A channel to `server`, in both forms."""
    with opened(request.param, address, externalizer) as form:
        yield form


@pytest.fixture
def backend() -> RedeliveringBackend:
    return RedeliveringBackend()


@pytest.fixture
def hub_address(backend: RedeliveringBackend) -> Generator[str]:
    with running(backend) as address:
        yield address


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work items are abandoned 25 times as fast."""
    monkeypatch.setattr(_verdict, "_FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(_verdict, "_LONGEST_DELAY_SECONDS", 1.2)
