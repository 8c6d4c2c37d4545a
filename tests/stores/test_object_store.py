"""Payloads in a real S3, moto's: as in all stores, and what is S3's own."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import BlobServiceClient
from obstore.store import AzureStore, S3Store
from tests.end_to_end.hub import hub_on
from tests.support.fixtures import made as made_container
from tests.support.store_forms import Form, both_forms

from durabletask_payloads import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
)
from durabletask_payloads.stores._blob_client import Attempt, RequestFailedError
from durabletask_payloads.stores._object_client import object_client
from durabletask_payloads.stores._object_tokens import Location, ObjectToken
from durabletask_payloads.stores.object_store import ObjectStorePayloadStore, ObjectStorePayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from durabletask.task import ActivityContext, OrchestrationContext, Task
    from tests.support.azurite import Azurite
    from tests.support.s3 import S3

    from durabletask_payloads.stores._obstore_client import ObstoreClient

HEX = "0" * 32
ATTEMPT = Attempt(1, 20.0)


@pytest.fixture
def options(s3: S3, bucket: str) -> ObjectStorePayloadStoreOptions:
    return ObjectStorePayloadStoreOptions(url=f"s3://{bucket}/pay/loads", config=s3.config())


@pytest.fixture
def store(options: ObjectStorePayloadStoreOptions) -> Iterator[ObjectStorePayloadStore]:
    with ObjectStorePayloadStore(options) as made:
        yield made


# ---- as in all stores ------------------------------------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize("prefix", ["", "/pay/loads"])
@pytest.mark.parametrize("data", [b"", b"abc " * 500_000, os.urandom(1_500_000)], ids=["empty", "text", "noise"])
def test_round_trip(s3: S3, bucket: str, form: Form, data: bytes, prefix: str) -> None:
    with s3.store(f"s3://{bucket}{prefix}") as store:
        token = form.upload(store, data, "instance/1")
        assert form.download(store, token) == data
        assert (
            store.stored_bytes(token) < 20_000 if data.startswith(b"abc ") else store.stored_bytes(token) == len(data)
        )
    assert token == f"object:v1:s3://{bucket}{prefix}/{token[-32:]}"
    assert store.is_known_token(token)
    assert token.encode().startswith(store.token_prefixes)
    assert s3.keys(bucket) == [f"{prefix}/{token[-32:]}".lstrip("/")]


def test_what_is_kept_beside_a_payload(s3: S3, bucket: str, store: ObjectStorePayloadStore) -> None:
    store.upload(b"abc " * 1000, instance_id="order/7 \u00e4.")
    store.upload(b"1")
    found = [s3.headers(bucket, key) for key in s3.keys(bucket)]
    other, packed = sorted(found, key=lambda one: int(one["x-amz-meta-raw_bytes"]))
    assert {name: value for name, value in packed.items() if name.startswith("x-amz-meta-")} == {
        "x-amz-meta-raw_bytes": "4000",
        "x-amz-meta-sha256": packed["x-amz-meta-sha256"],
        "x-amz-meta-managed_by": "dts",
        "x-amz-meta-instance_id": "order%2F7%20%C3%A4%2E",
    }
    assert packed["content-encoding"] == "gzip"
    assert "x-amz-meta-instance_id" not in other
    assert "content-encoding" not in other


@pytest.mark.parametrize(("length", "is_kept"), [(1024, True), (1025, False)])
def test_the_longest_instance_id_fits_into_the_metadata_of_s3(
    s3: S3, bucket: str, store: ObjectStorePayloadStore, length: int, is_kept: bool
) -> None:
    store.upload(b"1", instance_id="x" * length)
    (key,) = s3.keys(bucket)
    assert s3.headers(bucket, key).get("x-amz-meta-instance_id") == ("x" * length if is_kept else None)


@both_forms
def test_size_limits(s3: S3, bucket: str, form: Form, store: ObjectStorePayloadStore) -> None:
    token = form.upload(store, b"x" * 500_000)
    plain = form.upload(store, os.urandom(500_000))
    small = ObjectStorePayloadStoreOptions(
        url=f"s3://{bucket}/pay/loads", config=s3.config(), threshold_bytes=100, max_stored_payload_bytes=1000
    )
    with ObjectStorePayloadStore(small) as reader:
        for one in (token, plain):
            with pytest.raises(PayloadTooLargeError, match=rf"stored under {one} exceeds the maximum .* \(1000\)"):
                form.download(reader, one)
        with pytest.raises(PayloadTooLargeError, match="1001 bytes, which exceeds the maximum"):
            form.upload(reader, b"x" * 1001)


@both_forms
def test_deleted(form: Form, store: ObjectStorePayloadStore) -> None:
    kept, token = form.upload(store, b"kept"), form.upload(store, b"gone")
    form.delete(store, token)
    form.delete(store, token)  # nothing happens
    with pytest.raises(PayloadNotFoundError, match=rf"{token}: S3 at 127.0.0.1:\d+ has no such object: it was deleted"):
        form.download(store, token)
    with pytest.raises(PayloadNotFoundError, match=token):
        store.stored_bytes(token)
    assert form.download(store, kept) == b"kept"


def test_a_body_of_another(s3: S3, bucket: str, store: ObjectStorePayloadStore) -> None:
    key, token = f"pay/loads/{HEX}", f"object:v1:s3://{bucket}/pay/loads/{HEX}"
    s3.put(bucket, key, b"plain", Content_Encoding="gzip")
    with pytest.raises(PayloadIntegrityError, match="marked as gzip, but is none"):
        store.download(token)
    s3.put(bucket, key, b"changed", x_amz_meta_sha256="0" * 64)
    with pytest.raises(PayloadIntegrityError, match="differs from its SHA-256"):
        store.download(token)
    s3.put(bucket, key, b"by somebody else")
    assert store.download(token) == b"by somebody else"


def test_an_orchestration(s3: S3, bucket: str) -> None:
    """Through the SDK's worker and client: input and output of it and of its activity are in the bucket."""
    with s3.store(f"s3://{bucket}/orders") as store, hub_on(store) as hub:
        hub.worker.add_orchestrator(orders)
        hub.worker.add_activity(double)
        hub.worker.start()
        instance = hub.client.schedule_new_orchestration(orders, input="abc " * 100_000)
        state = hub.client.wait_for_orchestration_completion(instance, timeout=60)
        assert state is not None
        assert state.serialized_output == json.dumps("abc " * 200_000)
        raw = hub.raw.get_orchestration_state(instance, fetch_payloads=True)
        assert raw is not None
        assert str(raw.serialized_output).startswith(f"object:v1:s3://{bucket}/orders/")
        assert (hub.uploads, hub.downloads) == (4, 0)
    assert len(s3.keys(bucket)) == 4


