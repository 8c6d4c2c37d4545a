"""An S3 that fails, and the way to it: what is tried again, for how long, and which error says so."""

from __future__ import annotations

import os
import threading
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from obstore.store import S3Store
from tests.support.ports import reserved_port
from tests.support.proxy import Fault, FaultProxy, always, canned, first

from durabletask_payloads import PayloadAccessDeniedError, PayloadError, PayloadStoreUnavailableError
from durabletask_payloads.stores._blob_client import Attempt, RequestFailedError
from durabletask_payloads.stores._object_client import object_client
from durabletask_payloads.stores._object_tokens import ObjectToken
from durabletask_payloads.stores._obstore_client import ObstoreClient, failure_of
from durabletask_payloads.stores.object_store import ObjectStorePayloadStore, ObjectStorePayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.s3 import S3

HEX = "0" * 32
BODY = os.urandom(300_000)


@pytest.fixture
def proxy(s3: S3) -> Iterator[FaultProxy]:
    with FaultProxy(s3.port) as made:
        yield made


@pytest.fixture
def options(s3: S3, bucket: str, proxy: FaultProxy) -> ObjectStorePayloadStoreOptions:
    return ObjectStorePayloadStoreOptions(
        url=f"s3://{bucket}/p", config=s3.config(endpoint=f"http://127.0.0.1:{proxy.port}")
    )


@pytest.fixture
def store(options: ObjectStorePayloadStoreOptions) -> Iterator[ObjectStorePayloadStore]:
    with ObjectStorePayloadStore(options) as made:
        yield made


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reset_request_after=1),
        Fault(reset_request_after=100_000),
        Fault(reset_response_after=1),
        canned(503, "Please reduce your request rate.", "SlowDown"),
        canned(500, "We encountered an internal error.", "InternalError"),
        canned(429, "Too many"),
        canned(409, "A conflicting operation is in progress.", "OperationAborted"),
    ],
    ids=["reset at once", "reset in the body", "reset answer", "SlowDown", "InternalError", "429", "OperationAborted"],
)
def test_an_upload_is_tried_again(store: ObjectStorePayloadStore, proxy: FaultProxy, fault: Fault) -> None:
    proxy.plan = first(2, fault)
    token = store.upload(BODY)
    assert proxy.connections >= 3
    assert store.download(token) == BODY


@pytest.mark.parametrize(
    "fault",
    [
        Fault(reset_request_after=1),
        Fault(reset_response_after=100_000),
        Fault(truncate_response_after=100_000),
        canned(503, "Please reduce your request rate.", "SlowDown"),
    ],
    ids=["reset", "reset in the body", "truncated", "SlowDown"],
)
def test_a_download_is_tried_again(options: ObjectStorePayloadStoreOptions, proxy: FaultProxy, fault: Fault) -> None:
    with ObjectStorePayloadStore(options) as store:
        token = store.upload(BODY)
    proxy.plan = first(proxy.connections + 1, fault)
    with ObjectStorePayloadStore(options) as store:
        assert store.download(token) == BODY


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (canned(503, "Slow down", "SlowDown"), r"answered 503 SlowDown, 2 times"),
        (canned(404, "Not here"), r"answered 404, 2 times, but not as S3 does .* check the endpoint URL"),
        (Fault(reset_request_after=1), r"closed the connection.*, 2 times"),
        (Fault(swallow=True), r"did not answer.*, 2 times"),
    ],
    ids=["SlowDown", "404 of something else", "reset", "swallowed"],
)
def test_unavailable(
    options: ObjectStorePayloadStoreOptions, bucket: str, proxy: FaultProxy, fault: Fault, message: str
) -> None:
    options.retries = 1
    if fault.swallow:
        options.read_timeout = 0.5
    proxy.plan = always(fault)
    with ObjectStorePayloadStore(options) as store:
        with pytest.raises(PayloadStoreUnavailableError, match=message):
            store.download(f"object:v1:s3://{bucket}/p/{HEX}")
        assert proxy.connections == 2  # obstore tries nothing again by itself
        with pytest.raises(PayloadStoreUnavailableError):
            store.upload(b"1")


