"""How much memory a transfer takes at its worst: a program, since a process has one peak, raised by all it does.

Each line of its input is a JSON array: "out", "in" or "back"; "sync" or "async"; where the payload is stored: a folder,
the connection string of an Azurite, or nothing for memory; and the engine for an Azurite. A child forked for each line
answers with a line: the peak, without what the process had before the message, in copies of the payload; or, as a JSON
string, what went wrong. So all that is imported is imported once, and each transfer is the first of its process.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import importlib
import json
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from durabletask.internal import orchestrator_service_pb2 as pb

from durabletask_payloads import DirectoryPayloadStore, Externalizer, InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from durabletask_payloads import PayloadStore

# More than what glibc ever keeps for itself when it is freed.
PAYLOAD_BYTES = 48 * 1024 * 1024


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _forget_peak() -> None:
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _text() -> str:
    """What gzip can hardly shrink, so that the body counts as well: it looks back 32 KB at the most."""
    repeated = 1024 * 1024
    return (base64.b64encode(os.urandom(repeated * 3 // 4)) * (PAYLOAD_BYTES // repeated)).decode()


def _peak(way: str, form: str, store: PayloadStore) -> int:
    externalizer = Externalizer(store, cache_bytes=4 * PAYLOAD_BYTES)  # it is kept, as one of 10 MB by default
    message = pb.ActivityResponse()
    if way == "in":
        message.result.value = store.upload(_text().encode())
    gc.collect()
    before = _status("VmRSS")
    if way != "in":
        message.result.value = _text()
    receipt = externalizer.externalize(message) if way == "back" else None
    _forget_peak()
    match way, form:
        case "back", "sync":
            assert receipt
            receipt.rollback()
        case "back", _:
            assert receipt
            asyncio.run(receipt.rollback_async())
        case "out", "sync":
            externalizer.externalize(message)
        case "out", _:
            asyncio.run(externalizer.externalize_async(message))
        case _, "sync":
            externalizer.deexternalize(message)
        case _:
            asyncio.run(externalizer.deexternalize_async(message))
    peak = _status("VmHWM") - before
    assert store.is_known_token(message.result.value) == (way == "out")  # which reads the text: one more copy
    return peak


def _store(place: str, engine: str) -> PayloadStore:
    options = LargePayloadStorageOptions(max_stored_payload_bytes=PAYLOAD_BYTES)
    if not place:
        return InMemoryPayloadStore(options)
    if "AccountKey" not in place:
        return DirectoryPayloadStore(place, options)
    azure = BlobPayloadStoreOptions(
        connection_string=place,
        max_stored_payload_bytes=PAYLOAD_BYTES,
        engine="obstore" if engine == "obstore" else "azure-storage-blob",
    )
    store = BlobPayloadStore(azure)
    # Makes the container, the connections and their threads.
    store.download(store.upload(b"small"))
    return store


def _answer(line: str) -> None:
    """Answer `line`, in a child process, and end that."""
    signal.alarm(60)
    try:
        way, form, place, engine = json.loads(line)
        answer: object = _peak(way, form, _store(place, engine)) / PAYLOAD_BYTES
    except BaseException:
        answer = traceback.format_exc()
    print(json.dumps(answer), flush=True)
    os._exit(0)  # there is nothing to be kept


if __name__ == "__main__":
    importlib.import_module("azure.storage.blob")  # for the stores; not obstore, which would hang in a child
    gc.freeze()  # what the children share with this process is theirs to read
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _answer(line)
        if (code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) != 0:
            print(json.dumps(f"the child process ended with {code}"), flush=True)
