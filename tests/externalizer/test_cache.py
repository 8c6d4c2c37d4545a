"""The cache: bounded by bytes, one download for all threads that ask at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support.memory import peak_of
from tests.support.waiting import wait_until

from durabletask_payloads.externalizer._cache import PayloadCache

ENTRY = 400  # what an entry counts besides its payload


def test_it_keeps_what_was_used_last_within_its_capacity() -> None:
    cache = PayloadCache(4 * (250 + ENTRY))
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


@pytest.mark.parametrize("capacity", [0, ENTRY - 1])
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_a_capacity_for_no_entry_keeps_nothing(payload: bytes, capacity: int) -> None:
    cache = PayloadCache(capacity)
    cache.put("a", payload)
    assert cache.find("a") is None
    assert cache.get("a", lambda _: payload) == payload
    assert cache.counts[2:] == (0, 0, 0)


def test_tiny_payloads_are_bounded_by_what_their_entries_take() -> None:
    cache = PayloadCache(100 * ENTRY)
    for number in range(200):
        cache.put(str(number), b"")
    assert cache.counts.payloads == 100
    assert cache.counts.bytes == 0


def test_an_entry_counts_no_less_than_it_takes() -> None:
    """With the shortest tokens that there are, and what Python keeps for them."""
    count = 2_000
    cache = PayloadCache(count * ENTRY)

    def fill() -> None:
        for number in range(count):
            cache.put(f"blob:v1:durabletask-payloads:{number:032x}", b"")

    _, peak = peak_of(fill, count * ENTRY)
    assert cache.counts.payloads == count
    assert count * ENTRY // 4 < peak < count * ENTRY


def test_discard_forgets() -> None:
    cache = PayloadCache(1_000)
    cache.put("a", b"x")
    cache.discard("a")
    cache.discard("never there")
    assert cache.find("a") is None


def test_threads_that_ask_at_once_share_one_download() -> None:
    cache = PayloadCache(1_000)
    started, go_on = threading.Event(), threading.Event()
    downloads: list[str] = []

    def download(token: str) -> bytes:
        downloads.append(token)
        started.set()
        assert go_on.wait(10)
        return b"payload"

    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(cache.get, "t", download)
        assert started.wait(10)
        others = [pool.submit(cache.get, "t", download) for _ in range(5)]
        wait_until(lambda: cache.counts.hits == 5, what="the others wait")
        go_on.set()
        assert [future.result() for future in [first, *others]] == [b"payload"] * 6
    assert downloads == ["t"]


def test_an_error_is_shared_and_the_next_one_tries_again() -> None:
    cache = PayloadCache(1_000)

    def fails(token: str) -> bytes:
        raise LookupError(token)

    with pytest.raises(LookupError):
        cache.get("t", fails)
    assert cache.get("t", lambda _: b"there") == b"there"


def test_a_waiting_caller_takes_over_from_an_interrupted_download() -> None:
    """Ctrl-C in one thread says nothing about the payload."""
    cache = PayloadCache(1_000)
    started, interrupt = threading.Event(), threading.Event()

    def interrupted(token: str) -> bytes:
        started.set()
        assert interrupt.wait(10)
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "t", interrupted)
        assert started.wait(10)
        second = pool.submit(cache.get, "t", lambda _: b"payload")
        wait_until(lambda: cache.counts.hits == 1, what="the second one waits")
        interrupt.set()
        assert isinstance(first.exception(), KeyboardInterrupt)
        assert second.result() == b"payload"
