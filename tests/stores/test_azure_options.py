from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import traceback
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from tests.support.proxy import FaultProxy

from durabletask_payloads._errors import PayloadTokenError
from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "https://account.blob.core.windows.net"
KEY = "aHVzaC1odXNo"
OWN: dict[str, object] = {"account_url": ACCOUNT, "credential": KEY}
SAS = f"sv=2022-11-02&sig={KEY}"


def test_names_and_defaults_of_the_sdk() -> None:
    sdk = pytest.importorskip("durabletask.extensions.azure_blob_payloads")
    theirs = {field.name: field.default for field in fields(sdk.BlobPayloadStoreOptions)}
    ours = {field.name: field.default for field in fields(BlobPayloadStoreOptions)}
    assert theirs.items() <= ours.items()
    assert list(ours)[: len(theirs)] == list(theirs)


def test_made_without_a_request() -> None:
    with FaultProxy(1) as proxy:
        threads = set(threading.enumerate())  # those of earlier tests may end meanwhile
        options = BlobPayloadStoreOptions(
            account_url=f"http://127.0.0.1:{proxy.port}/account", credential=AzureNamedKeyCredential("account", KEY)
        )
        with BlobPayloadStore(options) as store:
            assert store.is_known_token(f"blob:v1:payloads:{'0' * 32}")
            assert set(threading.enumerate()) <= threads
        assert proxy.connections == 0


def test_no_secret_is_shown() -> None:
    for options in (
        BlobPayloadStoreOptions(connection_string=f"AccountName=account;AccountKey={KEY}"),
        BlobPayloadStoreOptions(account_url=ACCOUNT, credential=KEY),
        BlobPayloadStoreOptions(account_url=ACCOUNT, credential={"account_name": "account", "account_key": KEY}),
        BlobPayloadStoreOptions(account_url=ACCOUNT, credential=AzureSasCredential(f"sig={KEY}")),
    ):
        assert KEY not in repr(options)
        assert KEY not in str(options)
        assert KEY not in repr(BlobPayloadStore(options))


