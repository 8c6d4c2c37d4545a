"""Target: rows of the scheduler's ledger of purged payloads, batch by batch."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import grpc
from tests.fuzz.client import NoService
from tests.fuzz.engine import SECRET, Target
from tests.fuzz.mutator import digits, mutated_text
from tests.fuzz.tokens import expected_v2

from durabletask_payloads.purge import PayloadPurger
from durabletask_payloads.stores._blob_client import Attempt, BlobProperties, RequestFailedError
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions
from durabletask_payloads_protos import large_payload_purge_pb2 as pb

if TYPE_CHECKING:
    from random import Random

    from durabletask_payloads.stores._tokens import PayloadToken

# The rows, as pairs of tombstone and payload token, and what the storage does with each payload in turn.
_Storage: TypeAlias = Literal["managed", "unmanaged", "other mark", "missing", "changed", "400", "403", "404", "412"]
_Case: TypeAlias = tuple[tuple[tuple[str, str], ...], tuple[_Storage, ...]]

_ACCOUNT: Final = "https://account.blob.core.windows.net"
_STORAGE: Final[tuple[_Storage, ...]] = (
    *("managed", "managed", "managed", "unmanaged", "other mark", "missing", "changed", "400", "403", "404", "412"),
)
_FRAGMENTS: Final = [
    *(
        "blob:v1:",
        "blob:v2:",
        "blob:v3:",
        "object:v1:s3://bucket/",
        _ACCOUNT,
        "https://other.example",
        "/payloads/",
        "/",
    ),
    *("0123456789abcdef" * 2, SECRET, "\0", "\n", "?", "#", "..", "\U0001f600", "x" * 2_000),
]
_DELETED: Final = pb.LARGE_PAYLOAD_PURGE_DISPOSITION_DELETED
_RETRY: Final = pb.LARGE_PAYLOAD_PURGE_DISPOSITION_RETRY
_QUARANTINED: Final = pb.LARGE_PAYLOAD_PURGE_DISPOSITION_QUARANTINED


def _make(random: Random) -> _Case:
    rows: list[tuple[str, str]] = []
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        container = random.choice(("payloads", "payloads", "payloads", "elsewhere"))
        token = f"blob:v2:{_ACCOUNT}/{container}/{digits(random)}"
        if random.random() < 0.5:
            token = mutated_text(random, token, _FRAGMENTS)
        # No protobuf string has a surrogate. The service may send a row, or a payload, twice.
        row = (mutated_text(random, "7:1", _FRAGMENTS), token)
        rows += [
            (one.encode("utf-8", "replace").decode(), two.encode("utf-8", "replace").decode()) for one, two in [row]
        ]
        if random.random() < 0.2:
            rows.append(random.choice(rows))
    return tuple(rows), tuple(random.choice(_STORAGE) for _ in range(3))


class _Client(NoService):
    """A `BlobClient` that deals out what the storage does, to each name the same all the time."""

    def __init__(self, storage: tuple[_Storage, ...]) -> None:
        self._storage = storage
        self.deleted: list[PayloadToken] = []

    def state(self, name: str) -> _Storage:
        return self._storage[int(name[-1], 16) % len(self._storage)]

    def head(self, place: PayloadToken, attempt: Attempt) -> BlobProperties:
        state = self.state(place.name)
        if state == "missing":
            raise RequestFailedError(404, "BlobNotFound")
        if state.isdigit() and state != "412":
            raise RequestFailedError(int(state), SECRET)
        marks = {"unmanaged": {}, "other mark": {"managed_by": "you", "raw_bytes": "\u0661"}}
        return BlobProperties(place.name, 1, '"1"', 0.0, marks.get(state, {"managed_by": "dts"}))

    def delete(self, place: PayloadToken, etag: str | None, attempt: Attempt) -> None:
        assert etag == '"1"', "deletes without the ETag that was looked at"
        if self.state(place.name) in ("changed", "412"):
            raise RequestFailedError(412, "ConditionNotMet")
        self.deleted.append(place)


class _Store(BlobPayloadStore):
    def __init__(self, options: BlobPayloadStoreOptions) -> None:
        super().__init__(options)
        self.client = _Client(("managed",))

    def _make_client(self) -> _Client:
        return self.client

    def begin(self, storage: tuple[_Storage, ...]) -> None:
        self._client = self.client = _Client(storage)


class _Answer:
    """What gRPC asks an interceptor's call for."""

    def __init__(self, message: object) -> None:
        self._message = message

    def result(self) -> object:
        return self._message


