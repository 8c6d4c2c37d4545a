"""The engine "obstore" of the Azure store: that it serves, with every credential, and what it must not do."""

from __future__ import annotations

import http.server
import threading
import traceback
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Literal

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.storage.blob import AccountSasPermissions, BlobServiceClient, ResourceTypes, generate_account_sas
from tests.support.fixtures import made, needs_obstore
from tests.support.proxy import Fault, FaultProxy, always

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError
from durabletask_payloads.stores import _engines
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from tests.support.azurite import Azurite

    MakeOptions = Callable[[str, "Azurite", str], BlobPayloadStoreOptions]

pytestmark = needs_obstore

HEX = "0123456789abcdef" * 2


@pytest.fixture
def existing(azurite: Azurite, container: str) -> Iterator[str]:
    """A container that exists."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        made(service, container)
        yield container


def signature(azurite: Azurite) -> str:
    return generate_account_sas(
        azurite.account_name,
        azurite.account_key,
        ResourceTypes(object=True),
        AccountSasPermissions(read=True, write=True, create=True),
        expiry=datetime.now(timezone.utc) + timedelta(hours=1),
    )


def of_string(text: Callable[[Azurite, str], str]) -> MakeOptions:
    return lambda url, azurite, container: BlobPayloadStoreOptions(
        connection_string=text(azurite, url), container_name=container
    )


def of_credential(
    credential: Callable[[Azurite], str | dict[str, str] | AzureNamedKeyCredential | AzureSasCredential],
) -> MakeOptions:
    return lambda url, azurite, container: BlobPayloadStoreOptions(
        account_url=url, credential=credential(azurite), container_name=container
    )


CREDENTIALS: dict[str, MakeOptions] = {
    "string with a key": of_string(
        lambda azurite, url: f"AccountName={azurite.account_name};AccountKey={azurite.account_key};BlobEndpoint={url}"
    ),
    "string with a signature": of_string(
        lambda azurite, url: f"BlobEndpoint={url}/;SharedAccessSignature={signature(azurite)}"
    ),
    "string with a signature and ?": of_string(
        lambda azurite, url: f"blobendpoint={url};sharedaccesssignature=?{signature(azurite)}"
    ),
    "key": of_credential(lambda azurite: azurite.account_key),
    "named key": of_credential(lambda azurite: AzureNamedKeyCredential(azurite.account_name, azurite.account_key)),
    "dict": of_credential(lambda azurite: {"account_name": azurite.account_name, "account_key": azurite.account_key}),
    "signature": of_credential(lambda azurite: AzureSasCredential(signature(azurite))),
    "signature with ?": of_credential(lambda azurite: AzureSasCredential(f"?{signature(azurite)}")),
    "signature as text": of_credential(signature),
}
each_credential = pytest.mark.parametrize("make", CREDENTIALS.values(), ids=CREDENTIALS.keys())


def serves_alone(options: BlobPayloadStoreOptions, proxy: FaultProxy) -> bool:
    """Whether an upload and a download take one request each: none that Azure's client has to repeat."""
    before = len(proxy.requests)
    with BlobPayloadStore(options) as store:
        assert store.engine == "obstore"
        assert store.download(store.upload(b"1")) == b"1"
    return len(proxy.requests) - before == 2


@each_credential
def test_it_serves_with_each_credential(azurite: Azurite, existing: str, proxy: FaultProxy, make: MakeOptions) -> None:
    url = f"http://127.0.0.1:{proxy.port}/{azurite.account_name}"
    assert serves_alone(make(url, azurite, existing), proxy)


@pytest.mark.usefixtures("engine")
def test_blobs_of_one_name_in_two_containers(azurite: Azurite, container: str) -> None:
    """Each is read from its own, whichever was read first."""
    other = f"{container}-2"
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        for name in (container, other):
            made(service, name).upload_blob(HEX, name.encode())
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string,
        container_name=container,
        trusted_locations=(f"{azurite.account_url}/{other}",),
    )
    with BlobPayloadStore(options) as store:
        for name in (container, other, container):
            assert store.download(f"blob:v1:{name}:{HEX}") == name.encode()


