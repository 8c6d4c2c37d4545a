"""Tokens of object stores: exact, bounded, cheap; and the options that name a location, without their secrets."""

from __future__ import annotations

import copy
import pickle
import re
from typing import TYPE_CHECKING, Any, cast

import pytest
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from durabletask_payloads import PayloadTokenError
from durabletask_payloads.externalizer._planning import LONGEST_TOKEN
from durabletask_payloads.stores._object_tokens import Location, ObjectToken
from durabletask_payloads.stores.object_store import ObjectStorePayloadStore, ObjectStorePayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable

HEX = "0123456789abcdef" * 2
LONGEST_PREFIX = "/".join(["p" * 99] * 2) + "/" + "q" * 40
_FROM_URL = cast("Callable[[str], S3Store]", S3Store.from_url)  # pyright: ignore[reportUnknownMemberType] # as its stub is
OTHER_TOKENS = ("blob:v1:container:" + HEX, "blob:v2:https://a.blob.core.windows.net/container/" + HEX)


@pytest.mark.parametrize(
    ("text", "location"),
    [
        (f"object:v1:s3://bucket/{HEX}", Location("s3", "bucket", "")),
        (f"object:v1:s3://my.bucket-1/a/b/{HEX}", Location("s3", "my.bucket-1", "a/b")),
        (f"object:v1:s3://base--usw2-az1--x-s3/{HEX}", Location("s3", "base--usw2-az1--x-s3", "")),
        (f"object:v1:gs://my_bucket.example.com/a.b_c-d=e/{HEX}", Location("gs", "my_bucket.example.com", "a.b_c-d=e")),
        (f"object:v1:az://container-1/{HEX}/{HEX}", Location("az", "container-1", HEX)),
        (f"object:v1:az://container-1/.../{HEX}", Location("az", "container-1", "...")),
        (f"object:v1:s3://{'b' * 63}/{LONGEST_PREFIX}/{HEX}", Location("s3", "b" * 63, LONGEST_PREFIX)),
        (f"object:v1:gs://{'b' * 222}/{LONGEST_PREFIX}/{HEX}", Location("gs", "b" * 222, LONGEST_PREFIX)),
    ],
)
def test_tokens(text: str, location: Location) -> None:
    token = ObjectToken.require(text)
    assert (token.location, token.name, token.container) == (location, HEX, location.bucket)
    assert str(token) == text
    assert Location.of_url(str(location)) == location
    options = ObjectStorePayloadStoreOptions(url=f"{location}/")
    with ObjectStorePayloadStore(options) as store:
        assert store.is_known_token(text)
        assert options.location == location


@pytest.mark.parametrize(
    "text",
    [
        "",
        "object:v1:",
        f"object:v2:s3://bucket/{HEX}",
        f"object:v1:S3://bucket/{HEX}",
        f"object:v1:s3a://bucket/{HEX}",
        f"object:v1:file://bucket/{HEX}",
        f"object:v1:https://bucket/{HEX}",
        f"object:v1:s3://{HEX}",
        f"object:v1:s3:///{HEX}",
        f"object:v1:s3://Bucket/{HEX}",
        f"object:v1:s3://bu/{HEX}",
        f"object:v1:s3://bu_cket/{HEX}",
        f"object:v1:s3://bu..cket/{HEX}",
        f"object:v1:s3://-bucket/{HEX}",
        f"object:v1:s3://{'b' * 64}/{HEX}",
        f"object:v1:gs://bu..cket/{HEX}",
        f"object:v1:gs://{'b' * 223}/{HEX}",
        f"object:v1:az://con--tainer/{HEX}",
        f"object:v1:az://con.tainer/{HEX}",
        f"object:v1:az://{'c' * 64}/{HEX}",
        f"object:v1:s3://user@bucket/{HEX}",
        f"object:v1:s3://bucket:80/{HEX}",
        f"object:v1:s3://bucket//{HEX}",
        f"object:v1:s3://bucket/./{HEX}",
        f"object:v1:s3://bucket/../{HEX}",
        f"object:v1:s3://bucket/a/../{HEX}",
        f"object:v1:s3://bucket/a//{HEX}",
        f"object:v1:s3://bucket/a%2Fb/{HEX}",
        f"object:v1:s3://bucket/a b/{HEX}",
        f"object:v1:s3://bucket/a\\b/{HEX}",
        f"object:v1:s3://bucket/\u00e4/{HEX}",
        f"object:v1:s3://bucket/a\n/{HEX}",
        f"object:v1:s3://bucket/{HEX}\n",
        f"object:v1:s3://bucket/{HEX}/",
        f"object:v1:s3://bucket/{HEX}?versionId=1",
        f"object:v1:s3://bucket/{HEX}#x",
        f"object:v1:s3://bucket/{HEX[:-1]}",
        f"object:v1:s3://bucket/a{HEX}",
        f"object:v1:s3://bucket/{HEX.upper()}",
        f" object:v1:s3://bucket/{HEX}",
        f"object:v1:s3://{'b' * 63}/p{LONGEST_PREFIX}/{HEX}",
        f"object:v1:gs://{'b' * 222}/p{LONGEST_PREFIX}/{HEX}",
        *OTHER_TOKENS,
    ],
)
def test_no_tokens(text: str) -> None:
    assert ObjectToken.parse(text) is None
    with pytest.raises(PayloadTokenError, match=rf"a text of {len(text)} characters is no token"):
        ObjectToken.require(text)


