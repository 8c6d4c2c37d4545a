"""Fixtures of all tests, through tests/conftest.py: an Azurite for the whole run, a container name for each test."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from tests.support.azurite import Azurite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azure.storage.blob import BlobServiceClient, ContainerClient


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """A running Azurite, in memory, that all tests of this run share: use a container of your own."""
    with Azurite() as server:
        yield server


@pytest.fixture
def container() -> str:
    """A container name that no other test uses. The container does not exist yet."""
    return f"test-{uuid.uuid4().hex}"


def made(service: BlobServiceClient, container: str) -> ContainerClient:
    """`container`, made. The client's own method is not wholly typed."""
    client = service.get_container_client(container)
    client.create_container()
    return client
