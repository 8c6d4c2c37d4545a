"""The soak's worker, a process of its own: `python -m tests.slow.soak.worker ADDRESS CONNECTION_STRING LOG`.

It ends in order when its standard input does, so also when the process that started it is gone; then it prints, as
JSON, its counts and what it left behind. For each line of its standard input it prints what it holds at that moment.
SIGTERM ends it without any stop or close. Each warning and error is a line of JSON in LOG.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from durabletask.grpc_options import GrpcChannelOptions, GrpcRetryPolicyOptions
from tests.slow.soak.application import FUNCTIONS
from tests.slow.soak.cases import MAX_STORED_BYTES, THRESHOLD_BYTES
from tests.slow.soak.resources import Resources
from tests.support.backend import worker_on

from durabletask_payloads import Externalizer
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

CONTAINER = "soak"
EXIT_CODE = 3  # of a worker that was ended by SIGTERM


class Vitals(NamedTuple):
    """What a worker holds.

    Attributes:
        items: work items in the registry of its interceptor.
        registry_bytes: what they hold.
        cached_bytes: what the cache of its Externalizer holds.
        resident_bytes: the memory of its process, without the cache.
    """

    items: int
    registry_bytes: int
    cached_bytes: int
    resident_bytes: int

    @classmethod
    def of(cls, interceptor: PayloadInterceptor, externalizer: Externalizer) -> Vitals:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps of the past differs from run to run
        registry = interceptor._registry  # pyright: ignore[reportPrivateUsage]  # nothing public tells
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        cached = externalizer.stats.cached_bytes
        return cls(len(registry), registry.bytes, cached, resident - cached)


class Farewell(NamedTuple):
    """What a worker prints at its end.

    Attributes:
        items: work items in the registry of its interceptor once its stream ended.
        left: the threads and file descriptors that are still there.
    """

    uploads: int
    downloads: int
    cache_hits: int
    items: int
    left: list[str]


class Line(NamedTuple):
    """A line of the log.

    Attributes:
        kind: the message without its values.
        error: the class of what was raised, or "".
        text: the message.
    """

    kind: str
    error: str
    text: str


def store_on(connection_string: str) -> BlobPayloadStore:
    """A store that gives up soon, so that what comes after its own retries is tested too."""
    return BlobPayloadStore(
        BlobPayloadStoreOptions(
            connection_string=connection_string,
            container_name=CONTAINER,
            threshold_bytes=THRESHOLD_BYTES,
            max_stored_payload_bytes=MAX_STORED_BYTES,
            connect_timeout=2,
            read_timeout=2,
            total_timeout=8,
            retries=1,
        )
    )


class _Log(logging.Handler):
    def __init__(self, path: str) -> None:
        super().__init__(logging.WARNING)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0] if record.exc_info else None
        text = record.getMessage()
        # The SDK writes the values into the message by itself: they are in quotes, or follow a colon.
        kind = re.split("[':<]", str(record.msg), maxsplit=1)[0].replace("%s", "...").strip()
        line = Line(kind, error.__name__ if error else "", text[:1000])
        with open(self._path, "a") as log:  # each line is there when the process is killed
            log.write(json.dumps(line) + "\n")


def _exit(*_: object) -> None:
    sys.exit(EXIT_CODE)


def _start_obstore() -> None:
    """Use obstore once: its runtime has descriptors of its own, as long as the process lives."""
    with suppress(ImportError):
        import obstore

        obstore.put(obstore.store.MemoryStore(), "name", b"body")


def main() -> None:
    address, connection_string, log = sys.argv[1:]
    _start_obstore()
    before = Resources.now()
    logging.getLogger().addHandler(_Log(log))
    signal.signal(signal.SIGTERM, _exit)
    # No `with`: SystemExit would stop and close everything in order.
    store = store_on(connection_string)
    externalizer = Externalizer(store)
    interceptor = PayloadInterceptor(externalizer)
    options = GrpcChannelOptions(max_receive_message_length=64 * 1024 * 1024, retry_policy=GrpcRetryPolicyOptions())
    arguments: dict[str, Any] = {"logger": logging.getLogger("sdk"), "channel_options": options}
    worker = worker_on(address, FUNCTIONS, [interceptor], **arguments)
    worker.start()
    for _ in sys.stdin:
        print(json.dumps(Vitals.of(interceptor, externalizer)), flush=True)
    worker.stop()
    items = Vitals.of(interceptor, externalizer).items
    stats = externalizer.stats
    externalizer.close()
    store.close()
    del worker, interceptor
    farewell = Farewell(stats.uploads, stats.downloads, stats.cache_hits, items, before.left())
    print(json.dumps(farewell), flush=True)


if __name__ == "__main__":
    main()
