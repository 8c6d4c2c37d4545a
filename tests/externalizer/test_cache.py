"""The cache: bounded by bytes, one download for all who ask at once, in threads and in tasks."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from durabletask_payloads.externalizer._cache import PayloadCache


def test_it_keeps_what_was_used_last_within_its_capacity() -> None:
    cache = PayloadCache(1_000)
    for name in "abcd":
        cache.put(name, name.encode() * 250)
    assert cache.find("a") is not None
    cache.put("e", b"e" * 250)
    assert cache.find("b") is None
    assert cache.find("a") == b"a" * 250
    assert cache.counts.bytes == 1_000
    assert cache.counts.evictions == 1
    assert cache.counts.payloads == 4


def test_a_payload_over_a_quarter_of_it_is_not_kept() -> None:
    cache = PayloadCache(1_000)
    cache.put("a", b"x" * 250)
    cache.put("b", b"x" * 251)
    assert cache.find("a") is not None
    assert cache.find("b") is None


def test_capacity_0_keeps_nothing() -> None:
    cache = PayloadCache(0)
    cache.put("a", b"x")
    assert cache.find("a") is None


def test_discard_forgets() -> None:
    cache = PayloadCache(1_000)
    cache.put("a", b"x")
    cache.discard("a")
    cache.discard("never there")
    assert cache.find("a") is None


def test_threads_and_tasks_that_ask_at_once_share_one_download() -> None:
    cache = PayloadCache(1_000)
    started, go_on = threading.Event(), threading.Event()
    downloads: list[str] = []

    def download(token: str) -> bytes:
        downloads.append(token)
        started.set()
        assert go_on.wait(10)
        return b"payload"

    async def download_async(token: str) -> bytes:
        raise AssertionError(f"{token} is being downloaded already")

    async def ask_in_tasks() -> list[bytes]:
        asked = [asyncio.ensure_future(cache.get_async("t", download_async)) for _ in range(5)]
        await asyncio.sleep(0)  # each task has run up to where it waits
        go_on.set()
        return await asyncio.gather(*asked)

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(cache.get, "t", download)
        assert started.wait(10)
        others = [pool.submit(cache.get, "t", download) for _ in range(5)]
        assert asyncio.run(ask_in_tasks()) == [b"payload"] * 5
        assert [future.result() for future in [first, *others]] == [b"payload"] * 6
    assert downloads == ["t"]


def test_an_error_is_shared_and_the_next_one_tries_again() -> None:
    cache = PayloadCache(1_000)

    def fails(token: str) -> bytes:
        raise LookupError(token)

    with pytest.raises(LookupError):
        cache.get("t", fails)
    assert cache.get("t", lambda _: b"there") == b"there"


def test_who_waits_takes_over_from_a_cancelled_download() -> None:
    cache = PayloadCache(1_000)

    async def run() -> tuple[bytes, bytes]:
        started = asyncio.Event()

        async def never(_: str) -> bytes:
            started.set()
            await asyncio.Event().wait()
            raise AssertionError

        async def serves(_: str) -> bytes:
            return b"payload"

        first = asyncio.ensure_future(cache.get_async("t", never))
        await started.wait()
        second = asyncio.ensure_future(cache.get_async("t", serves))
        in_thread = asyncio.ensure_future(asyncio.to_thread(cache.get, "t", lambda _: b"payload"))
        await asyncio.sleep(0)
        first.cancel()
        return await second, await in_thread

    assert asyncio.run(run()) == (b"payload", b"payload")


def test_cancelling_one_who_waits_does_not_cancel_the_download() -> None:
    cache = PayloadCache(1_000)

    async def run() -> bytes:
        started, go_on = asyncio.Event(), asyncio.Event()

        async def download(_: str) -> bytes:
            started.set()
            await go_on.wait()
            return b"payload"

        first = asyncio.ensure_future(cache.get_async("t", download))
        await started.wait()
        second = asyncio.ensure_future(cache.get_async("t", download))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        return await first

    assert asyncio.run(run()) == b"payload"
