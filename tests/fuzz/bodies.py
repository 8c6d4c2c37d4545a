"""Target: what a service answers to a download, through the core of the remote stores and the codec."""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.fuzz.client import NoService
from tests.fuzz.engine import SECRET, Target, outcome
from tests.fuzz.mutator import mutated_bytes
from tests.support.memory import peak_of

from durabletask_payloads import PayloadError, PayloadIntegrityError, PayloadTooLargeError
from durabletask_payloads.stores._blob_client import Attempt, BlobProperties, Body
from durabletask_payloads.stores._codec import longest_body, too_large
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from random import Random

    from durabletask_payloads.stores._tokens import PayloadToken

# The body, its Content-Encoding, its metadata, and `max_stored_payload_bytes`.
_Case: TypeAlias = tuple[bytes, "str | None", tuple[tuple[str, str], ...], int]

TOKEN: Final = "blob:v1:durabletask-payloads:" + "0123456789abcdef" * 2
PAYLOADS: Final = (
    b"",
    b"{}",
    SECRET.encode(),
    SECRET.encode() * 40,
    b"\xff\xfe",
    b"\x1f\x8b\x08",
    "\u00e9\U0001f600".encode(),
)
LIMITS: Final = (0, 1, 20, 100, 5_000, 65_536)

# All that a download may take in bytes beside the body: twice the payload, since its parts are joined, the rest of the
# body that an inflater copies, and what inflater, errors and store need.
_MEMORY: Final = 160_000
# Bombs: as small as gzip makes them, some in two members, one of stored blocks, one that nests.
_ZEROS: Final = gzip.compress(bytes(16_000_000), mtime=0)
_BOMBS: Final = (_ZEROS, gzip.compress(_ZEROS, mtime=0), gzip.compress(bytes(70_000), 0, mtime=0))
_DAMAGED: Final = frozenset({PayloadIntegrityError})
_TOO_LARGE: Final = frozenset({PayloadTooLargeError})
_FRAGMENTS: Final = [
    *(
        b"\x1f\x8b",
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        b"\x1f\x8b\x08\x08\0\0\0\0\0\xffname\0",
        b"\x03\0",
        bytes(8),
        b"\xff",
    ),
    *(gzip.compress(b"", mtime=0), gzip.compress(SECRET.encode(), mtime=0), SECRET.encode(), b"\x01\0\0\xff\xff"),
    *(bytes([flags]) for flags in (1, 2, 4, 8, 16, 31, 0xE0)),
]


# ---- inputs ----------------------------------------------------------------------------------------------------------


def packed(random: Random, payload: bytes) -> bytes:
    """Return a body for a payload, right or damaged, or a bomb."""
    level = random.choice((0, 1, 6, 9))
    match random.randrange(8):
        case 0:
            body = payload
        case 1:
            body = random.choice(_BOMBS)
        case 2:
            deflate = zlib.compressobj(level, zlib.DEFLATED, 31, 9, random.choice((zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY)))
            body = deflate.compress(payload) + deflate.flush()
        case 3:
            # All optional parts of a header. Its own checksum is wrong.
            body = gzip.compress(payload, level, mtime=0)
            body = (
                body[:3]
                + bytes([random.choice((2, 4, 8, 16, 30))])
                + body[4:10]
                + b"\4\0abcdname\0text\0\0\0"
                + body[10:]
            )
        case _:
            body = gzip.compress(payload, level, mtime=0)
    if random.random() < 0.4:
        return body
    if random.random() < 0.3:
        return body[: random.randint(0, len(body))]
    return mutated_bytes(random, body, _FRAGMENTS)


def any_payload(random: Random) -> bytes:
    return random.choice(PAYLOADS) * random.choice((1, 1, 1, 3, 30))


def _make(random: Random) -> _Case:
    payload = any_payload(random)
    metadata: dict[str, str] = {"managed_by": random.choice(("dts", "dts", "Dts", "", "you"))}
    match random.randrange(5):
        case 0:
            pass
        case 1:
            metadata["sha256"] = random.choice(("", "0" * 64, "x", sha256(payload + b"x").hexdigest(), "\u0661"))
        case _:
            metadata["sha256"] = sha256(payload).hexdigest()
    if random.random() < 0.5:
        sizes = (str(len(payload)), "-1", "", "1e9", "9" * 5_000, "\u0661", "1_0", " 1", "0x10", "\u00b2")
        metadata["raw_bytes"] = random.choice(sizes)
    if random.random() < 0.5:
        metadata["instance_id"] = random.choice(("order-17", "%", "%ff%fe", "%00", "%ED%A0%80", "\U0001f600", "%2E%2E"))
    encoding = random.choice((None, None, "gzip", "gzip", "GZIP", "deflate", "br", "", "gzip, gzip"))
    return packed(random, payload), encoding, tuple(metadata.items()), random.choice(LIMITS)


