"""A client of a storage service without a service: a target overrides what it deals out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durabletask_payloads.stores._blob_client import Attempt, BlobProperties, Body
    from durabletask_payloads.stores._tokens import PayloadToken


class NoService:
    """A `BlobClient` whose operations all raise NotImplementedError."""

    is_of_this_process = True

    def get(self, place: PayloadToken, limit: int, attempt: Attempt) -> Body:
        raise NotImplementedError

    def head(self, place: PayloadToken, attempt: Attempt) -> BlobProperties:
        raise NotImplementedError

    def put(self, place: PayloadToken, body: Body, attempt: Attempt) -> None:
        raise NotImplementedError

    def delete(self, place: PayloadToken, etag: str | None, attempt: Attempt) -> None:
        raise NotImplementedError

    def list(self, place: PayloadToken, attempt: Attempt) -> Iterator[BlobProperties]:
        raise NotImplementedError

    def create_container(self, place: PayloadToken, attempt: Attempt) -> None:
        raise NotImplementedError

    def close(self) -> None: ...
