"""The part of the contract that stores written for the `durabletask` SDK share: blocking calls, tokens, options."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import pytest

from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.externalizer._externalizer import Externalizer
from durabletask_payloads.stores._base import PayloadStore

from ._messages import batch
from ._tools import FIRST, PAYLOADS, at_once, noise, require_round_trip, require_same

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._tools import MakeStoreLike, OpenStoreLike

_TEXTS_OF_USERS = ("", " ", "1", "null", '"text"', "{}", "https://example.com/a", "\u00e4\U0001f600", "\ud800", "\x00")


class PayloadStoreLikeContract:
    """What an `Externalizer` relies on with any store: subclass it with a fixture `make_store`.

    The fixture returns a `MakeStoreLike`: see `durabletask_payloads.testing`. Nothing is closed, and no asynchronous
    method is called, since an `Externalizer` calls none.
    """

    timeout_seconds: ClassVar[float] = 60.0
    """How long the calls of a test that run side by side may take, in seconds, before the store counts as hanging."""

    @pytest.fixture
    def open_store(self, make_store: MakeStoreLike) -> Iterator[OpenStoreLike]:
        """Make stores that are closed at the end, if they can be."""
        made: list[PayloadStoreLike] = []

        def make(options: LargePayloadStorageOptions | None = None, *, place: str = FIRST) -> PayloadStoreLike:
            made.append(make_store(options or LargePayloadStorageOptions(), place))
            return made[-1]

        yield make
        for store in made:
            if isinstance(store, PayloadStore):
                store.close()

    @pytest.fixture
    def store(self, open_store: OpenStoreLike) -> PayloadStoreLike:
        """Make a store with the default options at the first place."""
        return open_store()

    def test_options_are_those_given(self, open_store: OpenStoreLike) -> None:
        """The options tell the threshold and the maximum that the store was made with."""
        options = open_store(LargePayloadStorageOptions(threshold_bytes=10, max_stored_payload_bytes=1_000)).options
        assert (options.threshold_bytes, options.max_stored_payload_bytes) == (10, 1_000)

    @pytest.mark.parametrize("data", PAYLOADS.values(), ids=PAYLOADS.keys())
    @pytest.mark.parametrize("compression", [True, False], ids=["compressed", "plain"])
    def test_round_trip(self, open_store: OpenStoreLike, data: bytes, compression: bool) -> None:
        """A download returns exactly what was uploaded, whatever its size and its first bytes."""
        require_round_trip(open_store(LargePayloadStorageOptions(enable_compression=compression)), data)

    def test_another_store_of_the_place_reads_it(self, open_store: OpenStoreLike) -> None:
        """A worker reads what a client stored."""
        data = noise(5_000)
        token = open_store().upload(data, instance_id="order-17")
        require_same(open_store().download(token), data)

    @pytest.mark.parametrize("instance_id", [None, "order-17"])
    def test_a_token_is_text_that_the_store_knows(self, store: PayloadStoreLike, instance_id: str | None) -> None:
        """A token has a UTF-8 form, is short, and `is_known_token` of any store of the place says so."""
        token: object = store.upload(b"1", instance_id=instance_id)
        assert isinstance(token, str)
        assert 0 < len(token.encode()) <= 2_048
        assert store.is_known_token(token) is True

    def test_each_upload_has_a_token_of_its_own(self, store: PayloadStoreLike) -> None:
        """Equal payloads have different tokens: deleting one must not take the other away."""
        assert len({store.upload(b"the same", instance_id="order-17") for _ in range(20)}) == 20

    def test_text_of_users_is_no_token(self, store: PayloadStoreLike) -> None:
        """Common values of users are no tokens. A message would be changed, or be refused."""
        assert [text for text in _TEXTS_OF_USERS if store.is_known_token(text)] == []

    def test_many_threads(self, store: PayloadStoreLike) -> None:
        """Threads upload at the same time, and then read what others wrote: nothing is lost or mixed up."""
        stored: dict[str, bytes] = {}

        def upload() -> None:
            for _ in range(8):
                data = noise(3_000)
                stored[store.upload(data)] = data

        def download() -> None:
            for token, data in tuple(stored.items()):
                require_same(store.download(token), data)

        at_once(self.timeout_seconds, *[upload] * 8)
        assert len(stored) == 64, "two uploads returned the same token"
        at_once(self.timeout_seconds, *[download] * 4)

    def test_an_externalizer_moves_a_message(self, open_store: OpenStoreLike) -> None:
        """Large payloads leave a message, as tokens of the store, and another process puts them back."""
        options = LargePayloadStorageOptions(threshold_bytes=1_000)
        texts = ["a" * 5_000, "small", "\U0001f600" * 2_000, noise(300_000).decode(), "a" * 5_000]
        message = batch(*texts)
        with Externalizer(open_store(options)) as ours, Externalizer(open_store(options)) as theirs:
            receipt = ours.externalize(message, instance_id="order-17")
            assert len(receipt.payloads) == 4
            assert message.ByteSize() < 20_000
            theirs.deexternalize(message)
        same = message == batch(*texts)
        assert same, "the message has changed"
