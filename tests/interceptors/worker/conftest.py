"""Fixtures of the tests of the worker's side, which is synchronous."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.call_forms import Form, opened

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask_payloads import Externalizer


@pytest.fixture
def form(address: str, externalizer: Externalizer) -> Generator[Form]:
    """A sync channel to `server`."""
    with opened("sync", address, externalizer) as form:
        yield form
