"""Encodes and decodes stored payload bodies: gzip where it saves space, recognized by its first bytes.

Nothing here does I/O. Compressing and inflating release the GIL: run both in a thread if there is an event loop.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

from durabletask_payloads._errors import PayloadIntegrityError, PayloadTooLargeError

if TYPE_CHECKING:
    from durabletask_payloads._options import LargePayloadStorageOptions

# UTF-8 text cannot start with these bytes: 0x1f is a character of its own, and 0x8b only ever continues one.
GZIP_MAGIC: Final = b"\x1f\x8b"

_GZIP: Final = 31  # zlib's wbits for a gzip header and trailer
_STEP: Final = 1024 * 1024


def is_gzip(data: bytes | memoryview) -> bool:
    """Return whether `data` begins as gzip does."""
    return bytes(data[: len(GZIP_MAGIC)]) == GZIP_MAGIC


class _Inflater(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes: ...


class _Isal(Protocol):
    @property
    def IsalError(self) -> type[Exception]: ...
    def compress(self, data: bytes, level: int, wbits: int, /) -> bytes: ...
    def decompressobj(self, wbits: int, /) -> _Inflater: ...


try:
    from isal import isal_zlib
except ImportError:

    def _gzip(data: bytes) -> bytes:
        packer = zlib.compressobj(1, wbits=_GZIP)
        return packer.compress(data) + packer.flush()

    def _inflater() -> _Inflater:
        return zlib.decompressobj(_GZIP)

    _inflate_error: type[Exception] = zlib.error
else:
    _isal = cast("_Isal", isal_zlib)  # its own stubs leave most types open

    def _gzip(data: bytes) -> bytes:
        return _isal.compress(data, 2, _GZIP)

    def _inflater() -> _Inflater:
        return _isal.decompressobj(_GZIP)

    _inflate_error = _isal.IsalError


def check_size(data: bytes, options: LargePayloadStorageOptions) -> None:
    """Raise PayloadTooLargeError when `data` is over `max_stored_payload_bytes`."""
    if len(data) > options.max_stored_payload_bytes:
        raise PayloadTooLargeError(
            f"a payload has {len(data)} bytes, which exceeds the maximum of max_stored_payload_bytes "
            f"({options.max_stored_payload_bytes}): raise the setting on the client and on every worker, or send less"
        )


def encode(data: bytes, compression: Literal["never", "if smaller", "always"]) -> bytes:
    """Return the body to store for `data`: one gzip member without a time stamp, or `data` itself.

    Data that starts like gzip is not text, but is compressed in any case, since `decode` expands it once.
    """
    if compression == "never" and not data.startswith(GZIP_MAGIC):
        return data
    packed = _gzip(data)
    if compression == "if smaller" and len(packed) >= len(data) and not data.startswith(GZIP_MAGIC):
        return data
    return packed


def longest_body(limit: int) -> int:
    """Return the size in bytes of the longest body that a payload of `limit` bytes can have.

    Gzip adds little to data that it cannot shrink.
    """
    return limit + limit // 512 + 1024


def decode(body: bytes | memoryview, *, token: str, limit: int, sha256: str | None) -> bytes:
    """Return the payload in a stored `body`, gzip or plain. Never expands it to more than `limit` + 1 bytes.

    Args:
        body: the stored bytes, or a view of them: what is gzip is expanded from there, without a copy.
        token: the token of the payload, for the error text.
        limit: `max_stored_payload_bytes`.
        sha256: the payload's checksum as hex digits, if one was stored.

    Raises:
        PayloadTooLargeError: the payload has more than `limit` bytes.
        PayloadIntegrityError: the body is truncated or damaged, or its checksum differs.
    """
    # bytes() copies a view, but not what is bytes already.
    data = _inflate(memoryview(body), token, limit) if is_gzip(body) else bytes(body)
    if len(data) > limit:
        raise too_large(token, limit)
    if sha256 is not None and checksum(data) != sha256:
        raise PayloadIntegrityError(
            f"the payload stored under {token} differs from its SHA-256: it was changed after it was stored"
        )
    return data


def too_large(token: str, limit: int) -> PayloadTooLargeError:
    """Return the error for a stored payload that is over `limit`."""
    return PayloadTooLargeError(
        f"the payload stored under {token} exceeds the maximum of max_stored_payload_bytes here ({limit}): "
        "use the same setting on the client and on every worker"
    )


def checksum(data: bytes) -> str:
    """Return the SHA-256 of `data` as hex digits."""
    return hashlib.sha256(data).hexdigest()


def _inflate(body: memoryview, token: str, limit: int) -> bytes:
    inflater = _inflater()
    parts: list[bytes] = []
    room = limit + 1
    offset = 0
    rest: bytes | memoryview = b""
    # Input and output in steps: a single call would reserve memory ahead, and copy the rest of the body each time.
    while room and not inflater.eof:
        if not rest:
            rest = body[offset : offset + _STEP]
            offset += len(rest)
        try:
            part = inflater.decompress(rest, min(room, _STEP))
        except _inflate_error as error:
            raise PayloadIntegrityError(
                f"the payload stored under {token} starts as gzip but is damaged: {error}"
            ) from error
        if not part and not rest:
            raise PayloadIntegrityError(f"the payload stored under {token} is truncated: its gzip stream has no end")
        rest = inflater.unconsumed_tail
        room -= len(part)
        parts.append(part)
    if not room:
        raise too_large(token, limit)
    if inflater.unused_data or offset < len(body):
        raise PayloadIntegrityError(f"the payload stored under {token} goes on behind the end of its gzip stream")
    return b"".join(parts)
