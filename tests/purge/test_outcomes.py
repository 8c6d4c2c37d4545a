"""The table of dispositions, by real responses of Azurite and of a proxy before it, with both engines."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from azure.storage.blob import BlobServiceClient
from tests.support.fixtures import made
from tests.support.proxy import always, canned

from durabletask_payloads import DirectoryPayloadStore, InMemoryPayloadStore
from durabletask_payloads.purge import PurgeOutcome
from durabletask_payloads.purge._outcomes import purge
from durabletask_payloads.stores._inventory import inventory_of
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.azurite import Azurite
    from tests.support.proxy import FaultProxy

    from durabletask_payloads.stores._inventory import StoredPayload

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def service(azurite: Azurite) -> Iterator[BlobServiceClient]:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        yield client


@pytest.fixture
def store(azurite: Azurite, container: str) -> Iterator[BlobPayloadStore]:
    with BlobPayloadStore(options_for(azurite.connection_string, container)) as store:
        yield store


def options_for(connection_string: str, container: str) -> BlobPayloadStoreOptions:
    return BlobPayloadStoreOptions(
        connection_string=connection_string, container_name=container, token_version=2, retries=0, total_timeout=10
    )


def test_deleted_then_absent(store: BlobPayloadStore) -> None:
    token = store.upload(b"x")
    assert purge(inventory_of(store), token) is PurgeOutcome.DELETED
    assert purge(inventory_of(store), token) is PurgeOutcome.ABSENT


def test_no_such_container(store: BlobPayloadStore, azurite: Azurite, container: str) -> None:
    token = f"blob:v2:{azurite.account_url}/{container}/{uuid.uuid4().hex}"
    assert purge(inventory_of(store), token) is PurgeOutcome.ABSENT


@pytest.mark.parametrize("metadata", [{}, {"managed_by": "me"}, {"managed_by": "DTS"}])
def test_a_blob_that_is_not_managed_is_left_alone(
    store: BlobPayloadStore, service: BlobServiceClient, azurite: Azurite, container: str, metadata: dict[str, str]
) -> None:
    name = uuid.uuid4().hex
    made(service, container).upload_blob(name, b"theirs", metadata=metadata)
    assert purge(inventory_of(store), f"blob:v2:{azurite.account_url}/{container}/{name}") is PurgeOutcome.NOT_MANAGED
    assert service.get_blob_client(container, name).exists()


def test_the_rule_of_dotnet(store: BlobPayloadStore, service: BlobServiceClient, container: str) -> None:
    """.NET deletes a blob whose metadata has managed_by with the value dts, and no other."""
    store.upload(b"x", instance_id="order-7")
    (blob,) = service.get_container_client(container).list_blobs(include=["metadata"])
    assert blob.metadata["managed_by"] == "dts"


def test_one_of_dotnet_is_deleted_with_its_snapshots(
    store: BlobPayloadStore, service: BlobServiceClient, azurite: Azurite, container: str
) -> None:
    name = uuid.uuid4().hex
    client = made(service, container)
    client.upload_blob(name, b"theirs", metadata={"managed_by": "dts"})
    client.get_blob_client(name).create_snapshot()
    assert purge(inventory_of(store), f"blob:v2:{azurite.account_url}/{container}/{name}") is PurgeOutcome.DELETED
    assert list(client.list_blobs(include=["snapshots"])) == []


def test_one_that_is_written_again_after_the_look(
    store: BlobPayloadStore, service: BlobServiceClient, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = store.upload(b"x")
    inventory = inventory_of(store)
    stored = inventory.look(token)
    blob = service.get_blob_client(container, stored.name)
    blob.upload_blob(b"y", overwrite=True, metadata={"managed_by": "dts"})
    assert not inventory.delete_unchanged(stored)

    def look(_: str) -> StoredPayload:
        return stored

    monkeypatch.setattr(inventory, "look", look)
    assert purge(inventory, token) is PurgeOutcome.CHANGED
    assert blob.exists()


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, "InvalidUri", PurgeOutcome.REFUSED),
        (401, "NoAuthenticationInformation", PurgeOutcome.DENIED),
        (403, "AuthorizationFailure", PurgeOutcome.DENIED),
        (404, "ResourceNotFound", PurgeOutcome.UNAVAILABLE),
        (404, "", PurgeOutcome.UNAVAILABLE),
        (408, "", PurgeOutcome.UNAVAILABLE),
        (409, "LeaseIdMissing", PurgeOutcome.FAILED),
        (429, "", PurgeOutcome.UNAVAILABLE),
        (500, "InternalError", PurgeOutcome.UNAVAILABLE),
        (503, "ServerBusy", PurgeOutcome.UNAVAILABLE),
    ],
)
def test_answers(
    azurite: Azurite, proxy: FaultProxy, container: str, status: int, code: str, outcome: PurgeOutcome
) -> None:
    options = options_for(azurite.connection_string_at(proxy.port), container)
    with BlobPayloadStore(options) as store:
        token = store.upload(b"x")
    proxy.plan = always(canned(status, "Told so", code))
    with BlobPayloadStore(options) as store:  # with connections of its own
        assert purge(inventory_of(store), token) is outcome


ZEROS = "0" * 32


@pytest.mark.parametrize(
    ("token", "outcome"),
    [
        (f"blob:v1:payloads:{ZEROS}", PurgeOutcome.WITHOUT_ACCOUNT),
        ("blob:v1:", PurgeOutcome.WITHOUT_ACCOUNT),
        ("blob:v2:", PurgeOutcome.MALFORMED),
        (f"blob:v2:https://me:pw@acc.blob.core.windows.net/payloads/{ZEROS}", PurgeOutcome.MALFORMED),
        (f"blob:v2:https://acc.blob.core.windows.net/payloads%2F{ZEROS}", PurgeOutcome.MALFORMED),
        (f"blob:v2:https://acc.blob.core.windows.net/payloads/{ZEROS}?sig=x", PurgeOutcome.MALFORMED),
        (f"blob:v2:https://acc.blob.core.windows.net/payloads/{'x' * 10_000}", PurgeOutcome.MALFORMED),
        (f"blob:v2:https://acc.blob.core.windows.net/payloads/{ZEROS}", PurgeOutcome.ELSEWHERE),
        ("blob:v3:anything", PurgeOutcome.UNKNOWN_TOKEN),
        (f"object:v1:s3://bucket/{ZEROS}", PurgeOutcome.UNKNOWN_TOKEN),
        ("", PurgeOutcome.UNKNOWN_TOKEN),
    ],
)
def test_tokens(store: BlobPayloadStore, token: str, outcome: PurgeOutcome) -> None:
    assert purge(inventory_of(store), token) is outcome


def test_other_stores_keep_what_they_cannot_name(tmp_path: Path) -> None:
    token = f"blob:v2:https://acc.blob.core.windows.net/payloads/{ZEROS}"
    for store in (InMemoryPayloadStore(), DirectoryPayloadStore(tmp_path)):
        assert purge(inventory_of(store), token) is PurgeOutcome.ELSEWHERE
