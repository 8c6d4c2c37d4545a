"""The seam between the runtime and where payloads are kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from durabletask_payloads._options import LargePayloadStorageOptions


class StoreOptions(Protocol):
    """The settings of a store that the `Externalizer` reads."""

    @property
    def threshold_bytes(self) -> int: ...

    @property
    def max_stored_payload_bytes(self) -> int: ...


class PayloadStoreLike(Protocol):
    """The surface that a store of this package and one written for the `durabletask` SDK have in common.

    Everything that takes a store takes either. Of a store with this surface alone nothing is deleted again
    after a failure, and incoming text is tested with `is_known_token` field by field.
    """

    @property
    def options(self) -> StoreOptions: ...

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str: ...

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str: ...

    def download(self, token: str) -> bytes: ...

    async def download_async(self, token: str) -> bytes: ...

    def is_known_token(self, value: str) -> bool: ...


class PayloadStore(ABC):
    """Where payloads are kept: the surface of `durabletask.payload.PayloadStore`, and what is beyond it.

    All methods may be called from any number of threads and event loops at the same time. What they raise is
    of the `PayloadError` tree.
    """

    @property
    @abstractmethod
    def options(self) -> LargePayloadStorageOptions:
        """The settings of this store."""

    @property
    @abstractmethod
    def token_prefixes(self) -> tuple[bytes, ...]:
        """How the tokens that this store can follow begin. Text that begins otherwise is no token of it."""

    @abstractmethod
    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Store `data` and return its token.

        Args:
            data: the UTF-8 bytes of a payload.
            instance_id: the orchestration or entity it belongs to, kept beside it for operators.

        Raises:
            PayloadTooLargeError: `data` is over `max_stored_payload_bytes`.
            PayloadAccessDeniedError: the credential was refused.
            PayloadStoreUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        """`upload` without blocking the event loop."""

    @abstractmethod
    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`.

        Raises:
            PayloadTokenError: `token` is malformed, or points to a place that this store may not read.
            PayloadNotFoundError: nothing is stored under it.
            PayloadTooLargeError: what is stored is over `max_stored_payload_bytes`.
            PayloadIntegrityError: what is stored is damaged.
            PayloadAccessDeniedError: the credential was refused.
            PayloadStoreUnavailableError: the store does not answer.
        """

    @abstractmethod
    async def download_async(self, token: str) -> bytes:
        """`download` without blocking the event loop."""

    @abstractmethod
    def is_known_token(self, value: str) -> bool:
        """Whether `value`, as a whole, has the exact form of a token. Does no I/O, and is cheap on long text.

        A token of another container is one too: `download` refuses it.
        """

    @abstractmethod
    def delete(self, token: str) -> None:
        """Delete what is stored under `token`; nothing happens where there is nothing.

        Raises:
            PayloadTokenError, PayloadAccessDeniedError, PayloadStoreUnavailableError: as for `download`.
        """

    @abstractmethod
    async def delete_async(self, token: str) -> None:
        """`delete` without blocking the event loop."""

    @abstractmethod
    def stored_bytes(self, token: str) -> int:
        """The size of what is stored under `token`, in bytes, after compression.

        Raises:
            PayloadNotFoundError and the rest: as for `download`.
        """

    def close(self) -> None:  # noqa: B027 - most stores hold nothing
        """Release what the store holds. It can not be used afterwards; a second call does nothing."""

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
