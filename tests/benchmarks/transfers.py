"""What does move: many payloads in one message, over a network, and the time to compress one."""

from __future__ import annotations

import contextlib
import gzip
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

from durabletask.extensions.azure_blob_payloads import BlobPayloadStore as SdkBlobPayloadStore
from durabletask.extensions.azure_blob_payloads import BlobPayloadStoreOptions as SdkBlobPayloadStoreOptions
from durabletask.payload import helpers as reference
from tests.benchmarks import messages
from tests.benchmarks.rows import Curve, Row
from tests.benchmarks.timing import calling, medians

from durabletask_payloads import Externalizer
from durabletask_payloads.stores._codec import encode
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from durabletask.internal import orchestrator_service_pb2 as pb
    from typing_extensions import Self

_MIB = 1024 * 1024


def gzip_row(*, rounds: int) -> Row:
    """Compressing 1 MiB of JSON: one thread, so wall time is CPU time."""
    data = messages.payload(_MIB).encode()
    times = medians(
        {"reference": calling(gzip.compress, data), "ours": calling(encode, data, "if smaller")},
        rounds=rounds,
        seconds=0.05,
    )
    return Row("gzip of 1 MiB of JSON, CPU, against level 9", 20.0, times["reference"], times["ours"])


class Transfers:
    """Both sides with their own stores on one Azurite, which is `round_trip` seconds away. Use as a context manager.

    Args:
        connection_string: of that Azurite, through the proxy.
    """

    def __init__(self, connection_string: str) -> None:
        self._open = contextlib.ExitStack()
        sdk = SdkBlobPayloadStoreOptions(
            connection_string=connection_string, container_name="reference", threshold_bytes=1_000
        )
        own = BlobPayloadStoreOptions(connection_string=connection_string, container_name="ours", threshold_bytes=1_000)
        self._reference = self._open.enter_context(SdkBlobPayloadStore(sdk))
        self._store = self._open.enter_context(BlobPayloadStore(own))
        self._ours = self._open.enter_context(Externalizer(self._store, cache_bytes=0))
        for message in self._messages([messages.payload(2_000)]):  # makes the containers and the first connections
            self._reference_out(message)
            self._ours.externalize(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def rows(self, *, count: int, rounds: int) -> Iterator[Row]:
        """`count` payloads of 1 MiB in one message, out and in."""
        values = [messages.payload(_MIB, seed=seed) for seed in range(count)]
        out: dict[str, list[float]] = {"reference": [], "ours": []}
        back: dict[str, list[float]] = {"reference": [], "ours": []}
        for _ in range(rounds):
            theirs, own = self._messages(values)
            out["reference"].append(_seconds(partial(self._reference_out, theirs)))
            out["ours"].append(_seconds(partial(self._ours.externalize, own)))
            back["reference"].append(_seconds(partial(reference.deexternalize_payloads, theirs, self._reference)))
            back["ours"].append(_seconds(partial(self._ours.deexternalize, own)))
            assert theirs == own
        for way, times in (("externalize", out), ("deexternalize", back)):
            case = f"{way} {count} payloads of 1 MiB in one message, 10 ms round trip"
            least = 6.0 if way == "externalize" else None
            yield Row(case, least, median(times["reference"]), median(times["ours"]))

    def curve(self, counts: tuple[int, ...]) -> Curve:
        """externalize of one message with more and more payloads of 64 KiB."""
        theirs: list[float] = []
        own: list[float] = []
        for count in counts:
            values = [messages.payload(65_536, seed=seed) for seed in range(count)]
            pairs = [self._messages(values) for _ in range(3)]
            turns = [
                (_seconds(partial(self._reference_out, a)), _seconds(partial(self._ours.externalize, b)))
                for a, b in pairs
            ]
            theirs.append(median(turn[0] for turn in turns))
            own.append(median(turn[1] for turn in turns))
        return Curve(
            title="externalize, 64 KiB a payload, 10 ms round trip",
            x_label="payloads in the message",
            xs=counts,
            reference=tuple(theirs),
            ours=tuple(own),
        )

    def _reference_out(self, message: pb.OrchestratorResponse) -> None:
        reference.externalize_payloads(message, self._reference)

    @staticmethod
    def _messages(values: list[str]) -> tuple[pb.OrchestratorResponse, pb.OrchestratorResponse]:
        return messages.orchestrator_response(values), messages.orchestrator_response(values)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
