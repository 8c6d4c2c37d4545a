"""`durabletask-payloads instance`: each payload of what the SDK has left on a hub, and in a store."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import grpc
import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.backend import RedeliveringBackend, running
from tests.support.fixtures import needs_obstore
from tests.support.hub import LEDGER_ID, Hub, calls_digest
from tests.support.ports import reserved_port
from tests.support.server import ScriptedServer, serving

from durabletask_payloads import DirectoryPayloadStore, Externalizer, store_from_url
from durabletask_payloads.cli import main

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.support.azurite import Azurite
    from tests.support.s3 import S3

TEXT = "x" * 1000
PAYLOAD = f'"{TEXT}"'.encode()
LIMIT = "threshold_bytes=100"


class Backend(RedeliveringBackend):
    """Breaks off the histories that it sends where `breaks` says so."""

    breaks = False

    def StreamInstanceHistory(
        self, request: pb.StreamInstanceHistoryRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.HistoryChunk]:
        for chunk in super().StreamInstanceHistory(request, context):
            yield chunk
            if self.breaks:
                context.abort(grpc.StatusCode.INTERNAL, "broken by the test")


class Written(NamedTuple):
    """An orchestration `order-1` and the entity `@ledger@1` on a hub, with their payloads in a store."""

    hub: str
    store: str
    backend: Backend

    def call(self, *arguments: str, instance_id: str = "order-1", store: str = "") -> list[str]:
        return ["instance", instance_id, "--hub", self.hub, "--store", store or self.store, *arguments]

    @property
    def token(self) -> str:
        token = self.backend.input_of("order-1")
        assert token is not None
        return token


@contextlib.contextmanager
def written(url: str) -> Generator[Written]:
    backend = Backend()
    with running(backend) as address, store_from_url(f"{url}{'&' if '?' in url else '?'}{LIMIT}") as store:
        with contextlib.ExitStack() as stack:
            hub = Hub(backend, address, stack.enter_context(Externalizer(store)), stack)
            hub.start()
            assert hub.run(calls_digest, TEXT, instance_id="order-1").output == len(TEXT)
            hub.put_state(TEXT)
        yield Written(address, url, backend)


def ran(arguments: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 0) -> dict[str, Any]:
    """Run a command that exits with `code`, and return its JSON."""
    assert main([*arguments, "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


def complaint_of(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("durabletask-payloads instance: ")
    assert err.count("\n") == 1
    return err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("payloads")


@pytest.fixture(scope="module")
def on_disk(folder: Path) -> Iterator[Written]:
    """Tests do not change it."""
    with written(folder.as_uri()) as found:
        yield found


def check_all_are_found(found: dict[str, Any], token: str) -> None:
    fields = {(one["field"], one["size"], one["token"] is None) for one in found["payloads"]}
    assert fields >= {
        ("OrchestrationState.input", 1002, False),
        ("OrchestrationState.output", 4, True),
        ("ExecutionStartedEvent.input", 1002, False),
        ("TaskScheduledEvent.input", 1002, False),
        ("TaskCompletedEvent.result", 4, True),
    }
    assert found["status"] == "COMPLETED"
    assert found["unreadable"] == 0
    assert {one["token"] for one in found["payloads"] if one["field"] == "OrchestrationState.input"} == {token}
    assert all(one["trouble"] is None for one in found["payloads"])


# ---- what is found -------------------------------------------------------------------------------------------------


def test_in_a_directory(on_disk: Written, capsys: pytest.CaptureFixture[str]) -> None:
    check_all_are_found(ran(on_disk.call(), capsys), on_disk.token)


def test_in_azurite(azurite: Azurite, container: str, capsys: pytest.CaptureFixture[str]) -> None:
    with written(f"azurite://127.0.0.1:{azurite.port}/{container}") as found:
        check_all_are_found(ran(found.call(), capsys), found.token)


@needs_obstore
def test_in_s3(s3: S3, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-access-key")
    with written(f"s3://{bucket}/orders?endpoint={s3.endpoint}&region=us-east-1") as found:
        check_all_are_found(ran(found.call(), capsys), found.token)


def test_an_entity(on_disk: Written, capsys: pytest.CaptureFixture[str]) -> None:
    found = ran(on_disk.call(instance_id=LEDGER_ID), capsys)
    assert (found["kind"], found["status"]) == ("entity", None)
    (state,) = found["payloads"]
    assert (state["place"], state["field"], state["size"]) == ("state", "EntityMetadata.serializedState", 1002)
    assert state["token"] == on_disk.backend.state_of(LEDGER_ID)


@pytest.mark.parametrize("columns", ["40", "120"])
def test_as_text(
    columns: str, on_disk: Written, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(on_disk.call()) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert TEXT[:50] not in out
    assert "1.0 KB" in out
    assert "inline" in out
    assert max(len(line.rstrip()) for line in out.splitlines()) <= int(columns)


def test_each_token_is_downloaded_once(on_disk: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """The input is in the state and in the history."""
    asked: list[str] = []
    download = DirectoryPayloadStore.download

    def counted(store: DirectoryPayloadStore, token: str) -> bytes:
        asked.append(token)
        return download(store, token)

    with mock.patch.object(DirectoryPayloadStore, "download", counted):
        found = ran(on_disk.call(), capsys)
    tokens = [one["token"] for one in found["payloads"] if one["token"]]
    assert len(tokens) > len(set(tokens))
    assert sorted(asked) == sorted(set(tokens))


def test_stack_traces_are_listed_where_they_are_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message over its budget has tokens there; otherwise they are no payloads."""
    with DirectoryPayloadStore(tmp_path) as store:
        token = store.upload(b"Traceback")
    traces = (token, "Traceback")
    failures = [pb.TaskFailureDetails(stackTrace=StringValue(value=text)) for text in traces]
    events = [pb.HistoryEvent(taskFailed=pb.TaskFailedEvent(failureDetails=failure)) for failure in failures]
    server = ScriptedServer()
    state = pb.OrchestrationState(instanceId="order-1")
    server.answers["GetInstance"] = lambda request, context: pb.GetInstanceResponse(
        exists=True, orchestrationState=state
    )
    server.answers["StreamInstanceHistory"] = lambda request, context: iter([pb.HistoryChunk(events=events)])
    with serving(server) as address:
        found = ran(["instance", "order-1", "--hub", address, "--store", tmp_path.as_uri()], capsys)
    (trace,) = found["payloads"]
    assert (trace["place"], trace["field"]) == ("event 1", "TaskFailureDetails.stackTrace")
    assert (trace["token"], trace["size"]) == (token, 9)


