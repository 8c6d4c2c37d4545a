"""The scheduler's ledger of purged payloads, over gRPC, with the rules of the service. For tests/purge.

A row is due until it is reported. A report counts only for the revision that was sent: each answer to a row gives it a
new one. Time is the number of batches that were asked for.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NoReturn

import grpc

from durabletask_payloads_protos import large_payload_purge_pb2 as pb
from durabletask_payloads_protos.large_payload_purge_pb2_grpc import (
    LargePayloadPurgeServicer,
    add_LargePayloadPurgeServicer_to_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

State = Literal["pending", "deleted", "quarantined"]


@dataclass
class Row:
    """A row of the ledger.

    Attributes:
        due: the batch from which on it is sent.
        revision: of its tombstone token.
        reports: how often each disposition was reported for it, and counted.
    """

    number: int
    payload_token: str
    state: State = "pending"
    due: int = 0
    revision: int = 0
    retries: int = 0

    @property
    def tombstone(self) -> str:
        return f"{self.number}:{self.revision}:\u00e9/+"  # opaque: it is to come back as it is


class Ledger(LargePayloadPurgeServicer):
    """A ledger with a row for each of some tokens, in their order.

    Attributes:
        fault: the code to fail a call with, asked before it is carried out and after; None: it succeeds.
        enabled: the flags that were set.
        metadata: those of all calls.
        limits: the sizes of the batches that were asked for.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.rows = [Row(number, token) for number, token in enumerate(tokens)]
        self.fault: Callable[[], grpc.StatusCode | None] = lambda: None
        self.repeats_rows = False
        self.enabled: list[bool] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.limits: list[int] = []
        self.stale_reports = 0
        self._batches = 0
        self._lock = threading.Lock()

    def states(self) -> list[State]:
        with self._lock:
            return [row.state for row in self.rows]

    def SetLargePayloadAutoPurge(
        self, request: pb.SetLargePayloadAutoPurgeRequest, context: grpc.ServicerContext
    ) -> pb.SetLargePayloadAutoPurgeResponse:
        self._enter(context)
        self.enabled.append(request.enabled)
        return pb.SetLargePayloadAutoPurgeResponse()

    def GetLargePayloadTombstones(
        self, request: pb.GetLargePayloadTombstonesRequest, context: grpc.ServicerContext
    ) -> pb.GetLargePayloadTombstonesResponse:
        self._enter(context)
        if not 1 <= request.limit <= 1_000:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "limit is from 1 to 1,000")
        with self._lock:
            self.limits.append(request.limit)
            self._batches += 1
            due = [row for row in self.rows if row.state == "pending" and row.due <= self._batches][: request.limit]
            rows = [pb.LargePayloadTombstone(tombstone_token=r.tombstone, payload_token=r.payload_token) for r in due]
        self._leave(context)
        return pb.GetLargePayloadTombstonesResponse(tombstones=rows * 2 if self.repeats_rows else rows)

    def ReportLargePayloadPurgeResults(
        self, request: pb.ReportLargePayloadPurgeResultsRequest, context: grpc.ServicerContext
    ) -> pb.ReportLargePayloadPurgeResultsResponse:
        self._enter(context)
        tombstones = [result.tombstone_token for result in request.results]
        if len(tombstones) != len(set(tombstones)):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a tombstone is reported twice")
        for result in request.results:
            if result.disposition == pb.LARGE_PAYLOAD_PURGE_DISPOSITION_UNSPECIFIED:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a disposition is missing")
        with self._lock:
            for result in request.results:
                self._take(result)
        self._leave(context)
        return pb.ReportLargePayloadPurgeResultsResponse()

    def _take(self, result: pb.LargePayloadPurgeResult) -> None:
        number, _, _ = result.tombstone_token.partition(":")
        row = self.rows[int(number)]
        if row.tombstone != result.tombstone_token or row.state != "pending":
            self.stale_reports += 1
            return
        row.revision += 1
        match result.disposition:
            case pb.LARGE_PAYLOAD_PURGE_DISPOSITION_DELETED:
                row.state = "deleted"
            case pb.LARGE_PAYLOAD_PURGE_DISPOSITION_QUARANTINED:
                row.state = "quarantined"
            case _:
                row.retries += 1
                row.due = self._batches + min(2**row.retries, 8)

    def _enter(self, context: grpc.ServicerContext) -> None:
        self.metadata.append(dict(context.invocation_metadata()))
        self._leave(context)

    def _leave(self, context: grpc.ServicerContext) -> None:
        code = self.fault()
        if code is not None:
            _fail(context, code)


def _fail(context: grpc.ServicerContext, code: grpc.StatusCode) -> NoReturn:
    context.abort(code, "a fault of the test")


def now_and_then(seed: int, share: float) -> Callable[[], grpc.StatusCode | None]:
    """Faults for a share of the calls, at random."""
    chance = random.Random(seed)
    codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAUTHENTICATED]
    return lambda: chance.choice(codes) if chance.random() < share else None


@contextmanager
def serving(ledger: LargePayloadPurgeServicer | None) -> Generator[str]:
    """Serve `ledger`, or nothing; yields the address."""
    server = grpc.server(ThreadPoolExecutor(8))
    if ledger is not None:
        add_LargePayloadPurgeServicer_to_server(ledger, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
