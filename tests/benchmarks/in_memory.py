"""What a large payload costs above its compression and its checksum: CPU, into memory and out of it."""

from __future__ import annotations

import gc
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from tests.benchmarks import messages
from tests.benchmarks.rows import Row

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.stores._codec import checksum, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

_BYTES = 5_000_000
_MOST = 1.1  # times what cannot be undercut
# Until its cache is full an Externalizer keeps new memory with every payload: here from the fifth payload on.
_CACHE_BYTES = 4 * _BYTES
_WARM_UP = 6


def in_memory_rows(*, rounds: int) -> list[Row]:
    """One payload in a message, by an Externalizer that is kept, against gzip and SHA-256 of the same bytes alone.

    In a thread, as gRPC runs the calls of a worker.
    """
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_rows, rounds).result()


def _rows(rounds: int) -> list[Row]:
    out: dict[str, list[float]] = {"alone": [], "ours": []}
    back: dict[str, list[float]] = {"alone": [], "ours": []}
    text = messages.payload(_BYTES)
    data = text.encode()
    body, sha256 = encode(data, "if smaller"), checksum(data)
    expand = partial(decode, body, token="", limit=_BYTES, sha256=sha256)
    store = InMemoryPayloadStore()
    gc.collect()
    # The receiver has a cache of its own, that does not know the tokens.
    with (
        Externalizer(store, cache_bytes=_CACHE_BYTES) as sender,
        Externalizer(store, cache_bytes=_CACHE_BYTES) as receiver,
    ):
        for _ in range(_WARM_UP + rounds):
            # Each message is a new one, as gRPC hands it over, and each has another token.
            message = messages.activity_response(text)
            out["alone"].append(_cpu_seconds(partial(_pack, data)))
            out["ours"].append(_cpu_seconds(partial(sender.externalize, message)))
            token = message.result.value
            request = messages.activity_request(token)
            back["alone"].append(_cpu_seconds(expand))
            back["ours"].append(_cpu_seconds(partial(receiver.deexternalize, request)))
            assert request.input.value == text
            store.delete(token)
    return [
        Row(
            f"{way} 5 MB into memory, CPU, against gzip and SHA-256 of the same bytes alone",
            1 / _MOST,
            median(times["alone"][_WARM_UP:]),
            median(times["ours"][_WARM_UP:]),
        )
        for way, times in (("externalize", out), ("deexternalize", back))
    ]


def _pack(data: bytes) -> tuple[bytes, str]:
    return encode(data, "if smaller"), checksum(data)


def _cpu_seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started
