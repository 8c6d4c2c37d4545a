from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from tests.support.proxy import FaultProxy

from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "https://account.blob.core.windows.net"
KEY = "aHVzaC1odXNo"


def test_names_and_defaults_of_the_sdk() -> None:
    sdk = pytest.importorskip("durabletask.extensions.azure_blob_payloads")
    theirs = {field.name: field.default for field in fields(sdk.BlobPayloadStoreOptions)}
    ours = {field.name: field.default for field in fields(BlobPayloadStoreOptions)}
    assert theirs.items() <= ours.items()
    assert list(ours)[: len(theirs)] == list(theirs)


def test_made_without_a_request() -> None:
    threads = threading.active_count()
    with FaultProxy(1) as proxy:
        threads += 1
        options = BlobPayloadStoreOptions(
            account_url=f"http://127.0.0.1:{proxy.port}/account", credential=AzureNamedKeyCredential("account", KEY)
        )
        with BlobPayloadStore(options) as store:
            assert store.is_known_token(f"blob:v1:payloads:{'0' * 32}")
            assert threading.active_count() == threads
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
        ({"account_url": f"{ACCOUNT}?sig={KEY}"}, "without user information, query or fragment"),
        ({"account_url": ACCOUNT, "container_name": "a--b"}, "container_name is 'a--b'"),
        ({"account_url": ACCOUNT, "token_version": 3}, "token_version is 3: it must be 1 or 2"),
        ({"account_url": ACCOUNT, "layout": "java"}, "layout is 'java'"),
        ({"account_url": ACCOUNT, "layout": "python-sdk", "token_version": 2}, "needs token_version 1"),
        ({"account_url": ACCOUNT, "connect_timeout": 0}, "connect_timeout is 0"),
        ({"account_url": ACCOUNT, "read_timeout": -1}, "read_timeout is -1"),
        ({"account_url": ACCOUNT, "total_timeout": float("nan")}, "total_timeout is nan"),
        ({"account_url": ACCOUNT, "retries": -1}, "retries is -1"),
        ({"account_url": ACCOUNT, "trusted_locations": ("https://other",)}, "account URL"),
        ({"account_url": ACCOUNT, "trusted_locations": (f"{ACCOUNT}/A",)}, "container_name is 'A'"),
        ({"account_url": ACCOUNT, "trusted_locations": (f"{ACCOUNT}/other?sig={KEY}",)}, "trusted location"),
        ({"account_url": ACCOUNT, "trusted_locations": (f"https://me:{KEY}@account/other",)}, "account URL"),
        ({"account_url": ACCOUNT, "threshold_bytes": -1}, "threshold_bytes is -1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], text: str) -> None:
    def made(unchecked: Callable[..., BlobPayloadStoreOptions]) -> None:
        unchecked(**settings)

    with pytest.raises(ValueError, match=text) as caught:
        made(BlobPayloadStoreOptions)
    assert KEY not in str(caught.value)


def test_malformed_connection_string() -> None:
    for text in ("", "AccountKey=" + KEY, "no pairs"):
        with pytest.raises(ValueError, match=r"^Connection string") as caught:
            BlobPayloadStore(BlobPayloadStoreOptions(connection_string=text))
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
