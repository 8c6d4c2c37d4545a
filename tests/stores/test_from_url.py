"""Stores by a URL: what each URL makes, where options and credentials come from, and what is refused."""

from __future__ import annotations

import base64
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any, cast

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.identity import DefaultAzureCredential

from durabletask_payloads import DirectoryPayloadStore, InMemoryPayloadStore, PayloadStore, store_from_url
from durabletask_payloads.stores.azure_blob import BlobPayloadStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.azurite import Azurite

KEY = base64.b64encode(b"SECRET" * 8).decode()
SIGNATURE = "sv=2024-01-01&sig=SECRET"
CONNECTION_STRING = f"AccountName=account;AccountKey={KEY};EndpointSuffix=core.windows.net"
VARIABLES = ("KEY", "SAS_TOKEN", "CONNECTION_STRING", "ACCOUNT")


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLETASK_PAYLOADS_STORE", raising=False)
    for name in VARIABLES:
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)


def round_trip(store: PayloadStore) -> str:
    token = store.upload(b"abc " * 1000)
    assert store.download(token) == b"abc " * 1000
    return token


# ---- what a URL makes ------------------------------------------------------------------------------------------------


def test_memory() -> None:
    for url in ("memory:", "memory://", "MEMORY:"):
        with store_from_url(url) as store:
            assert isinstance(store, InMemoryPayloadStore)
            assert round_trip(store).startswith("blob:v1:durabletask-payloads:")
    with store_from_url("memory:?container_name=other&threshold_bytes=5&enable_compression=false") as store:
        assert round_trip(store).startswith("blob:v1:other:")
        assert (store.options.threshold_bytes, store.options.enable_compression) == (5, False)


def test_file(tmp_path: Path) -> None:
    folder = tmp_path / "a b@c"
    with store_from_url(folder.as_uri(), threshold_bytes=5) as store:
        assert isinstance(store, DirectoryPayloadStore)
        round_trip(store)
        assert store.options.threshold_bytes == 5
    assert [path.name for path in folder.iterdir()] == ["durabletask-payloads"]


def test_azurite(azurite: Azurite, container: str) -> None:
    with store_from_url(f"azurite://127.0.0.1:{azurite.port}/{container}?token_version=2") as store:
        assert isinstance(store, BlobPayloadStore)
        assert round_trip(store).startswith(f"blob:v2:{azurite.account_url}/{container}/")
    for url in ("azurite:", "azurite://", "azurite://127.0.0.1:10000/durabletask-payloads"):
        with store_from_url(url) as store:
            assert "(http://127.0.0.1:10000/devstoreaccount1/durabletask-payloads" in repr(store)


def test_the_default_is_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DURABLETASK_PAYLOADS_STORE", "memory:?threshold_bytes=7&retries=1")
    with pytest.raises(ValueError, match="parameter of DURABLETASK_PAYLOADS_STORE 'retries' is none of memory:"):
        store_from_url()
    monkeypatch.setenv("DURABLETASK_PAYLOADS_STORE", "memory:?threshold_bytes=7")
    with store_from_url() as store:
        assert store.options.threshold_bytes == 7
    with store_from_url(threshold_bytes=8) as store:
        assert store.options.threshold_bytes == 8


# ---- credentials of Azure --------------------------------------------------------------------------------------------


def azure(url: str = "azure://account/container", **rest: Any) -> BlobPayloadStore:
    store = store_from_url(url, **rest)
    assert isinstance(store, BlobPayloadStore)
    assert "SECRET" not in repr(store)
    assert store.options.container_name == "container"
    return store


def test_a_credential_that_is_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", KEY)
    credential = AzureNamedKeyCredential("account", KEY)
    options = azure(credential=credential).options
    assert options.credential is credential
    assert options.account_url == "https://account.blob.core.windows.net"
    options = azure("azure://account.blob.core.chinacloudapi.cn/container", credential=credential).options
    assert options.account_url == "https://account.blob.core.chinacloudapi.cn"


@pytest.mark.parametrize(("name", "value"), [("KEY", KEY), ("SAS_TOKEN", SIGNATURE)])
def test_a_credential_of_the_environment(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
    assert azure().options.credential == value
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "ACCOUNT")
    assert azure().options.credential == value
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "another")
    assert isinstance(azure().options.credential, DefaultAzureCredential)


def test_a_connection_string_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", CONNECTION_STRING)
    assert azure().options.connection_string == CONNECTION_STRING
    assert azure("azure://another/container").options.connection_string is None


