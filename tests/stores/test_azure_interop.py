"""The table of DESIGN.md, section 7: who writes what, and who reads it."""

from __future__ import annotations

import gc
import gzip
import json
import random
import re
import uuid
import warnings
from typing import TYPE_CHECKING, Literal, NamedTuple
from urllib.parse import quote

import pytest
from azure.storage.blob import BlobServiceClient, ContentSettings
from durabletask.extensions.azure_blob_payloads import BlobPayloadStore as SdkStore
from durabletask.extensions.azure_blob_payloads import BlobPayloadStoreOptions as SdkOptions
from tests.support.fixtures import made
from tests.support.store_forms import Form, both_forms

from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azure.storage.blob import BlobProperties
    from tests.support.azurite import Azurite

# Azure's synchronous client, which the SDK's store and this module read with, leaves sockets open in reference cycles.
UNCLOSED = "unclosed <socket"
pytestmark = [
    pytest.mark.usefixtures("engine"),
    pytest.mark.filterwarnings(f"ignore:{UNCLOSED}:ResourceWarning"),
]

TEXT = json.dumps([{"id": number, "name": f"caf\u00e9 {number * 7919}"} for number in range(4_000)]).encode()
SMALL = '"\U0001f600"'.encode()
# Text that gzip can not shrink by much is base64 of noise; by nothing at all, noise.
NOISE = random.Random(7).randbytes(60_000)
INSTANCE_IDS = ["order-7", "order 7", "a/b", "caf\u00e9", "@counter@a:b", "100%", "50%25", "x?y#z", "a.b.", "..x"]


@pytest.fixture
def service(azurite: Azurite) -> Iterator[BlobServiceClient]:
    with BlobServiceClient.from_connection_string(azurite.connection_string) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def sockets_left_open() -> Iterator[None]:
    """Collect the sockets that were left open here, so that no later test is blamed for them."""
    yield
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", UNCLOSED, ResourceWarning)
        gc.collect()


class Written(NamedTuple):
    """What an SDK makes of a payload: how its blob is called, what is in it, and the token that it sends."""

    name: str
    body: bytes
    content_encoding: str | None
    token: str


def dotnet_v1(data: bytes, container: str, account_url: str, *, compressed: bool) -> Written:
    name = uuid.uuid4().hex
    token = f"blob:v1:{container}:{name}"
    return Written(name, gzip.compress(data, 6), "gzip", token) if compressed else Written(name, data, None, token)


def dotnet_v2(data: bytes, container: str, account_url: str, *, compressed: bool) -> Written:
    written = dotnet_v1(data, container, account_url, compressed=compressed)
    return written._replace(token=f"blob:v2:{account_url}/{container}/{written.name}")


def java(data: bytes, container: str, account_url: str, *, compressed: bool) -> Written:
    name = str(uuid.uuid4()).replace("-", "")
    token = f"blob:v1:{container}:{name}"
    return Written(name, gzip.compress(data), "gzip", token) if compressed else Written(name, data, None, token)