# ---- the property ----------------------------------------------------------------------------------------------------


class _Client(NoService):
    """A `BlobClient` for downloads: whatever place is asked for, it has `body` there."""

    body = Body(b"", {}, None)

    def get(self, place: PayloadToken, limit: int, attempt: Attempt) -> Body:
        if len(self.body.data) > longest_body(limit):
            raise too_large(str(place), limit)
        return self.body

    def head(self, place: PayloadToken, attempt: Attempt) -> BlobProperties:
        return BlobProperties(place.name, len(self.body.data), '"1"', 0.0, self.body.metadata)


class _Store(BlobPayloadStore):
    client = _Client()

    def _make_client(self) -> _Client:
        return self.client


@lru_cache
def _store(limit: int) -> _Store:
    options = BlobPayloadStoreOptions(
        connection_string="UseDevelopmentStorage=true", threshold_bytes=0, max_stored_payload_bytes=limit
    )
    return _Store(options)


def _inflated(body: bytes, limit: int) -> bytes | frozenset[type[PayloadError]]:
    """Return what `body` is expanded to, by zlib alone, or the errors for it: of two faults either one may be found."""
    inflater = zlib.decompressobj(31)
    data = b""
    for place in range(len(body)):
        try:
            data += inflater.decompress(body[place : place + 1], limit + 1 - len(data))
        except zlib.error:
            return _DAMAGED | _TOO_LARGE  # isal may read on, past the limit: it takes distances that zlib refuses
        if len(data) > limit:
            # What comes behind may be damaged, and may be looked at already.
            return _DAMAGED | _TOO_LARGE if body not in _BOMBS else _TOO_LARGE
        if inflater.eof:
            return data if place + 1 == len(body) else _DAMAGED
    return _DAMAGED


def _expected(case: _Case) -> bytes | frozenset[type[PayloadError]]:
    body, encoding, metadata, limit = case
    is_gzip = body.startswith(b"\x1f\x8b")
    if len(body) > longest_body(limit):
        return _TOO_LARGE
    if encoding == "gzip" and not is_gzip:
        return _DAMAGED
    data = _inflated(body, limit) if is_gzip else body
    if not isinstance(data, bytes):
        return data
    if len(data) > limit:
        return _TOO_LARGE
    checksum = dict(metadata).get("sha256")
    return data if checksum is None or sha256(data).hexdigest() == checksum else _DAMAGED


def _check(case: _Case) -> None:
    body, encoding, metadata, limit = case
    store = _store(limit)
    store.client.body = Body(body, dict(metadata), encoding)
    most = 2 * limit + len(body) + _MEMORY
    found, peak = peak_of(
        lambda: outcome(lambda: store.download(TOKEN), PayloadTooLargeError, PayloadIntegrityError), most
    )
    expected = _expected(case)
    right = found == expected if isinstance(expected, bytes) else type(found) in expected
    # isal does not look at flags of a header that do not exist, nor at a header's own checksum. The payload's holds.
    if not right and expected in (_DAMAGED, _DAMAGED | _TOO_LARGE) and body[:2] == b"\x1f\x8b" and body[3] & 0xE2:
        checksum = dict(metadata).get("sha256")
        right = isinstance(found, Exception) or (len(found) <= limit and checksum in (None, sha256(found).hexdigest()))
    assert right, f"{found!r:.200} instead of {expected!r:.200}"
    assert peak <= most, f"{peak} bytes for a body of {len(body)} and a limit of {limit}: at most {most} are allowed"
    _check_look(store, body, metadata)


def _check_look(store: _Store, body: bytes, metadata: tuple[tuple[str, str], ...]) -> None:
    stored = store.inventory().look(TOKEN)
    assert stored.stored_bytes == len(body)
    assert stored.managed == (dict(metadata).get("managed_by") == "dts")
    raw_bytes = dict(metadata).get("raw_bytes", "")
    assert stored.raw_bytes == (
        int(raw_bytes) if raw_bytes.isdigit() and raw_bytes.isascii() and len(raw_bytes) < 20 else None
    )


TARGETS: Final = (
    Target(
        "body",
        "the payload as zlib gives it, PayloadIntegrityError or PayloadTooLargeError; memory is bounded; not quoted",
        _make,
        _check,
    ),
)
