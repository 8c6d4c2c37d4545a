"""The asynchronous form at 300 KB: calls one after the other and 200 at once, in memory and on an Azurite.

`python -m tests.benchmarks.async_calls [CONNECTION_STRING]` prints milliseconds a call, as JSON. It uses public names
only, so that two versions can be compared: run it in a work tree of each in turn, on one Azurite.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING

from durabletask.internal import orchestrator_service_pb2 as pb

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from durabletask_payloads import PayloadStore

_AT_ONCE = 200
_ROUNDS = 5


def _responses(count: int) -> list[pb.ActivityResponse]:
    text = json.dumps([{"id": number, "total": number / 7} for number in range(300_000)])[:300_000]
    made = [pb.ActivityResponse(taskId=number) for number in range(count)]
    for number, response in enumerate(made):
        response.result.value = f"{number} {os.urandom(8).hex()} {text}"
    return made


async def _round(store: PayloadStore) -> dict[str, float]:
    """Milliseconds a call of one round."""
    times: dict[str, float] = {}
    async with Externalizer(store, cache_bytes=0) as externalizer:
        messages = _responses(_AT_ONCE)
        started = time.perf_counter()
        await asyncio.gather(*(externalizer.externalize_async(message) for message in messages))
        times["200 at once, out"] = (time.perf_counter() - started) / _AT_ONCE
        started = time.perf_counter()
        await asyncio.gather(*(externalizer.deexternalize_async(message) for message in messages))
        times["200 at once, in"] = (time.perf_counter() - started) / _AT_ONCE
        messages = _responses(40)
        started = time.perf_counter()
        for message in messages:
            await externalizer.externalize_async(message)
        times["one by one, out"] = (time.perf_counter() - started) / len(messages)
        started = time.perf_counter()
        for message in messages:
            await externalizer.deexternalize_async(message)
        times["one by one, in"] = (time.perf_counter() - started) / len(messages)
    return {name: seconds * 1000 for name, seconds in times.items()}


def measure(store: PayloadStore) -> dict[str, float]:
    """Return the medians of some rounds, after one that is not counted."""
    rounds = [asyncio.run(_round(store)) for _ in range(_ROUNDS + 1)][1:]
    return {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}


if __name__ == "__main__":
    found = {"memory": measure(InMemoryPayloadStore())}
    if len(sys.argv) > 1:
        with BlobPayloadStore(BlobPayloadStoreOptions(connection_string=sys.argv[1])) as store:
            found["azurite"] = measure(store)
    print(json.dumps(found))