@both_forms
@pytest.mark.parametrize("data", [TEXT, SMALL, NOISE, b""], ids=["text", "small", "noise", "empty"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("writer", [dotnet_v1, dotnet_v2, java])
def test_we_read_dotnet_and_java(
    azurite: Azurite,
    container: str,
    service: BlobServiceClient,
    form: Form,
    writer: Callable[..., Written],
    data: bytes,
    compressed: bool,
) -> None:
    written = writer(data, container, azurite.account_url, compressed=compressed)
    made(service, container).upload_blob(
        written.name,
        written.body,
        content_settings=ContentSettings(content_encoding=written.content_encoding),
        metadata={"managed_by": "dts"} if writer is dotnet_v2 else None,
    )
    options = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
    with BlobPayloadStore(options) as store:
        assert store.is_known_token(written.token)
        assert form.download(store, written.token) == data


@both_forms
@pytest.mark.parametrize("instance_id", [None, *INSTANCE_IDS])
@pytest.mark.parametrize("compressed", [True, False])
def test_we_read_the_python_sdk(
    azurite: Azurite, container: str, form: Form, compressed: bool, instance_id: str | None
) -> None:
    sdk = SdkStore(
        SdkOptions(connection_string=azurite.connection_string, container_name=container, enable_compression=compressed)
    )
    with sdk:
        tokens = {sdk.upload(data, instance_id=instance_id): data for data in (TEXT, SMALL, NOISE)}
    options = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
    with BlobPayloadStore(options) as store:
        for token, data in tokens.items():
            assert store.is_known_token(token)
            assert form.download(store, token) == data


def expanded_by_header(properties: BlobProperties, body: bytes) -> bytes:
    """What .NET and Java make of a blob: the header says whether it is gzip."""
    encoding = properties.content_settings.content_encoding
    return gzip.decompress(body) if (encoding or "").lower() == "gzip" else body


@both_forms
@pytest.mark.parametrize("data", [TEXT, SMALL, NOISE, b""], ids=["text", "small", "noise", "empty"])
@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize("token_version", [1, 2])
def test_dotnet_and_java_read_ours(
    azurite: Azurite,
    container: str,
    service: BlobServiceClient,
    form: Form,
    token_version: Literal[1, 2],
    compression: bool,
    data: bytes,
) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string,
        container_name=container,
        token_version=token_version,
        enable_compression=compression,
    )
    with BlobPayloadStore(options) as store:
        token = form.upload(store, data, "order 7")
        assert form.download(store, token) == data
    if token_version == 1:
        match = re.fullmatch(r"blob:v1:([^:]+):([0-9a-f]{32})", token)
        assert match is not None
        assert match[1] == container
        blob = service.get_blob_client(match[1], match[2])
    else:
        assert token.startswith("blob:v2:")
        listed = list(service.get_container_client(container).list_blobs())
        blob = service.get_blob_client(container, listed[0].name)
        assert token == f"blob:v2:{blob.url}"
    stored = blob.download_blob(decompress=False)
    assert expanded_by_header(stored.properties, stored.readall()) == data
    shrinks = compression and data == TEXT
    assert stored.properties.content_settings.content_encoding == ("gzip" if shrinks else None)


@both_forms
@pytest.mark.parametrize("instance_id", [None, *INSTANCE_IDS, ".", "..", "../other/x", "x" * 2000, "\u00e9" * 100])
@pytest.mark.parametrize("compression", [True, False])
def test_the_python_sdk_reads_its_own_layout(
    azurite: Azurite,
    container: str,
    service: BlobServiceClient,
    form: Form,
    compression: bool,
    instance_id: str | None,
) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string,
        container_name=container,
        enable_compression=compression,
        layout="python-sdk",
    )
    with BlobPayloadStore(options) as store:
        tokens = {form.upload(store, data, instance_id): data for data in (TEXT, SMALL, NOISE)}
        for token, data in tokens.items():
            assert store.is_known_token(token)
            assert form.download(store, token) == data
    sdk = SdkStore(
        SdkOptions(
            connection_string=azurite.connection_string, container_name=container, enable_compression=compression
        )
    )
    with sdk:
        for token, data in tokens.items():
            assert sdk.is_known_token(token)
            assert sdk.download(token) == data
    for blob in service.get_container_client(container).list_blobs():
        assert blob.content_settings.content_encoding is None
        folder, _, _ = blob.name.rpartition("/")
        if instance_id and len(instance_id) < 50:
            assert folder == quote(instance_id, safe="").replace(".", "%2E")
        else:
            assert folder == ""  # none, or one that is too long for a blob name


def test_metadata(azurite: Azurite, container: str, service: BlobServiceClient) -> None:
    options = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
    with BlobPayloadStore(options) as store:
        for instance_id in ("a/b caf\u00e9\r\nx-ms-meta-evil: 1", None, "x" * 100_000):
            store.upload(b"12345", instance_id=instance_id)
    found = [blob.metadata for blob in service.get_container_client(container).list_blobs(include=["metadata"])]
    sha256 = "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"
    common = {"raw_bytes": "5", "sha256": sha256, "managed_by": "dts"}
    assert found.count(common) == 2
    assert {**common, "instance_id": "a%2Fb%20caf%C3%A9%0D%0Ax-ms-meta-evil%3A%201"} in found
