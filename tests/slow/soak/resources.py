"""The threads, file descriptors and children of a process, to name the ones that it leaves behind."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple


class Resources(NamedTuple):
    """The threads of this process, what its file descriptors are, and its child processes."""

    threads: dict[int | None, str]
    descriptors: Counter[str]
    children: frozenset[str]

    @classmethod
    def now(cls) -> Resources:
        gc.collect()
        threads = {thread.ident: thread.name for thread in threading.enumerate()}
        descriptors: Counter[str] = Counter()
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the one of the listing itself
                descriptors[os.readlink(f"/proc/self/fd/{number}")] += 1
        children: set[str] = set()
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
                children.update(Path(f"/proc/self/task/{task}/children").read_text().split())
        return cls(threads, descriptors, frozenset(children))

    def left(self, *, patience: float = 60.0) -> list[str]:
        """Return what has been added since; wait `patience` seconds for what is about to end."""
        deadline = time.monotonic() + patience
        while (found := Resources.now()._beyond(self)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def _beyond(self, before: Resources) -> list[str]:
        return [
            *(f"thread {name}" for ident, name in self.threads.items() if ident not in before.threads),
            *(f"file descriptor of {name}" for name in (self.descriptors - before.descriptors).elements()),
            *(f"process {child}" for child in sorted(self.children - before.children)),
        ]