@pytest.mark.parametrize("fault", [Fault(swallow=True), Fault(stall_request_after=100_000)])
def test_the_deadline_holds(options: ObjectStorePayloadStoreOptions, proxy: FaultProxy, fault: Fault) -> None:
    options.total_timeout = 1.5
    proxy.plan = always(fault)
    message = r"did not answer within total_timeout \(1\.5 s"
    with ObjectStorePayloadStore(options) as store, pytest.raises(PayloadStoreUnavailableError, match=message):
        store.upload(BODY)


def test_the_deadline_holds_for_a_store_of_the_users_own(bucket: str, proxy: FaultProxy) -> None:
    """Which would try for three minutes."""
    made = S3Store(
        bucket,
        access_key_id="a",
        secret_access_key="b",
        region="us-east-1",
        endpoint=f"http://127.0.0.1:{proxy.port}",
        client_options={"allow_http": True},
    )
    proxy.plan = always(canned(503, "Slow down", "SlowDown"))
    message = "did not answer within total_timeout"
    options = ObjectStorePayloadStoreOptions(store=made, total_timeout=1.0)
    with ObjectStorePayloadStore(options) as store, pytest.raises(PayloadStoreUnavailableError, match=message):
        store.upload(b"1")


def test_nothing_listens(s3: S3, bucket: str) -> None:
    with reserved_port() as port:
        options = ObjectStorePayloadStoreOptions(
            url=f"s3://{bucket}", config=s3.config(endpoint=f"http://127.0.0.1:{port}"), retries=1
        )
        message = rf"S3 at 127.0.0.1:{port} cannot be reached at 127.0.0.1:{port} \(.*refused\), 2 times: check"
        with ObjectStorePayloadStore(options) as store, pytest.raises(PayloadStoreUnavailableError, match=message):
            store.upload(b"1")


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        (canned(403, "no", "AccessDenied"), PayloadAccessDeniedError, r"\(403 AccessDenied\): .* s3:ListBucket"),
        (canned(403, "no", "SignatureDoesNotMatch"), PayloadAccessDeniedError, r"\(403 SignatureDoesNotMatch\)"),
        (canned(401, "no"), PayloadAccessDeniedError, r"\(401\): check the credential"),
        (canned(400, "no", "ExpiredToken"), PayloadAccessDeniedError, r"\(400 ExpiredToken\): check the credential"),
        (canned(301, "no", "PermanentRedirect"), PayloadError, r"\(301 PermanentRedirect\): the bucket is in another"),
        (
            canned(400, "no", "AuthorizationHeaderMalformed"),
            PayloadError,
            r"\(400 AuthorizationHeaderMalformed\): the bucket is in another region: set it",
        ),
        (canned(400, "no", "MetadataTooLarge"), PayloadError, r"refused the request \(400 MetadataTooLarge\)$"),
    ],
    ids=lambda value: "",
)
def test_refused(
    store: ObjectStorePayloadStore,
    bucket: str,
    proxy: FaultProxy,
    fault: Fault,
    error: type[PayloadError],
    message: str,
) -> None:
    """At once: nothing of it passes by itself."""
    proxy.plan = always(fault)
    with pytest.raises(error, match=message) as raised:
        store.upload(b"1")
    assert type(raised.value) is error
    with pytest.raises(error):
        store.download(f"object:v1:s3://{bucket}/p/{HEX}")
    with pytest.raises(error):
        store.delete(f"object:v1:s3://{bucket}/p/{HEX}")
    assert proxy.connections == 3
    assert [line.partition(" ")[0] for line in proxy.requests] == ["PUT", "GET", "DELETE"]


def test_a_listing_begins_at_its_prefix(
    options: ObjectStorePayloadStoreOptions, bucket: str, proxy: FaultProxy, store: ObjectStorePayloadStore
) -> None:
    store.upload(b"1")
    client = object_client(options)
    place = ObjectToken(options.location, "a0")
    list(client.list(place, Attempt(1, 10.0)))
    client.close()
    assert f"start-after=p/9{'f' * 31}&" in proxy.requests[-1].replace("%2F", "/").replace(" HTTP", "& HTTP")