def double(_: ActivityContext, text: str) -> str:
    return text * 2


def orders(context: OrchestrationContext, text: str) -> Generator[Task[Any], Any, Any]:
    doubled: str = yield context.call_activity(double, input=text)
    return doubled


# ---- one bucket, several prefixes; tokens of others ------------------------------------------------------------------


@both_forms
@pytest.mark.parametrize(("mine", "other"), [("a", "b"), ("a", "a/b"), ("a/b", "a"), ("", "a"), ("a", ""), ("a", "A")])
def test_stores_that_share_a_bucket_cannot_read_each_other(
    s3: S3, bucket: str, form: Form, mine: str, other: str
) -> None:
    with s3.store(f"s3://{bucket}/{mine}") as one, s3.store(f"s3://{bucket}/{other}") as two:
        token = form.upload(two, b"theirs")
        assert one.is_known_token(token)
        for read in (form.download, form.delete):
            with pytest.raises(PayloadTokenError, match="which this store may not read: it is of s3://"):
                read(one, token)
        with pytest.raises(PayloadTokenError):
            one.stored_bytes(token)
        # Not under the same name in its own location either.
        own = f"object:v1:{Location('s3', bucket, mine)}/{token[-32:]}"
        with pytest.raises(PayloadNotFoundError):
            form.download(one, own)
        assert form.download(two, token) == b"theirs"


@pytest.mark.parametrize(
    "token",
    [
        "object:v1:s3://elsewhere/pay/loads/HEX",
        "object:v1:gs://BUCKET/pay/loads/HEX",
        "object:v1:s3://BUCKET/pay/loads/../loads/HEX",
        "object:v1:s3://BUCKET/pay%2Floads/HEX",
        "object:v1:s3://BUCKET/pay/loads/HEX?versionId=1",
        "blob:v1:BUCKET:HEX",
        "/etc/passwd",
        "",
    ],
)
def test_only_exact_tokens_of_its_own_location(bucket: str, store: ObjectStorePayloadStore, token: str) -> None:
    text = token.replace("BUCKET", bucket).replace("HEX", HEX)
    for read in (store.download, store.delete, store.stored_bytes):
        with pytest.raises(PayloadTokenError):
            read(text)


