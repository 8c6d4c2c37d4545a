"""The contract of concurrency: event loops, deletions beside transfers, cancelled calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pytest

from ._tools import at_once, noise, require_round_trip, require_round_trip_async, require_same

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from durabletask_payloads.stores._base import PayloadStore


def _run_loop(main: Callable[[], Coroutine[None, None, object]]) -> None:
    asyncio.run(main())


class ConcurrencyContract:
    """Event loops, deletions beside transfers, cancelled calls. Threads are in `PayloadStoreLikeContract`."""

    timeout_seconds: ClassVar[float] = 60.0

    def _run(self, *mains: Callable[[], Coroutine[None, None, object]]) -> None:
        """Run coroutines at the same time, each on a new event loop in a thread of its own."""
        at_once(self.timeout_seconds, *[partial(_run_loop, main) for main in mains])

    def test_many_calls_on_one_event_loop(self, store: PayloadStore) -> None:
        """Calls of one event loop run side by side."""

        async def main() -> None:
            payloads = [noise(3_000) for _ in range(32)]
            tokens = await asyncio.gather(*[store.upload_async(data) for data in payloads])
            found = await asyncio.gather(*[store.download_async(token) for token in tokens])
            for data, expected in zip(found, payloads, strict=True):
                require_same(data, expected)

        self._run(main)

    def test_event_loops_one_after_the_other(self, store: PayloadStore) -> None:
        """A store outlives the event loop that it was first used on, and blocking calls in between."""

        async def main() -> None:
            tokens.append(await require_round_trip_async(store, b"1"))
            for token in tokens:
                require_same(await store.download_async(token), b"1")

        tokens: list[str] = []
        for _ in range(3):
            self._run(main)
            tokens.append(require_round_trip(store, b"1"))

    def test_event_loops_at_the_same_time(self, store: PayloadStore) -> None:
        """A store serves several event loops, and threads beside them."""

        async def main() -> None:
            await asyncio.gather(*[require_round_trip_async(store) for _ in range(8)])

        loops = [lambda: asyncio.run(main())] * 3
        at_once(self.timeout_seconds, *loops, *[lambda: [require_round_trip(store) for _ in range(8)]] * 3)

    def test_a_blocking_call_on_an_event_loop(self, store: PayloadStore) -> None:
        """A blocking call may be made where an event loop runs: it blocks it, and does not fail."""

        async def main() -> None:
            token = await require_round_trip_async(store)
            store.delete(token)
            token = require_round_trip(store)
            store.delete(token)

        self._run(main)

    def test_deletions_beside_transfers(self, store: PayloadStore) -> None:
        """Threads delete what they stored while others store: no other payload is touched."""
        kept: list[tuple[str, bytes]] = []

        def store_and_delete() -> None:
            for _ in range(8):
                data = noise(2_000)
                gone = store.upload(data)
                kept.append((store.upload(data), data))
                store.delete(gone)

        at_once(self.timeout_seconds, *[store_and_delete] * 6)
        for token, data in kept:
            require_same(store.download(token), data)

    @pytest.mark.parametrize("direction", ["upload", "download"])
    def test_cancelled_calls(self, store: PayloadStore, direction: str) -> None:
        """Calls that are cancelled at any stage leave a store that works, on the same event loop and on others.

        Whether a cancelled upload stored its payload is left open.
        """
        data = noise(50_000)
        kept = store.upload(data)

        def call() -> Coroutine[None, None, object]:
            return store.upload_async(data) if direction == "upload" else store.download_async(kept)

        async def cancel(steps: int, seconds: float) -> None:
            task = asyncio.ensure_future(call())
            for _ in range(steps):
                await asyncio.sleep(0)
            if seconds:
                await asyncio.sleep(seconds)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        async def main() -> None:
            for turn in range(20):
                await asyncio.gather(*[cancel(steps, 0.001 * (turn % 4)) for steps in range(8)])
            await require_round_trip_async(store)
            require_same(await store.download_async(kept), data)

        self._run(main)
        self._run(lambda: require_round_trip_async(store))
        at_once(self.timeout_seconds, lambda: require_round_trip(store))
