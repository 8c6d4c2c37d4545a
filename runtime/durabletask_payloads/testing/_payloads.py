"""The contract of payloads: transfers, sizes, deletion, errors, and what no text may show."""

from __future__ import annotations

import asyncio
import logging
import traceback
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pytest

from durabletask_payloads._errors import (
    PayloadError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
)
from durabletask_payloads._options import LargePayloadStorageOptions

from ._tools import PAYLOADS, SECOND, noise, require_round_trip, require_round_trip_async, require_same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durabletask_payloads.stores._base import PayloadStore

    from ._tools import OpenStore

_MARK = "PAYLOAD-of-the-contract"
_PAYLOAD = f'"{_MARK} {_MARK}"' * 100
_INSTANCE_IDS = {
    "none": None,
    "empty": "",
    "entity": "@counter@17",
    "path": "../../a//b/./c\\d",
    "line break": "a\r\nx-header: 1",
    "unicode": "\u00e4\U0001f600\u2028\x00",
    "surrogate": "\ud800",
    "long": "i" * 20_000,
}
_SMALL = LargePayloadStorageOptions(threshold_bytes=100, max_stored_payload_bytes=1_000)


def require_typed(error: PayloadError) -> None:
    """Fail unless the attributes of an error are those of its class."""
    is_transient = isinstance(error, PayloadStoreUnavailableError)
    assert error.permanent is not is_transient, f"permanent of {type(error).__name__}"
    assert not hasattr(error, "code"), "the SDK takes an error with an attribute code for one of gRPC"


