from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
import zlib

import pytest

from durabletask_payloads._errors import PayloadIntegrityError, PayloadTooLargeError
from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.stores import _codec
from durabletask_payloads.stores._codec import GZIP_MAGIC, check_size, checksum, decode, encode, longest_body

TOKEN = "blob:v1:payloads:" + "0" * 32
TEXT = json.dumps([{"id": number, "name": f"order {number * 7919}"} for number in range(5000)]).encode()


def noise(count: int) -> bytes:
    return random.Random(7).randbytes(count)


def read(body: bytes, limit: int = 10_000_000, sha256: str | None = None) -> bytes:
    return decode(body, token=TOKEN, limit=limit, sha256=sha256)


def test_text_becomes_one_gzip_member() -> None:
    body = encode(TEXT, "if smaller")
    assert len(body) < len(TEXT) / 2
    assert gzip.decompress(body) == TEXT
    assert body[:2] == GZIP_MAGIC
    assert body[4:8] == bytes(4)  # no time stamp: equal payloads make equal bodies
    assert read(body) == TEXT


def test_what_gzip_can_not_shrink_is_stored_as_it_is() -> None:
    data = noise(100_000)
    assert encode(data, "if smaller") == data
    assert read(data) == data
    always = encode(data, "always")
    assert gzip.decompress(always) == data
    assert len(always) <= longest_body(len(data))


@pytest.mark.parametrize("data", [b"", b"x", TEXT])
def test_never_compressed(data: bytes) -> None:
    assert encode(data, "never") == data


@pytest.mark.parametrize("data", [GZIP_MAGIC, gzip.compress(TEXT), GZIP_MAGIC + noise(1000)], ids=len)
def test_bytes_that_look_like_gzip_come_back_as_they_were(data: bytes) -> None:
    assert read(encode(data, "never")) == data
    assert read(encode(data, "if smaller")) == data
    assert read(encode(data, "always")) == data


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_gzip_of_others(level: int) -> None:
    assert read(gzip.compress(TEXT, level)) == TEXT
    assert read(gzip.compress(b"", level)) == b""
    big = TEXT * 20  # several steps of the inflater
    assert read(gzip.compress(big, level)) == big


