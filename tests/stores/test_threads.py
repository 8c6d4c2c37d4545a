"""Daemon threads for calls that block: how many there are, what they hold, and how they end."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from weakref import ref

import pytest
from tests.support.waiting import wait_until

from durabletask_payloads.stores._blob_client import ClientClosedError, RequestFailedError
from durabletask_payloads.stores._threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "test-daemon-threads"


@pytest.fixture
def threads() -> Iterator[DaemonThreads]:
    threads = DaemonThreads(NAME)
    yield threads
    threads.close()
    wait_until(lambda: count() == 0)


def count() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


class Payload:
    """Something that can be watched."""


def test_results_and_errors(threads: DaemonThreads) -> None:
    def fail() -> None:
        raise KeyError("x")

    assert threads.run(lambda: 7, 10) == 7
    with pytest.raises(KeyError, match="x"):
        threads.run(fail, 10)


def test_one_caller_takes_one_thread(threads: DaemonThreads) -> None:
    for _ in range(500):
        threads.run(lambda: None, 10)
    assert count() == 1


def test_no_more_threads_than_callers(threads: DaemonThreads) -> None:
    def call(_number: int) -> None:
        threads.run(partial(time.sleep, 0.001), 10)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(call, range(500)))
    assert count() <= 16


def test_an_idle_thread_holds_no_payload(threads: DaemonThreads) -> None:
    def same(payload: Payload) -> Payload:
        return payload

    def watched() -> ref[Payload]:
        return ref(threads.run(partial(same, Payload()), 10))

    payload = watched()
    wait_until(lambda: payload() is None)
    assert count() == 1


def test_an_error_holds_nothing_but_its_own_frames(threads: DaemonThreads) -> None:
    """Without the garbage collector: payloads and connections are not to wait for it."""

    def fail(_payload: Payload) -> None:
        raise KeyError("x")

    def watched() -> ref[Payload]:
        payload = Payload()
        with suppress(KeyError):
            threads.run(partial(fail, payload), 10)
        return ref(payload)

    gc.disable()
    try:
        payload = watched()
        wait_until(lambda: payload() is None)
    finally:
        gc.enable()


def test_a_caller_waits_no_longer_than_it_wants_to(threads: DaemonThreads) -> None:
    going = threading.Event()
    with pytest.raises(TimeoutError):
        threads.run(going.wait, 0.05)
    assert threads.run(lambda: 7, 10) == 7  # in another thread
    going.set()


def test_closed_in_the_middle(threads: DaemonThreads) -> None:
    going, called = threading.Event(), threading.Event()

    def call() -> None:
        called.set()
        going.wait()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(threads.run, call, 60)
        assert called.wait(10)
        threads.run(lambda: None, 10)
        threads.close()
        with pytest.raises(ClientClosedError):
            waiting.result(10)
    with pytest.raises(ClientClosedError):
        threads.run(lambda: 7, 10)
    wait_until(lambda: count() == 1)  # the idle one ends at once, the other one with its call
    going.set()


def test_calls_that_hang_for_ever_do_not_pile_up(threads: DaemonThreads) -> None:
    going = threading.Event()
    payloads: list[ref[Payload]] = []

    def hang(_payload: Payload) -> None:
        going.wait()

    def give_up() -> None:
        payload = Payload()
        payloads.append(ref(payload))
        threads.run(partial(hang, payload), 0)

    for _ in range(64):
        with pytest.raises(TimeoutError):
            give_up()
    for _ in range(10):
        with pytest.raises(RequestFailedError, match="has 64 earlier requests that still hang"):
            give_up()
    assert count() == 64
    assert sum(payload() is not None for payload in payloads) == 64
    going.set()
    wait_until(lambda: not any(payload() for payload in payloads))
    assert threads.run(lambda: 7, 10) == 7
    assert count() == 64


def test_no_more_threads(threads: DaemonThreads, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RequestFailedError, match="this process gets no more threads"):
            threads.run(lambda: 7, 10)
    assert threads.run(lambda: 7, 10) == 7
