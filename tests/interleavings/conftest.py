"""Fixtures of the tests under schedules."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _what_was_there_before() -> Iterator[None]:
    """Each test collects garbage, often twice: it looks at what has come since, not at all that pytest holds."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
