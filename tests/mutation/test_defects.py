"""The table of planted defects is up to date, and the script that plants them tells found from missed."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.mutation import defects
from tests.mutation.defects import KINDS, ROOT, Defect, DefectError, Finding, Tree, load, main, nearest
from tests.mutation.failures import PACKAGES

if TYPE_CHECKING:
    from pathlib import Path

DEFECTS = load()
SMALL = Defect("threshold", "small", "runtime/small/_sizes.py", "size > 1", "size >= 1")


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_can_be_planted(defect: Defect) -> None:
    planted = defect.planted_in((ROOT / defect.file).read_text(encoding="utf-8"))
    if defect.file.endswith(".py"):
        compile(planted, defect.file, "exec")


def test_the_names() -> None:
    names = [defect.name for defect in DEFECTS]
    assert len(set(names)) == len(names)
    assert tuple(dict.fromkeys(defect.kind for defect in DEFECTS)) == KINDS


@pytest.mark.parametrize("source", ["", "size > 1 or size > 1"])
def test_a_text_that_is_not_there_once(source: str) -> None:
    with pytest.raises(DefectError, match=r"threshold/small: its text is [02] times in runtime/small/_sizes\.py"):
        SMALL.planted_in(source)


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        (
            "runtime/durabletask_payloads/stores/_directory.py",
            [["test_directory.py", "test_directory_hostile.py"], ["stores"], ["tests"]],
        ),
        ("runtime/durabletask_payloads/interceptors/worker/kinds/_entity.py", [["worker"], ["tests"]]),
        ("runtime/durabletask_payloads/sdk.py", [["tests"]]),
        ("generated/durabletask_payloads_walkers/tables.py", [["generated"], ["tests"]]),
        ("codegen/durabletask_payloads_codegen/model.py", [["test_model.py"], ["codegen"], ["tests"]]),
        ("protos/payload_fields.toml", [["codegen"], ["tests"]]),
    ],
)
def test_the_nearest_tests_come_first(file: str, stages: list[list[str]]) -> None:
    assert [[path.name for path in stage] for stage in nearest(file, ROOT / "tests")] == stages


# ---- on a small tree -------------------------------------------------------------------------------------------------

MODULE = "def is_large(size: int) -> bool:\n    return size > 1\n"
TESTS = """
from pathlib import Path

from small._sizes import is_large


def test_finds_it():
    assert not is_large(1)


def test_finds_nothing():
    assert is_large(2)


def test_fails_in_any_case():
    assert is_large(0)


def test_fails_now_and_then():
    done = Path(__file__).parents[2] / "done"
    if not done.exists():
        done.touch()
        raise AssertionError
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with one module, its tests, and the plugin, which finds the packages there too."""
    files = {"runtime/small/__init__.py": "", "runtime/small/_sizes.py": MODULE, "tests/test_sizes.py": TESTS}
    files |= {f"runtime/{name}/__init__.py": "" for name in PACKAGES}
    files["tests/mutation/failures.py"] = (ROOT / "tests/mutation/failures.py").read_text(encoding="utf-8")
    files["pyproject.toml"] = '[tool.pytest.ini_options]\nmarkers = ["slow"]\n'
    for name, text in files.items():
        (tmp_path / "clean" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clean" / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(defects, "PROCESSES", ("--numprocesses", "0"))
    return tmp_path


def test_a_test_has_found_a_defect_if_it_fails_twice_and_passes_without(small: Path) -> None:
    found = defects.find(SMALL, Tree(small / "clean"), small / "planted", 1)
    assert found.tests == ["tests/test_sizes.py::test_finds_it"]
    assert {path.name for path in small.iterdir()} == {"clean", "done"}


def test_packages_of_another_tree_are_refused(small: Path) -> None:
    (small / "clean/runtime/durabletask_payloads/__init__.py").unlink()
    (small / "clean/runtime/durabletask_payloads").rmdir()
    with pytest.raises(DefectError, match=r"durabletask_payloads is imported from .*, not from"):
        Tree(small / "clean").failed(["tests"], 1)


def test_the_exit_status_says_whether_all_were_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(defect: Defect, clean: Tree, folder: Path, seed: int, *, near: bool) -> Finding:
        return Finding(["tests/a.py::test_b", "tests/c.py::test_d"] if defect.kind == "etag" else [], 1.5)

    monkeypatch.setattr(defects, "copy", Tree)
    monkeypatch.setattr(defects, "find", find)
    assert main(["etag/azure"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "defect      seconds  found by",
        "etag/azure      1.5  tests/a.py::test_b",
        "                     tests/c.py::test_d",
        "1 of 1 defects found",
    ]
    assert main(["etag/azure", "threshold/a*"]) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "1 of 2 defects found",
        "found by no test: threshold/ascii",
    ]


def test_the_copy_is_the_tree(tmp_path: Path) -> None:
    defects.copy(tmp_path)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    ours, theirs = (
        set(subprocess.run(listed, cwd=folder, capture_output=True, text=True, check=True).stdout.split("\0"))
        for folder in (ROOT, tmp_path)
    )
    assert {name for name in ours if (ROOT / name).is_file()} == theirs - {".venv", ""}
