"""Recorded sessions of the command line: what each command prints for a store with known payloads.

To add a command, add a line to SESSIONS, and to `seeded` what its store needs; then `python -m tests.cli.record`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from unittest import mock

from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from tests.support import ledger
from tests.support.fixtures import made
from tests.support.server import ScriptedServer, serving

from durabletask_payloads import DirectoryPayloadStore, store_from_url
from durabletask_payloads.cli import main
from durabletask_payloads.stores import _codec
from durabletask_payloads_protos import large_payload_purge_pb2 as purge
from durabletask_payloads_protos.large_payload_purge_pb2_grpc import LargePayloadPurgeServicer

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from contextlib import AbstractContextManager

    import grpc
    from tests.support.azurite import Azurite
    from tests.support.s3 import S3

Kind = Literal["azurite", "directory", "s3"]
KINDS: Final[tuple[Kind, ...]] = ("azurite", "directory", "s3")

_FORMS: Final = {"80 columns": ("80", ()), "120 columns": ("120", ()), "JSON": ("80", ("--json",))}
_PLACE: Final = "payloads-of-the-sessions"


class Session(NamedTuple):
    """A command and its arguments; {names} in them are of `Place.values`. Recorded for each kind of `kinds`."""

    command: str
    kinds: tuple[Kind, ...] = KINDS


SESSIONS: Final = (
    Session("show {large}"),
    Session("show {damaged}"),
    Session("show {missing}"),
    Session("stats --top 2 --price-per-gb 0.02"),
    Session("stats --details --top 2", kinds=("s3",)),
    Session("sweep --older-than 0s"),
    Session("lifecycle-policy --days 90"),
    Session("fields CompleteActivityTask", kinds=("directory",)),
    Session("instance order-17 --hub {hub}"),
    Session("purge --once --hub {ledger}"),
    Session("purge enable --hub {ledger}"),
    Session("doctor --store {url}"),  # the last on a store: it leaves a note there
    Session("doctor --store {gone}"),
)


@dataclass(frozen=True)
class Place:
    """A store with known payloads, and the environment of a command that works with it."""

    environment: Mapping[str, str]
    values: Mapping[str, str]


# ---- places --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def directory() -> Generator[Place]:
    with tempfile.TemporaryDirectory(prefix="", dir="/tmp") as folder:  # a path that is short, and as long on each run
        url = f"file://{folder}"
        DirectoryPayloadStore(folder).close()
        yield seeded({"DURABLETASK_PAYLOADS_STORE": url})


@contextlib.contextmanager
def azurite(server: Azurite) -> Generator[Place]:
    from azure.storage.blob import BlobServiceClient

    url = f"azurite://127.0.0.1:{server.port}/{_PLACE}"
    with BlobServiceClient.from_connection_string(server.connection_string) as service:
        made(service, _PLACE)
        try:
            yield seeded({"DURABLETASK_PAYLOADS_STORE": url})
        finally:
            service.delete_container(_PLACE)


@contextlib.contextmanager
def s3(server: S3) -> Generator[Place]:
    from tests.support.s3 import CONFIG

    server.create_bucket(_PLACE)
    url = f"s3://{_PLACE}/orders?endpoint={server.endpoint}&region=us-east-1"
    keys = {f"AWS_{name.upper()}": str(CONFIG[name]) for name in ("access_key_id", "secret_access_key")}
    try:
        yield seeded({"DURABLETASK_PAYLOADS_STORE": url, **keys})
    finally:
        for key in server.keys(_PLACE):
            server.delete(_PLACE, key)
        server.delete_bucket(_PLACE)


# A text, and what gzip makes of it: compressors differ in that, and the recorded sizes must not.
_ORDERS: Final = ('"' + "an order of many items, " * 200 + '"').encode()
_COMPRESSED: Final = bytes.fromhex(
    "1f8b0800000000000203edc8b10d80200004c0553ed42e452226164082366eef1a1477e5953a32d7"
    "d956e6955ec797fb6dfd39e2bdf7de7befbdf7de7beffd0e5f7ec2ffaab1c2120000"
)


def _gzip(data: bytes) -> bytes:
    return _COMPRESSED if data == _ORDERS else data


def _wrong_sha256(data: bytes) -> object:
    return hashlib.sha256(data + b"!")


def seeded(environment: Mapping[str, str]) -> Place:
    """Store payloads with known names and sizes, and return the place."""
    names = (f"{number:032x}" for number in itertools.count(0xC0FFEE, 7 << 120))
    with (
        mock.patch.dict(os.environ, environment),
        mock.patch("secrets.token_hex", side_effect=names),
        mock.patch.object(_codec, "_gzip", _gzip),
        store_from_url() as store,
    ):
        large = store.upload(_ORDERS, instance_id="order-17")
        store.upload(b'"small"', instance_id="@cart@[bold]Zoë")
        store.upload(b'"smaller"')
        with mock.patch.object(_codec, "hashlib", SimpleNamespace(sha256=_wrong_sha256)):
            damaged = store.upload(b'"another text"', instance_id="order-18")
        missing = store.upload(b"1")
        store.delete(missing)
    url = environment["DURABLETASK_PAYLOADS_STORE"]
    return Place(environment, {"large": large, "damaged": damaged, "missing": missing, **_urls(url)})


def _urls(url: str) -> dict[str, str]:
    """Return the URL of the store, with one engine for all runs, and that of a container that does not exist."""
    if url.startswith("file:"):
        return {"url": url, "gone": f"{url}?container_name=no-such-place"}
    option = "?engine=azure-storage-blob" if url.startswith("azurite:") else ""
    return {"url": f"{url}{option}", "gone": f"{url.replace(_PLACE, 'no-such-place')}{option}"}


# ---- recording -----------------------------------------------------------------------------------------------------


def recorded(kind: Kind, place: AbstractContextManager[Place]) -> str:
    """Run all sessions of that kind and return what they print, masked."""
    with place as opened, _hub(opened.values) as hub, ledger.serving(_Ledger()) as rows:
        with_hub = Place(opened.environment, {**opened.values, "hub": hub, "ledger": rows})
        return "\n".join(_session(session, with_hub) for session in SESSIONS if kind in session.kinds)


@contextlib.contextmanager
def _hub(tokens: Mapping[str, str]) -> Generator[str]:
    """A hub with the orchestration order-17, whose payloads are those of `seeded`; yields its address."""
    state = pb.OrchestrationState(
        instanceId="order-17",
        orchestrationStatus=pb.ORCHESTRATION_STATUS_COMPLETED,
        input=StringValue(value=tokens["large"]),
        output=StringValue(value='"shipped"'),
    )
    started = pb.HistoryEvent(executionStarted=pb.ExecutionStartedEvent(input=StringValue(value=tokens["large"])))
    scheduled = pb.HistoryEvent(taskScheduled=pb.TaskScheduledEvent(input=StringValue(value=tokens["damaged"])))
    completed = pb.HistoryEvent(taskCompleted=pb.TaskCompletedEvent(result=StringValue(value=tokens["missing"])))
    server = ScriptedServer()
    server.answers["GetInstance"] = lambda request, context: pb.GetInstanceResponse(
        exists=True, orchestrationState=state
    )
    server.answers["StreamInstanceHistory"] = lambda request, context: iter(
        [pb.HistoryChunk(events=[started, scheduled, completed])]
    )
    with serving(server) as address:
        yield address


class _Ledger(LargePayloadPurgeServicer):
    """A ledger that has the same rows for every second batch, whatever is reported."""

    def __init__(self) -> None:
        digits = "c0ffee" * 5 + "00"
        tokens = [
            f"blob:v1:payloads:{digits}",
            f"blob:v2:https://other.blob.core.windows.net/payloads/{digits}",
            f"blob:v2:https://other.blob.core.windows.net/payloads/{digits}?x",
        ]
        rows = [purge.LargePayloadTombstone(tombstone_token=token, payload_token=token) for token in tokens]
        self._batches = itertools.cycle([rows, []])

    def SetLargePayloadAutoPurge(
        self, request: purge.SetLargePayloadAutoPurgeRequest, context: grpc.ServicerContext
    ) -> purge.SetLargePayloadAutoPurgeResponse:
        return purge.SetLargePayloadAutoPurgeResponse()

    def GetLargePayloadTombstones(
        self, request: purge.GetLargePayloadTombstonesRequest, context: grpc.ServicerContext
    ) -> purge.GetLargePayloadTombstonesResponse:
        return purge.GetLargePayloadTombstonesResponse(tombstones=next(self._batches))

    def ReportLargePayloadPurgeResults(
        self, request: purge.ReportLargePayloadPurgeResultsRequest, context: grpc.ServicerContext
    ) -> purge.ReportLargePayloadPurgeResultsResponse:
        return purge.ReportLargePayloadPurgeResultsResponse()


def golden(kind: Kind) -> Path:
    """Return the file that keeps the sessions of that kind."""
    return Path(__file__).parent / "sessions" / f"{kind}.txt"


def _session(session: Session, place: Place) -> str:
    arguments = session.command.format(**place.values).split()
    parts: list[str] = []
    for form, (columns, more) in _FORMS.items():
        written, complaints = io.StringIO(), io.StringIO()
        environment = {**place.environment, "COLUMNS": columns, "NO_COLOR": "1"}
        with (
            mock.patch.dict(os.environ, environment),
            contextlib.redirect_stdout(written),
            contextlib.redirect_stderr(complaints),
        ):
            code = main([*arguments, *more])
        title = f"==== {form}: durabletask-payloads {' '.join([*arguments, *more])}"
        ended = f"---- exit code {code}\n"
        parts += [title, written.getvalue().rstrip("\n"), complaints.getvalue().rstrip("\n"), ended]
    lines = "\n".join(part for part in parts if part).splitlines()
    return masked("\n".join(line.rstrip() for line in lines)) + "\n"


_MASKS: Final = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "2026-01-31 12:00:00 UTC"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", "2026-01-31T12:00:00Z"),
    (r"\b\d{4}-\d\d-\d\d\b", "2026-01-31"),
    (r"\b127\.0\.0\.1:\d{5}\b", "127.0.0.1:10000"),
    (r"(?<!\.)\b[0-9a-f]{16}\b", "0123456789abcdef"),  # a fingerprint: the port is in it
    (r"(?<=/tmp/)[a-z0-9_]{8}\b", "recorded"),
)


def masked(text: str) -> str:
    """Return `text` with times, ports and folders as they are in no run, and as long."""
    for pattern, instead in _MASKS:
        text = re.sub(pattern, instead, text)
    return text
