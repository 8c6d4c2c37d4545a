"""What the tests of the contract are written with: types, payloads, threads with a limit, forked children."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import pytest

from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.stores._base import PayloadStore, PayloadStoreLike

if TYPE_CHECKING:
    from collections.abc import Generator

MakeStore: TypeAlias = Callable[[LargePayloadStorageOptions, str], PayloadStore]
"""Makes a store with the given options at the place of the given name."""
MakeStoreLike: TypeAlias = Callable[[LargePayloadStorageOptions, str], PayloadStoreLike]
"""Makes a store written for the `durabletask` SDK."""

FIRST: Final = "first"
SECOND: Final = "second"


class OpenStore(Protocol):
    """Makes a store that is closed when the test ends."""

    def __call__(self, options: LargePayloadStorageOptions | None = None, *, place: str = FIRST) -> PayloadStore: ...


class OpenStoreLike(Protocol):
    """Makes a store written for the `durabletask` SDK. Closed when the test ends if it is a `PayloadStore`."""

    def __call__(
        self, options: LargePayloadStorageOptions | None = None, *, place: str = FIRST
    ) -> PayloadStoreLike: ...


def noise(size: int) -> bytes:
    """Return ASCII text of a size, in bytes, that differs with each call and hardly compresses."""
    return os.urandom(size // 2 + 1).hex().encode()[:size]


PAYLOADS: Final = {
    "empty": b"",
    "one byte": b"1",
    "ASCII": b'{"order": 17, "paid": true}',
    "astral": '"\u00e4\u20ac\U0001f600\u0000\u2028"'.encode(),
    "large text": b'{"order": 17} ' * 80_000,
    "large noise": noise(1_100_000),
    # No text begins so, but a store must not take its own format for that of a payload.
    "like gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
    "gzip magic": b"\x1f\x8b",
}


def require_same(found: object, expected: bytes) -> None:
    """Fail unless `found` is `expected`, with the first difference instead of a comparison of megabytes."""
    if not isinstance(found, bytes):
        pytest.fail(f"download returned {type(found).__name__}, not bytes")
    if found != expected:
        pairs = enumerate(zip(found, expected, strict=False))
        at = next((place for place, (one, other) in pairs if one != other), min(len(found), len(expected)))
        pytest.fail(f"{len(found)} bytes were read of {len(expected)} that were stored; they differ at byte {at}")


def require_round_trip(store: PayloadStoreLike, data: bytes | None = None) -> str:
    """Upload and download a payload of its own. Return its token."""
    data = noise(2_000) if data is None else data
    token = store.upload(data)
    require_same(store.download(token), data)
    return token


async def require_round_trip_async(store: PayloadStoreLike, data: bytes | None = None) -> str:
    """Do the same as `require_round_trip` with the asynchronous methods."""
    data = noise(2_000) if data is None else data
    token = await store.upload_async(data)
    require_same(await store.download_async(token), data)
    return token


# ---- threads and processes -------------------------------------------------------------------------------------------


class _Call(threading.Thread):
    """A call in a daemon thread, which a call that hangs for ever does not keep the process from ending."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:
            self.error = error


def at_once(seconds: float, *calls: Callable[[], object]) -> None:
    """Make calls at the same time, each in a thread. Raise the first error; fail if one takes longer than `seconds`."""
    barrier = threading.Barrier(len(calls))

    def started(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: (barrier.wait(seconds), call())

    threads = [_Call(started(call)) for call in calls]
    for thread in threads:
        thread.start()
    _join(threads, seconds)


def _join(threads: list[_Call], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    for thread in threads:
        if thread.error is not None:
            raise thread.error
    if hanging := sum(thread.is_alive() for thread in threads):
        pytest.fail(f"{hanging} of {len(threads)} threads did not end within {seconds:g} s (timeout_seconds)")


@contextmanager
def traffic(store: PayloadStore, seconds: float, *, ended_by: type[Exception] | tuple[()] = ()) -> Generator[None]:
    """Let four threads upload and download all the time; starts after some round trips. Raise their errors.

    Args:
        store: what they use.
        seconds: how long they may take to begin, and to end.
        ended_by: an error that ends a thread, and is none.
    """
    ending = threading.Event()
    begun = threading.Semaphore(0)

    def transfer() -> None:
        try:
            while not ending.is_set():
                require_round_trip(store)
                begun.release()
        except ended_by:
            pass
        finally:
            begun.release(2 * len(threads))

    threads = [_Call(transfer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2 * len(threads)):
            if not begun.acquire(timeout=seconds):
                break  # the threads' own error, or that they hang, is reported below
        yield
    finally:
        ending.set()
        _join(threads, seconds)


def in_child(seconds: float, work: Callable[[], object]) -> None:
    """Fork, and run `work` in the child. Fail with the child's traceback, or if it does not end within `seconds`."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later warn of any fork beside threads
        child = os.fork()
    if child == 0:
        _run_and_exit(work, writing)
    os.close(writing)
    report = b""
    is_hanging = True
    deadline = time.monotonic() + seconds
    try:
        while connection.wait([reading], max(0.0, deadline - time.monotonic())):
            part = os.read(reading, 65_536)
            if not part:
                is_hanging = False
                break
            report += part
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # it has ended, or hangs
        os.waitpid(child, 0)
    if is_hanging:
        pytest.fail(f"a forked child did not end within {seconds:g} s (timeout_seconds)")
    if report != b"done":
        text = report.decode(errors="replace").strip() or "it died"
        pytest.fail(f"in a forked child: {text.splitlines()[-1]}\n{text}")


def _run_and_exit(work: Callable[[], object], writing: int) -> None:
    """Leave the child without the atexit functions and buffers of its parent."""
    report = b""
    try:
        work()
        report = b"done"
    except BaseException:
        report = traceback.format_exc().encode(errors="backslashreplace")
    finally:
        os.write(writing, report)
        os._exit(0)