@pytest.mark.usefixtures("engine")
def test_credentials_that_are_renewed(azurite: Azurite, existing: str, proxy: FaultProxy) -> None:
    url = f"http://127.0.0.1:{proxy.port}/{azurite.account_name}"
    key = AzureNamedKeyCredential(azurite.account_name, "d3Jvbmc=")
    signed = AzureSasCredential("sv=2022-11-02&sig=d3Jvbmc%3D")
    for credential in (key, signed):
        options = BlobPayloadStoreOptions(account_url=url, credential=credential, container_name=existing)
        with BlobPayloadStore(options) as store:
            with pytest.raises(PayloadError, match="refused access"):
                store.upload(b"1")
            if isinstance(credential, AzureNamedKeyCredential):
                credential.update(azurite.account_name, azurite.account_key)
            else:
                credential.update(signature(azurite))
            before = len(proxy.requests)
            assert store.download(store.upload(b"1")) == b"1"
            assert len(proxy.requests) - before == 2


@pytest.mark.parametrize("data", [b"text " * 100_000, b"1", b""], ids=["large", "small", "empty"])
@pytest.mark.parametrize(("layout", "token_version"), [("standard", 1), ("standard", 2), ("python-sdk", 1)])
@pytest.mark.parametrize("compression", [True, False])
def test_each_engine_reads_what_the_other_one_wrote(
    azurite: Azurite,
    existing: str,
    layout: Literal["standard", "python-sdk"],
    token_version: Literal[1, 2],
    compression: bool,
    data: bytes,
) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string,
        container_name=existing,
        layout=layout,
        token_version=token_version,
        enable_compression=compression,
    )
    with (
        BlobPayloadStore(replace(options, engine="obstore")) as fast,
        BlobPayloadStore(replace(options, engine="azure-storage-blob")) as azure,
        BlobServiceClient.from_connection_string(azurite.connection_string) as service,
    ):
        for writer, reader in ((fast, azure), (azure, fast)):
            token = writer.upload(data, instance_id="caf\u00e9/order 7.")
            assert reader.download(token) == data
            assert reader.stored_bytes(token) == writer.stored_bytes(token)
        blobs = list(service.get_container_client(existing).list_blobs(include=["metadata"]))
        assert [blob.metadata for blob in blobs] == [blobs[0].metadata] * 2
        kinds = {(blob.content_settings.content_type, blob.content_settings.content_encoding) for blob in blobs}
        assert len(kinds) == 1
        assert blobs[0].size == blobs[1].size


# ---- hosts, and what they are told --------------------------------------------------------------------------------


class Listener(http.server.ThreadingHTTPServer):
    """A server that keeps all that it is told, and sends everybody to another URL if it is given one."""

    def __init__(self, status: int = 404, location: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[str] = []
        self.status = status
        self.location = location

    @contextmanager
    def listening(self) -> Generator[Listener]:
        with self:
            thread = threading.Thread(target=self.serve_forever, args=(0.01,))
            thread.start()
            yield self
            self.shutdown()
            thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self) -> None:
        assert isinstance(self.server, Listener)
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.heard.append(f"{self.requestline}\n{self.headers}")
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        if self.server.location is not None:
            self.send_header("Location", self.server.location)
        self.end_headers()

    do_GET = do_PUT = answer  # noqa: N815 - as the base class calls them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class calls it
        """Say nothing."""


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("status", [302, 303, 307])
@each_credential
def test_no_other_host_hears_of_a_request(azurite: Azurite, container: str, make: MakeOptions, status: int) -> None:
    """obstore follows redirects, and would tell the next host the URL that it comes from, with its signature."""
    with Listener().listening() as other:
        location = f"http://localhost:{other.server_port}/x"
        with Listener(status, location).listening() as account:
            url = f"http://127.0.0.1:{account.server_port}/{azurite.account_name}"
            with BlobPayloadStore(make(url, azurite, container)) as store:
                with pytest.raises(PayloadError, match=rf"refused the request \({status}\)"):
                    store.download(f"blob:v1:{container}:{HEX}")
                with pytest.raises(PayloadError, match=rf"refused the request \({status}\)"):
                    store.upload(b"1")
            assert account.heard
        assert other.heard == []