def test_large_payloads(s3: S3, bucket: str) -> None:
    data = os.urandom(24_000_000)
    options = ObjectStorePayloadStoreOptions(
        url=f"s3://{bucket}", config=s3.config(), max_stored_payload_bytes=32 * 1024 * 1024
    )
    with ObjectStorePayloadStore(options) as store:
        token = store.upload(data)
        assert store.stored_bytes(token) == len(data)
        assert store.download(token) == data


# ---- credentials that others give out: obstore's texts, which no test can have from the real sources -----------------


def test_a_machine_without_a_role(bucket: str, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer is no answer of S3: here it is the proxy's."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    options = ObjectStorePayloadStoreOptions(url=f"s3://{bucket}", config={"region": "us-east-1"}, retries=1)
    proxy.plan = always(canned(404, "no role"))
    message = r"no valid credential for S3: none is set, and 169\.254\.169\.254 gives none \(its answer was 404\)"
    with ObjectStorePayloadStore(options) as store, pytest.raises(PayloadAccessDeniedError, match=message):
        store.upload(b"1")
    for fault, what in ((canned(503, "later"), "answered 503"), (Fault(reset_request_after=1), "does not answer")):
        proxy.plan = always(fault)
        message = rf"S3 cannot be asked without a credential: none is set, and 169\.254\.169\.254 {what}, 2 times: set"
        with ObjectStorePayloadStore(options) as store, pytest.raises(PayloadStoreUnavailableError, match=message):
            store.upload(b"1")


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("http://169.254.170.2/v2/credentials/x", "169.254.170.2"),
        ("https://sts.eu-west-1.amazonaws.com/", "sts.eu-west-1.amazonaws.com"),
        ("http://metadata.google.internal/computeMetadata/v1/x", "metadata.google.internal"),
    ],
)
def test_other_sources(url: str, source: str) -> None:
    text = f"Generic S3 error: Error performing GET {url} in 1ms - Server returned non-2xx status code: 403 Forbidden: "
    assert failure_of(OSError(text)).credential == f"none is set, and {source} gives none (its answer was 403)"


def test_a_token_request_of_an_identity() -> None:
    text = (
        "Generic GCS error: Error performing token request: Error performing POST https://oauth2.googleapis.com/token "
        "in 1ms - Server returned non-2xx status code: 400 Bad Request: invalid_grant"
    )
    assert failure_of(OSError(text)).credential == (
        "none is set, and oauth2.googleapis.com gives none (its answer was 400)"
    )


@pytest.mark.parametrize(
    "config",
    [{"endpoint": "nonsense"}, {"endpoint": "http://127.0.0.1:99999"}, {"token": "hush\n"}, {"region": "a\nb"}],
)
def test_what_makes_obstore_panic(options: ObjectStorePayloadStoreOptions, config: dict[str, str | bool]) -> None:
    broken = replace(options, config={**options.config, **config}, retries=0)
    with ObjectStorePayloadStore(broken) as store, pytest.raises(PayloadStoreUnavailableError) as caught:
        store.upload(BODY)
    assert "check that the credential, the region and the endpoint URL have no line break" in str(caught.value)
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_any_number_of_retries(options: ObjectStorePayloadStoreOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[int] = []

    def put(_client: object, _place: object, _body: object, attempt: Attempt) -> None:
        attempts.append(attempt.number)
        raise RequestFailedError(503, "SlowDown")

    class Open(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            assert 0.1 <= timeout <= 5
            return False

    monkeypatch.setattr(ObstoreClient, "put", put)
    monkeypatch.setattr(threading, "Event", Open)
    store = ObjectStorePayloadStore(replace(options, retries=1_100, total_timeout=86_400))
    with store, pytest.raises(PayloadStoreUnavailableError, match="answered 503 SlowDown, 1101 times"):
        store.upload(BODY)
    assert attempts == list(range(1, 1_102))
