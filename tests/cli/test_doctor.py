"""`durabletask-payloads doctor`: what is well, and what it says to grant or set where something is not."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import grpc
import pytest
from tests.support.backend import RedeliveringBackend, running
from tests.support.fixtures import made, needs_obstore
from tests.support.ports import reserved_port

from durabletask_payloads import (
    DirectoryPayloadStore,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    SchemaMismatchError,
    store_from_url,
)
from durabletask_payloads.cli import main
from durabletask_payloads.operations._doctor import diagnose
from durabletask_payloads.stores._blob_client import RequestFailedError
from durabletask_payloads.stores._inventory import REST, inventory_of
from durabletask_payloads.stores._remote import RemoteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from durabletask.internal import orchestrator_service_pb2 as pb
    from tests.support.azurite import Azurite
    from tests.support.s3 import S3

    from durabletask_payloads.operations._doctor import Diagnosis

NAMES = [
    "connect",
    "container",
    "write",
    "read",
    "list",
    "delete",
    "clock",
    "engine",
    "SDK",
    "receive limit",
    "settings",
]
OF_THE_STORE = ("container", "write", "read", "list", "delete", "clock", "settings")
BOTH = LargePayloadStorageOptions(max_stored_payload_bytes=1_000_000)


def ran(arguments: list[str], capsys: pytest.CaptureFixture[str], *, code: int) -> dict[str, tuple[str, str]]:
    """Run doctor, which exits with `code`, and return the result and the text of each check."""
    assert main(["doctor", *arguments, "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return {check["name"]: (check["verdict"], check["text"]) for check in found["checks"]}


def of(diagnosis: Diagnosis, name: str) -> tuple[str, str]:
    return next((check.verdict, check.text) for check in diagnosis.checks if check.name == name)


class Place(NamedTuple):
    """An empty store: its URL, and a function that returns the names of all blobs, objects or files in it."""

    url: str
    names: Callable[[], list[str]]

    def __call__(self, option: str) -> str:
        return f"{self.url}{'&' if '?' in self.url else '?'}{option}"


def in_folder(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob("*") if file.is_file()]


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    with DirectoryPayloadStore(tmp_path) as store:
        store.delete(store.upload(b"1"))
    return Place(tmp_path.as_uri(), lambda: in_folder(tmp_path))


@pytest.fixture
def in_azurite(azurite: Azurite, container: str) -> Iterator[Place]:
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        client = made(service, container)
        yield Place(f"azurite://127.0.0.1:{azurite.port}/{container}", lambda: list(client.list_blob_names()))


@pytest.fixture
def in_s3(s3: S3, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-access-key")
    url = f"s3://{bucket}/orders?endpoint={s3.endpoint}&region=us-east-1"
    return Place(url, lambda: [key.removeprefix("orders/") for key in s3.keys(bucket)])


@pytest.fixture(params=["directory", "in_azurite", pytest.param("in_s3", marks=needs_obstore)])
def place(request: pytest.FixtureRequest) -> Place:
    """An empty store of each kind."""
    found: Place = request.getfixturevalue(request.param)
    return found


# ---- all is well, and settings -------------------------------------------------------------------------------------


def test_all_is_well(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the probe nothing is left; the note is no payload, and nothing that cleans up deletes it."""
    checks = ran(["--store", place.url], capsys, code=0)
    assert list(checks) == NAMES
    assert {verdict for verdict, _ in checks.values()} == {"ok"}
    with store_from_url(place.url) as store:
        inventory = inventory_of(store)
        (note,) = inventory.list_payloads(REST)
        assert note.name.startswith("settings-")
        assert (note.token, note.managed or False) == ("", False)
        assert not inventory.delete_unchanged(note)
    assert place.names() == [note.name]
    ran(["--store", place.url], capsys, code=0)
    assert place.names() == [note.name]