# ---- buckets, keys, regions ------------------------------------------------------------------------------------------


@both_forms
def test_a_bucket_that_does_not_exist(s3: S3, form: Form) -> None:
    options = ObjectStorePayloadStoreOptions(url="s3://not-there/x", config=s3.config(), retries=0)
    message = (
        r"the bucket 'not-there' does not exist in S3 at 127\.0\.0\.1:\d+: create it, or use the same URL on the client"
    )
    with ObjectStorePayloadStore(options) as store:
        token = f"object:v1:s3://not-there/x/{HEX}"
        with pytest.raises(PayloadStoreUnavailableError, match=message):
            form.upload(store, b"1")
        with pytest.raises(PayloadStoreUnavailableError, match=message):
            form.download(store, token)
        with pytest.raises(PayloadStoreUnavailableError, match=message):
            store.stored_bytes(token)
        form.delete(store, token)  # there is nothing to delete


def test_a_bucket_that_is_made_meanwhile(s3: S3, bucket: str) -> None:
    late = f"late-{bucket[:40]}"
    options = ObjectStorePayloadStoreOptions(url=f"s3://{late}", config=s3.config(), retries=20)
    with ObjectStorePayloadStore(options) as store, ThreadPoolExecutor(1) as pool:
        token = pool.submit(store.upload, b"1")
        s3.create_bucket(late)
        assert store.download(token.result()) == b"1"


@both_forms
def test_a_key_that_is_refused(s3: S3, bucket: str, form: Form, store: ObjectStorePayloadStore) -> None:
    with s3.checking_credentials():
        with pytest.raises(
            PayloadAccessDeniedError, match=r"\(403 InvalidAccessKeyId\): check the credential"
        ) as error:
            form.upload(store, b"1")
        with pytest.raises(PayloadAccessDeniedError, match=r"refused access to bucket 'test-.*'"):
            form.download(store, f"object:v1:s3://{bucket}/pay/loads/{HEX}")
    assert "secret" not in str(error.value)
    store.upload(b"1")


def test_settings_that_obstore_does_not_know(s3: S3, bucket: str) -> None:
    for config, message in (
        ({"nonsense": "SECRET"}, "a name that obstore does not know, among access_key_id, endpoint, nonsense, region"),
        ({"virtual_hosted_style_request": "SECRET"}, "obstore cannot use config"),
    ):
        options = ObjectStorePayloadStoreOptions(url=f"s3://{bucket}", config=s3.config(**config))
        with ObjectStorePayloadStore(options) as store, pytest.raises(PayloadError, match=message) as error:
            store.upload(b"1")
        assert "SECRET" not in "".join(traceback.format_exception(error.value))