def test_pickled() -> None:
    options = BlobPayloadStoreOptions(
        connection_string=f"AccountName=account;AccountKey={KEY}",
        container_name="payloads",
        token_version=2,
        trusted_locations=(f"{ACCOUNT}/other",),
        total_timeout=7,
    )
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "either connection_string or account_url"),
        ({"connection_string": "x", "account_url": ACCOUNT}, "and not both"),
        ({"connection_string": "x", "credential": KEY}, "credential goes with account_url"),
        ({"account_url": f"{ACCOUNT}?sig={KEY}"}, "must have no query or fragment"),
        ({**OWN, "container_name": "a--b"}, "container_name is 'a--b'"),
        ({**OWN, "token_version": 3}, "token_version is 3: it must be 1 or 2"),
        ({**OWN, "layout": "java"}, "layout is 'java'"),
        ({**OWN, "layout": "python-sdk", "token_version": 2}, "needs token_version 1"),
        ({**OWN, "connect_timeout": 0}, "connect_timeout is 0"),
        ({**OWN, "read_timeout": -1}, "read_timeout is -1"),
        ({**OWN, "total_timeout": float("nan")}, "total_timeout is nan"),
        ({**OWN, "retries": -1}, "retries is -1"),
        ({**OWN, "trusted_locations": ("https://other",)}, "has no container"),
        ({**OWN, "trusted_locations": (f"{ACCOUNT}/A",)}, "container_name is 'A'"),
        ({**OWN, "trusted_locations": (f"{ACCOUNT}/other?sig={KEY}",)}, "trusted location"),
        ({**OWN, "trusted_locations": (f"https://me:{KEY}@account/other",)}, "account URL"),
        ({**OWN, "threshold_bytes": -1}, "threshold_bytes is -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], text: str) -> None:
    def made(unchecked: Callable[..., BlobPayloadStoreOptions]) -> None:
        unchecked(**settings)

    with pytest.raises(ValueError, match=text) as caught:
        made(BlobPayloadStoreOptions)
    assert KEY not in str(caught.value)


class Identity:
    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        raise AssertionError("no request is made")


def refused(settings: dict[str, object], kind: type[Exception] = ValueError) -> str:
    """The text with which these settings are refused, once it is known to show no secret."""

    def made(unchecked: Callable[..., BlobPayloadStoreOptions]) -> None:
        unchecked(**settings)

    with pytest.raises(kind) as caught:
        made(BlobPayloadStoreOptions)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("account", "account_url is 'account', which is only a name: use https://account.blob.core.windows.net"),
        ("account.blob.core.windows.net", "has no scheme: use https://account.blob.core.windows.net"),
        ("//account.blob.core.windows.net/", "has no scheme: use https://account.blob.core.windows.net"),
        ("127.0.0.1:10000/devstoreaccount1", "has no scheme: use https://127.0.0.1:10000 (or http:// for an emulator)"),
        ("localhost:10000/devstoreaccount1", "has no scheme: it must begin with https://"),
        (f"me:{KEY}@account.blob.core.windows.net", "has no scheme"),
        (KEY, "has no scheme"),
        ("ftp://account.blob.core.windows.net", "must begin with https://"),
        ("abfss://payloads@account.dfs.core.windows.net", "must begin with https://"),
        ("https://account.dfs.core.windows.net", "use https://account.blob.core.windows.net"),
        ("https://account.z1.dfs.storage.azure.net/", "use https://account.z1.blob.storage.azure.net"),
        ("https://account.queue.core.chinacloudapi.cn", "use https://account.blob.core.chinacloudapi.cn"),
        (f"{ACCOUNT}/payloads", f"must have no path: use {ACCOUNT}, and name the container with container_name=..."),
        (f"https://account.privatelink.blob.core.windows.net/{KEY[:8].lower()}", "must have no path"),
        ("https://custom.example/a/b", "a host, optionally a port"),
        (f"{ACCOUNT}?{SAS}", "a signature (SAS) as credential=AzureSasCredential(...)"),
        (f"{ACCOUNT}/payloads?{SAS}", "must have no query or fragment"),
        (f"{ACCOUNT}#{KEY}", "must have no query or fragment"),
        (f"https://me:{KEY}@account.blob.core.windows.net", "must have no user information"),
        (f'"{ACCOUNT}"', "has quotation marks around it: remove them"),
        (f"'{ACCOUNT}'", "has quotation marks around it"),
        (f"{ACCOUNT}\n", "has a space or a line break in it"),
        (f" {ACCOUNT}", "has a space or a line break in it"),
        ("", "account_url is empty"),
        (f"{ACCOUNT}:0", "the port is a number from 1 to 65535"),
        (f"{ACCOUNT}:{KEY}", "the port is a number from 1 to 65535"),
        (f"{ACCOUNT}:70000", "the port is a number from 1 to 65535"),
        ("http://[::1:10000/devstoreaccount1", "an IPv6 address is in brackets"),
        ("http://azurite[::1]:10000/devstoreaccount1", "an IPv6 address is in brackets"),
        ("https://\u212aey.blob.core.windows.net", "at most 253 characters of ASCII"),  # in lower case it is "key"
        (f"https://{'a' * 250}.blob.core.windows.net", "at most 253 characters of ASCII"),
        ("https://", "a host, optionally a port"),
        (f"AccountName=account;AccountKey={KEY}", "is a connection string: pass it as connection_string"),
    ],
)
def test_account_url_that_cannot_be_one(url: str, text: str) -> None:
    said = refused({"account_url": url, "credential": KEY})
    assert said.startswith("account_url")
    assert text in said


@pytest.mark.parametrize(
    "url",
    [
        ACCOUNT,
        f"{ACCOUNT}/",
        f"{ACCOUNT}:443",
        "https://account-secondary.blob.core.windows.net",
        "https://account.privatelink.blob.core.windows.net",
        "https://account.z1.blob.storage.azure.net",
        "https://account.blob.core.chinacloudapi.cn",
        "https://account.blob.core.usgovcloudapi.net",
        "https://payloads.custom.example",
        "https://dfs.custom.example",
        "https://files.dfs.custom.example",
        "https://account.blob.local.azurestack.external",
        "https://blob.local.azurestack.external/account",
        "http://127.0.0.1:10000/devstoreaccount1",
        "http://azurite:10000/devstoreaccount1/",
        "http://[::1]:10000/devstoreaccount1",
    ],
)
def test_account_urls(url: str) -> None:
    options = BlobPayloadStoreOptions(account_url=url, credential=AzureNamedKeyCredential("account", KEY))
    BlobPayloadStore(options).close()


