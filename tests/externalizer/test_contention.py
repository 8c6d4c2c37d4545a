"""Calls that meet at one payload or one failure: found by `python -m tests.interleavings`, here with real threads."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from tests.externalizer.counting_store import CountingStore
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, LargePayloadStorageOptions, PayloadStoreUnavailableError
from durabletask_payloads.externalizer._transfers import Transfers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

SMALL = LargePayloadStorageOptions(threshold_bytes=1_000, enable_compression=False)


def payload(name: object) -> str:
    return f"{name}|" + "x" * 1_100


def tasks(*inputs: str) -> pb.OrchestratorResponse:
    return pb.OrchestratorResponse(
        actions=[
            pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=StringValue(value=text))) for text in inputs
        ]
    )


def _has_missed(externalizer: Externalizer, times: int) -> bool:
    return externalizer.stats.cache_misses == times


@pytest.mark.timeout(30)
def test_a_thread_does_not_wait_for_a_download_that_waits_for_that_thread() -> None:
    """A task has reserved the download of a token. Its turn comes after that of a call which needs the same token."""
    store = CountingStore(SMALL)
    first, second, shared = (store.upload(payload(number).encode()) for number in range(3))
    store.gate.clear()
    messages = [tasks(first), tasks(second, shared), tasks(shared)]

    with Externalizer(store, concurrency=1) as externalizer:
        run = partial(threading.Thread, target=asyncio.run)
        callers = [
            run(args=(externalizer.deexternalize_async(messages[0]),)),  # holds the only thread of the pool
            threading.Thread(target=externalizer.deexternalize, args=(messages[1],)),  # its second token waits for it
            run(args=(externalizer.deexternalize_async(messages[2]),)),  # reserves that token, and waits behind it
        ]
        for number, caller in enumerate(callers):
            caller.start()
            wait_until(partial(_has_missed, externalizer, number + 1), what="the caller")
        store.gate.set()
        for caller in callers:
            caller.join()
    assert [action.scheduleTask.input.value for message in messages for action in message.actions] == [
        payload(number) for number in (0, 1, 2, 2)
    ]
    assert store.calls["download"] == 3
    assert externalizer.stats.cache_misses == 3
    assert our_threads() == []


class _FailsBesideSlow(CountingStore):
    """Fails the upload of "bad" while others wait at the gate."""

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        if data.startswith(b"bad"):
            assert self.entered.acquire(timeout=10)
            raise PayloadStoreUnavailableError("the upload fails")
        return super().upload(data, instance_id=instance_id)


def _functions_of(thread: int) -> Iterator[str]:
    """Yield the functions that a thread is in."""
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented, in spite of its name
    frame: FrameType | None = frames[thread]
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back


@pytest.mark.timeout(30)
@pytest.mark.skipif(sys.platform == "win32", reason="no signal interrupts a wait")
def test_ctrl_c_after_a_failure_leaves_no_upload_behind() -> None:
    """The call waits for its other uploads, to delete them, when Ctrl-C comes."""
    store = _FailsBesideSlow(SMALL)
    store.gate.clear()
    assert threading.current_thread() is threading.main_thread()
    main = threading.get_ident()

    def waits_for_others() -> bool:
        functions = set(_functions_of(main))
        is_after_failure = {"each", "wait"} <= functions and functions.isdisjoint({"result", "start"})
        return "_finish" in functions or is_after_failure

    def press_ctrl_c() -> None:
        wait_until(waits_for_others, what="the failure")
        signal.pthread_kill(main, signal.SIGINT)

    message = tasks(payload("bad"), payload("slow"))
    before = message.SerializeToString()
    keyboard = threading.Thread(target=press_ctrl_c)
    with Externalizer(store, concurrency=2) as externalizer:
        keyboard.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                externalizer.externalize(message)
        finally:
            store.gate.set()
    keyboard.join()
    assert message.SerializeToString() == before
    assert externalizer.stats.uploads == 1
    assert store.tokens == ()
    assert our_threads() == []


class _NoFurtherThread(threading.Thread):
    """What a thread is when the system has no more of them, or Python from 3.12 on shuts down."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_a_failure_when_there_is_no_further_thread_leaves_no_upload_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are deleted in the calling thread then, and the error is that of the upload."""
    monkeypatch.setattr("durabletask_payloads.externalizer._transfers.Thread", _NoFurtherThread)
    store = _FailsBesideSlow(SMALL)
    with Externalizer(store, concurrency=2) as externalizer:
        with pytest.raises(PayloadStoreUnavailableError, match="the upload fails"):
            externalizer.externalize(tasks(payload("bad"), payload("slow")))
        assert externalizer.stats.uploads == 1
    assert store.tokens == ()


def _undo_nothing(_results: Iterable[int]) -> None:
    """Take nothing back: no transfer fails here."""


@pytest.mark.parametrize("undo", [None, _undo_nothing], ids=["download", "upload"])
def test_transfers_are_looked_at_a_few_times_each_however_many_there_are(
    undo: Callable[[Iterable[int]], None] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def count(name: str) -> None:
        look = getattr(Future, name)

        def counted(future: Future[int], *args: object) -> object:
            looks.append(name)
            return look(future, *args)

        monkeypatch.setattr(Future, name, counted)

    for name in ("done", "running", "cancelled", "cancel", "exception", "result"):
        count(name)
    items = range(200)
    transfers = Transfers(2)
    try:
        assert transfers.each(abs, items, undo=undo) == list(items)
    finally:
        transfers.close()
    assert len(looks) < 10 * len(items)
