from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
)
from durabletask_payloads.stores import DirectoryPayloadStore
from durabletask_payloads.stores._tokens import PayloadToken


def file_of(root: Path, token: str) -> Path:
    parsed = PayloadToken.parse(token)
    assert parsed is not None
    return root / parsed.container / parsed.name[:2] / parsed.name


def marker_of(root: Path) -> Path:
    return root / "durabletask-payloads" / ".payload-store"


def files_below(root: Path) -> set[Path]:
    return {path for path in root.rglob("*") if path.is_file()}


def test_one_file_says_what_it_holds(tmp_path: Path) -> None:
    token = DirectoryPayloadStore(tmp_path / "a").upload(b"x" * 1000, instance_id="order\n7 \u00e9")
    files = files_below(tmp_path)
    assert files == {file_of(tmp_path / "a", token), marker_of(tmp_path / "a")}
    files.remove(marker_of(tmp_path / "a"))
    header, _, body = files.pop().read_bytes().partition(b"\n")
    described = json.loads(header)
    assert described["instance_id"] == "order\n7 \u00e9"
    assert described["raw_bytes"] == 1000
    assert len(described["sha256"]) == 64
    assert len(body) < 100


def test_read_by_a_new_process(tmp_path: Path) -> None:
    token = DirectoryPayloadStore(tmp_path).upload(b"shared")
    program = (
        "import sys; from durabletask_payloads.stores import DirectoryPayloadStore as D;"
        "sys.stdout.write(D(sys.argv[1]).download(sys.argv[2]).decode())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path), token], check=True, stdout=subprocess.PIPE)
    assert done.stdout == b"shared"


def test_root_stays_where_it_was_when_the_process_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = DirectoryPayloadStore("payloads")
    token = store.upload(b"1")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.download(token) == b"1"
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("step", ["fsync", "replace", "fsync of the folder"])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, failure: BaseException
) -> None:
    store = DirectoryPayloadStore(tmp_path)
    store.upload(b"0")
    before = files_below(tmp_path)
    sync = os.fsync

    def failing(*_: object, **__: object) -> None:
        raise failure

    def failing_for_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise failure
        sync(descriptor)

    monkeypatch.setattr(os, step.split()[0], failing_for_folders if step.endswith("folder") else failing)
    open_before = len(os.listdir("/proc/self/fd"))
    expected = PayloadStoreUnavailableError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        store.upload(b"1" * 1000)
    if isinstance(caught.value, PayloadStoreUnavailableError):
        assert "No space left on device" in str(caught.value)
        assert caught.value.__cause__ is failure
        assert not caught.value.permanent
    assert files_below(tmp_path) == before
    assert len(os.listdir("/proc/self/fd")) == open_before


def test_a_payload_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, replace = os.fsync, os.replace

    def traced_sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        kind = "folder " + path.name if path.is_dir() else "marker" if path.name == ".payload-store" else "draft"
        events.append(f"sync {kind}")
        sync(descriptor)

    def traced_replace(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        events.append("rename")
        assert src_dir_fd == dst_dir_fd
        replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(os, "replace", traced_replace)
    token = DirectoryPayloadStore(tmp_path / "root").upload(b"1")
    shard = file_of(tmp_path, token).parent.name
    # The folders in which something was made, too: its name would be lost otherwise.
    assert events == [
        f"sync folder {tmp_path.name}",
        "sync folder root",
        "sync marker",
        "sync folder durabletask-payloads",
        "sync draft",
        "rename",
        f"sync folder {shard}",
        "sync folder durabletask-payloads",
    ]


def test_drafts_of_a_process_that_died_are_not_payloads(tmp_path: Path) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    draft = file_of(tmp_path, token).parent / "draft-abc"
    draft.write_bytes(b"half a payl")
    assert store.download(token) == b"1"
    assert PayloadToken.parse(f"blob:v1:durabletask-payloads:{draft.name}") is None


def test_truncated(tmp_path: Path) -> None:
    store = DirectoryPayloadStore(tmp_path)
    for data in (b"x" * 100_000, os.urandom(1000)):
        token = store.upload(data)
        file = file_of(tmp_path, token)
        file.write_bytes(file.read_bytes()[:-1])
        with pytest.raises(PayloadIntegrityError, match=token):
            store.download(token)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")

    def refused(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)  # root may read everything, so chmod would prove nothing
    for use in (store.download, store.delete, store.stored_bytes):
        with pytest.raises(PayloadAccessDeniedError, match=token):
            use(token)
    with pytest.raises(PayloadAccessDeniedError, match="'durabletask-payloads'") as caught:
        store.upload(b"1")
    assert str(tmp_path) not in str(caught.value)


def test_root_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("")
    with pytest.raises(PayloadStoreUnavailableError, match="Not a directory"):
        DirectoryPayloadStore(tmp_path / "root").upload(b"1")


def test_nothing_outside_of_the_folder_is_reached(tmp_path: Path) -> None:
    store = DirectoryPayloadStore(tmp_path / "root")
    token = store.upload(b"1")
    secret = tmp_path / "root" / "durabletask-payloads" / "x" / ("0" * 32)
    secret.parent.mkdir()
    secret.write_bytes(file_of(tmp_path / "root", token).read_bytes())
    # The grammar has folders, for the Python SDK's tokens. This store never follows them.
    with pytest.raises(PayloadNotFoundError, match="makes no folders"):
        store.download(f"blob:v1:durabletask-payloads:x/{'0' * 32}")
