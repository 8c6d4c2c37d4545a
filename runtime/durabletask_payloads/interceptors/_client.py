"""What clients send and receive: requests externalized, responses deexternalized, errors explained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import grpc

from durabletask_payloads._errors import PayloadError

from ._protocol import find_token, refused_for_size, too_large
from ._verdict import as_payload_error

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.message import Message

    from durabletask_payloads.externalizer._externalizer import Externalizer
    from durabletask_payloads.externalizer._receipt import Receipt


class ClientPayloads:
    """The payloads of client calls. Safe for any number of threads and event loops."""

    def __init__(self, externalizer: Externalizer) -> None:
        self.externalizer = externalizer

    def externalize(self, request: Message, instance_id: str | None) -> Receipt:
        """Externalize a request, in place.

        Raises:
            PayloadError: it cannot be; nothing is to be sent.
        """
        with _payload_errors():
            return self.externalizer.externalize(request, instance_id=instance_id)

    async def externalize_async(self, request: Message, instance_id: str | None) -> Receipt:
        """Do the same as `externalize` without blocking the event loop."""
        with _payload_errors():
            return await self.externalizer.externalize_async(request, instance_id=instance_id)

    def deexternalize(self, response: Message, instance_id: str | None) -> None:
        """Deexternalize a response, in place.

        Raises:
            PayloadError: it cannot be; with the instance and the field.
        """
        with self._explained(response, instance_id):
            self.externalizer.deexternalize(response)

    async def deexternalize_async(self, response: Message, instance_id: str | None) -> None:
        """Do the same as `deexternalize` without blocking the event loop."""
        with self._explained(response, instance_id):
            await self.externalizer.deexternalize_async(response)

    @contextmanager
    def _explained(self, response: Message, instance_id: str | None) -> Generator[None]:
        try:
            yield
        except Exception as error:
            owner, path = find_token(response, str(error), self.externalizer.store.is_known_token)
            where = [f"instance {owner or instance_id}"] if owner or instance_id else []
            where += [path] if path else []
            raise as_payload_error(error, ": ".join([*where, str(error)])) from error


@contextmanager
def _payload_errors() -> Generator[None]:
    try:
        yield
    except PayloadError:
        raise
    except Exception as error:
        raise as_payload_error(error, str(error)) from error


def refusal(request: Message, sent_bytes: int, error: Exception) -> Exception:
    """Return the error for the caller of an RPC that ended with RESOURCE_EXHAUSTED when `sent_bytes` were sent."""
    details = error.details() if isinstance(error, grpc.RpcError) else None
    if not refused_for_size(details, sent_bytes):  # a quota
        return error
    explained = too_large(request, sent_bytes, None)
    explained.__cause__ = error
    return explained