def test_virtual_hosted_style(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is in the name of the host: which needs a name server, or a proxy that is asked for any name."""
    monkeypatch.setenv("http_proxy", s3.endpoint)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    host: dict[str, str | bool] = {
        "endpoint": f"http://{bucket}.s3.amazonaws.com",
        "virtual_hosted_style_request": True,
    }
    options = ObjectStorePayloadStoreOptions(url=f"s3://{bucket}/pay/loads", config={**s3.config(), **host})
    with ObjectStorePayloadStore(options) as virtual:
        token = virtual.upload(b"1")
        assert virtual.download(token) == b"1"
        assert virtual.stored_bytes(token) == 1
    assert s3.keys(bucket) == [f"pay/loads/{token[-32:]}"]
    with s3.store(f"s3://{bucket}/pay/loads") as by_path:
        assert by_path.download(token) == b"1"
        by_path.delete(token)


# ---- a store of obstore that the user made ---------------------------------------------------------------------------


def test_a_store_of_the_users_own(s3: S3, bucket: str) -> None:
    made = S3Store(
        bucket,
        prefix="mine",
        access_key_id="AKIAIOSFODNN7EXAMPLE",
        secret_access_key="the-secret-access-key",
        region="us-east-1",
        endpoint=s3.endpoint,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    options = ObjectStorePayloadStoreOptions(store=made)
    assert "secret" not in repr(options)
    with ObjectStorePayloadStore(options) as own, s3.store(f"s3://{bucket}/mine") as by_url:
        assert repr(own) == repr(by_url) == f"ObjectStorePayloadStore(s3://{bucket}/mine)"
        token = own.upload(b"abc " * 1000)
        assert own.download(token) == by_url.download(token) == b"abc " * 1000
        assert own.stored_bytes(token) < 100
        own.delete(token)
        own.delete(token)
        with pytest.raises(PayloadNotFoundError):
            by_url.download(token)


def test_azure(azurite: Azurite, container: str) -> None:
    """By URL, and by a store; with a container that does not exist, and then does."""
    config: dict[str, str | bool] = {
        "account_name": azurite.account_name,
        "account_key": azurite.account_key,
        "endpoint": azurite.account_url,
    }
    options = ObjectStorePayloadStoreOptions(url=f"az://{container}/p", config=config, retries=0)
    made = AzureStore(
        container,
        prefix="p",
        account_name=azurite.account_name,
        account_key=azurite.account_key,
        endpoint=azurite.account_url,
        client_options={"allow_http": True},
    )
    with (
        ObjectStorePayloadStore(options) as store,
        ObjectStorePayloadStore(ObjectStorePayloadStoreOptions(store=made)) as own,
    ):
        with pytest.raises(PayloadStoreUnavailableError, match=f"the container '{container}' does not exist in Blob"):
            store.upload(b"1")
        store.delete(f"object:v1:az://{container}/p/{HEX}")
        with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
            made_container(service, container)
        for data in (b"", b"abc " * 1000):
            token = store.upload(data)
            assert store.download(token) == own.download(token) == data
            assert token == f"object:v1:az://{container}/p/{token[-32:]}"
            store.delete(token)
            store.delete(token)
            with pytest.raises(PayloadNotFoundError, match="has no such blob"):
                own.download(token)


def test_google_cloud_storage(s3: S3) -> None:
    """Its XML is that of S3, so that moto understands its client, but for metadata and hyphens in the bucket."""
    bucket = f"gcs{uuid.uuid4().hex}"
    config: dict[str, str | bool] = {"base_url": s3.endpoint, "bearer_token": "the-token"}
    options = ObjectStorePayloadStoreOptions(url=f"gs://{bucket}/p", config=config, retries=0)
    with ObjectStorePayloadStore(options) as store:
        with pytest.raises(
            PayloadStoreUnavailableError, match=rf"bucket '{bucket}' does not exist in Google Cloud Stor"
        ):
            store.upload(b"1")
        s3.create_bucket(bucket)
        for data in (b"", b"abc " * 1000):
            token = store.upload(data)
            assert token == f"object:v1:gs://{bucket}/p/{token[-32:]}"
            assert s3.keys(bucket) == [f"p/{token[-32:]}"]
            assert "content-encoding" not in s3.headers(bucket, f"p/{token[-32:]}")
            assert store.download(token) == data
            assert store.stored_bytes(token) < 100
            store.delete(token)
            store.delete(token)
            with pytest.raises(PayloadNotFoundError, match="has no such object: it was deleted"):
                store.download(token)


def test_an_object_without_the_mark_is_never_deleted(s3: S3, bucket: str) -> None:
    """The listing of S3 does not tell."""
    name = "ab" * 16
    s3.put(bucket, name, b"of somebody else")
    with s3.store(f"s3://{bucket}") as store:
        (found,) = store.inventory().list_payloads("ab")
        assert found.managed is None
        assert not store.inventory().delete_unchanged(found)
    assert s3.keys(bucket) == [name]


# ---- the client: what the stores do not use yet ----------------------------------------------------------------------


@pytest.fixture
def client(options: ObjectStorePayloadStoreOptions) -> Iterator[ObstoreClient[ObjectToken]]:
    made = object_client(options)
    yield made
    made.close()


def test_properties(client: ObstoreClient[ObjectToken], store: ObjectStorePayloadStore) -> None:
    for data in (b"", b"1" * 100):
        place = ObjectToken.require(store.upload(data, instance_id="x"))
        found = client.head(place, ATTEMPT)
        assert found.name == place.name
        assert found.etag
        assert found.last_modified > 1_700_000_000
        assert found.metadata["managed_by"] == "dts"
        assert found.metadata["raw_bytes"] == str(len(data))


def test_deleting_what_has_changed(
    s3: S3, bucket: str, client: ObstoreClient[ObjectToken], store: ObjectStorePayloadStore
) -> None:
    place = ObjectToken.require(store.upload(b"1"))
    etag = client.head(place, ATTEMPT).etag
    s3.put(bucket, f"pay/loads/{place.name}", b"changed")
    with pytest.raises(RequestFailedError) as failed:
        client.delete(place, etag, ATTEMPT)
    assert failed.value.status == 412
    assert store.download(str(place)) == b"changed"
    client.delete(place, client.head(place, ATTEMPT).etag, ATTEMPT)
    with pytest.raises(RequestFailedError) as failed:
        client.delete(place, etag, ATTEMPT)
    assert (failed.value.status, failed.value.code) == (404, "NoSuchKey")


def test_listing_by_prefix(s3: S3, bucket: str, client: ObstoreClient[ObjectToken]) -> None:
    names = sorted(f"{number:03x}".ljust(32, "0") for number in range(0, 4096, 4))  # more than a page
    s3.fill(bucket, [f"pay/loads/{name}" for name in names])
    s3.put(bucket, f"pay/other/{HEX}", b"1")

    def found(prefix: str) -> list[str]:
        place = ObjectToken(Location("s3", bucket, "pay/loads"), prefix)
        return [blob.name for blob in client.list(place, ATTEMPT)]

    assert found("") == names
    for prefix in ("0", "00", "a", "ff", "f", names[0], names[7]):
        assert found(prefix) == [name for name in names if name.startswith(prefix)]
    assert found("001") == []


def test_listing_a_bucket_that_does_not_exist(client: ObstoreClient[ObjectToken], s3: S3, bucket: str) -> None:
    s3.delete_bucket(bucket)
    with pytest.raises(RequestFailedError) as failed:
        list(client.list(ObjectToken(Location("s3", bucket, "pay/loads"), "a"), ATTEMPT))
    assert (failed.value.status, failed.value.code) == (404, "NoSuchBucket")


def test_containers_cannot_be_made(client: ObstoreClient[ObjectToken], bucket: str) -> None:
    with pytest.raises(PayloadStoreUnavailableError, match="cannot be created by obstore: create it"):
        client.create_container(ObjectToken(Location("s3", bucket, ""), HEX), ATTEMPT)


# ---- processes -------------------------------------------------------------------------------------------------------

PROGRAM = """
import os, pickle, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any fork beside threads
from durabletask_payloads import PayloadStoreUnavailableError
from durabletask_payloads.stores.object_store import ObjectStorePayloadStore
store = ObjectStorePayloadStore(pickle.loads(sys.stdin.buffer.read()))

def in_a_child(work):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0

def round_trip():
    assert store.download(store.upload(b"1")) == b"1"

def refused():
    try:
        store.upload(b"1")
    except PayloadStoreUnavailableError as error:
        assert "was used before this process was forked" in str(error), error
        assert "use it only after the fork, or start processes by spawn" in str(error), error
    else:
        sys.exit("served")
"""


def run(program: str, options: ObjectStorePayloadStoreOptions) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM + program],
        input=pickle.dumps(options),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_workers_that_are_forked_before_use(options: ObjectStorePayloadStoreOptions) -> None:
    program = "assert 'obstore' not in sys.modules\nprint([in_a_child(round_trip) for _ in range(4)])\nround_trip()\n"
    assert run(program, options) == "[True, True, True, True]\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_is_forked_after_use(options: ObjectStorePayloadStoreOptions) -> None:
    assert run("round_trip()\nprint(in_a_child(refused))\nround_trip()\n", options) == "True\n"


@pytest.mark.parametrize(
    ("version", "why"), [((3, 11), ""), ((3, 10), ", and so Python 3.11 or newer")], ids=["new Python", "Python 3.10"]
)
def test_a_missing_obstore(version: tuple[int, int], why: str) -> None:
    program = f"""
import importlib.util, sys
from durabletask_payloads.stores import _engines
_engines.find_spec = lambda name: None
sys.version_info = {version}
try:
    import durabletask_payloads.stores.object_store
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        f"ObjectStorePayloadStore needs obstore 0.12 or newer{why}: pip install durabletask-payloads[object-store]\n"
    )
