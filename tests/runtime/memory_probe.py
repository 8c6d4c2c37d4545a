"""How much memory a transfer takes at its worst: a program, since a process has one peak, raised by all it does.

It prints the peak, without what the process had before the message, in copies of the payload.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from durabletask.internal import orchestrator_service_pb2 as pb

from durabletask_payloads import DirectoryPayloadStore, Externalizer, InMemoryPayloadStore, LargePayloadStorageOptions

if TYPE_CHECKING:
    from durabletask_payloads import PayloadStore

# More than what glibc ever keeps for itself when it is freed.
PAYLOAD_BYTES = 40 * 1024 * 1024


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _text() -> str:
    """What gzip can hardly shrink, so that the body counts as well."""
    return base64.b64encode(os.urandom(PAYLOAD_BYTES * 3 // 4)).decode()


def _peak(way: str, form: str, store: PayloadStore) -> int:
    externalizer = Externalizer(store)
    message = pb.ActivityResponse()
    if way == "in":
        message.result.value = store.upload(_text().encode())
    gc.collect()
    before = _status("VmRSS")
    if way == "out":
        message.result.value = _text()
    _forget_peak()
    match way, form:
        case "out", "sync":
            externalizer.externalize(message)
        case "out", _:
            asyncio.run(externalizer.externalize_async(message))
        case _, "sync":
            externalizer.deexternalize(message)
        case _:
            asyncio.run(externalizer.deexternalize_async(message))
    assert store.is_known_token(message.result.value) == (way == "out")
    return _status("VmHWM") - before


if __name__ == "__main__":
    _, way_, form_, store_ = sys.argv
    options = LargePayloadStorageOptions(max_stored_payload_bytes=PAYLOAD_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        stores = {"memory": InMemoryPayloadStore(options), "directory": DirectoryPayloadStore(folder, options)}
        print(_peak(way_, form_, stores[store_]) / PAYLOAD_BYTES)
