from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

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


def run_python(program: str) -> str:
    """Run `program` in a process of its own, with `D` as the store's class, and return what it prints."""
    imports = "import json; from durabletask_payloads.stores import DirectoryPayloadStore as D\n"
    command = [sys.executable, "-c", imports + program]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def raised(root: Path, use: str, *arguments: str) -> None:
    """Use a store in a process of its own, and raise here what it raises there."""
    name, text = json.loads(
        run_python(
            f"try: D({', '.join([repr(str(root)), *arguments])}).{use}\n"
            "except Exception as error: print(json.dumps([type(error).__name__, str(error)]))"
        )
    )
    raise {"PayloadStoreUnavailableError": PayloadStoreUnavailableError}.get(name, AssertionError)(text)


def test_one_file_says_what_it_holds(tmp_path: Path) -> None:
    token = DirectoryPayloadStore(tmp_path / "a").upload(b"x" * 1000, instance_id="order\n7 \u00e9")
    files = files_below(tmp_path)
    assert files == {file_of(tmp_path / "a", token)}
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


def test_a_relative_root_in_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(PayloadStoreUnavailableError, match=r"^root is 'payloads', .*: pass an absolute path"):
        DirectoryPayloadStore("payloads")
    DirectoryPayloadStore(tmp_path).upload(b"1")


@pytest.mark.parametrize(("root", "text"), [("", "root is empty: is the variable"), ("a\0b", "has no zero bytes")])
def test_a_root_that_is_no_path(root: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        DirectoryPayloadStore(root)


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
        kind = "folder " + path.name if path.is_dir() else "draft"
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
        "sync folder durabletask-payloads",
        "sync draft",
        "rename",
        f"sync folder {shard}",
        "sync folder durabletask-payloads",
    ]