@pytest.mark.parametrize("url", ["http://azurite:10000/devstoreaccount1", "https://payloads.custom.example"])
def test_a_key_alone_where_the_url_names_no_account(url: str) -> None:
    said = refused({"account_url": url, "credential": KEY})
    assert said.startswith(f"credential is an account key, and account_url {url} does not say of which account")
    assert 'credential={"account_name": ..., "account_key": ...}' in said


@pytest.mark.parametrize("url", [ACCOUNT.upper(), "http://127.0.0.1:10000/devstoreaccount1", f"{ACCOUNT}:443/"])
def test_a_key_alone_where_the_url_names_the_account(url: str) -> None:
    BlobPayloadStore(BlobPayloadStoreOptions(account_url=url, credential=KEY)).close()


@pytest.mark.parametrize(
    ("string", "text"),
    [
        ("", "is empty: is the variable that it comes from set?"),
        ("foo", "must be parts of name=value"),
        ("no pairs;of values", "has a space"),
        (f"AccountName=account;{KEY}", "must be parts of name=value"),
        (f"AccountName=account;;AccountKey={KEY}", "must be parts of name=value"),
        ("AccountName=account", "has no credential: it must have AccountKey or SharedAccessSignature"),
        ("AccountName=account;AccountKey=", "has no credential"),
        (f"AccountKey={KEY}", "names no storage account"),
        ("Endpoint=http://localhost:8080;Authentication=None", "names no storage account"),
        (f"BlobEndpoint={ACCOUNT};AccountKey={KEY}", "it must have AccountName too"),
        (f"AccountName=account;AccountKey={KEY}\n", "has a space or a line break in it"),
        (f'"AccountName=account;AccountKey={KEY}"', "has quotation marks around it: remove them"),
        (f"{ACCOUNT}/?{SAS}", "is a URL: pass what stands before the ? as account_url"),
        (f"AccountName=account;AccountKey={KEY}x", "AccountKey of connection_string is no account key"),
        (f"BlobEndpoint=https://account.dfs.core.windows.net;SharedAccessSignature={SAS}", "use https://account.blob."),
        (f"BlobEndpoint={ACCOUNT}/payloads;SharedAccessSignature={SAS}", "must have no path"),
        (f"AccountName=a/b;AccountKey={KEY}", "the account URL of connection_string"),
        (
            f"AccountName=account;SharedAccessSignature={KEY}",
            "SharedAccessSignature of connection_string is no signature",
        ),
        (f"AccountName=account;AccountKey={KEY};BlobSecondaryEndpoint={ACCOUNT}", "it must have BlobEndpoint too"),
        (f"AccountName=account;AccountKey={KEY};DefaultEndpointsProtocol=ftp", "DefaultEndpointsProtocol of"),
    ],
)
def test_connection_string_that_cannot_be_one(string: str, text: str) -> None:
    assert text in refused({"connection_string": string})


@pytest.mark.parametrize(
    ("string", "account_url"),
    [
        ("UseDevelopmentStorage=true", "http://127.0.0.1:10000/devstoreaccount1"),
        (f"AccountName=account;AccountKey={KEY}", ACCOUNT),
        (
            f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn;",
            "https://account.blob.core.chinacloudapi.cn",
        ),
        (f"BlobEndpoint={ACCOUNT}/;QueueEndpoint=https://q.example/;SharedAccessSignature={SAS}", ACCOUNT),
        (f"accountname=account;accountkey={KEY};blobendpoint=http://[::1]:1/account", "http://[::1]:1/account"),
    ],
)
def test_connection_strings(string: str, account_url: str) -> None:
    with BlobPayloadStore(BlobPayloadStoreOptions(connection_string=string)) as store:
        assert f"{account_url}/durabletask-payloads" in refused_place(store)


