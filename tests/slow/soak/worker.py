"""The soak's worker, a process of its own: `python -m tests.slow.soak.worker ADDRESS CONNECTION_STRING LOG`.

It ends in order when its standard input does, so also when the process that started it is gone; then it prints, as
JSON, its counts and what it left behind. Each warning and error is a line of JSON in LOG.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import Any, NamedTuple

from tests.slow.soak.application import FUNCTIONS
from tests.slow.soak.cases import MAX_STORED_BYTES, THRESHOLD_BYTES
from tests.slow.soak.resources import Resources
from tests.support.backend import worker_on

from durabletask_payloads import Externalizer
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

CONTAINER = "soak"


class Farewell(NamedTuple):
    """What a worker prints at its end.

    Attributes:
        left: the threads and file descriptors that are still there.
    """

    uploads: int
    downloads: int
    cache_hits: int
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


def main() -> None:
    address, connection_string, log = sys.argv[1:]
    before = Resources.now()
    logging.getLogger().addHandler(_Log(log))
    arguments: dict[str, Any] = {"logger": logging.getLogger("sdk")}
    with store_on(connection_string) as store, Externalizer(store) as externalizer:
        with worker_on(address, FUNCTIONS, [PayloadInterceptor(externalizer)], **arguments) as worker:
            worker.start()
            sys.stdin.read()
        stats = externalizer.stats
    farewell = Farewell(stats.uploads, stats.downloads, stats.cache_hits, before.left())
    print(json.dumps(farewell), flush=True)


if __name__ == "__main__":
    main()