@pytest.mark.parametrize("code", ["EINVAL", "ENOTSUP"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_file_system_that_syncs_no_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, code: str
) -> None:
    """As some network shares. That a file cannot be synced is an error anywhere."""
    refused = stat.S_ISDIR if kind == "folder" else stat.S_ISREG
    sync = os.fsync

    def refusing(descriptor: int) -> None:
        if refused(os.fstat(descriptor).st_mode):
            raise OSError(getattr(errno, code), code)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    store = DirectoryPayloadStore(tmp_path / "root")
    if kind == "folder":
        assert store.download(store.upload(b"1")) == b"1"
    else:
        with pytest.raises(PayloadStoreUnavailableError, match=code):
            store.upload(b"1")


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


@pytest.mark.parametrize("unlisted", [".", "root"])
def test_a_parent_that_may_not_be_listed(tmp_path: Path, unlisted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a drop box, of mode 0733: folders may be made in it, and it may not be opened for fsync."""
    if unlisted == "root":
        (tmp_path / "root").mkdir()
    parent, opened = tmp_path / unlisted, os.open

    def refusing(path: str | os.PathLike[str], *rest: Any, **more: Any) -> int:
        if os.fspath(path) == str(parent):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *rest, **more)

    monkeypatch.setattr(os, "open", refusing)
    store = DirectoryPayloadStore(tmp_path / "root")
    assert store.download(store.upload(b"1")) == b"1"


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


# ---- permissions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o007, 0o660, 0o770)])
def test_files_and_folders_follow_the_umask(tmp_path: Path, umask: int, file_mode: int, folder_mode: int) -> None:
    run_python(f"import os; os.umask({umask}); D({str(tmp_path / 'root')!r}).upload(b'1')")
    made = [path.stat().st_mode for path in (tmp_path / "root", *(tmp_path / "root").rglob("*"))]
    assert {stat.S_IMODE(mode) for mode in made if stat.S_ISREG(mode)} == {file_mode}
    assert {stat.S_IMODE(mode) for mode in made if stat.S_ISDIR(mode)} == {folder_mode}
    assert len(made) == 5


# ---- the marker ----------------------------------------------------------------------------------------------

UNKNOWN = f"blob:v1:durabletask-payloads:{'0' * 32}"

Gone: TypeAlias = Callable[[Path], None]


def root_is_moved(root: Path) -> None:
    root.rename(root.parent / "gone")


def root_is_not_mounted(root: Path) -> None:
    root.rename(root.parent / "gone")
    root.mkdir()


def folder_is_not_mounted(root: Path) -> None:
    root_is_not_mounted(root)
    (root / "durabletask-payloads").mkdir()


def marker_is_deleted(root: Path) -> None:
    marker_of(root).rmdir()


every_outage = pytest.mark.parametrize(
    "outage", [root_is_moved, root_is_not_mounted, folder_is_not_mounted, marker_is_deleted]
)


@pytest.fixture(params=[True, False], ids=["with folder descriptors", "as on Windows"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("durabletask_payloads.stores._folder._HAS_FOLDER_DESCRIPTORS", request.param)


def assert_unavailable(root: Path, use: Callable[[], object]) -> None:
    """Assert that `use` finds the store unavailable, says so without a path, and leaves everything as it is."""
    before = sorted(root.parent.rglob("*"))
    with pytest.raises(PayloadStoreUnavailableError, match="'durabletask-payloads'") as caught:
        use()
    assert not caught.value.permanent
    assert str(root.parent) not in str(caught.value)
    assert sorted(root.parent.rglob("*")) == before


@pytest.mark.usefixtures("platform")
@every_outage
def test_an_outage_is_no_loss(tmp_path: Path, outage: Gone) -> None:
    root = tmp_path / "root"
    store = DirectoryPayloadStore(root)
    token = store.upload(b"1")
    store.delete(gone := store.upload(b"2"))
    with pytest.raises(PayloadNotFoundError):
        store.download(gone)
    outage(root)
    for same in (store, DirectoryPayloadStore(root)):
        for use in (same.download, same.stored_bytes, same.delete):
            assert_unavailable(root, partial(use, gone))
            if outage is not marker_is_deleted:
                assert_unavailable(root, partial(use, token))
        assert_unavailable(root, partial(same.upload, b"3"))
    if outage is marker_is_deleted:
        assert store.download(token) == b"1"
        return
    shutil.rmtree(root, ignore_errors=True)
    (tmp_path / "gone").rename(root)
    assert store.download(token) == b"1"
    assert store.download(store.upload(b"3")) == b"3"


@every_outage
def test_a_new_process_that_reads_makes_nothing(tmp_path: Path, outage: Gone) -> None:
    root = tmp_path / "root"
    DirectoryPayloadStore(root).upload(b"1")
    outage(root)
    for use in ("download", "delete", "stored_bytes"):
        assert_unavailable(root, partial(raised, root, f"{use}({UNKNOWN!r})"))


@pytest.mark.parametrize("outage", [root_is_moved, root_is_not_mounted, folder_is_not_mounted])
def test_a_new_process_that_must_not_create_makes_nothing(tmp_path: Path, outage: Gone) -> None:
    root = tmp_path / "root"
    DirectoryPayloadStore(root).upload(b"1")
    outage(root)
    assert_unavailable(root, partial(raised, root, "upload(b'1')", "create_container=False"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The root of a store that another process made, to be copied, and the tokens of its two payloads."""
    root = tmp_path_factory.mktemp("written") / "root"
    tokens = run_python(f"s = D({str(root)!r}); print(json.dumps([s.upload(b'1'), s.upload(b'2')]))")
    return root, json.loads(tokens)


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("outage", [root_is_moved, root_is_not_mounted, folder_is_not_mounted])
@pytest.mark.parametrize("first_use", ["download", "stored_bytes", "delete"])
def test_a_process_that_has_only_read_makes_nothing(
    tmp_path: Path, written: tuple[Path, list[str]], outage: Gone, first_use: str
) -> None:
    """A hit does not look at the marker, but shows that the folder existed."""
    root = tmp_path / "root"
    made, (token, other) = written
    shutil.copytree(made, root)
    store = DirectoryPayloadStore(root)
    getattr(store, first_use)(token)
    outage(root)
    assert_unavailable(root, partial(store.upload, b"3"))
    assert_unavailable(root, partial(store.download, other))


@pytest.mark.usefixtures("platform")
def test_only_an_upload_makes_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    store = DirectoryPayloadStore(root)
    for use in (store.download, store.delete, store.stored_bytes):
        assert_unavailable(root, partial(use, UNKNOWN))
    store.upload(b"1")
    with pytest.raises(PayloadNotFoundError):
        store.download(UNKNOWN)
    store.delete(UNKNOWN)


def test_no_folder_is_made_in_a_missing_one(tmp_path: Path) -> None:
    root = tmp_path / "missing" / "root"
    with pytest.raises(PayloadStoreUnavailableError, match="neither its root nor the root's parent folder exists"):
        DirectoryPayloadStore(root).upload(b"1")
    assert not list(tmp_path.iterdir())
    root.parent.mkdir()
    DirectoryPayloadStore(root).upload(b"1")


@pytest.mark.usefixtures("platform")
def test_a_root_that_existed_is_not_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    store = DirectoryPayloadStore(root)
    assert_unavailable(root, partial(store.download, UNKNOWN))
    root.rmdir()
    assert_unavailable(root, partial(store.upload, b"1"))
    root.mkdir()
    assert store.download(store.upload(b"1")) == b"1"


def test_another_container_of_a_root_that_is_gone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    DirectoryPayloadStore(root).upload(b"1")
    shutil.rmtree(root)
    with pytest.raises(PayloadStoreUnavailableError, match="'other'"):
        DirectoryPayloadStore(root, container_name="other").upload(b"1")
    assert not root.exists()


@pytest.mark.usefixtures("platform")
def test_a_folder_that_was_made_by_hand(tmp_path: Path) -> None:
    (tmp_path / "durabletask-payloads").mkdir()
    store = DirectoryPayloadStore(tmp_path)
    assert_unavailable(tmp_path, partial(store.download, UNKNOWN))
    assert store.download(store.upload(b"1")) == b"1"
    with pytest.raises(PayloadNotFoundError):
        store.download(UNKNOWN)


@pytest.mark.usefixtures("platform")
def test_a_folder_of_an_older_version(tmp_path: Path) -> None:
    """It has no marker: its payloads are read, and the next upload writes one."""
    token, other = json.loads(
        run_python(f"s = D({str(tmp_path)!r}); print(json.dumps([s.upload(b'1'), s.upload(b'2')]))")
    )
    marker_of(tmp_path).rmdir()
    store = DirectoryPayloadStore(tmp_path)
    assert store.download(token) == b"1"
    assert store.stored_bytes(token) == 1
    assert_unavailable(tmp_path, partial(store.download, UNKNOWN))
    store.upload(b"3")
    assert marker_of(tmp_path).exists()
    with pytest.raises(PayloadNotFoundError):
        store.download(UNKNOWN)
    assert store.download(other) == b"2"


def test_many_threads_and_processes_make_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    program = (
        f"s = D({str(root)!r})\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(16) as pool:\n"
        "    print(json.dumps(list(pool.map(s.upload, [b'1'] * 32))))\n"
    )
    with ThreadPoolExecutor(4) as pool:
        tokens = [token for out in pool.map(run_python, [program] * 4) for token in json.loads(out)]
    store = DirectoryPayloadStore(root)
    assert [store.download(token) for token in tokens] == [b"1"] * 128


def test_the_folder_goes_away_in_the_middle_of_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at the marker and the write, an empty folder takes its place: nothing is written there."""
    root = tmp_path / "root"
    store = DirectoryPayloadStore(root)
    store.upload(b"1")
    made = os.mkdir

    def going_away(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(os, "mkdir", made)
        folder_is_not_mounted(root)
        made(*args, **kwargs)

    monkeypatch.setattr(os, "mkdir", going_away)
    token = store.upload(b"2")
    assert not list((root / "durabletask-payloads").iterdir())
    shutil.rmtree(root)
    (tmp_path / "gone").rename(root)
    assert store.download(token) == b"2"


@pytest.mark.usefixtures("platform")
def test_the_folder_comes_back_in_the_middle_of_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the miss and the look at the marker: no payload counts as deleted."""
    root = tmp_path / "root"
    store = DirectoryPayloadStore(root)
    token = store.upload(b"1")
    folder_is_not_mounted(root)
    look = os.stat

    def coming_back(path: str, **kwargs: Any) -> os.stat_result:
        if Path(path).name == ".payload-store":
            monkeypatch.setattr(os, "stat", look)
            shutil.rmtree(root)
            (tmp_path / "gone").rename(root)
        return look(path, **kwargs)

    monkeypatch.setattr(os, "stat", coming_back)
    with suppress(PayloadStoreUnavailableError):
        assert store.download(token) == b"1"
    assert os.stat is look
    assert store.download(token) == b"1"


def test_another_process_writes_the_marker_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = marker_of(tmp_path)
    look = os.stat

    def overtaken(path: str, **kwargs: Any) -> os.stat_result:
        if path == marker.name and not marker.exists():
            monkeypatch.setattr(os, "stat", look)
            marker.mkdir()
            raise FileNotFoundError
        return look(path, **kwargs)

    monkeypatch.setattr(os, "stat", overtaken)
    store = DirectoryPayloadStore(tmp_path)
    assert store.download(store.upload(b"1")) == b"1"
    assert os.stat is look
