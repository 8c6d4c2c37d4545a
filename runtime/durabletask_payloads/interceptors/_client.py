"""What clients send and receive: requests externalized, responses deexternalized, errors explained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import grpc

from durabletask_payloads._errors import (
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadTokenError,
    PayloadTooLargeError,
)

from ._peers import look_for_worker_without
from ._protocol import Place, log, places_of, refused_for_size, result_of, too_large
from ._verdict import as_payload_error

if TYPE_CHECKING:
    from collections.abc import Generator

    from google.protobuf.message import Message

    from durabletask_payloads.externalizer._externalizer import Externalizer
    from durabletask_payloads.externalizer._plan import PlannedDownload
    from durabletask_payloads.externalizer._receipt import Receipt

Unreadable: TypeAlias = Literal["token", "raise"]
"""What becomes of a payload in a response that cannot be read: its token stays, or an error is raised."""

# Errors that tell about one payload. Any other one, of an unknown class too, may be about the store as a whole.
_OF_ONE_PAYLOAD: Final = (PayloadNotFoundError, PayloadTokenError, PayloadIntegrityError, PayloadTooLargeError)

# So many tokens are remembered as warned about. When there are more, all are forgotten.
_REMEMBERED: Final = 10_000


class ClientPayloads:
    """The payloads of client calls. Safe for any number of threads and event loops.

    Args:
        externalizer: moves the payloads.
        unreadable: "token" shows what can be shown of a response: a payload that is not found, elsewhere, damaged or
            too large stays as its token, with a warning, once for each token. Its place in a history, or as the
            output of a completed instance asked for by itself, raises all the same. "raise" raises everywhere.

    Raises:
        ValueError: `unreadable` is neither.
    """

    def __init__(self, externalizer: Externalizer, unreadable: Unreadable = "token") -> None:
        if unreadable not in get_args(Unreadable):
            raise ValueError(f"unreadable is {unreadable!r}: it must be 'token' or 'raise'")
        self.externalizer = externalizer
        self._unreadable = unreadable
        # Hashes: a token of a foreign store may be long. No lock, which a forked child could inherit locked.
        self._warned: set[int] = set()

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

    def deexternalize(self, response: Message, instance_id: str | None, *, all_or_nothing: bool = False) -> None:
        """Deexternalize a response, in place.

        Args:
            response: changed in place, all or nothing of each field.
            instance_id: the instance that the request named.
            all_or_nothing: raise for any payload that cannot be read, whatever `unreadable` says.

        Raises:
            PayloadError: it cannot be; with the instance and the field.
        """
        reading = self._reading(response, instance_id, all_or_nothing)
        with _payload_errors():
            self.externalizer.deexternalize(response, on_unreadable=reading.decide)
        self._warn(reading)

    async def deexternalize_async(
        self, response: Message, instance_id: str | None, *, all_or_nothing: bool = False
    ) -> None:
        """Do the same as `deexternalize` without blocking the event loop."""
        reading = self._reading(response, instance_id, all_or_nothing)
        with _payload_errors():
            await self.externalizer.deexternalize_async(response, on_unreadable=reading.decide)
        self._warn(reading)

    def _reading(self, response: Message, instance_id: str | None, all_or_nothing: bool) -> _Reading:
        look_for_worker_without(response, self.externalizer.store.is_known_token)
        return _Reading(response, instance_id, all_or_nothing or self._unreadable == "raise")

    def _warn(self, reading: _Reading) -> None:
        errors = {token: error for token, error in reading.unread.items() if hash(token) not in self._warned}
        if not errors:
            return
        if len(self._warned) > _REMEMBERED:
            self._warned.clear()
        self._warned.update(map(hash, errors))
        for token, (instance_id, path) in reading.places(errors).items():
            text = "payload unreadable, its token stays instance=%s field=%s token=%s error=%s"
            log.warning(text, instance_id, path, token, errors[token])


class _Reading:
    """One response that is being deexternalized.

    Attributes:
        unread: the tokens that stay, with the reasons.
    """

    def __init__(self, response: Message, instance_id: str | None, all_or_nothing: bool) -> None:
        self.unread: dict[str, Exception] = {}
        self._response = response
        self._instance_id = instance_id
        self._all_or_nothing = all_or_nothing
        self._result = result_of(response)  # now: it is about to change

    def decide(self, download: PlannedDownload, error: Exception) -> None:
        """Note that a token stays, or raise for it."""
        token = download.token
        is_result = token == self._result
        if isinstance(error, _OF_ONE_PAYLOAD) and not is_result and not self._all_or_nothing:
            self.unread[token] = error
            return
        instance_id, path = self.places({token: error})[token]
        where = [f"instance {instance_id}"] if instance_id else []
        where.append("OrchestrationState.output" if is_result else path)
        raise as_payload_error(error, ": ".join([*where, str(error)])) from error

    def places(self, tokens: dict[str, Exception]) -> dict[str, Place]:
        """Return where each of `tokens` is in the response."""
        found = places_of(self._response, tokens)
        return {token: Place(place.instance_id or self._instance_id, place.path) for token, place in found.items()}


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