@pytest.mark.parametrize(
    ("endpoint", "account", "is_of_it"),
    [
        ("https://account.blob.core.windows.net/", "account", True),
        ("https://Account.blob.core.windows.net", "ACCOUNT", True),
        ("https://account.z1.blob.storage.azure.net/", "account", True),
        ("https://account.blob.core.windows.net/", "account.blob.core.windows.net", True),
        ("https://payloads.custom.example/", "payloads.custom.example", True),
        ("https://account.blob.core.windows.net/", "another", False),
        ("https://account.blob.core.windows.net/", "account.blob.core.chinacloudapi.cn", False),
        ("https://account.custom.example/", "account", False),
        ("https://[account/", "account", False),
        ("", "account", False),
    ],
)
def test_a_connection_string_without_a_name(
    endpoint: str, account: str, is_of_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the portal makes one of a signature. It is taken for the account at its BlobEndpoint, and for no other."""
    text = f"BlobEndpoint={endpoint};QueueEndpoint=https://account.queue.core.windows.net/;SharedAccessSignature="
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text + SIGNATURE)
    options = azure(f"azure://{account}/container").options
    assert options.connection_string == (text + SIGNATURE if is_of_it else None)


def test_an_identity() -> None:
    assert isinstance(azure().options.credential, DefaultAzureCredential)


# ---- what is refused -------------------------------------------------------------------------------------------------

FORMS = (
    "azure://<account>/<container>, azurite://<host>:<port>/<container>, file:///<path>, s3://<bucket>/<prefix>, "
    "gs://<bucket>/<prefix>, az://<container>/<prefix>, memory:"
)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (None, f"no store is named: pass a URL, or set DURABLETASK_PAYLOADS_STORE, to one of {FORMS}"),
        ("", f"url names no kind of store: it must be one of {FORMS}"),
        ("memory", f"url names no kind of store: it must be one of {FORMS}"),
        ("SECRET", f"url names no kind of store: it must be one of {FORMS}"),
        ("SECRET:x", f"url names no kind of store: it must be one of {FORMS}"),
        (
            "https://account.blob.core.windows.net/c?sig=SECRET",
            f"url names no kind of store: it must be one of {FORMS}",
        ),
        ("memory:x", "nothing goes behind the colon; the form of url is memory:?<option>=<value>"),
        (
            "file:relative",
            "a path is absolute, behind three slashes; the form of url is file:///<path>?<option>=<value>",
        ),
        ("file://host/path", "a path is absolute, behind three slashes; the form of url is file:///<path>"),
        ("file:///a%00b", "a path has no zero bytes; the form of url is file:///<path>"),
        ("file:///a#b", "url must have no fragment: it must be file:///<path>"),
        ("s3://AKIA:SECRET@bucket/p", 'url must have no credentials before an "@": it must be s3://<bucket>/<prefix>'),
        ("azure://account:SECRET@x/c", 'url must have no credentials before an "@": it must be azure://<account>/'),
        ("s3://bucket?secret_access_key=SECRET", "the parameter of url 'secret_access_key' is none of s3://<bucket>"),
        ("s3://bucket?retries=SECRET", "retries in url must be a whole number"),
        ("s3://bucket?read_timeout=SECRET", "read_timeout in url must be a number of seconds"),
        ("memory:?enable_compression=SECRET", "enable_compression in url must be true or false"),
        ("memory:?SECRET", "url must have options as <name>=<value> behind its ?"),
        ("memory:?SECRET=1", "the parameter of url is none of memory:"),
        ("memory:?threshold_bytes=1&threshold_bytes=2", "url has an option twice"),
        ("memory:?threshold_bytes=99999999", "threshold_bytes is 99999999: it must be from 0 to"),
        ("azure://account/c?sig=SECRET", "the parameter of url 'sig' is none of azure://<account>/<container>"),
        ("azure://account/c/SECRET", "one container goes behind one slash; the form of url is azure://<account>/"),
        ("azure://account/c&sig=SECRET", "one container goes behind one slash; the form of url is azure://<account>/"),
        ("azure:account", "one container goes behind one slash; the form of url is azure://<account>/<container>"),
        ("azure:///container", "an account is its name, or its host without a port; the form of url is azure://"),
        ("azure:", "an account is its name, or its host without a port; the form of url is azure://"),
        (
            "azure://account:1/container",
            "an account is its name, or its host without a port; the form of url is azure:",
        ),
        ("azure://account/NO", "container_name is 'NO': it must be"),
        (
            "azurite://h/abc?connect_timeout=0",
            "connect_timeout is 0.0: it must be more than 0 seconds, and at most 86400 (a day); the form of url",
        ),
    ],
    ids=lambda value: "",
)
def test_urls_that_cannot_be_right(url: str | None, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  its text is compared below: it has signs of patterns
        store_from_url(url)
    assert str(error.value).startswith(message)
    assert "SECRET" not in "".join(traceback.format_exception_only(error.value))
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_options_that_cannot_be_right() -> None:
    wrong = cast("Any", store_from_url)  # what a type checker refuses
    with pytest.raises(
        ValueError, match="the option 'region' is none of memory:: memory: takes container_name, enable"
    ):
        wrong("memory:", region="x")
    with pytest.raises(ValueError, match="credential goes with azure://<account>/<container>"):
        wrong("memory:", credential="SECRET")


@pytest.mark.parametrize(
    ("url", "missing", "message"),
    [
        ("azure://a/c", "azure", "pip install durabletask-payloads[azure]"),
        ("azurite:", "azure", "pip install durabletask-payloads[azure]"),
        ("s3://bucket", "obstore", "pip install durabletask-payloads[object-store]"),
        ("azure://a/c", "azure.identity", "pip install azure-identity"),
    ],
)
def test_a_missing_extra(url: str, missing: str, message: str) -> None:
    program = f"""
import importlib.util, sys
sys.modules[{missing!r}] = None
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else real(name, *rest)
from durabletask_payloads import store_from_url
try:
    store_from_url({url!r})
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"{message}\n")
