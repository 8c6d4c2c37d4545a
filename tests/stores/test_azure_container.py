"""When the container is made, and when not."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from azure.core.credentials import AzureSasCredential
from azure.storage.blob import (
    AccountSasPermissions,
    BlobServiceClient,
    ResourceTypes,
    generate_account_sas,
)
from tests.support.fixtures import made
from tests.support.store_forms import Form, both_forms

from durabletask_payloads._errors import PayloadAccessDeniedError, PayloadNotFoundError
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.azurite import Azurite
    from tests.support.proxy import FaultProxy

pytestmark = pytest.mark.usefixtures("engine")


@pytest.fixture
def service(azurite: Azurite) -> Iterator[BlobServiceClient]:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        yield client


def creations(proxy: FaultProxy) -> int:
    return sum("restype=container" in line for line in proxy.requests)


def writer_only(azurite: Azurite) -> AzureSasCredential:
    """A credential that may write and read blobs, and not make containers."""
    return AzureSasCredential(
        generate_account_sas(
            azurite.account_name,
            azurite.account_key,
            ResourceTypes(object=True),
            AccountSasPermissions(read=True, write=True, create=True),
            expiry=datetime.now(timezone.utc) + timedelta(hours=1),
        )
    )


def test_made_once(azurite: Azurite, container: str, proxy: FaultProxy) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string_at(proxy.port), container_name=container
    )
    with BlobPayloadStore(options) as store, ThreadPoolExecutor(16) as pool:

        async def upload_all() -> list[str]:
            return await asyncio.gather(*(store.upload_async(b"2") for _ in range(16)))

        from_threads = pool.map(store.upload, [b"1"] * 16)
        tokens = [*asyncio.run(upload_all()), *from_threads]
        assert len(set(tokens)) == 32
        assert creations(proxy) == 1


@both_forms
def test_never_where_it_exists(
    azurite: Azurite, container: str, proxy: FaultProxy, service: BlobServiceClient, form: Form
) -> None:
    made(service, container)
    options = BlobPayloadStoreOptions(
        account_url=f"http://127.0.0.1:{proxy.port}/{azurite.account_name}",
        credential=writer_only(azurite),
        container_name=container,
    )
    with BlobPayloadStore(options) as store:
        assert form.download(store, form.upload(store, b"1")) == b"1"
    assert creations(proxy) == 0


@both_forms
def test_again_when_it_was_deleted(
    azurite: Azurite, container: str, proxy: FaultProxy, service: BlobServiceClient, form: Form
) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string_at(proxy.port), container_name=container
    )
    with BlobPayloadStore(options) as store:
        lost = form.upload(store, b"1")
        service.delete_container(container)
        with pytest.raises(PayloadNotFoundError, match=f"the container '{container}' does not exist in http"):
            form.download(store, lost)
        assert form.download(store, form.upload(store, b"2")) == b"2"
        form.delete(store, lost)
    assert creations(proxy) == 2


@both_forms
def test_deleting_needs_no_container(azurite: Azurite, container: str, form: Form) -> None:
    options = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
    with BlobPayloadStore(options) as store:
        form.delete(store, f"blob:v1:{container}:{'0' * 32}")


@both_forms
def test_not_made_when_the_options_say_so(azurite: Azurite, container: str, proxy: FaultProxy, form: Form) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string_at(proxy.port), container_name=container, create_container=False
    )
    with (
        BlobPayloadStore(options) as store,
        pytest.raises(PayloadNotFoundError, match=f"the container '{container}' does not exist.*set create_container"),
    ):
        form.upload(store, b"1")
    assert creations(proxy) == 0


@both_forms
def test_no_right_to_make_one(azurite: Azurite, container: str, form: Form) -> None:
    options = BlobPayloadStoreOptions(
        account_url=azurite.account_url, credential=writer_only(azurite), container_name=container
    )
    with (
        BlobPayloadStore(options) as store,
        pytest.raises(PayloadAccessDeniedError, match=f"refused access to container '{container}'"),
    ):
        form.upload(store, b"1")
