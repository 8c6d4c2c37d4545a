"""A store that keeps its contract, and others that break it, each in one way. For test_contract.

pytest collects this module only where it is named, as test_contract does.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

from durabletask_payloads import (
    LargePayloadStorageOptions,
    PayloadNotFoundError,
    PayloadStore,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
)
from durabletask_payloads.stores._tokens import new_name
from durabletask_payloads.testing import MakeStore, MakeStoreLike, PayloadStoreContract, PayloadStoreLikeContract

PREFIX = "shelf:v1:"
TOKEN = re.compile(r"shelf:v1:(?P<place>[a-z]{1,20}):(?P<name>[0-9a-f]{32})")


class Item(NamedTuple):
    data: bytes
    instance_id: str | None


class Shelves(dict[str, dict[str, Item]]):
    """The payloads of each place."""

    def __missing__(self, place: str) -> dict[str, Item]:
        return self.setdefault(place, {})


class ShelfStore(PayloadStore):
    """Keeps payloads in memory, in as little code as the contract allows."""

    def __init__(self, shelves: Shelves, options: LargePayloadStorageOptions, place: str) -> None:
        self._shelves = shelves
        self._options = options
        self._place = place
        self._closed = False

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return (PREFIX.encode(),)

    @property
    def items(self) -> dict[str, Item]:
        if self._closed:
            raise PayloadStoreUnavailableError("this store was closed")
        return self._shelves[self._place]

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        if len(data) > self._options.max_stored_payload_bytes:
            raise PayloadTooLargeError(f"{len(data)} bytes exceeds the maximum")
        time.sleep(0.0001)  # as a real one waits: threads that do nothing but upload leave the others some time
        name = new_name()
        self.items[name] = Item(data, instance_id)
        return f"{PREFIX}{self._place}:{name}"

    def download(self, token: str) -> bytes:
        data = self.found(token).data
        if len(data) > self._options.max_stored_payload_bytes:
            raise PayloadTooLargeError(f"{token}: {len(data)} bytes exceeds the maximum")
        return data

    def is_known_token(self, value: str) -> bool:
        return TOKEN.fullmatch(value) is not None

    def delete(self, token: str) -> None:
        self.items.pop(self.name_of(token), None)

    def stored_bytes(self, token: str) -> int:
        return len(self.found(token).data)

    def close(self) -> None:
        self._closed = True

    def found(self, token: str) -> Item:
        item = self.items.get(self.name_of(token))
        if item is None:
            raise PayloadNotFoundError(f"{token}: payload not found")
        return item

    def name_of(self, token: str) -> str:
        match = TOKEN.fullmatch(token)
        if match is None:
            raise PayloadTokenError(f"a text of {len(token)} characters is no token")
        if match["place"] != self._place:
            raise PayloadTokenError(f"{token} is of another place than {self._place}")
        return match["name"]


class SdkStore:
    """Keeps payloads in memory, with nothing but what the SDK asks of a store."""

    def __init__(self, shelves: Shelves, options: LargePayloadStorageOptions, place: str) -> None:
        self._store = ShelfStore(shelves, options, place)

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._store.options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        return self._store.upload(data)

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        raise NotImplementedError

    def download(self, token: str) -> bytes:
        return self._store.download(token)

    async def download_async(self, token: str) -> bytes:
        raise NotImplementedError

    def is_known_token(self, value: str) -> bool:
        return self._store.is_known_token(value)


# ---- broken ones -----------------------------------------------------------------------------------------------------


class ReusesTokens(ShelfStore):
    """Equal payloads are stored once."""

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        item = self.found(super().upload(data, instance_id=instance_id))
        name = hashlib.sha256(data).hexdigest()[:32]
        self.items[name] = item
        return f"{PREFIX}{self._place}:{name}"


class Truncates(ShelfStore):
    """What is over 64 KiB loses its end."""

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        token = super().upload(data, instance_id=instance_id)
        self.items[self.name_of(token)] = Item(data[:65_536], instance_id)
        return token


class IgnoresTheMaximum(ShelfStore):
    """Any size is stored and read."""

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        name = new_name()
        self.items[name] = Item(data, instance_id)
        return f"{PREFIX}{self._place}:{name}"

    def download(self, token: str) -> bytes:
        return self.found(token).data


class ShowsPayloads(ShelfStore):
    """An error quotes the text that is no token."""

    def name_of(self, token: str) -> str:
        if TOKEN.fullmatch(token) is None:
            raise PayloadTokenError(f"{token!r} is no token")
        return super().name_of(token)


class ShowsPayloadsInItsRepr(ShelfStore):
    """Its repr shows all that it has, as that of a dataclass does."""

    def __repr__(self) -> str:
        return f"ShowsPayloadsInItsRepr({self.items})"


class ShowsItsKey(ShelfStore):
    """Its error has the key in its cause."""

    def found(self, token: str) -> Item:
        try:
            return super().found(token)
        except PayloadNotFoundError as error:
            raise PayloadNotFoundError("not found") from ValueError("asked with shelf-key", error)


class LogsPayloads(ShelfStore):
    """A record for the developer was forgotten."""

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        logging.getLogger("shelf").debug("storing %s", data)
        return super().upload(data, instance_id=instance_id)


class LosesUploads(ShelfStore):
    """Of two blocking uploads at the same time, one is lost."""

    _is_busy = False

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        token = super().upload(data, instance_id=instance_id)
        if self._is_busy:
            del self.items[self.name_of(token)]
            return token
        self._is_busy = True
        time.sleep(0.005)
        self._is_busy = False
        return token

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return super().upload(data, instance_id=instance_id)


class HangsAfterAFork(ShelfStore):
    """All work is done in a thread, which a child does not have."""

    def __init__(self, shelves: Shelves, options: LargePayloadStorageOptions, place: str) -> None:
        super().__init__(shelves, options, place)
        self._pool = ThreadPoolExecutor(1)

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        try:
            return self._pool.submit(super().upload, data, instance_id=instance_id).result()
        except RuntimeError as error:
            raise PayloadStoreUnavailableError("this store was closed") from error

    def close(self) -> None:
        super().close()
        self._pool.shutdown()


class DeletesTooMuch(ShelfStore):
    """A deletion takes all payloads of the instance."""

    def delete(self, token: str) -> None:
        items = self.items
        deleted = items.pop(self.name_of(token), None)
        if deleted is not None and deleted.instance_id is not None:
            for name in [name for name, item in items.items() if item.instance_id == deleted.instance_id]:
                del items[name]


class FollowsEveryToken(ShelfStore):
    """The place in a token counts, whichever it is."""

    def found(self, token: str) -> Item:
        return self._at(token).found(token)

    def delete(self, token: str) -> None:
        self._at(token).delete(token)

    def _at(self, token: str) -> ShelfStore:
        match = TOKEN.fullmatch(token)
        return ShelfStore(self._shelves, self._options, match["place"] if match else self._place)


class TakesTextForTokens(ShelfStore):
    """Whatever begins like a token is one."""

    def is_known_token(self, value: str) -> bool:
        return value.startswith(PREFIX)


class RaisesKeyErrors(ShelfStore):
    """The errors are those of the dict below."""

    def found(self, token: str) -> Item:
        return self.items[self.name_of(token)]


class KeepsTheSlotsOfCancelledCalls(ShelfStore):
    """A cancelled call takes one of eight slots with it."""

    def __init__(self, shelves: Shelves, options: LargePayloadStorageOptions, place: str) -> None:
        super().__init__(shelves, options, place)
        self._slots = threading.Semaphore(8)

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        while not self._slots.acquire(blocking=False):
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)
        token = await super().upload_async(data, instance_id=instance_id)
        self._slots.release()
        return token


class LooksForTokens(ShelfStore):
    """A text is a token if there is a file for it."""

    def is_known_token(self, value: str) -> bool:
        return super().is_known_token(value) and not Path("/", value.rpartition(":")[2]).exists()


class CopiesText(ShelfStore):
    """A text is encoded before it is looked at."""

    def is_known_token(self, value: str) -> bool:
        return re.fullmatch(TOKEN.pattern.encode(), value.encode(errors="surrogatepass")) is not None


class BreaksWhenClosed(ShelfStore):
    """A closed store has nothing left to work with."""

    @property
    def items(self) -> dict[str, Item]:
        if self._closed:
            raise RuntimeError("the session is closed")
        return super().items


class StaysOnItsFirstLoop(ShelfStore):
    """The asynchronous methods belong to the event loop that used them first."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        if self._loop is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        return await super().upload_async(data, instance_id=instance_id)


