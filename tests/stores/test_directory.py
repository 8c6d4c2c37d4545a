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


def test_one_file_says_what_it_holds(tmp_path: Path) -> None:
    token = DirectoryPayloadStore(tmp_path / "a" / "b").upload(b"x" * 1000, instance_id="order\n7 \u00e9")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [file_of(tmp_path / "a" / "b", token)]
    header, _, body = files[0].read_bytes().partition(b"\n")
    described = json.loads(header)
    assert described["instance_id"] == "order\n7 \u00e9"
    assert described["raw_bytes"] == 1000
    assert len(described["sha256"]) == 64
    assert len(body) < 100
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600


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


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryPayloadStore(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PayloadStoreUnavailableError, match="No space left on device") as caught:
        store.upload(b"1" * 1000)
    assert isinstance(caught.value.__cause__, OSError)
    assert not caught.value.permanent
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_payload_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    sync, replace = os.fsync, os.replace

    def traced_sync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        events.append(f"sync {'folder ' + path.name if path.is_dir() else 'draft'}")
        sync(descriptor)

    def traced_replace(source: str, target: Path) -> None:
        events.append("rename")
        assert Path(source).parent == target.parent
        replace(source, target)

    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(os, "replace", traced_replace)
    token = DirectoryPayloadStore(tmp_path / "root").upload(b"1")
    shard = file_of(tmp_path, token).parent.name
    # The folders in which something was made, too: its name would be lost otherwise.
    assert events[:3] == ["sync draft", "rename", f"sync folder {shard}"]
    assert set(events[3:]) == {"sync folder durabletask-payloads", "sync folder root", f"sync folder {tmp_path.name}"}


def test_drafts_of_a_process_that_died_are_not_payloads(tmp_path: Path) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    draft = file_of(tmp_path, token).parent / "draft-abc"
    draft.write_bytes(b"half a payl")
    assert store.download(token) == b"1"
    assert PayloadToken.parse(f"blob:v1:durabletask-payloads:{draft.name}") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no header",
        b"[]\nbody",
        b'{"sha256": "0", "raw_bytes": "1"}\nbody',
        b'{"sha256": 0, "raw_bytes": 1}\nbody',
        b'{"sha256": "' + b"0" * 100_000 + b'", "raw_bytes": 1}\nbody',
        b'{"sha256": "' + b"0" * 64 + b'", "raw_bytes": 4}\nbody',
        b"\xff\xfe\nbody",
    ],
    ids=range(8),
)
def test_damaged(tmp_path: Path, content: bytes) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")
    file_of(tmp_path, token).write_bytes(content)
    with pytest.raises(PayloadIntegrityError, match=token):
        store.download(token)


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

    def refused(path: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # root may read everything, so chmod would prove nothing
    with pytest.raises(PayloadAccessDeniedError, match=token):
        store.download(token)


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
