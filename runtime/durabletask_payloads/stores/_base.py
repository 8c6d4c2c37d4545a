"""The interface of payload stores."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from durabletask_payloads._errors import PayloadStoreUnavailableError
from durabletask_payloads._lifecycle import Closing

from ._blob_client import lacks_threads
from ._tokens import TOKEN_PREFIXES, PayloadToken

if TYPE_CHECKING:
    from collections.abc import Callable

    from durabletask_payloads._options import LargePayloadStorageOptions

_T = TypeVar("_T")


class StoreOptions(Protocol):
    """The settings of a store that the `Externalizer` reads."""

    @property
    def threshold_bytes(self) -> int: ...

    @property
    def max_stored_payload_bytes(self) -> int: ...


class PayloadStoreLike(Protocol):
    """The surface that a store of this package and one written for the `durabletask` SDK have in common.

    Wherever a store is expected, either will do. From a store with this surface alone, uploads of a message that was
    not sent are not deleted, and incoming text is tested with `is_known_token` field by field.
    """

    @property
    def options(self) -> StoreOptions:
        """The settings of the store."""
        ...

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Store `data`, the UTF-8 bytes of a payload of the instance, and return its token.

        An `Externalizer` calls this and `download` in threads of its own, several at a time.
        """
        ...

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Do the same as `upload`. An `Externalizer` does not call it."""
        ...

    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`."""
        ...

    async def download_async(self, token: str) -> bytes:
        """Do the same as `download`. An `Externalizer` does not call it."""
        ...

    def is_known_token(self, value: str) -> bool:
        """Return whether `value`, as a whole, is a token. Called for each text of a message: it must do no I/O."""
        ...


class PayloadStore(Closing, ABC):
    """A payload store: the surface of `durabletask.payload.PayloadStore` and more.

    All methods may be called from any number of threads and event loops at the same time, and raise errors of the
    `PayloadError` tree. The asynchronous methods run the blocking ones in threads: override them only where that is
    not the best way. An `Externalizer` calls the blocking methods, in threads of its own.

    `durabletask_payloads.testing` has a test suite that holds a subclass to all of this.
    """

    @property
    @abstractmethod
    def options(self) -> LargePayloadStorageOptions:
        """The settings of this store."""

    @property
    @abstractmethod
    def token_prefixes(self) -> tuple[bytes, ...]:
        """How the tokens of this store begin. Text that begins otherwise is not a token of it."""

    @abstractmethod
    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Store `data` and return its token.

        Args:
            data: the UTF-8 bytes of a payload.
            instance_id: the orchestration or entity that it belongs to, stored beside it for operators.

        Raises:
            PayloadTooLargeError: `data` is over `max_stored_payload_bytes`.
            PayloadAccessDeniedError: the credential was refused.
            PayloadStoreUnavailableError: the store is unavailable.
        """

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Do the same as `upload` in a thread. A cancelled call may still store `data`."""
        return await _in_thread(partial(self.upload, data, instance_id=instance_id))

    @abstractmethod
    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`.

        Raises:
            PayloadTokenError: `token` is malformed, or points to a location that this store may not read.
            PayloadNotFoundError: nothing is stored under it.
            PayloadTooLargeError: the stored payload is over `max_stored_payload_bytes`.
            PayloadIntegrityError: the stored payload is damaged.
            PayloadAccessDeniedError: the credential was refused.
            PayloadStoreUnavailableError: the store is unavailable.
        """

    async def download_async(self, token: str) -> bytes:
        """Do the same as `download` in a thread."""
        return await _in_thread(partial(self.download, token))

    @abstractmethod
    def is_known_token(self, value: str) -> bool:
        """Return whether `value`, as a whole, has the exact form of a token. Does no I/O, and is cheap on long text.

        A token of another container is one too: `download` refuses it.
        """

    @abstractmethod
    def delete(self, token: str) -> None:
        """Delete the payload stored under `token`, if there is one.

        Raises:
            PayloadTokenError, PayloadAccessDeniedError, PayloadStoreUnavailableError: as for `download`.
        """

    async def delete_async(self, token: str) -> None:
        """Do the same as `delete` in a thread."""
        await _in_thread(partial(self.delete, token))

    @abstractmethod
    def stored_bytes(self, token: str) -> int:
        """Return the size of what is stored under `token`, in bytes, after compression.

        Raises:
            PayloadNotFoundError and the rest: as for `download`.
        """


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Return what `call` returns, called in a thread of the running loop."""
    try:
        return await asyncio.to_thread(call)
    except RuntimeError as error:
        if not lacks_threads(error):
            raise
        raise PayloadStoreUnavailableError("the store cannot be asked: this process gets no more threads") from error


class TokenStore(PayloadStore):
    """A store whose tokens are `PayloadToken`s."""

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return TOKEN_PREFIXES

    def is_known_token(self, value: str) -> bool:
        """Return whether `value`, as a whole, is a token of either version, of whichever container."""
        return PayloadToken.parse(value) is not None