def test_no_token_is_longer_than_an_externalizer_counts_on() -> None:
    longest = str(ObjectToken(Location("gs", "b" * 222, LONGEST_PREFIX), HEX))
    assert len(longest) <= LONGEST_TOKEN
    assert ObjectToken.parse(longest) is not None


def test_long_text_is_looked_at_no_further_than_its_length() -> None:
    class Text(str):
        def startswith(self, *args: Any) -> bool:
            raise AssertionError("looked at")

    assert ObjectToken.parse(Text("object:v1:s3://bucket/" + "a/" * 1_000_000)) is None


def test_text_at_the_limit_takes_no_time_to_refuse() -> None:
    """Backtracking over segments would take longer than the test may."""
    for start in ("s3://bucket/", "gs://" + "a." * 100, "az://a-a", "s3://" + "a." * 30):
        for part in ("a/", "a", "../", "./", "0123456789abcdef", "a.", "=" * 8 + "/"):
            text = f"object:v1:{start}" + part * (1100 // len(part))
            for end in ("", "!", HEX + "!", "/" + HEX + " "):
                for _ in range(20):
                    assert ObjectToken.parse(text[: 1200 - len(end)] + end) is None


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "it must begin with s3://, gs:// or az://"),
        ("bucket", "it must begin with s3://, gs:// or az://"),
        ("https://SECRET@bucket.s3.amazonaws.com", "it must begin with s3://"),
        ("SECRET://bucket", "it must begin with s3://"),
        ("s3:bucket", "it must begin with s3://"),
        ("s3://", "it has no valid bucket behind s3://"),
        ("s3:///prefix", "it has no valid bucket behind s3://"),
        ("az://", "it has no valid container behind az://"),
        ("s3://Bucket_SECRET/x", "it has no valid bucket behind s3://"),
        ("s3://AKIA:SECRET@bucket/x", 'it must have no credentials before an "@"'),
        ("s3://bucket:SECRET/x", "it has no valid bucket behind s3://"),
        ("s3://bucket/x?secret=SECRET", "it must have no query or fragment"),
        ("s3://bucket/x#SECRET", "it must have no query or fragment"),
        ("s3://bucket/a//SECRET", "its prefix behind s3://bucket/ must be letters, digits"),
        ("s3://bucket/../SECRET", "its prefix behind s3://bucket/ must be letters, digits"),
        ("s3://bucket/a%2FSECRET", "its prefix behind s3://bucket/ must be letters, digits"),
        ("gs://bucket/" + "p" * 241, "its prefix has 241 characters: it must have at most 240"),
    ],
)
def test_urls_that_cannot_be_right(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"url cannot be used: {re.escape(message)}") as error:
        ObjectStorePayloadStoreOptions(url=url)
    assert "SECRET" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_errors_show_the_right_form(scheme: str) -> None:
    with pytest.raises(ValueError, match=r'"s3://<bucket>/<prefix>", "gs://.*" or "az://<container>/<prefix>"'):
        ObjectStorePayloadStoreOptions(url=f"{scheme}://X")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({}, ValueError, "either url or store must be given"),
        ({"url": "s3://bucket", "store": S3Store("bucket")}, ValueError, "either url or store must be given"),
        ({"store": S3Store("bucket"), "config": {"region": "x"}}, ValueError, "config goes with url"),
        ({"store": MemoryStore()}, TypeError, "store is of type MemoryStore: it must be an S3Store, GCSStore"),
        ({"store": LocalStore("/")}, TypeError, "store is of type LocalStore"),
        ({"store": "s3://bucket"}, TypeError, "store is of type str"),
        ({"store": S3Store("bucket", prefix="\u00e4")}, ValueError, "store cannot be used: as a URL, its prefix"),
        ({"url": b"s3://bucket"}, TypeError, "url is of type bytes: it must be text"),
        ({"url": "s3://bucket", "config": {"region": 1}}, TypeError, "config must have text or bool as its values"),
        ({"url": "s3://bucket", "retries": -1}, ValueError, r"retries is -1: it must be 0 \(try once\) or more"),
        (
            {"url": "s3://bucket", "total_timeout": float("inf")},
            ValueError,
            "total_timeout is inf: it must be more",
        ),
        (
            {"url": "s3://bucket", "total_timeout": float("nan")},
            ValueError,
            "total_timeout is nan: it must be more",
        ),
        ({"url": "s3://bucket", "read_timeout": 0}, ValueError, "read_timeout is 0: it must be more than 0 seconds"),
        ({"url": "s3://bucket", "total_timeout": "1"}, TypeError, "total_timeout is '1': it must be a number of sec"),
        ({"url": "s3://bucket", "threshold_bytes": -1}, ValueError, "threshold_bytes is -1"),
    ],
    ids=lambda value: "",
)
def test_settings_that_cannot_be_right(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ObjectStorePayloadStoreOptions(**settings)


def test_a_bucket_from_the_environment_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BUCKET", "from-there")
    with pytest.raises(ValueError, match=r"store does not say its bucket: make it with one, as in S3Store\(bucket="):
        ObjectStorePayloadStoreOptions(store=S3Store())


@pytest.mark.parametrize(
    ("store", "location"),
    [
        (S3Store("bucket"), "s3://bucket"),
        (S3Store("bucket", prefix="/a/b/"), "s3://bucket/a/b"),
        (_FROM_URL("https://s3.eu-west-1.amazonaws.com/bucket/a"), "s3://bucket/a"),
        (GCSStore("bucket", prefix="a", skip_signature=True), "gs://bucket/a"),
        (AzureStore("container", prefix="a", account_name="account"), "az://container/a"),
    ],
    ids=lambda value: "",
)
def test_where_a_store_of_obstore_writes(store: S3Store | GCSStore | AzureStore, location: str) -> None:
    assert str(ObjectStorePayloadStoreOptions(store=store).location) == location


def test_nothing_shows_a_secret() -> None:
    options = ObjectStorePayloadStoreOptions(
        url="s3://bucket/p", config={"secret_access_key": "SECRET", "endpoint": "http://user:SECRET@127.0.0.1:1"}
    )
    with ObjectStorePayloadStore(options) as store:
        assert "SECRET" not in f"{options!r} {store!r} {options} {store}"
    again: ObjectStorePayloadStoreOptions = pickle.loads(pickle.dumps(options))
    assert again == options == copy.copy(options)


@pytest.mark.parametrize("name", ["sas_key", "SAS_TOKEN", "azure_storage_sas_key"])
def test_a_signature_is_for_the_store_that_keeps_it(name: str) -> None:
    with pytest.raises(ValueError, match=r"config has a signature \(SAS\), .* use BlobPayloadStore") as raised:
        ObjectStorePayloadStoreOptions(url="az://container", config={"account_name": "account", name: "sig=SECRET"})
    assert "SECRET" not in str(raised.value)


def test_what_takes_options() -> None:
    made: Any = ObjectStorePayloadStore
    with pytest.raises(TypeError, match=r"takes ObjectStorePayloadStoreOptions, not str: .*url="):
        made("s3://bucket")


def test_google_cloud_storage_gets_no_content_encoding() -> None:
    """It would expand what is marked as gzip."""
    body = b"\x1f\x8b..."
    gcs = ObjectStorePayloadStore(ObjectStorePayloadStoreOptions(url="gs://bucket"))
    s3 = ObjectStorePayloadStore(ObjectStorePayloadStoreOptions(url="s3://bucket"))
    assert (gcs._content_encoding(body), s3._content_encoding(body)) == (None, "gzip")  # pyright: ignore[reportPrivateUsage]