def test_settings_that_differ_from_those_of_others(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    ran(["--store", place.url], capsys, code=0)
    ran(["--store", place("threshold_bytes=1000")], capsys, code=0)  # each process may have its own
    (name,) = place.names()
    verdict, text = ran(["--store", place("max_stored_payload_bytes=1000000")], capsys, code=1)["settings"]
    assert verdict == "not ok"
    assert "max_stored_payload_bytes is 1000000 here, but 10485760 on " in text
    assert name in text
    assert "location" not in text
    assert len(place.names()) == 2
    assert ran(["--store", place.url], capsys, code=1)["settings"][0] == "not ok"  # the first one sees the other, too


def test_layout_and_token_version(in_azurite: Place, capsys: pytest.CaptureFixture[str]) -> None:
    ran(["--store", in_azurite.url], capsys, code=0)
    for option, why in (
        ("layout=python-sdk", "layout is python-sdk here, but standard on "),
        ("token_version=2", "token_version is 2 here, but 1 on "),
    ):
        assert why in ran(["--store", in_azurite(option)], capsys, code=1)["settings"][1]


def test_the_same_folder_mounted_elsewhere(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.symlink_to(here)
    for root in (here, there):
        with DirectoryPayloadStore(root) as store:
            store.upload(b"1")
            assert of(diagnose(store), "settings")[0] == "ok"


@pytest.mark.parametrize("content", [b"\xff", b"[]", b'{"settings": 1}', b'{"settings": {}}' + b" " * 5000])
def test_a_note_that_is_none(content: bytes, tmp_path: Path) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        store.upload(b"1")
        (tmp_path / "durabletask-payloads" / f"settings-{'0' * 16}.json").write_bytes(content)
        assert diagnose(store).ok


def test_a_store_of_one_process() -> None:
    found = diagnose(InMemoryPayloadStore(BOTH))
    assert found.ok
    assert found.settings["max_stored_payload_bytes"] == 1_000_000
    assert of(found, "settings") == ("skipped", "no other process can share this store")


# ---- the store cannot be used --------------------------------------------------------------------------------------


def check_skipped(checks: dict[str, tuple[str, str]], why: str, names: tuple[str, ...] = OF_THE_STORE) -> None:
    assert {name: checks[name] for name in names} == dict.fromkeys(names, ("skipped", why))
    assert checks["SDK"][0] == "ok"


def test_an_unreachable_store(capsys: pytest.CaptureFixture[str]) -> None:
    checks = ran(["--store", "azurite://127.0.0.1:1/durabletask-payloads?retries=0"], capsys, code=1)
    assert checks["connect"][0] == "not ok"
    assert "cannot be reached at 127.0.0.1:1 (Connection refused)" in checks["connect"][1]
    check_skipped(checks, "the store cannot be connected")


def test_a_wrong_key(
    azurite: Azurite, container: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = base64.b64encode(b"another key").decode()
    monkeypatch.setattr("durabletask_payloads.stores._azure_url._AZURITE_KEY", key)
    checks = ran(["--store", f"azurite://127.0.0.1:{azurite.port}/{container}"], capsys, code=1)
    assert checks["connect"][0] == "not ok"
    assert f"refused access to container '{container}' (403" in checks["connect"][1]
    assert "the role Storage Blob Data Contributor" in checks["connect"][1]
    check_skipped(checks, "the store refuses this credential")
    assert key not in str(checks)


@needs_obstore
def test_a_wrong_key_of_s3(
    s3: S3, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-access-key")
    with s3.checking_credentials():
        url = f"s3://{bucket}?endpoint={s3.endpoint}&region=us-east-1&retries=0"
        checks = ran(["--store", url], capsys, code=1)
    assert checks["connect"][0] == "not ok"
    check_skipped(checks, "the store refuses this credential")


@pytest.mark.usefixtures("engine")
def test_a_missing_container(azurite: Azurite, container: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is not created by this."""
    url = f"azurite://127.0.0.1:{azurite.port}/{container}"
    for _ in range(2):
        checks = ran(["--store", url], capsys, code=1)
        assert checks["connect"][0] == "ok"
        assert checks["container"][0] == "not ok"
        assert "does not exist: create it" in checks["container"][1]
        check_skipped(checks, "there is no container", OF_THE_STORE[1:])


@needs_obstore
def test_a_missing_bucket(s3: S3, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-access-key")
    url = f"s3://no-such-bucket?endpoint={s3.endpoint}&region=us-east-1&retries=0"
    checks = ran(["--store", url], capsys, code=1)
    assert checks["container"][0] == "not ok"
    assert "s3://no-such-bucket does not exist" in checks["container"][1]


def test_a_missing_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = ran(["--store", (tmp_path / "gone").as_uri()], capsys, code=1)
    assert checks["container"][0] == "not ok"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_its_marker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It may be a bare mount point: nothing is written there."""
    (tmp_path / "durabletask-payloads").mkdir()
    checks = ran(["--store", tmp_path.as_uri()], capsys, code=1)
    assert "has no marker" in checks["connect"][1]
    check_skipped(checks, "the store cannot be connected")
    assert list((tmp_path / "durabletask-payloads").iterdir()) == []


# ---- rights --------------------------------------------------------------------------------------------------------


def test_a_read_only_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        store.upload(b"1")

    # root may write everywhere, so that permissions would prove nothing
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with (
        mock.patch("durabletask_payloads.stores._folder.os.mkdir", refused),
        mock.patch("pathlib.Path.write_bytes", refused),
    ):
        checks = ran(["--store", tmp_path.as_uri()], capsys, code=1)
    assert checks["write"][0] == "not ok"
    assert checks["write"][1].startswith("let this process list, read and write the folder and all below it: ")
    assert (checks["connect"][0], checks["list"][0]) == ("ok", "ok")
    assert [checks[name] for name in ("read", "delete")] == [("skipped", "nothing could be written")] * 2
    assert checks["clock"][0] == "skipped"
    assert checks["settings"][0] == "ok"  # a right that is missing for the note is no failure of its own
    assert checks["settings"][1].endswith("; not left for others, since that cannot be written")


@contextlib.contextmanager
def refusing(operation: str) -> Generator[None]:
    """Answer one operation of all clients of remote stores with 403."""
    client_for: Callable[..., Any] = RemoteStore[Any]._client_for  # pyright: ignore[reportPrivateUsage] # no other seam

    def refuse(*_: object) -> None:
        raise RequestFailedError(403, "AccessDenied")

    def wrapped(store: RemoteStore[Any], place: Any) -> Any:
        client = client_for(store, place)
        setattr(client, operation, refuse)
        return client

    with mock.patch.object(RemoteStore, "_client_for", wrapped):
        yield


OPERATIONS = {"write": "put", "read": "get", "list": "list", "delete": "delete"}
GRANTS = {
    "write": ("s3:PutObject", "the permission c and w"),
    "read": ("s3:GetObject", "the permission r"),
    "list": ("s3:ListBucket", "the permission l"),
    "delete": ("s3:DeleteObject", "the permission d"),
}


@pytest.mark.parametrize("right", OPERATIONS)
@pytest.mark.parametrize("place", ["in_azurite", pytest.param("in_s3", marks=needs_obstore)], indirect=True)
def test_a_right_that_is_missing(right: str, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with refusing(OPERATIONS[right]):
        checks = ran(["--store", place.url], capsys, code=1)
    verdict, text = checks[right]
    action, permission = GRANTS[right]
    assert verdict == "not ok"
    if place.url.startswith("s3"):
        assert text.startswith(f"grant {action}: S3 at ")
    else:
        assert text.startswith("grant the identity the role Storage Blob Data Contributor on the container, or ")
        assert permission in text
    assert "(403 AccessDenied)" in text
    assert [name for name, (found, _) in checks.items() if found == "not ok"] == [right]
    assert checks["connect"][0] == "ok"
    left = [name for name in place.names() if not name.startswith("settings-")]
    assert len(left) == (right == "delete")
    assert all(name in text for name in left)


def test_the_probe_is_deleted_whatever_comes(tmp_path: Path) -> None:
    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    with (
        DirectoryPayloadStore(tmp_path) as store,
        mock.patch.object(DirectoryPayloadStore, "download", interrupted),
    ):
        store.delete(store.upload(b"1"))
        with pytest.raises(KeyboardInterrupt):
            diagnose(store)
    assert in_folder(tmp_path) == []


def test_other_bytes_than_were_written(tmp_path: Path) -> None:
    with DirectoryPayloadStore(tmp_path) as store, mock.patch.object(store, "download", return_value=b"other"):
        store.delete(store.upload(b"1"))
        verdict, text = of(diagnose(store), "read")
    assert (verdict, text) == ("not ok", "other bytes were read than were written: check what is between")


# ---- clock, SDK, limit ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "side"), [(5, "ahead of"), (-5, "behind")])
def test_a_clock_that_is_hours_off(hours: int, side: str) -> None:
    found = diagnose(InMemoryPayloadStore(), clock=lambda: datetime.now(timezone.utc) + timedelta(hours=hours))
    verdict, text = of(found, "clock")
    assert verdict == "not ok"
    assert re.match(rf"this machine's is (?:17,99\d|18,00\d) s {side} the store's: set it by NTP", text)
    assert not found.ok


def test_an_sdk_that_is_newer_than_the_walkers(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: object) -> None:
        raise SchemaMismatchError("the walkers do not know ActivityRequest.extra")

    monkeypatch.setattr("durabletask_payloads.operations._doctor.check_schema", unknown)
    verdict, text = of(diagnose(InMemoryPayloadStore()), "SDK")
    assert verdict == "not ok"
    assert text.startswith("durabletask ")
    assert text.endswith(": the walkers do not know ActivityRequest.extra")


def test_the_receive_limit_is_that_of_the_threshold() -> None:
    found = diagnose(InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=1024 * 1024)))
    assert "max_receive_message_length=67108864" in of(found, "receive limit")[1]
    assert "4 payloads just under threshold_bytes (1048576)" in of(found, "receive limit")[1]


# ---- the hub -------------------------------------------------------------------------------------------------------


class Backend(RedeliveringBackend):
    """Answers Hello, and fails where instances are listed, if `fails`."""

    fails = False

    def QueryInstances(
        self, request: pb.QueryInstancesRequest, context: grpc.ServicerContext
    ) -> pb.QueryInstancesResponse:
        if self.fails:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "refused by the test")
        return super().QueryInstances(request, context)


def test_a_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        store.upload(b"1")
    backend = Backend()
    with running(backend) as address:
        call = ["--store", tmp_path.as_uri(), "--hub", address]
        assert ran(call, capsys, code=0)["hub"] == ("ok", f"{address} answers, and may be read")
        backend.fails = True
        verdict, text = ran(call, capsys, code=1)["hub"]
    assert verdict == "not ok"
    assert text.endswith(
        "failed in QueryInstances after 0 instances: PERMISSION_DENIED (refused by the test): an identity needs the "
        "role Durable Task Data Reader or Contributor"
    )


def test_a_hub_that_cannot_be_reached(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        store.upload(b"1")
    with reserved_port() as port:
        address = f"127.0.0.1:{port}"
        checks = ran(["--store", tmp_path.as_uri(), "--hub", address], capsys, code=1)
    assert [name for name, (verdict, _) in checks.items() if verdict == "not ok"] == ["hub"]
    assert f"the task hub at {address} failed in Hello: UNAVAILABLE" in checks["hub"][1]


def test_a_task_hub_without_an_address(
    directory: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DURABLETASK_PAYLOADS_HUB", raising=False)
    assert main(["doctor", "--store", directory.url, "--taskhub", "orders"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("durabletask-payloads doctor: no hub is named: pass --hub HOST[:PORT]")
    assert directory.names() == []


# ---- as text -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["40", "80"])
def test_as_text(
    columns: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("NO_COLOR", "1")
    with DirectoryPayloadStore(tmp_path) as store:
        store.upload(b"1")
    assert main(["doctor", "--store", tmp_path.as_uri()]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert max(len(line.rstrip()) for line in out.splitlines()) <= int(columns)
    assert "\x1b" not in out