class DeletesOnce(ShelfStore):
    """What is not there cannot be deleted."""

    def delete(self, token: str) -> None:
        self.found(token)
        super().delete(token)


class ClosesThePlace(ShelfStore):
    """Closing one store takes the payloads of all."""

    def close(self) -> None:
        super().close()
        self._shelves[self._place].clear()


class WritesOtherPrefixes(ShelfStore):
    """Its tokens have moved on, its prefixes have not."""

    @property
    def token_prefixes(self) -> tuple[bytes, ...]:
        return (b"shelf:v0:",)


class NeedsPrintableInstances(ShelfStore):
    """The instance id goes into a header, which is Latin-1."""

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        (instance_id or "").encode("latin-1")
        return super().upload(data, instance_id=instance_id)


class EncodesAnyText(ShelfStore):
    """A text is encoded before it is found to be no token."""

    def name_of(self, token: str) -> str:
        return super().name_of(token.encode().decode())


class StripsTokens(ShelfStore):
    """White space around a token does not matter."""

    def name_of(self, token: str) -> str:
        return super().name_of(token.strip())


class CountsNothing(ShelfStore):
    """The size in the store is not known."""

    def stored_bytes(self, token: str) -> int:
        return min(super().stored_bytes(token), 0)


class KnowsWhatItHas(ShelfStore):
    """A text is a token if there is a payload."""

    def is_known_token(self, value: str) -> bool:
        match = TOKEN.fullmatch(value)
        return match is not None and match["name"] in self._shelves[self._place]


