"""The contract of what an `Externalizer` does with a store: messages out and in, taken back, or left as they are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import pytest

from durabletask_payloads._errors import PayloadNotFoundError, PayloadTokenError
from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.externalizer._externalizer import Externalizer

from ._messages import batch
from ._tools import SECOND, at_once, noise

if TYPE_CHECKING:
    from durabletask_payloads.stores._base import PayloadStore

    from ._tools import OpenStore

_OPTIONS = LargePayloadStorageOptions(threshold_bytes=1_000)


class ExternalizerContract:
    """Messages out and in, taken back, or left as they are. One of many payloads is in `PayloadStoreLikeContract`."""

    timeout_seconds: ClassVar[float] = 60.0

    def test_an_externalizer_on_event_loops(self, open_store: OpenStore) -> None:
        """Messages go out and in, several at a time, on event loops one after the other."""
        texts = [[noise(5_000).decode() for _ in range(4)] for _ in range(4)]
        messages = [batch(*some) for some in texts]

        async def out(ours: Externalizer) -> None:
            receipts = await asyncio.gather(*[ours.externalize_async(message) for message in messages])
            assert [len(receipt.payloads) for receipt in receipts] == [4] * 4

        async def back(theirs: Externalizer) -> None:
            await asyncio.gather(*[theirs.deexternalize_async(message) for message in messages])

        with Externalizer(open_store(_OPTIONS)) as ours, Externalizer(open_store(_OPTIONS)) as theirs:
            at_once(self.timeout_seconds, lambda: asyncio.run(out(ours)))
            at_once(self.timeout_seconds, lambda: asyncio.run(back(theirs)))
        same = [message == batch(*some) for message, some in zip(messages, texts, strict=True)]
        assert same == [True] * 4

    @pytest.mark.parametrize("form", ["sync", "async"])
    def test_a_message_that_was_not_sent(self, open_store: OpenStore, form: str) -> None:
        """Its uploads are deleted, and those of an equal message that was sent stay."""
        store = open_store(_OPTIONS)
        texts = [noise(5_000).decode() for _ in range(4)]
        sent, unsent = batch(*texts), batch(*texts)
        with Externalizer(store, cache_bytes=0) as externalizer:
            externalizer.externalize(sent, instance_id="order-17")
            receipt = externalizer.externalize(unsent, instance_id="order-17")
            tokens = [payload.token for payload in receipt.payloads]
            assert len(tokens) == 4
            if form == "sync":
                receipt.rollback()
            else:
                asyncio.run(receipt.rollback_async())
            assert externalizer.stats.deletions == 4
            externalizer.deexternalize(sent)
        assert [unsent == batch(*texts), sent == batch(*texts)] == [True, True]
        for token in tokens:
            with pytest.raises(PayloadNotFoundError):
                store.download(token)

    def test_a_message_with_a_token_that_cannot_be_followed(self, open_store: OpenStore) -> None:
        """It raises a certain error, and stays as it is: the payload was deleted, or is at another place."""
        store = open_store(_OPTIONS)
        kept, deleted = store.upload(b"1"), store.upload(b"2")
        store.delete(deleted)
        theirs = open_store(place=SECOND).upload(b"3")
        with Externalizer(store) as externalizer:
            for token, expected in (
                (deleted, PayloadNotFoundError),
                (theirs, (PayloadTokenError, PayloadNotFoundError)),
            ):
                message = batch(kept, token, "text")
                with pytest.raises(expected):
                    externalizer.deexternalize(message)
                assert message == batch(kept, token, "text")

    def test_a_message_with_text_that_looks_like_a_token(self, store: PayloadStore) -> None:
        """Text of a user that is no token as a whole is left alone."""
        token = store.upload(b"1")
        prefixes = [prefix.decode() for prefix in store.token_prefixes]
        texts = [*prefixes, *(prefix + " of ours" for prefix in prefixes), f'"{token}"', f"{token}\n", f"see {token}"]
        message = batch(*texts)
        with Externalizer(store) as externalizer:
            assert not externalizer.has_tokens(message)
            externalizer.deexternalize(message)
        assert message == batch(*texts)

    def test_a_cancelled_message(self, open_store: OpenStore) -> None:
        """A cancelled call leaves the message as it was, and a store that works."""
        store = open_store(_OPTIONS)
        texts = [noise(20_000).decode() for _ in range(8)]

        async def main() -> None:
            for turn in range(8):
                message = batch(*texts)
                task = asyncio.ensure_future(externalizer.externalize_async(message))
                await asyncio.sleep(0.001 * turn)
                if not task.cancel():
                    await task
                    continue
                try:
                    await task
                except asyncio.CancelledError:
                    same = message == batch(*texts)
                    assert same, "the message has changed"
            message = batch(*texts)
            await externalizer.externalize_async(message)
            await externalizer.deexternalize_async(message)
            same = message == batch(*texts)
            assert same, "the message has changed"

        with Externalizer(store, cache_bytes=0) as externalizer:
            at_once(self.timeout_seconds, lambda: asyncio.run(main()))
