"""Files are written all or not at all, and what is no longer generated goes away."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pytest
from tests.codegen.support import contents

from durabletask_payloads_codegen import write
from durabletask_payloads_codegen.errors import CodegenError

if TYPE_CHECKING:
    from pathlib import Path

FILES = {"package/a.py": "a = 1\n", "package/sub/b.pyi": "b: int\n", "package/py.typed": "", "NOTES.md": "notes\n"}


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    assert write.write(tmp_path / "new", FILES) == list(FILES)
    assert contents(tmp_path / "new") == {path: text.encode() for path, text in FILES.items()}
    before = (tmp_path / "new/NOTES.md").stat().st_mtime_ns
    assert write.write(tmp_path / "new", FILES) == []
    assert write.write(tmp_path / "new", {**FILES, "package/a.py": "a = 2\n"}) == ["package/a.py"]
    assert (tmp_path / "new/package/a.py").read_text() == "a = 2\n"
    assert (tmp_path / "new/NOTES.md").stat().st_mtime_ns == before
    assert (tmp_path / "new/package/a.py").stat().st_mode & 0o777 == 0o644


def test_what_is_generated_no_longer_is_removed(tmp_path: Path) -> None:
    write.write(tmp_path, FILES)
    (tmp_path / "package/__pycache__").mkdir()
    (tmp_path / "package/__pycache__/a.pyc").write_bytes(b"x")
    (tmp_path / "package/sub/stale.py").write_text("old = 1\n")
    (tmp_path / "other.py").write_text("not = 'ours'\n")
    assert write.difference(tmp_path, FILES) == ""
    assert write.write(tmp_path, FILES) == [], "nobody said that the folder is ours"
    owned = write.packages(FILES)
    assert owned == {"package"}
    assert "-old = 1" in write.difference(tmp_path, FILES, owned)
    assert write.write(tmp_path, FILES, owned) == ["package/sub/stale.py"]
    assert contents(tmp_path).keys() == {*FILES, "package/__pycache__/a.pyc", "other.py"}
    assert write.difference(tmp_path, FILES, owned) == ""


def test_an_error_before_the_last_file_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write.write(tmp_path, FILES)
    before = contents(tmp_path)
    real = tempfile.NamedTemporaryFile
    opened: list[object] = []

    def full_disk(**options: object) -> object:
        opened.append(options)
        if len(opened) == 2:
            raise OSError(28, "No space left on device", str(tmp_path / "package"))
        return real(dir=tmp_path / "package", delete=False)

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full_disk)
    with pytest.raises(CodegenError) as raised:
        write.write(tmp_path, {path: f"{text}#" for path, text in FILES.items()})
    assert str(raised.value) == f"{tmp_path}/package: cannot be written: No space left on device"
    assert contents(tmp_path) == before


def test_a_difference_is_a_unified_diff(tmp_path: Path) -> None:
    assert write.difference(tmp_path, {"p/a.py": "a = 1\n"}) == (
        f"--- /dev/null\n+++ {tmp_path}/p/a.py (generated)\n@@ -0,0 +1 @@\n+a = 1\n"
    )
    assert write.difference(tmp_path, {"p/py.typed": ""}) == f"--- /dev/null\n+++ {tmp_path}/p/py.typed (generated)\n"
    write.write(tmp_path, {"p/a.py": "a = 1\nb = 1\n"})
    assert write.difference(tmp_path, {"p/a.py": "a = 1\nb = 2\n"}) == (
        f"--- {tmp_path}/p/a.py\n+++ {tmp_path}/p/a.py (generated)\n@@ -1,2 +1,2 @@\n a = 1\n-b = 1\n+b = 2\n"
    )
    (tmp_path / "p/a.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    assert write.difference(tmp_path, {"p/a.py": "a = 1\nb = 2\n"}) != ""
