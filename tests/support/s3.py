"""moto's S3 on a free port of 127.0.0.1, in threads of this process."""

from __future__ import annotations

import contextlib
import logging
import re
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer

from durabletask_payloads.stores.object_store import ObjectStorePayloadStore, ObjectStorePayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType

    from typing_extensions import Self

CONFIG: dict[str, str | bool] = {
    "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "secret_access_key": "the-secret-access-key",
    "region": "us-east-1",
}
# No signature is checked, but that there is one.
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0"
}


class S3:
    """An S3 of one's own, as a context manager. All in a process share their buckets.

    Attributes:
        port: the port it listens on.
    """

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.port = 0

    def __enter__(self) -> Self:
        self._server.start()
        _, self.port = self._server.get_host_and_port()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop()

    def create_bucket(self, bucket: str) -> None:
        self._request("PUT", f"/{bucket}")

    def delete_bucket(self, bucket: str) -> None:
        self._request("DELETE", f"/{bucket}")

    def delete(self, bucket: str, key: str) -> None:
        self._request("DELETE", f"/{bucket}/{key}")

    def keys(self, bucket: str) -> list[str]:
        """The keys of all objects in a bucket."""
        return re.findall(r"<Key>(.*?)</Key>", self._request("GET", f"/{bucket}?list-type=2").decode())

    def put(self, bucket: str, key: str, body: bytes, **headers: str) -> None:
        """Store an object past any store. Dashes of headers are underscores here."""
        self._request("PUT", f"/{bucket}/{key}", body, **headers)

    def fill(self, bucket: str, keys: Iterable[str]) -> None:
        """Store a byte under each of many keys, without a request for each."""
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key in keys:
            backend.put_object(bucket, key, b"1")

    def headers(self, bucket: str, key: str) -> dict[str, str]:
        """The headers of an object, by their names in lower case."""
        with urlopen(Request(f"{self.endpoint}/{bucket}/{key}", headers=_SIGNED, method="HEAD")) as answer:
            return {name.lower(): value for name, value in answer.headers.items()}

    @contextlib.contextmanager
    def checking_credentials(self) -> Generator[None]:
        """Refuse requests whose key is not known: all of them."""
        self._request("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._request("POST", "/moto-api/reset-auth", b"inf")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def config(self, **changed: str | bool) -> dict[str, str | bool]:
        """The config of a store in this S3."""
        return {**CONFIG, "endpoint": self.endpoint, **changed}

    def store(self, url: str) -> ObjectStorePayloadStore:
        """A store in this S3."""
        return ObjectStorePayloadStore(ObjectStorePayloadStoreOptions(url=url, config=self.config()))

    def _request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> bytes:
        # Without a type, urllib would say that it is a form.
        named = {
            "Content-Type": "text/plain",
            **_SIGNED,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        with urlopen(Request(f"{self.endpoint}{path}", body, named, method=method)) as answer:
            content: bytes = answer.read()
            return content
