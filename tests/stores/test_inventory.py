"""The inventory of each store: what is listed, looked at and deleted, and that it never deletes anything else."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.storage.blob import BlobServiceClient
from tests.support.fixtures import ENGINES, made

from durabletask_payloads import (
    DirectoryPayloadStore,
    InMemoryPayloadStore,
    PayloadAccessDeniedError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
)
from durabletask_payloads.stores._blob_client import Attempt, BlobProperties, RequestFailedError
from durabletask_payloads.stores._directory_inventory import DirectoryInventory
from durabletask_payloads.stores._inventory import REST, ListedStore, PayloadInventory, StoredPayload, inventory_of
from durabletask_payloads.stores._notes import NotedContainer, note_name
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.azurite import Azurite

    from durabletask_payloads.stores._base import PayloadStore
    from durabletask_payloads.stores._tokens import PayloadToken

ON_S3 = ("s3", "s3 prefix") if sys.version_info >= (3, 11) else ()
FORMS = [
    "memory",
    "directory",
    *(f"azure {engine} {form}" for engine in ENGINES for form in ("v1", "v2", "python-sdk")),
    *ON_S3,
]
Open = Callable[[str], "PayloadStore"]


@pytest.fixture
def open_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Opens the store of a form in a place of its own."""
    with ExitStack() as stack:

        def open_store(form: str) -> PayloadStore:
            kind, *rest = form.split()
            if kind == "memory":
                return InMemoryPayloadStore()
            if kind == "directory":
                return DirectoryPayloadStore(tmp_path / "payloads")
            if kind == "s3":
                prefix = "/pre/fix" if rest else ""
                s3, bucket = request.getfixturevalue("s3"), request.getfixturevalue("bucket")
                store: PayloadStore = s3.store(f"s3://{bucket}{prefix}")
                return stack.enter_context(store)
            engine, form = rest
            monkeypatch.setattr("durabletask_payloads.stores._engines.is_installed", lambda: engine == "obstore")
            options = BlobPayloadStoreOptions(
                connection_string=request.getfixturevalue("azurite").connection_string,
                container_name=request.getfixturevalue("container"),
            )
            match form:
                case "v2":
                    options = replace(options, token_version=2)
                case "python-sdk":
                    options = replace(options, layout="python-sdk")
                case _:
                    pass
            return stack.enter_context(BlobPayloadStore(options))

        yield open_store


def everything(inventory: PayloadInventory) -> list[StoredPayload]:
    """All that is stored, with the metadata."""
    listed = [stored for partition in inventory.partitions for stored in inventory.list_payloads(partition)]
    return [inventory.look(stored.token) if stored.managed is None and stored.token else stored for stored in listed]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_stored(form: str, open_store: Open) -> None:
    store = open_store(form)
    owners = {store.upload(f"{number} ".encode() * 500, instance_id=f"order {number}%"): number for number in range(5)}
    alone = store.upload(b"\x1f", instance_id=None)
    inventory = inventory_of(store)

    found = {stored.token: stored for stored in everything(inventory)}

    assert found.keys() == {*owners, alone}
    for token, number in owners.items():
        stored = found[token]
        assert inventory.name_of(token) == stored.name
        assert (stored.instance_id, stored.raw_bytes) == (f"order {number}%", 1000)
        assert stored.stored_bytes == store.stored_bytes(token) < 1000
        assert stored.managed
        assert stored.compressed
        assert stored.digits == token[-32:]
        assert abs(stored.modified - inventory.service_time()) < timedelta(minutes=5)
    assert found[alone].instance_id is None
    assert inventory.look(alone) == found[alone]
    assert len(everything(inventory)) == 6, "the probe of the clock stays behind"


