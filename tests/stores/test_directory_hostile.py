"""DirectoryPayloadStore where the folder holds what no store wrote."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

import pytest

from durabletask_payloads._errors import PayloadIntegrityError, PayloadStoreUnavailableError, PayloadTooLargeError
from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.stores import DirectoryPayloadStore
from durabletask_payloads.stores._codec import checksum
from durabletask_payloads.stores._notes import NotedContainer
from durabletask_payloads.stores._tokens import PayloadToken

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHA = b'{"sha256": "' + checksum(b"body").encode() + b'"'


def file_of(root: Path, token: str) -> Path:
    parsed = PayloadToken.parse(token)
    assert parsed is not None
    return root / parsed.container / parsed.name[:2] / parsed.name


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"no header",
        b"[]\n",
        b"null\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"sha256": 0, "raw_bytes": 1}\n',
        b'{"sha256": "0", "raw_bytes": "1"}\n',
        b'{"sha256": "' + b"0" * 100_000 + b'", "raw_bytes": 1}\n',
        b'{"sha256": "' + b"0" * 64 + b'", "raw_bytes": 4}\n',
        SHA.replace(checksum(b"body").encode(), checksum(b"body").upper().encode()) + b"}\n",
        SHA + b"}",
        SHA + b', "raw_bytes": ' + b"9" * 60_000 + b"}\n",
        SHA + b', "raw_bytes": 1e999999}\n',
        SHA + b', "instance_id": "\xff"}\n',
        SHA + b', "instance_id": "' + b"a" * 70_000 + b'"}\n',  # no line is read without limit
        SHA + b', "instance_id": "' + b"\\" * 60_001 + b'"}\n',
        SHA + b', "instance_id": ' + b"[" * 60_000 + b"\n",
        SHA + b', "instance_id": ' + b"[" * 30_000 + b"]" * 30_000 + b"}\n",
        b"[" * 60_000 + b"\n",
        b'{"a":' * 12_000 + b"\n",
        b"[" * 200_000,
    ],
    ids=lambda header: repr(header[:40]),
)
def test_headers(tmp_path: Path, header: bytes) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    file_of(tmp_path, token).write_bytes(header + b"body")
    with pytest.raises(PayloadIntegrityError, match=token):
        store.download(token)


@pytest.mark.parametrize(
    "header",
    [
        SHA + b"}\n",
        SHA + b', "raw_bytes": 4, "instance_id": "a \\" \\ud800 \\\\"}\n',
        SHA + b', "raw_bytes": 4, "instance_id": null, "managed_by": "dts", "layout_2": true}\n',
    ],
    ids=range(3),
)
def test_headers_of_other_versions(tmp_path: Path, header: bytes) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    file_of(tmp_path, token).write_bytes(header + b"body")
    assert store.download(token) == b"body"
    assert store.stored_bytes(token) == 4


@pytest.mark.parametrize("instance_id", ["\ud800", "\udfff order", '\x00\x7f\n"\\', "\U0001f600" * 50, "[" * 4000])
def test_instance_ids(tmp_path: Path, instance_id: str) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1", instance_id=instance_id)
    assert store.download(token) == b"1"
    assert b'"instance_id": "' in file_of(tmp_path, token).read_bytes()


def test_an_instance_id_too_long_for_the_header_is_left_out(tmp_path: Path) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1", instance_id="\U0001f600" * 10_000)
    assert store.download(token) == b"1"
    assert b'"instance_id": null' in file_of(tmp_path, token).read_bytes()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def file(path: Path) -> None:
    path.touch()


def folder(path: Path) -> None:
    path.mkdir()


def link_to_a_payload(path: Path) -> None:
    other = DirectoryPayloadStore(path.parents[2]).upload(b"2")
    path.symlink_to(file_of(path.parents[2], other))


def link_to_a_file(path: Path) -> None:
    other = path.parents[1] / "elsewhere"
    other.write_text("{}")
    path.symlink_to(other)


def dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        where = os.getcwd()
        os.chdir(path.parent)  # a socket's path may have 108 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(where)


IN_PLACE = [fifo, folder, link_to_a_payload, dangling_link, link_to_itself, link_to_a_device, unix_socket]


@pytest.mark.parametrize("put", IN_PLACE)
def test_in_place_of_a_payload(tmp_path: Path, put: Callable[[Path], None]) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    file = file_of(tmp_path, token)
    file.unlink()
    put(file)
    open_before = len(os.listdir("/proc/self/fd"))
    for use in (store.download, store.stored_bytes):
        with pytest.raises(PayloadIntegrityError, match=f"{token}: .* no regular file"):
            use(token)
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_delete_takes_the_link_and_not_its_target(tmp_path: Path) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token, other = store.upload(b"1"), store.upload(b"2")
    file_of(tmp_path, token).unlink()
    file_of(tmp_path, token).symlink_to(file_of(tmp_path, other))
    store.delete(token)
    assert not file_of(tmp_path, token).is_symlink()
    assert store.download(other) == b"2"


def test_delete_of_a_folder(tmp_path: Path) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    file_of(tmp_path, token).unlink()
    file_of(tmp_path, token).mkdir()
    with pytest.raises(PayloadIntegrityError, match=f"{token}: .* no regular file"):
        store.delete(token)


@pytest.mark.parametrize("put", [fifo, link_to_itself, dangling_link])
def test_in_place_of_a_shard(tmp_path: Path, put: Callable[[Path], None]) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    shard = file_of(tmp_path, token).parent
    shard.rename(tmp_path / "moved")
    put(shard)
    for use in (store.download, store.delete, store.stored_bytes):
        with pytest.raises(PayloadIntegrityError, match=token):
            use(token)


def test_no_upload_follows_a_link_out_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryPayloadStore(tmp_path / "root")
    token = store.upload(b"1")
    (tmp_path / "elsewhere").mkdir()
    shard = file_of(tmp_path / "root", token).parent
    shard.rename(tmp_path / "moved")
    shard.symlink_to(tmp_path / "elsewhere")
    monkeypatch.setattr("durabletask_payloads.stores._directory.new_name", lambda: shard.name + "0" * 30)
    with pytest.raises(PayloadStoreUnavailableError):
        store.upload(b"2")
    assert not list((tmp_path / "elsewhere").iterdir())
    assert not list((tmp_path / "moved").glob("draft-*"))


@pytest.mark.parametrize("put", [fifo, file, dangling_link, link_to_itself, link_to_a_device, unix_socket])
def test_in_place_of_the_marker(tmp_path: Path, put: Callable[[Path], None]) -> None:
    store = DirectoryPayloadStore(tmp_path)
    store.upload(b"1")
    marker = tmp_path / "durabletask-payloads" / ".payload-store"
    marker.rmdir()
    put(marker)
    with pytest.raises(PayloadStoreUnavailableError, match="no marker"):
        store.upload(b"2")


@pytest.mark.parametrize("put", [fifo, dangling_link, link_to_itself])
def test_in_place_of_the_container_folder(tmp_path: Path, put: Callable[[Path], None]) -> None:
    put(tmp_path / "durabletask-payloads")
    store = DirectoryPayloadStore(tmp_path)
    token = f"blob:v1:durabletask-payloads:{'0' * 32}"
    for use in (store.download, store.delete, store.stored_bytes):
        with pytest.raises(PayloadStoreUnavailableError, match=token):
            use(token)
    with pytest.raises(PayloadStoreUnavailableError, match="'durabletask-payloads'"):
        store.upload(b"1")


def test_root_and_container_folder_may_be_links(tmp_path: Path) -> None:
    for name in ("real root", "real folder", "root"):
        (tmp_path / name).mkdir()
    (tmp_path / "root" / "durabletask-payloads").symlink_to(tmp_path / "real folder")
    (tmp_path / "linked root").symlink_to(tmp_path / "real root")
    for root in ("root", "linked root"):
        store = DirectoryPayloadStore(tmp_path / root)
        assert store.download(store.upload(b"1")) == b"1"
    assert (tmp_path / "real folder" / ".payload-store").exists()


NOTE = "settings-0123456789abcdef.json"


@pytest.mark.parametrize("put", [fifo, folder, link_to_a_file, dangling_link, link_to_a_device, unix_socket])
def test_in_place_of_a_note(tmp_path: Path, put: Callable[[Path], None]) -> None:
    store = DirectoryPayloadStore(tmp_path)
    store.upload(b"1")
    inventory = store.inventory()
    assert isinstance(inventory, NotedContainer)
    put(tmp_path / "durabletask-payloads" / NOTE)
    inventory.leave_note(other := NOTE.replace("0", "1"), b"{}")
    open_before = len(os.listdir("/proc/self/fd"))
    assert list(inventory.notes()) == [(other, b"{}")]
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_large_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryPayloadStore(tmp_path, LargePayloadStorageOptions(max_stored_payload_bytes=1_000_000))
    token = store.upload(b"1")
    os.truncate(file_of(tmp_path, token), 1 << 40)
    with pytest.raises(PayloadTooLargeError, match=token):
        store.download(token)
    assert store.stored_bytes(token) > 1 << 39


@pytest.mark.parametrize("change", [b"x", b"x" * 5_000_000, None], ids=["grows", "grows much", "shrinks"])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: bytes | None
) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(os.urandom(100_000))
    file = file_of(tmp_path, token)

    def changing(size: int) -> int:
        if change is None:
            os.truncate(file, 50_000)
        else:
            with file.open("ab") as more:
                more.write(change)
        return size + size // 512 + 1024

    # Called between the look at the size and the read.
    monkeypatch.setattr("durabletask_payloads.stores._directory.longest_body", changing)
    with pytest.raises(PayloadIntegrityError, match=re.escape(f"{token}: the payload file changed while it was read")):
        store.download(token)
