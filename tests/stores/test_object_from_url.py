"""Object stores by a URL."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.s3 import CONFIG

from durabletask_payloads import store_from_url
from durabletask_payloads.stores.object_store import ObjectStorePayloadStore

if TYPE_CHECKING:
    from tests.support.s3 import S3


def test_s3_with_all_in_the_environment(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CONFIG, "endpoint_url": s3.endpoint}.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", str(value))
    monkeypatch.setenv("DURABLETASK_PAYLOADS_STORE", f"s3://{bucket}/p")
    with store_from_url() as store:
        assert store.download(store.upload(b"1")) == b"1"
    assert len(s3.keys(bucket)) == 1


def test_s3(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(CONFIG["access_key_id"]))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(CONFIG["secret_access_key"]))
    url = f"s3://{bucket}/p?endpoint={s3.endpoint}&region=us-east-1&retries=2&read_timeout=2.5"
    with store_from_url(url) as store:
        assert isinstance(store, ObjectStorePayloadStore)
        token = store.upload(b"1")
        assert token.startswith(f"object:v1:s3://{bucket}/p/")
        assert store.download(token) == b"1"
        assert (store.options.retries, store.options.read_timeout) == (2, 2.5)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("gs://bucket/p", "ObjectStorePayloadStore(gs://bucket/p)"),
        ("az://container?account_name=account", "ObjectStorePayloadStore(az://container)"),
    ],
)
def test_other_object_stores(url: str, where: str) -> None:
    with store_from_url(url) as store:
        assert repr(store) == where


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket?endpoint=http://a:SECRET@h", "endpoint must be https://<host> or http://<host>:<port>"),
        ("s3://bucket?endpoint=http://[SECRET]", "endpoint must be https://<host> or http://<host>:<port>"),
        ("s3://bucket?endpoint=http://h:SECRET", "endpoint must be https://<host> or http://<host>:<port>"),
        ("s3://bucket?endpoint=SECRET", "endpoint must be https://<host> or http://<host>:<port>"),
        ("s3://", "url cannot be used: it has no valid bucket behind s3://"),
        ("s3://bucket/p%20x", "url cannot be used: its prefix behind s3://bucket/ must be letters"),
    ],
)
def test_urls_that_cannot_be_right(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        store_from_url(url)
    assert str(error.value).endswith("; the form of url is s3://<bucket>/<prefix>?<option>=<value>")
    assert "SECRET" not in str(error.value)


def test_naming_a_store_imports_nothing_of_the_others() -> None:
    program = (
        "import sys, durabletask_payloads as p; p.store_from_url('memory:')\n"
        "print(sorted({'azure', 'obstore'} & {name.partition('.')[0] for name in sys.modules}))\n"
        "p.store_from_url('s3://bucket')\n"
        "print('obstore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nFalse\n"