class PayloadContract:
    """Transfers, sizes, deletion, errors, and what no text may show."""

    secrets: ClassVar[tuple[str, ...]] = ()

    @pytest.mark.parametrize("data", PAYLOADS.values(), ids=PAYLOADS.keys())
    def test_async_round_trip(self, store: PayloadStore, data: bytes) -> None:
        """The asynchronous methods move the same payloads, and read what the others wrote."""
        token = asyncio.run(require_round_trip_async(store, data))
        require_same(store.download(token), data)
        require_same(asyncio.run(store.download_async(store.upload(data))), data)

    @pytest.mark.parametrize("instance_id", _INSTANCE_IDS.values(), ids=_INSTANCE_IDS.keys())
    def test_any_text_is_an_instance_id(self, store: PayloadStore, instance_id: str | None) -> None:
        """Backends accept more than a file name or a header may hold."""
        for token in (
            store.upload(b"1", instance_id=instance_id),
            asyncio.run(store.upload_async(b"1", instance_id=instance_id)),
        ):
            assert store.is_known_token(token)
            require_same(store.download(token), b"1")

    # ---- sizes --------------------------------------------------------------------------------------------------

    def test_an_upload_over_the_maximum(self, open_store: OpenStore) -> None:
        """`max_stored_payload_bytes` may be stored, one byte more may not, however well it would compress."""
        store = open_store(_SMALL)
        require_round_trip(store, b"x" * 1_000)
        with pytest.raises(PayloadTooLargeError, match="exceeds the maximum") as raised:
            store.upload(b"x" * 1_001)
        require_typed(raised.value)
        with pytest.raises(PayloadTooLargeError, match="exceeds the maximum"):
            asyncio.run(store.upload_async(b"x" * 1_001))

    @pytest.mark.parametrize("compression", [True, False], ids=["compressed", "plain"])
    def test_a_download_over_the_maximum_of_the_reader(self, open_store: OpenStore, compression: bool) -> None:
        """A store with a smaller maximum reads up to it, and no more, however small it is in the store."""
        writer = open_store(LargePayloadStorageOptions(enable_compression=compression))
        reader = open_store(_SMALL)
        require_same(reader.download(writer.upload(b"x" * 1_000)), b"x" * 1_000)
        for size in (1_001, 500_000):
            token = writer.upload(b"x" * size)
            with pytest.raises(PayloadTooLargeError, match="exceeds the maximum") as raised:
                reader.download(token)
            require_typed(raised.value)
            with pytest.raises(PayloadTooLargeError, match="exceeds the maximum"):
                asyncio.run(reader.download_async(token))

    @pytest.mark.parametrize("compression", [True, False], ids=["compressed", "plain"])
    def test_compression_is_a_setting_of_the_writer(self, open_store: OpenStore, compression: bool) -> None:
        """A store reads what another one wrote with the opposite setting."""
        writer = open_store(LargePayloadStorageOptions(enable_compression=compression))
        reader = open_store(LargePayloadStorageOptions(enable_compression=not compression))
        for data in PAYLOADS.values():
            require_same(reader.download(writer.upload(data)), data)

    def test_stored_bytes(self, store: PayloadStore) -> None:
        """The size in the store is a number of bytes, and that of a payload which does not compress no smaller."""
        size: object = store.stored_bytes(store.upload(b""))
        assert isinstance(size, int)
        assert size >= 0
        # Hex digits hold four bits each, and 64 bytes of text may be a header.
        assert 45_000 <= store.stored_bytes(store.upload(noise(100_000))) <= 200_000

    # ---- deletion -----------------------------------------------------------------------------------------------

    def test_a_deleted_payload(self, store: PayloadStore) -> None:
        """What was deleted is not found, and that is certain: trying again does not help."""
        token, other = store.upload(b"1"), store.upload(b"2")
        store.delete(token)
        asyncio.run(store.delete_async(other))
        for call in (
            lambda: store.download(token),
            lambda: asyncio.run(store.download_async(token)),
            lambda: store.stored_bytes(token),
            lambda: store.download(other),
        ):
            with pytest.raises(PayloadNotFoundError) as raised:
                call()
            require_typed(raised.value)

    def test_deleting_twice(self, store: PayloadStore) -> None:
        """A second deletion does nothing."""
        token = require_round_trip(store)
        store.delete(token)
        store.delete(token)
        asyncio.run(store.delete_async(token))
        require_round_trip(store)

    def test_a_deletion_takes_its_own_payload_only(self, store: PayloadStore) -> None:
        """Equal payloads, and others of the same instance, stay."""
        tokens = [store.upload(b"the same", instance_id="order-17") for _ in range(20)]
        for token in tokens[::2]:
            store.delete(token)
        for token in tokens[1::2]:
            require_same(store.download(token), b"the same")

    # ---- places -------------------------------------------------------------------------------------------------

    def test_another_place_is_not_read(self, open_store: OpenStore) -> None:
        """A token of another place is one, but not followed."""
        token = require_round_trip(open_store(place=SECOND))
        store = open_store()
        require_round_trip(store)  # a place that was never used may be unavailable
        assert store.is_known_token(token), "the token would stay in its message, and be taken for a payload"
        for call in (
            lambda: store.download(token),
            lambda: asyncio.run(store.download_async(token)),
            lambda: store.stored_bytes(token),
        ):
            with pytest.raises((PayloadTokenError, PayloadNotFoundError)) as raised:
                call()
            require_typed(raised.value)

    def test_another_place_is_not_deleted(self, open_store: OpenStore) -> None:
        """A deletion at one place leaves a payload at another alone, whether it is refused or does nothing."""
        others = open_store(place=SECOND)
        token = require_round_trip(others, b"theirs")
        store = open_store()
        require_round_trip(store)
        with suppress(PayloadTokenError):
            store.delete(token)
        with suppress(PayloadTokenError):
            asyncio.run(store.delete_async(token))
        require_same(others.download(token), b"theirs")

    # ---- texts --------------------------------------------------------------------------------------------------

    def test_no_text_shows_a_payload_or_a_secret(self, open_store: OpenStore, caplog: pytest.LogCaptureFixture) -> None:
        """Reprs, errors with their causes, and log records down to DEBUG are for operators, who may not read payloads.

        Text that is no token may be a payload, so that its error must not quote it either.
        """
        data = _PAYLOAD.encode()
        store, small = open_store(), open_store(_SMALL)
        texts: dict[str, str] = {}
        with caplog.at_level(logging.DEBUG):
            token = store.upload(data)
            texts["a repr"] = f"{store!r} {store} {store.options!r} {store.options}"
            texts["the error of an upload that is too large"] = _shown(lambda: small.upload(data))
            texts["the error of a download that is too large"] = _shown(lambda: small.download(token))
            begins = ("", token, *(prefix.decode() for prefix in store.token_prefixes))
            calls = [
                partial(call, begin + _PAYLOAD) for call in (store.download, store.stored_bytes) for begin in begins
            ]
            texts["the error of a text that is no token"] = "\n".join(map(_shown, calls))
            store.delete(token)
            texts["the error of a deleted payload"] = _shown(lambda: store.download(token))
        texts["a log record"] = "\n".join(record.getMessage() for record in caplog.records)
        for name, hidden in (("a payload", (_MARK,)), ("a secret", self.secrets)):
            shown_in = [where for where, text in texts.items() if any(one in text for one in hidden)]
            if shown_in:
                pytest.fail(f"{name} is shown in {' and '.join(shown_in)}")


def _shown(call: Callable[[], object]) -> str:
    """Return all that the error of a call shows, if there is one."""
    try:
        call()
    except Exception as error:
        return "\n".join(_texts_of(error))
    return ""


def _texts_of(error: BaseException) -> Iterator[str]:
    """Yield the texts of an error and of those it came from, suppressed ones included."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        one = pending.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield from (repr(one), *traceback.format_exception_only(type(one), one))
            pending += [one.__cause__, one.__context__]
