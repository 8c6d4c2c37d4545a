"""The contract of a store's lifetime: closed once, twice and in the middle; in forked children."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar

import pytest

from durabletask_payloads._errors import PayloadStoreUnavailableError

from ._payloads import require_typed
from ._tools import at_once, in_child, require_round_trip, require_round_trip_async, require_same, traffic

if TYPE_CHECKING:
    from durabletask_payloads.stores._base import PayloadStore

    from ._tools import OpenStore

_with_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


class LifetimeContract:
    """Closed once, twice and in the middle; in forked children."""

    timeout_seconds: ClassVar[float] = 60.0

    @pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
    @pytest.mark.parametrize("way", ["close", "aclose", "with", "async with"])
    def test_closing(self, open_store: OpenStore, way: str, used: bool) -> None:
        """Every way of closing works, again too, and for a store that was never used."""
        store = open_store()
        if used:
            require_round_trip(store)
            asyncio.run(require_round_trip_async(store))

        async def leave() -> None:
            async with store as entered:
                assert entered is store

        def close() -> None:
            match way:
                case "close":
                    store.close()
                case "aclose":
                    asyncio.run(store.aclose())
                case "with":
                    with store as entered:
                        assert entered is store
                case _:
                    asyncio.run(leave())

        at_once(self.timeout_seconds, close)
        at_once(self.timeout_seconds, close)
        at_once(self.timeout_seconds, store.close)

    def test_use_after_close(self, open_store: OpenStore) -> None:
        """A closed store raises PayloadStoreUnavailableError, or goes on as before where there is nothing to close.

        The error is transient: what arrives while a process ends must not be completed as failed.
        """
        store = open_store()
        token = require_round_trip(store, b"1")
        store.close()
        for call in (
            lambda: require_same(store.download(token), b"1"),
            lambda: require_round_trip(store),
            lambda: asyncio.run(require_round_trip_async(store)),
            lambda: store.stored_bytes(token),
            lambda: store.delete(token),
        ):
            try:
                at_once(self.timeout_seconds, call)
            except PayloadStoreUnavailableError as error:
                require_typed(error)

    def test_closing_one_store_leaves_the_others(self, open_store: OpenStore) -> None:
        """Another store of the place works on, and reads what the closed one stored."""
        one, other = open_store(), open_store()
        token = require_round_trip(one, b"1")
        require_round_trip(other)
        one.close()
        require_same(other.download(token), b"1")
        require_round_trip(other)

    def test_closing_in_the_middle(self, open_store: OpenStore) -> None:
        """Transfers that are under way end well or with PayloadStoreUnavailableError, and `close` returns."""
        store = open_store()
        with traffic(store, self.timeout_seconds, ended_by=PayloadStoreUnavailableError):
            at_once(self.timeout_seconds, store.close)

    @_with_fork
    def test_a_forked_child_uses_the_store(self, store: PayloadStore) -> None:
        """A child reads what its parent stored, and stores, reads and deletes; both go on, and may close the store."""
        token = require_round_trip(store, b"1")
        asyncio.run(require_round_trip_async(store))

        def work() -> None:
            require_same(store.download(token), b"1")
            store.delete(require_round_trip(store))
            asyncio.run(require_round_trip_async(store))
            at_once(self.timeout_seconds, *[lambda: require_round_trip(store)] * 4)
            store.close()

        for _ in range(2):
            in_child(self.timeout_seconds, work)
            at_once(self.timeout_seconds, lambda: require_same(store.download(token), b"1"))
        require_round_trip(store)

    @_with_fork
    def test_a_child_forked_in_the_middle(self, store: PayloadStore) -> None:
        """A child that was forked while other threads made transfers does not wait for a lock that they held."""
        with traffic(store, self.timeout_seconds):
            for _ in range(4):
                in_child(self.timeout_seconds, lambda: require_round_trip(store))
