"""A store whose tokens follow from the payloads, so that both sides of a comparison write the same ones."""

from __future__ import annotations

import re
from hashlib import sha256

from durabletask.payload import LargePayloadStorageOptions, PayloadStore


class UnreadableError(Exception):
    """A token of a payload that is gone."""


class KeptStore(PayloadStore):
    """Keeps payloads in memory. It does not say how its tokens begin, like any store written for the SDK.

    Args:
        prefix: how its tokens begin.
        threshold, maximum: its options, in bytes.

    Attributes:
        kept: the payloads by token.
        uploads, downloads: how many calls there were.
    """

    def __init__(self, prefix: str, threshold: int, maximum: int) -> None:
        self.kept: dict[str, bytes] = {}
        self.uploads = 0
        self.downloads = 0
        self.prefix = prefix
        self._token = re.compile(f"{re.escape(prefix)}[0-9a-f]{{16}}")
        self._options = LargePayloadStorageOptions(threshold, maximum)

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def token(self, data: bytes) -> str:
        """Return the token that `data` gets."""
        return f"{self.prefix}{sha256(data).hexdigest()[:16]}"

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        self.uploads += 1
        token = self.token(data)
        self.kept[token] = data
        return token

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        self.downloads += 1
        if token not in self.kept:
            raise UnreadableError(token)
        return self.kept[token]

    async def download_async(self, token: str) -> bytes:
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        return self._token.fullmatch(value) is not None


class PrefixedStore(KeptStore):
    """Says how its tokens begin, like the stores of this package; no token of it begins in the second way."""

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return self.prefix.encode(), f"{self.prefix[:-1]}~".encode()


class ReferenceStore(KeptStore):
    """The same for the reference walker, which would otherwise stop at fields that we do not touch.

    It has no maximum, and there is something under every token.
    """

    def __init__(self, store: KeptStore) -> None:
        super().__init__(store.prefix, store.options.threshold_bytes, 1 << 40)
        self.kept = store.kept

    def download(self, token: str) -> bytes:
        self.downloads += 1
        data = self.kept.get(token, b"")
        return data if data != NOT_UTF_8 else b""


NOT_UTF_8 = b"\xff is no UTF-8"
