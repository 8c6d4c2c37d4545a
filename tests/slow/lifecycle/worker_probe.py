"""A worker that tells what it holds. For test_outage.

Run it with the address of a backend and a folder for payloads. For each line that it reads it prints a `Held` as JSON;
at "stop" it stops the worker first.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import time
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, NamedTuple, cast

from google.protobuf.message import Message
from tests.support.backend import worker_on

from durabletask_payloads import DirectoryPayloadStore, Externalizer, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.interceptors.worker import WorkItemStream

if TYPE_CHECKING:
    from durabletask import task

    from durabletask_payloads.interceptors.worker import Registry


class Held(NamedTuple):
    """What a worker holds: entries in the registry, bytes behind them, and of the process; and the most there were."""

    entries: int
    entry_bytes: int
    rss: int
    most_entries: int
    most_entry_bytes: int


def answers(orchestration: task.OrchestrationContext, text: str) -> str:
    return text


class _Sampler(threading.Thread):
    def __init__(self, registry: Registry) -> None:
        super().__init__(daemon=True)
        self._registry = registry
        self._most_entries = self._most_bytes = 0

    def run(self) -> None:
        while True:
            self.now()
            time.sleep(0.05)

    def now(self) -> Held:
        entries, entry_bytes = len(self._registry), _bytes_behind(vars(self._registry)["_items"])
        self._most_entries = max(self._most_entries, entries)
        self._most_bytes = max(self._most_bytes, entry_bytes)
        with open("/proc/self/statm", encoding="ascii") as file:
            rss = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
        return Held(entries, entry_bytes, rss, self._most_entries, self._most_bytes)


def _bytes_behind(start: object) -> int:
    """Return the size of all objects that can be reached from `start`, but through streams, classes and functions."""
    seen: dict[int, object] = {id(start): start}
    todo, total = [start], 0
    while todo:
        thing = todo.pop()
        total += sys.getsizeof(thing) + (thing.ByteSize() if isinstance(thing, Message) else 0)
        for other in gc.get_referents(thing):
            if (
                not isinstance(other, (type, ModuleType, FunctionType, MethodType, WorkItemStream))
                and id(other) not in seen
            ):
                seen[id(other)] = other
                todo.append(other)
    return total


def main(address: str, root: str) -> None:
    store = DirectoryPayloadStore(root, LargePayloadStorageOptions(threshold_bytes=1_000))
    with Externalizer(store, cache_bytes=0) as externalizer:
        interceptor = PayloadInterceptor(externalizer)
        sampler = _Sampler(cast("Registry", vars(interceptor)["_registry"]))
        sampler.start()
        worker = worker_on(address, [answers], [interceptor])
        worker.start()
        for line in sys.stdin:
            if line.strip() == "stop":
                worker.stop()
            gc.collect()
            print(json.dumps(sampler.now()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
