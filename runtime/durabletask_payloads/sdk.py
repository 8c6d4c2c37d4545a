"""Our stores for the `payload_store=` of the `durabletask` SDK. Needs the extra `[sdk]`.

    worker = TaskHubGrpcWorker(payload_store=SdkPayloadStore(store))

The SDK then moves the payloads with its own hooks, and decides what happens when that fails. What the interceptors
do beyond it is not done: a completion that the store refuses is lost, and its orchestration waits for ever; a work
item whose payload is gone is delivered for ever; nothing is abandoned while the store is unavailable; the reasons of
suspend, resume and rewind stay in the message; many payloads that are each under the threshold add up; nothing is
cached, so that a chain of n large results is downloaded n(n+1)/2 times. See `durabletask_payloads.interceptors`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from durabletask import payload
except ImportError as _error:
    raise ImportError(
        f"durabletask_payloads.sdk needs the durabletask SDK, 1.4 or newer ({_error}): "
        "pip install durabletask-payloads[sdk]"
    ) from _error

if TYPE_CHECKING:
    from .stores._base import PayloadStore

__all__ = ["SdkPayloadStore"]


class SdkPayloadStore(payload.PayloadStore):
    """A store of this package as a `durabletask.payload.PayloadStore`.

    At run time the SDK takes our stores as they are; this one it takes for type checkers, too. Both write the same
    tokens, so that an application may use it in one place and the interceptors in another. As thread- and task-safe
    as `store`, which stays the caller's to close.

    Args:
        store: does the work. What it raises is raised here: errors of the `PayloadError` tree.
    """

    def __init__(self, store: PayloadStore) -> None:
        self._store = store

    @property
    def options(self) -> payload.LargePayloadStorageOptions:
        """The settings of `store`, as the SDK's class."""
        options = self._store.options
        return payload.LargePayloadStorageOptions(
            threshold_bytes=options.threshold_bytes,
            max_stored_payload_bytes=options.max_stored_payload_bytes,
            enable_compression=options.enable_compression,
        )

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Store `data`, the UTF-8 bytes of a payload, and return its token. Raises as `PayloadStore.upload` does."""
        return self._store.upload(data, instance_id=instance_id)

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        """Do the same as `upload`, by the store's own `upload_async`."""
        return await self._store.upload_async(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        """Return the bytes that were stored under `token`. Raises as `PayloadStore.download` does."""
        return self._store.download(token)

    async def download_async(self, token: str) -> bytes:
        """Do the same as `download`, by the store's own `download_async`."""
        return await self._store.download_async(token)

    def is_known_token(self, value: str) -> bool:
        """Return whether `value`, as a whole, has the exact form of a token. Does no I/O."""
        return self._store.is_known_token(value)