class ForgetsItsOptions(ShelfStore):
    """The options are always those of a new store."""

    @property
    def options(self) -> LargePayloadStorageOptions:
        return LargePayloadStorageOptions(threshold_bytes=1_000)


class RunsALoop(ShelfStore):
    """The blocking method runs the asynchronous one."""

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        upload = self.upload_async(data, instance_id=instance_id)
        try:
            return asyncio.run(upload)
        finally:
            upload.close()

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        return super().upload(data, instance_id=instance_id)


# ---- what pytest runs ------------------------------------------------------------------------------------------------


class ShelfContract(PayloadStoreContract):
    secrets = ("shelf-key",)
    store_class: ClassVar[type[ShelfStore]]

    @pytest.fixture
    def make_store(self) -> MakeStore:
        shelves = Shelves()
        return lambda options, place: self.store_class(shelves, options, place)


class TestShelfStore(ShelfContract):
    store_class = ShelfStore


class TestSdkStore(PayloadStoreLikeContract):
    @pytest.fixture
    def make_store(self) -> MakeStoreLike:
        shelves = Shelves()
        return lambda options, place: SdkStore(shelves, options, place)


class TestReusesTokens(ShelfContract):
    store_class = ReusesTokens


class TestTruncates(ShelfContract):
    store_class = Truncates


class TestIgnoresTheMaximum(ShelfContract):
    store_class = IgnoresTheMaximum


class TestShowsPayloads(ShelfContract):
    store_class = ShowsPayloads


class TestShowsPayloadsInItsRepr(ShelfContract):
    store_class = ShowsPayloadsInItsRepr


class TestLosesUploads(ShelfContract):
    store_class = LosesUploads


class TestHangsAfterAFork(ShelfContract):
    timeout_seconds = 2.0
    store_class = HangsAfterAFork


class TestDeletesTooMuch(ShelfContract):
    store_class = DeletesTooMuch


class TestFollowsEveryToken(ShelfContract):
    store_class = FollowsEveryToken


class TestTakesTextForTokens(ShelfContract):
    store_class = TakesTextForTokens


class TestRaisesKeyErrors(ShelfContract):
    store_class = RaisesKeyErrors


class TestKeepsTheSlotsOfCancelledCalls(ShelfContract):
    timeout_seconds = 3.0
    store_class = KeepsTheSlotsOfCancelledCalls


class TestLooksForTokens(ShelfContract):
    store_class = LooksForTokens


class TestCopiesText(ShelfContract):
    store_class = CopiesText


class TestBreaksWhenClosed(ShelfContract):
    store_class = BreaksWhenClosed


class TestStaysOnItsFirstLoop(ShelfContract):
    store_class = StaysOnItsFirstLoop


class TestShowsItsKey(ShelfContract):
    store_class = ShowsItsKey


class TestLogsPayloads(ShelfContract):
    store_class = LogsPayloads


class TestDeletesOnce(ShelfContract):
    store_class = DeletesOnce


class TestClosesThePlace(ShelfContract):
    store_class = ClosesThePlace


class TestWritesOtherPrefixes(ShelfContract):
    store_class = WritesOtherPrefixes


class TestNeedsPrintableInstances(ShelfContract):
    store_class = NeedsPrintableInstances


class TestEncodesAnyText(ShelfContract):
    store_class = EncodesAnyText


class TestStripsTokens(ShelfContract):
    store_class = StripsTokens


class TestCountsNothing(ShelfContract):
    store_class = CountsNothing


class TestKnowsWhatItHas(ShelfContract):
    store_class = KnowsWhatItHas


class TestForgetsItsOptions(ShelfContract):
    store_class = ForgetsItsOptions


class TestRunsALoop(ShelfContract):
    store_class = RunsALoop
