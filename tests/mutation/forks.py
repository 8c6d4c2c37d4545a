"""Forked processes: some at a time, each with a time limit, each ended with all that it started."""

from __future__ import annotations

import os
import signal
import time
import traceback
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_POLL_SECONDS = 0.002
_RAISED = 99


class Job(NamedTuple):
    """What a process does.

    Attributes:
        work: returns its exit code. It runs in a copy of this process.
        seconds: after which it is ended.
    """

    name: int
    work: Callable[[], int]
    seconds: float


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        code: its exit code, negative for a signal; None if its time was over.
    """

    name: int
    code: int | None
    seconds: float


def in_fork(work: Callable[[], int], log: Path) -> int:
    """Call `work` in a fork of this process and return its exit code. What it prints goes to `log`."""
    pid = _forked(work, log)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.kill(pid, signal.SIGINT)  # it ends its own forks first
        os.waitpid(pid, 0)
        raise


def run_forked(jobs: Iterable[Job], processes: int, log: Path) -> Iterator[Ended]:
    """Run `jobs` in forked processes, `processes` at a time, and yield how each ended, as they end."""

    def in_own_group(work: Callable[[], int]) -> Callable[[], int]:
        def grouped() -> int:
            os.setsid()
            return work()

        return grouped

    waiting = iter(jobs)
    running: dict[int, tuple[Job, float]] = {}
    try:
        while True:
            while len(running) < processes and (job := next(waiting, None)) is not None:
                running[_forked(in_own_group(job.work), log)] = job, time.monotonic()
            if not running:
                return
            ended = _ended(running)
            if ended is None:
                time.sleep(_POLL_SECONDS)
            else:
                yield ended
    finally:
        for pid in running:
            _end(pid)
            os.waitpid(pid, 0)


def _ended(running: dict[int, tuple[Job, float]]) -> Ended | None:
    """Return one that has ended or whose time is over, if there is one."""
    for pid, (job, began) in running.items():
        # It is not reaped before its group is ended: its id could be another's by then.
        done = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        seconds = time.monotonic() - began
        if done is not None or seconds > job.seconds:
            _end(pid)
            status = os.waitpid(pid, 0)[1]
            del running[pid]
            return Ended(job.name, None if done is None else os.waitstatus_to_exitcode(status), seconds)
    return None


def _forked(work: Callable[[], int], log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = _RAISED
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _end(pid: int) -> None:
    """End a process that is not reaped yet, and what it started."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has no group yet
        os.kill(pid, signal.SIGKILL)
