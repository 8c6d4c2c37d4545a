"""Transfers at the speed of the wire: eight threads, one payload a message, for each client and for the SDK's store.

Each measurement is a process of its own, which prints seconds and CPU seconds a payload in both directions.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from durabletask.extensions.azure_blob_payloads import BlobPayloadStore as SdkBlobPayloadStore
from durabletask.extensions.azure_blob_payloads import BlobPayloadStoreOptions as SdkBlobPayloadStoreOptions
from durabletask.payload import helpers as reference
from tests.benchmarks import messages, processes
from tests.benchmarks.rows import Row, Speeds
from tests.support.azurite import Azurite

from durabletask_payloads import Externalizer
from durabletask_payloads.stores._codec import decode, encode
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from durabletask.internal import orchestrator_service_pb2 as pb
    from obstore.store import AzureStore

Side: TypeAlias = Literal["sdk", "azure", "obstore", "raw"]
Way: TypeAlias = Literal["up", "down"]

SIDES: dict[Side, str] = {
    "sdk": "durabletask's store",
    "azure": "ours, azure-storage-blob",
    "obstore": "ours, obstore",
    "raw": "obstore alone, with isal",
}
_WAYS: tuple[Way, Way] = ("up", "down")
_THREADS = 8
_CONTAINER = "engines"
_LIMIT = 64 * 1024 * 1024
# Bytes that each side moves in a turn, in each direction: the slow ones fewer.
_BYTES: dict[Side, int] = {"sdk": 12_000_000, "azure": 60_000_000, "obstore": 120_000_000, "raw": 120_000_000}


@dataclass(frozen=True)
class Job:
    """`count` payloads of `size` bytes, by one side."""

    side: Side
    size: int
    count: int
    connection_string: str


class Cost(NamedTuple):
    """Seconds, and CPU seconds of the whole process, for one payload."""

    wall: float
    cpu: float


Outcome: TypeAlias = "dict[Way, Cost]"


def engine_rows(*, rounds: int, share: float) -> Iterator[Row]:
    """The rows for 300 KB and 1 MB, each on an Azurite of its own on loopback: a full one is slower than an empty one.

    Args:
        rounds: how many processes each side has, in turn with the others.
        share: of the payloads of a whole run.
    """
    for size, targets in ((300_000, (2.0, 2.5)), (1_000_000, (1.6, 1.8))):
        costs = _measured(size, tuple(SIDES), rounds, share)
        label = f"8 threads, {size // 1000:,} KB a payload"
        for way, target in zip(_WAYS, targets, strict=True):
            azure, ours, raw, sdk = (costs[side][way] for side in ("azure", "obstore", "raw", "sdk"))
            yield Row(f"{label}, {way}: obstore against azure-storage-blob", target, azure.wall, ours.wall)
            yield Row(f"{label}, {way}: the same, CPU", None, azure.cpu, ours.cpu)
            if size == 1_000_000:
                least, against_sdk = (0.7, 12.0) if way == "up" else (0.6, 2.0)
                yield Row(f"{label}, {way}: against obstore alone", least, raw.wall, ours.wall)
                yield Row(f"{label}, {way}: against durabletask's store", against_sdk, sdk.wall, ours.wall)


def speeds(sizes: Sequence[int], *, rounds: int) -> Iterator[Speeds]:
    """MB/s over payload size, one picture for each direction."""
    found: dict[int, dict[Side, Outcome]] = {size: _measured(size, tuple(SIDES), rounds, 0.3) for size in sizes}
    for way in _WAYS:
        series = {
            label: tuple(size / found[size][side][way].wall / 1e6 for size in sizes) for side, label in SIDES.items()
        }
        yield Speeds(f"8 threads, {way}, Azurite on loopback", "bytes a payload", tuple(sizes), series)


def _measured(size: int, sides: Sequence[Side], rounds: int, share: float) -> dict[Side, Outcome]:
    """The median cost of each side; they take turns."""
    turns: dict[Side, list[Outcome]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            count = max(int(_BYTES[side] * share / size), _THREADS)
            with Azurite() as azurite:
                found = processes.run("tests.benchmarks.engines", Job(side, size, count, azurite.connection_string))
            turns[side].append({"up": Cost(*found["up"]), "down": Cost(*found["down"])})
    return {
        side: {
            way: Cost(median(turn[way].wall for turn in found), median(turn[way].cpu for turn in found))
            for way in _WAYS
        }
        for side, found in turns.items()
    }


# ---- in the process of a side ----------------------------------------------------------------------------------------


def _main(job: Job) -> dict[Way, Cost]:
    with ExitStack() as stack:
        out, back = _calls(job, stack)
        # A text of its own for each: equal payloads are moved once.
        text = messages.payload(job.size)
        sent = [messages.activity_response(f"{number:8}{text[8:]}") for number in range(job.count + _THREADS)]
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS))
        list(pool.map(out, sent[:_THREADS]))  # makes the container, the connections and the threads
        list(pool.map(back, sent[:_THREADS]))
        rest = sent[_THREADS:]
        return {
            "up": _cost(partial(_all, pool, out, rest), len(rest)),
            "down": _cost(partial(_all, pool, back, rest), len(rest)),
        }


def _all(
    pool: ThreadPoolExecutor, call: Callable[[pb.ActivityResponse], object], sent: Sequence[pb.ActivityResponse]
) -> None:
    list(pool.map(call, sent))


def _cost(call: Callable[[], None], count: int) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return Cost((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


_Calls: TypeAlias = "tuple[Callable[[pb.ActivityResponse], object], Callable[[pb.ActivityResponse], object]]"


def _calls(job: Job, stack: ExitStack) -> _Calls:
    """What moves the payload of one message out, and back in."""
    if job.side == "raw":
        return _raw(job)
    if job.side == "sdk":
        theirs = stack.enter_context(
            SdkBlobPayloadStore(
                SdkBlobPayloadStoreOptions(
                    connection_string=job.connection_string,
                    container_name=f"{_CONTAINER}-sdk",
                    threshold_bytes=1_000,
                    max_stored_payload_bytes=_LIMIT,
                )
            )
        )
        return (
            lambda message: reference.externalize_payloads(message, theirs),
            lambda message: reference.deexternalize_payloads(message, theirs),
        )
    store = BlobPayloadStore(
        BlobPayloadStoreOptions(
            connection_string=job.connection_string,
            container_name=_CONTAINER,
            threshold_bytes=1_000,
            max_stored_payload_bytes=_LIMIT,
            engine="obstore" if job.side == "obstore" else "azure-storage-blob",
        )
    )
    ours = stack.enter_context(Externalizer(stack.enter_context(store), cache_bytes=0))
    return ours.externalize, ours.deexternalize


def _raw(job: Job) -> _Calls:
    """obstore and isal, called directly: no checks, no metadata, no deadline."""
    import obstore

    # The container: made by the store, as obstore cannot.
    with BlobPayloadStore(
        BlobPayloadStoreOptions(connection_string=job.connection_string, container_name=_CONTAINER)
    ) as store:
        store.upload(b"x")
    azure = _azure_store(job.connection_string)

    def out(message: pb.ActivityResponse) -> None:
        body = encode(message.result.value.encode(), "if smaller")
        name = f"raw-{id(message)}"
        obstore.put(azure, name, body, attributes={"Content-Encoding": "gzip"}, use_multipart=False)
        message.result.value = name

    def back(message: pb.ActivityResponse) -> None:
        body = memoryview(obstore.get(azure, message.result.value).bytes())
        message.result.value = decode(body, token="raw", limit=_LIMIT, sha256=None).decode()

    return out, back


def _azure_store(connection_string: str) -> AzureStore:
    from obstore.store import AzureStore

    parts = dict(part.split("=", 1) for part in connection_string.rstrip(";").split(";"))
    return AzureStore(
        container_name=_CONTAINER,
        config={
            "account_name": parts["AccountName"],
            "account_key": parts["AccountKey"],
            "endpoint": parts["BlobEndpoint"],
        },
        client_options={"allow_http": True},
    )


if __name__ == "__main__":
    print(json.dumps(_main(Job(**json.loads(sys.argv[1])))))