@pytest.mark.parametrize("form", FORMS)
def test_only_what_is_unchanged_is_deleted(form: str, open_store: Open) -> None:
    store = open_store(form)
    token, kept = store.upload(b"a", instance_id="a"), store.upload(b"b", instance_id="b")
    inventory = inventory_of(store)
    (stored,) = [one for name in inventory.partitions for one in inventory.list_payloads(name) if one.token == token]

    if form != "memory":  # where nothing can be written again
        assert not inventory.delete_unchanged(replace(stored, etag='"other"'))
        assert not inventory.delete_unchanged(replace(stored, managed=False))
    assert store.stored_bytes(token)
    assert inventory.delete_unchanged(stored)
    assert not inventory.delete_unchanged(stored)
    assert [one.token for one in everything(inventory)] == [kept]
    with pytest.raises(PayloadNotFoundError):
        inventory.look(token)


@pytest.mark.parametrize("form", FORMS)
def test_tokens_of_other_places(form: str, open_store: Open) -> None:
    inventory = inventory_of(open_store(form))
    assert inventory.name_of("blob:v1:elsewhere:" + "0" * 32) is None
    assert inventory.name_of("no token") is None


def test_blobs_of_others(azurite: Azurite, container: str) -> None:
    """A blob without the mark, and one whose name no token can have, are listed and never deleted."""
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        client = made(service, container)
        bare, in_folder = "ab" * 16, f"order 17/{'c' * 32}"
        for name in (bare, in_folder):
            client.upload_blob(name, b"of an older SDK")
        for name in ("readme.txt", "ab", "ab/cd.txt", "A" * 32, "é/è"):
            client.upload_blob(name, b"foreign", metadata={"managed_by": "dts"})
        store = BlobPayloadStore(
            BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
        )
        with store:
            found = everything(store.inventory())
            assert sorted(one.name for one in found) == sorted(client.list_blob_names())
            assert {one.name for one in found if one.token} == {bare, in_folder}
            assert {one.instance_id for one in found if one.token} == {None, "order 17"}
            assert not any(store.inventory().delete_unchanged(one) for one in found)
            assert len(everything(store.inventory())) == 7


class BreakingClient:
    """Lists seven blobs, and fails at the fifth, twice."""

    def __init__(self) -> None:
        self.failures = 2

    is_of_this_process = True

    def close(self) -> None:
        pass

    def list(self, place: PayloadToken, attempt: Attempt) -> Iterator[BlobProperties]:
        for number in range(7):
            if number == 4 and self.failures:
                self.failures -= 1
                raise RequestFailedError(500)
            yield BlobProperties(f"{number:032x}", 1, '"1"', 0.0, {})


def test_a_listing_goes_on_behind_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durabletask_payloads.stores._remote_inventory._CHUNK", 2)
    monkeypatch.setattr("durabletask_payloads.stores._remote._FIRST_WAIT", 0.0)
    client = BreakingClient()

    def make(*_: object) -> BreakingClient:
        return client

    monkeypatch.setattr("durabletask_payloads.stores.azure_blob.AzureClient", make)
    options = BlobPayloadStoreOptions(connection_string="UseDevelopmentStorage=true", engine="azure-storage-blob")
    listed = BlobPayloadStore(options).inventory().list_payloads("00")
    assert [int(one.name, 16) for one in listed] == [0, 1, 2, 3, 4, 5, 6]
    assert not client.failures


def test_a_container_that_does_not_exist(azurite: Azurite, container: str) -> None:
    options = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
    with BlobPayloadStore(options) as store:
        for call in (store.inventory().service_time, lambda: list(store.inventory().list_payloads("00"))):
            with pytest.raises(PayloadNotFoundError, match=f"'{container}' does not exist"):
                call()