# ---- saving --------------------------------------------------------------------------------------------------------


def test_payloads_are_saved(on_disk: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "saved"
    found = ran(on_disk.call("--save", str(saved)), capsys)
    named = {one["file"] for one in found["payloads"]}
    assert named == {file.name for file in saved.iterdir()}
    for one in found["payloads"]:
        content = (saved / one["file"]).read_bytes()
        assert len(content) == one["size"]
        if one["field"] == "OrchestrationState.input":
            assert content == PAYLOAD
    assert {file.stat().st_mode & 0o077 for file in saved.iterdir()} == {0} or os.name == "nt"


def test_nothing_is_overwritten(on_disk: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    for folder in (tmp_path, mine):
        said = complaint_of(on_disk.call("--save", str(folder)), 2, capsys)
        assert f"--save: {folder} exists and is no empty folder: name a new one" in said
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
    assert mine.read_text() == "mine"


def test_a_file_that_came_meanwhile_is_kept(
    on_disk: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "saved"
    first = saved / "0001-state-OrchestrationState.input.txt"
    download = DirectoryPayloadStore.download

    def meanwhile(store: DirectoryPayloadStore, token: str) -> bytes:
        saved.mkdir(exist_ok=True)
        first.write_text("mine")
        return download(store, token)

    with mock.patch.object(DirectoryPayloadStore, "download", meanwhile):
        assert "File exists" in complaint_of(on_disk.call("--save", str(saved)), 1, capsys)
    assert first.read_text() == "mine"


# ---- what cannot be read -------------------------------------------------------------------------------------------


def test_a_payload_that_was_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with written(tmp_path.as_uri()) as found:
        with DirectoryPayloadStore(tmp_path) as store:
            store.delete(found.token)
        result = ran(found.call("--save", str(tmp_path / "saved")), capsys, code=1)
        lost = [one for one in result["payloads"] if one["trouble"]]
        assert {one["token"] for one in lost} == {found.token}
        assert result["unreadable"] == len(lost) == 2  # in the state and in the history
        assert all((one["size"], one["file"]) == (None, None) for one in lost)
        assert lost[0]["trouble"].endswith("payload not found: it was deleted, or stored in another folder")
        assert main(found.call()) == 1
        out = " ".join(capsys.readouterr().out.split())  # lines break where paths are long
        assert "unreadable" in out
        assert out.count("payload not found") == 1


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("{folder}?container_name=another", "points out of the container 'another'"),
        pytest.param("s3://bucket?region=us-east-1", "another kind of store than s3://bucket", marks=needs_obstore),
    ],
)
def test_a_token_of_another_store(
    store: str, why: str, on_disk: Written, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = store.format(folder=folder.as_uri())
    found = ran(on_disk.call(store=url), capsys, code=1)
    troubles = [one["trouble"] for one in found["payloads"] if one["token"]]
    assert troubles
    assert all(why in trouble for trouble in troubles)


def test_an_unavailable_store(on_disk: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint_of(on_disk.call(store=(tmp_path / "gone").as_uri()), 1, capsys)
    assert "does not exist, and only an upload creates it" in said


# ---- the hub -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("instance_id", "kind"), [("order-2", "orchestration"), ("@ledger@2", "entity")])
def test_no_such_instance(instance_id: str, kind: str, on_disk: Written, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint_of(on_disk.call(instance_id=instance_id), 1, capsys)
    assert f"the task hub at {on_disk.hub} has no {kind} '{instance_id}': it never existed, or is purged" in said


def test_no_hub_is_named(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLETASK_PAYLOADS_HUB", raising=False)
    said = complaint_of(["instance", "order-1", "--store", folder.as_uri()], 2, capsys)
    assert "no hub is named: pass --hub HOST[:PORT]" in said


def test_a_hub_that_cannot_be_reached(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with reserved_port() as port:
        address = f"127.0.0.1:{port}"
        said = complaint_of(["instance", "order-1", "--hub", address, "--store", folder.as_uri()], 1, capsys)
    assert f"the task hub at {address} failed in GetInstance of 'order-1': UNAVAILABLE" in said


def test_a_hub_that_fails_half_way(on_disk: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """After a chunk of the history."""
    with mock.patch.object(on_disk.backend, "breaks", True):
        said = complaint_of(on_disk.call(), 1, capsys)
    assert "failed in StreamInstanceHistory of 'order-1': INTERNAL (broken by the test)" in said