def test_truncated_anywhere() -> None:
    body = gzip.compress(TEXT)
    for cut in (*range(1, 40), len(body) // 2, len(body) - 3):
        with pytest.raises(PayloadIntegrityError, match=f"stored under {TOKEN} is truncated"):
            read(body[:-cut])


def test_truncated_behind_a_whole_step() -> None:
    body = gzip.compress(noise(5 * 1024 * 1024), 0)
    for size in (1024 * 1024, 2 * 1024 * 1024, 2 * 1024 * 1024 + 1):
        with pytest.raises(PayloadIntegrityError, match="truncated"):
            read(body[:size])


def test_damaged() -> None:
    body = bytearray(gzip.compress(TEXT))
    for place in (2, len(body) // 2, -6, -2):  # method, data, checksum, length
        damaged = bytearray(body)
        damaged[place] ^= 0x41
        with pytest.raises(PayloadIntegrityError):
            read(bytes(damaged))


def test_nothing_may_follow_the_gzip_stream() -> None:
    body = gzip.compress(TEXT)
    big = gzip.compress(noise(3 * 1024 * 1024), 0)
    for more in (b"\0", body):
        for first in (body, big):
            with pytest.raises(PayloadIntegrityError, match="goes on behind"):
                read(first + more)
    # It may also begin just where a step of the inflater ends.
    step = 1024 * 1024
    exact = next(body for size in range(step - 200, step) if len(body := gzip.compress(bytes(size), 0)) == step)
    assert read(exact) == bytes(len(read(exact)))
    with pytest.raises(PayloadIntegrityError, match="goes on behind"):
        read(exact + body)


def test_the_limit_is_in_bytes_before_compression() -> None:
    body = gzip.compress(TEXT)
    assert read(body, limit=len(TEXT)) == TEXT
    for stored in (body, TEXT):
        with pytest.raises(
            PayloadTooLargeError, match=rf"exceeds the maximum of max_stored_payload_bytes .*\({len(TEXT) - 1}\)"
        ):
            read(stored, limit=len(TEXT) - 1)
    whole_steps = bytes(3 * 1024 * 1024)
    assert read(gzip.compress(whole_steps), limit=len(whole_steps)) == whole_steps


class Counting:
    """An inflater that keeps how much it was given, how much it was allowed to return, and how much it did."""

    def __init__(self, inflater: _codec._Inflater) -> None:  # pyright: ignore[reportPrivateUsage]  # it takes its place
        self._inflater = inflater
        self.given: list[int] = []
        self.allowed: list[int] = []
        self.returned = 0

    @property
    def eof(self) -> bool:
        return self._inflater.eof

    @property
    def unconsumed_tail(self) -> bytes:
        return self._inflater.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflater.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        part = self._inflater.decompress(data, max_length)
        self.given.append(len(data))
        self.allowed.append(max_length)
        self.returned += len(part)
        return part


@pytest.mark.parametrize("limit", [0, 1, 1_000, 1024 * 1024 - 1, 1024 * 1024, 3 * 1024 * 1024 + 5])
def test_no_more_is_inflated_than_one_byte_over_the_limit(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor reserved for it: a small body can expand to a thousand times its size."""
    inflater = Counting(_codec._inflater())  # pyright: ignore[reportPrivateUsage]  # as in the signature
    monkeypatch.setattr(_codec, "_inflater", lambda: inflater)
    with pytest.raises(PayloadTooLargeError):
        read(gzip.compress(bytes(10 * 1024 * 1024)), limit=limit)
    assert inflater.returned == limit + 1
    assert max(inflater.allowed) <= min(limit + 1, 1024 * 1024)
    assert max(inflater.given) <= 1024 * 1024


def test_a_body_is_not_read_behind_the_limit() -> None:
    """It is too large, whatever follows."""
    for body in (gzip.compress(noise(3 * 1024 * 1024), 0), gzip.compress(TEXT) + b"more"):
        with pytest.raises(PayloadTooLargeError):
            read(body, limit=10)


def test_a_bomb_of_many_members_is_not_inflated_behind_the_first() -> None:
    with pytest.raises(PayloadIntegrityError, match="goes on behind"):
        read(gzip.compress(b"x") + gzip.compress(bytes(10 * 1024 * 1024)), limit=10)


@pytest.mark.parametrize(("limit", "longest"), [(0, 1_024), (511, 1_535), (512, 1_537), (1_024_000, 1_027_024)])
def test_the_longest_body(limit: int, longest: int) -> None:
    assert longest_body(limit) == longest


def test_gzip_of_the_same_size_is_not_kept() -> None:
    texts = (bytes(range(64)) + bytes(size) for size in range(200))
    data = next(data for data in texts if len(encode(data, "always")) == len(data))
    assert encode(data, "if smaller") == data


def test_checksum() -> None:
    body = encode(TEXT, "always")
    assert read(body, sha256=checksum(TEXT)) == TEXT
    with pytest.raises(PayloadIntegrityError, match=r"differs from its SHA-256"):
        read(body, sha256=checksum(TEXT + b" "))


def test_size_of_what_is_uploaded() -> None:
    options = LargePayloadStorageOptions(threshold_bytes=10, max_stored_payload_bytes=20)
    check_size(bytes(20), options)
    with pytest.raises(
        PayloadTooLargeError, match=r"21 bytes, which exceeds the maximum of max_stored_payload_bytes \(20\)"
    ):
        check_size(bytes(21), options)


def test_without_isal() -> None:
    """The standard library takes over, and does the same."""
    program = """
import sys
sys.modules["isal"] = None
import gzip, zlib
from durabletask_payloads.stores import _codec
assert _codec._inflate_error is zlib.error
data = b"abc" * 1_000_000
body = _codec.encode(data, "if smaller")
assert gzip.decompress(body) == data and body[4:8] == bytes(4)
read = lambda body: _codec.decode(body, token="t", limit=3_000_000, sha256=None)
assert read(body) == data
for bad in (body[:-1], body + b"x", body[:-6] + b"\\0\\0" + body[-4:], body[:2] + b"\\0" + body[3:]):
    try:
        read(bad)
    except _codec.PayloadIntegrityError:
        continue
    raise AssertionError(bad)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_isal_is_what_these_tests_ran_on() -> None:
    assert _codec._inflate_error is not zlib.error  # pyright: ignore[reportPrivateUsage]  # what is asked is private