@pytest.mark.usefixtures("engine")
def test_a_proxy_of_the_environment_is_taken(
    azurite: Azurite, container: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    key = {"account_name": azurite.account_name, "account_key": azurite.account_key}
    with Listener().listening() as account:  # which could be reached without one
        url = f"http://127.0.0.1:{account.server_port}/devstoreaccount1"
        options = BlobPayloadStoreOptions(account_url=url, credential=key, container_name=container, retries=0)
        with BlobPayloadStore(options) as store, pytest.raises(PayloadError):
            store.download(f"blob:v1:{container}:{HEX}")
        assert account.heard == []
    assert proxy.requests == [f"GET {url}/{container}/{HEX} HTTP/1.1"]


@each_credential
def test_nothing_is_taken_from_the_environment(
    azurite: Azurite, existing: str, proxy: FaultProxy, make: MakeOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """obstore reads some forty variables: other credentials, an emulator, no signature at all."""
    with Listener().listening() as listener:
        elsewhere = f"http://127.0.0.1:{listener.server_port}"
        for name, value in {
            "ACCOUNT_NAME": "other",
            "ACCOUNT_KEY": "d3Jvbmc=",
            "SAS_TOKEN": "sv=1&sig=d3Jvbmc%3D",
            "TOKEN": "other",
            "ENDPOINT": elsewhere,
            "USE_EMULATOR": "true",
            "CLIENT_ID": "other",
            "CLIENT_SECRET": "other",
            "TENANT_ID": "other",
            "AUTHORITY_HOST": elsewhere,
        }.items():
            monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
        for name, value in {
            "SKIP_SIGNATURE": "true",
            "CONTAINER_NAME": "other",
            "PROXY_URL": elsewhere,
            "TIMEOUT": "1ms",
            "ALLOW_HTTP": "false",
        }.items():
            monkeypatch.setenv(f"AZURE_{name}", value)
        url = f"http://127.0.0.1:{proxy.port}/{azurite.account_name}"
        assert serves_alone(make(url, azurite, existing), proxy)
        assert listener.heard == []


@each_credential
def test_what_obstore_said_is_not_shown(azurite: Azurite, existing: str, proxy: FaultProxy, make: MakeOptions) -> None:
    """Its errors quote answers and URLs. So does the text of a credential that raises, in them."""
    options = make(f"http://127.0.0.1:{proxy.port}/{azurite.account_name}", azurite, existing)
    options.retries = 0
    for fault in (Fault(reset_request_after=1), Fault(answer=b"HTTP/1.1 503 Hush\r\nContent-Length: 4\r\n\r\nhush")):
        proxy.plan = always(fault)
        with BlobPayloadStore(options) as store, pytest.raises(PayloadStoreUnavailableError) as caught:
            store.upload(b"1")
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        for hidden in ("hush", "RetryError", "MicrosoftAzure", "sig=", azurite.account_key):
            assert hidden not in shown
        assert caught.value.__cause__ is not None
        assert caught.value.__cause__.__context__ is None


@pytest.mark.parametrize(
    ("version", "serves"),
    [("0.8.2", False), ("0.11.0rc1", False), ("0.12.0", True), ("0.12.0b1", True), ("0.100", True), ("1.0", True)],
)
def test_an_obstore_that_is_too_old_is_none(version: str, serves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engines, "version", {"obstore": version}.__getitem__)
    monkeypatch.setattr(_engines, "_is_old", vars(_engines)["_is_old"].__wrapped__)  # what it found out is cached

    def engine(option: Literal["auto", "obstore"]) -> str:
        options = BlobPayloadStoreOptions(
            account_url="https://account.blob.core.windows.net", credential="aGk=", engine=option
        )
        with BlobPayloadStore(options) as store:
            return store.engine

    assert engine("auto") == ("obstore" if serves else "azure-storage-blob")
    if serves:
        assert engine("obstore") == "obstore"
        return
    with pytest.raises(ImportError) as caught:
        engine("obstore")
    refused = 'engine "obstore" needs obstore 0.12 or newer: pip install durabletask-payloads[fast]'
    assert str(caught.value) == refused
