"""Fixtures of all tests, through tests/conftest.py: Azurite, S3, containers, the engine of a store, walks."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Final, Literal

import pytest
from google.protobuf.descriptor import FieldDescriptor
from tests.support.azurite import Azurite
from tests.support.proxy import FaultProxy

from durabletask_payloads import ExternalizePlan
from durabletask_payloads.stores import _engines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azure.storage.blob import BlobServiceClient, ContainerClient
    from tests.support.s3 import S3

Engine = Literal["azure-storage-blob", "obstore"]
_ALL: Final[tuple[Engine, ...]] = ("azure-storage-blob", "obstore")
# There is no obstore for Python 3.10.
ENGINES: Final = _ALL if sys.version_info >= (3, 11) else _ALL[:1]
needs_obstore: Final = pytest.mark.skipif(sys.version_info < (3, 11), reason="there is no obstore for this Python")
# What the SDK does with its own payload_store= needs a newer protobuf than its messages do.
needs_sdk_payloads: Final = pytest.mark.skipif(
    not hasattr(FieldDescriptor, "is_repeated"), reason="with this protobuf the SDK cannot walk messages for payloads"
)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Each engine of the Azure store in turn: by default the stores of the test take this one.

    A module whose tests all run on both says `pytestmark = pytest.mark.usefixtures("engine")`. A program that a test
    starts takes the engine as an argument.
    """
    engine: Engine = request.param
    monkeypatch.setattr(_engines, "is_installed", lambda: engine == "obstore")
    return engine


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """A running Azurite, in memory, that all tests of this run share: use a container of your own."""
    with Azurite() as server:
        yield server


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[FaultProxy]:
    """A proxy before Azurite that is healthy until a test gives it a plan."""
    with FaultProxy(azurite.port) as proxy:
        yield proxy


@pytest.fixture
def container() -> str:
    """A container name that no other test uses. The container does not exist yet."""
    return f"test-{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A running S3 that all tests of this run share: use a bucket of your own."""
    from tests.support.s3 import S3  # which needs obstore, that Python 3.10 lacks, and takes a second to import

    with S3() as server:
        yield server


@pytest.fixture
def bucket(s3: S3) -> str:
    """A bucket of the S3 that no other test uses."""
    name = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(name)
    return name


def made(service: BlobServiceClient, container: str) -> ContainerClient:
    """`container`, made. The client's own method is not wholly typed."""
    client = service.get_container_client(container)
    client.create_container()
    return client


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[ExternalizePlan]:
    """The plans that were walked with, one a walk."""
    walked: list[ExternalizePlan] = []

    class CountedPlan(ExternalizePlan):
        def __init__(
            self, threshold_bytes: int, max_payload_bytes: int, is_token: Callable[[str], bool], **rest: bool
        ) -> None:
            super().__init__(threshold_bytes, max_payload_bytes, is_token, **rest)
            walked.append(self)

    monkeypatch.setattr("durabletask_payloads.externalizer._planning.ExternalizePlan", CountedPlan)
    return walked