def refused_place(store: BlobPayloadStore) -> str:
    """The text that names the only place that `store` reads."""
    with pytest.raises(PayloadTokenError) as caught:
        store.download(f"blob:v1:elsewhere:{'0' * 32}")
    return str(caught.value).replace("/elsewhere", "/durabletask-payloads")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"account_url": ACCOUNT},
            "account_url needs a credential: an account key, AzureSasCredential(...), or one of",
        ),
        ({"account_url": "http://127.0.0.1:10000/devstoreaccount1"}, "account_url needs a credential"),
        ({"account_url": ACCOUNT, "credential": ""}, "account_url needs a credential"),
        ({"account_url": ACCOUNT, "credential": f"{KEY}x"}, "credential is no account key, which is base64"),
        ({"account_url": ACCOUNT, "credential": f"{KEY}\n"}, "credential is no account key"),
        ({"account_url": ACCOUNT, "credential": {"account_name": "a", "account_key": "abc"}}, "is no account key"),
        ({"account_url": ACCOUNT, "credential": {"account_key": KEY}}, "must have account_name and account_key"),
        ({"account_url": ACCOUNT, "credential": AzureNamedKeyCredential("account", "abc")}, "is no account key"),
        ({"account_url": "http://a.example", "credential": Identity()}, "account_url must begin with https://"),
        (
            {"account_url": ACCOUNT, "credential": Identity(), "trusted_locations": ("http://a.example/payloads",)},
            "the account URL of a trusted location must begin with https://",
        ),
    ],
)
def test_credential_that_cannot_be_one(settings: dict[str, object], text: str) -> None:
    assert text in refused(settings)


def test_credentials() -> None:
    for credential in (KEY, SAS, f"?{SAS}", AzureSasCredential(SAS), AzureNamedKeyCredential("account", KEY)):
        BlobPayloadStoreOptions(account_url=ACCOUNT, credential=credential)
    BlobPayloadStoreOptions(account_url=ACCOUNT, credential=Identity())


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({**OWN, "threshold_bytes": "256k"}, "threshold_bytes is '256k': it must be a number of bytes, as an int"),
        (
            {**OWN, "max_stored_payload_bytes": 1e7},
            "max_stored_payload_bytes is 10000000.0: it must be a number of bytes",
        ),
        ({**OWN, "container_name": b"x"}, "container_name is b'x': it must be text"),
        ({**OWN, "read_timeout": "3"}, "read_timeout is '3': it must be a number of seconds"),
        ({**OWN, "retries": "3"}, "retries is '3': it must be an int"),
        ({**OWN, "trusted_locations": f"{ACCOUNT}/x"}, "it must be a tuple of URLs"),
        ({"connection_string": KEY.encode()}, "connection_string is of type bytes: it must be text"),
        (
            {"account_url": ACCOUNT, "credential": Identity},
            "credential is a class: pass an instance, as in credential=Id",
        ),
        ({"account_url": ACCOUNT, "credential": 7}, "credential is of type int: it must be an account key"),
    ],
)
def test_settings_of_another_type(settings: dict[str, object], text: str) -> None:
    assert text in refused(settings, TypeError)


def test_options_of_another_type() -> None:
    def made(unchecked: Callable[..., BlobPayloadStore], options: object) -> None:
        unchecked(options)

    for options, name in ((f"AccountKey={KEY}", "str"), (LargePayloadStorageOptions(), "LargePayloadStorageOptions")):
        with pytest.raises(TypeError, match=rf"takes the BlobPayloadStoreOptions .* not .*{name}: BlobPayl") as caught:
            made(BlobPayloadStore, options)
        assert KEY not in str(caught.value)


def test_a_key_is_good_for_one_account() -> None:
    with pytest.raises(ValueError, match="needs a token credential"):
        BlobPayloadStore(
            BlobPayloadStoreOptions(
                account_url=ACCOUNT, credential=KEY, trusted_locations=("https://other.blob.core.windows.net/payloads",)
            )
        )
    BlobPayloadStore(
        BlobPayloadStoreOptions(account_url=ACCOUNT, credential=KEY, trusted_locations=(f"{ACCOUNT}/payloads",))
    )


@pytest.mark.parametrize("missing", ["azure", "azure.storage.blob", "aiohttp"])
def test_without_the_extra(missing: str) -> None:
    program = f"""
import sys
sys.modules[{missing!r}] = None
import durabletask_payloads.stores
try:
    import durabletask_payloads.stores.azure_blob
except ImportError as error:
    assert "pip install durabletask-payloads[azure]" in str(error), error
else:
    raise AssertionError("imported")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nobody_else_imports_azure() -> None:
    program = """
import sys, durabletask_payloads, durabletask_payloads.stores
assert not [name for name in sys.modules if name.partition(".")[0] in ("azure", "aiohttp")]
"""
    subprocess.run([sys.executable, "-c", program], check=True)