class _Scheduler(grpc.UnaryUnaryClientInterceptor):
    """Answers in place of a scheduler that has some rows: nothing is on the wire."""

    def __init__(self) -> None:
        self.rows: tuple[tuple[str, str], ...] = ()
        self.reported: list[pb.LargePayloadPurgeResult] = []

    def intercept_unary_unary(  # type: ignore[override]  # gRPC asks a call for its result alone
        self, continuation: object, client_call_details: object, request: object
    ) -> _Answer:  # pyright: ignore[reportIncompatibleMethodOverride]
        if isinstance(request, pb.ReportLargePayloadPurgeResultsRequest):
            self.reported += request.results
            return _Answer(pb.ReportLargePayloadPurgeResultsResponse())
        tombstones = [pb.LargePayloadTombstone(tombstone_token=row, payload_token=token) for row, token in self.rows]
        return _Answer(pb.GetLargePayloadTombstonesResponse(tombstones=tombstones))


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


_store: Final = _Store(
    BlobPayloadStoreOptions(
        account_url=_ACCOUNT, credential=SECRET, container_name="payloads", token_version=2, retries=0
    )
)
_scheduler: Final = _Scheduler()
# It never connects.
_channel: Final = grpc.intercept_channel(grpc.insecure_channel("127.0.0.1:1"), _scheduler)
_lines: Final = _Lines()
_log: Final = logging.getLogger("durabletask_payloads.purge")


def _expected(token: str, client: _Client) -> pb.LargePayloadPurgeDisposition.ValueType:
    """Return the disposition of a row, by the table of the scheduler."""
    if token.startswith("blob:v1:"):
        return _QUARANTINED
    if not token.startswith("blob:v2:"):
        return _RETRY
    place = expected_v2(token)
    if place is None:
        return _QUARANTINED
    if (place.account_url, place.container) != (_ACCOUNT, "payloads"):
        return _RETRY
    match client.state(place.name):
        case "managed" | "unmanaged" | "other mark" | "missing":
            return _DELETED
        case "400":
            return _QUARANTINED
        case _:
            return _RETRY


def _check(case: _Case) -> None:
    rows, storage = case
    _store.begin(storage)
    _scheduler.rows, _scheduler.reported = rows, []
    before = _log.level
    _log.setLevel(logging.INFO)
    _log.addHandler(_lines)
    _lines.lines.clear()
    try:
        report = PayloadPurger(_store, _channel, concurrency=2).run_once()
    finally:
        _log.removeHandler(_lines)
        _log.setLevel(before)
    client = _store.client
    # The last row counts where one tombstone has two payloads, which the service does not send.
    assert {one.tombstone_token: one.disposition for one in _scheduler.reported} == {
        row: _expected(token, client) for row, token in rows
    }
    assert Counter(one.tombstone_token for one in _scheduler.reported) == Counter({row for row, _ in rows})
    assert report.rows == len(_scheduler.reported)
    wanted = {token for _, token in rows if _expected(token, client) == _DELETED}
    assert {str(one) for one in client.deleted} == {token for token in wanted if client.state(token) == "managed"}
    assert len(client.deleted) == len({str(one) for one in client.deleted}), "deletes a payload twice"
    shown = "\n".join(_lines.lines)
    assert SECRET not in shown
    assert not any(token in shown for _, token in rows if len(token) > 8), f"a token is logged: {shown}"


TARGETS: Final = (
    Target(
        "purge",
        "each row is reported once, as the table says; only marked payloads of the container go; no token is logged",
        _make,
        _check,
    ),
)