class TestDirectory:
    def test_files_of_others(self, tmp_path: Path) -> None:
        store = DirectoryPayloadStore(tmp_path)
        token = store.upload(b"x")
        folder = tmp_path / "durabletask-payloads"
        (folder / "notes.txt").write_text("mine")
        (folder / "ab").mkdir(exist_ok=True)
        (folder / "ab" / "draft-1").write_text("of a process that was killed")
        (folder / "ab" / ("ab" * 16)).write_text("no header")
        found = everything(store.inventory())
        assert {one.name: one.managed for one in found if not one.token} == {
            "notes.txt": False,
            "ab/draft-1": False,
            "ab/" + "ab" * 16: False,
        }
        assert [one.token for one in found if one.token] == [token]
        assert not any(store.inventory().delete_unchanged(one) for one in found if not one.token)

    def test_a_file_that_was_written_again(self, tmp_path: Path) -> None:
        store = DirectoryPayloadStore(tmp_path)
        stored = store.inventory().look(store.upload(b"x"))
        path = tmp_path / "durabletask-payloads" / stored.name[:2] / stored.name
        os.utime(path, (1, 1))
        assert not store.inventory().delete_unchanged(stored)
        assert store.inventory().look(stored.token).modified.year == 1970

    def test_a_bare_mount_point(self, tmp_path: Path) -> None:
        (tmp_path / "durabletask-payloads").mkdir()
        inventory = DirectoryPayloadStore(tmp_path).inventory()
        for call in (inventory.service_time, lambda: list(inventory.list_payloads("00"))):
            with pytest.raises(PayloadStoreUnavailableError, match="no marker"):
                call()

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_no_right_to_list(self, tmp_path: Path) -> None:
        store = DirectoryPayloadStore(tmp_path)
        store.upload(b"x")
        (tmp_path / "durabletask-payloads").chmod(0o300)
        with pytest.raises(PayloadAccessDeniedError):
            list(store.inventory().list_payloads(""))

    @pytest.mark.parametrize(("refused", "partition"), [("", None), ("foreign", REST), ("ab/foreign", "ab")])
    def test_no_right_to_look(
        self, tmp_path: Path, refused: str, partition: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As below a folder that may be listed, and not searched. The doctor takes no other errors for findings."""
        store = DirectoryPayloadStore(tmp_path)
        store.upload(b"x")
        path = tmp_path / "durabletask-payloads" / refused
        path.parent.mkdir(exist_ok=True)
        if refused:
            path.touch()
        look = os.stat

        def stat(where: str | os.PathLike[str], **rest: Any) -> os.stat_result:
            if os.fspath(where) == str(path):
                raise PermissionError(errno.EACCES, "Permission denied")
            return look(where, **rest)

        inventory = store.inventory()
        assert isinstance(inventory, DirectoryInventory)
        monkeypatch.setattr(os, "stat", stat)  # root may read everything, so chmod would prove nothing
        with pytest.raises(PayloadAccessDeniedError, match="'durabletask-payloads'"):
            inventory.has_container() if partition is None else list(inventory.list_payloads(partition))

    def test_what_is_deleted_while_it_is_listed(self, tmp_path: Path) -> None:
        store = DirectoryPayloadStore(tmp_path)
        store.upload(b"x")
        folder = tmp_path / "durabletask-payloads"
        for name in ("one", "two"):
            (folder / name).touch()
        listed = iter(store.inventory().list_payloads(REST))
        gone = {"one", "two"} - {next(listed).name}
        (folder / gone.pop()).unlink()
        assert list(listed) == []


def test_a_store_that_cannot_be_listed() -> None:
    class Other:
        """As one that was written for the SDK."""

    assert not isinstance(Other(), ListedStore)
    with pytest.raises(TypeError, match=r"Other cannot be listed: it has no method inventory\(\)"):
        inventory_of(Other())


@pytest.mark.parametrize("name", ["settings-1.json", "settings-0123456789abcdef", f"{'0' * 32}", "../x"])
def test_a_note_has_a_name_that_no_payload_has(name: str, tmp_path: Path) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        store.upload(b"1")
        inventory = store.inventory()
        assert isinstance(inventory, NotedContainer)
        with pytest.raises(ValueError, match=r"the name of a note is settings-<16 hex digits>\.json"):
            inventory.leave_note(name, b"{}")
        assert list(inventory.notes()) == []
        inventory.leave_note(note_name("0123456789abcdef"), b"{}")
        assert list(inventory.notes()) == [("settings-0123456789abcdef.json", b"{}")]
