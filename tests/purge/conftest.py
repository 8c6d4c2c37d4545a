"""A ledger without rows, and a channel to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
import pytest
from tests.support.ledger import Ledger, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ledger() -> Ledger:
    return Ledger([])


@pytest.fixture
def channel(ledger: Ledger) -> Iterator[grpc.Channel]:
    with serving(ledger) as address, grpc.insecure_channel(address) as channel:
        yield channel
