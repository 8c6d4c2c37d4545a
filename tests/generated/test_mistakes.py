"""A static claim needs a static test: deliberate mistakes, and what mypy and pyright say to each of them.

When a checker says it in other words after an upgrade, the golden files are to be renewed by hand, line by line.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "mistakes"


class Complaint(NamedTuple):
    line: int
    rule: str
    text: str


def golden(checker: str) -> list[Complaint]:
    lines = (line.split(" ", 2) for line in (FOLDER / f"{checker}.txt").read_text().splitlines())
    return [Complaint(int(line.rstrip(":")), rule.strip("[]"), text) for line, rule, text in lines]


def mypy(file: Path, python: str) -> list[Complaint]:
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--output=json"]
    command += [f"--cache-dir={file.parent / 'cache'}", f"--python-executable={python}", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Complaint(one["line"], one["code"], one["message"]) for one in found if one["severity"] == "error"]


def pyright(file: Path, python: str) -> list[Complaint]:
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.10"}
    (file.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", python, "--project", str(file.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [Complaint(one["range"]["start"]["line"] + 1, one["rule"], one["message"].splitlines()[0]) for one in found]


def functions_with_complaints(complaints: list[Complaint]) -> set[str]:
    found: set[str] = set()
    for node in ast.parse((FOLDER / "mistakes.txt").read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None:
            lines = range(node.lineno, node.end_lineno + 1)
            found |= {node.name for complaint in complaints if complaint.line in lines}
    return found


@pytest.fixture
def mistakes(tmp_path: Path) -> Path:
    """A copy that checkers see: under its own name they would find it in the tree."""
    file = tmp_path / "mistakes.py"
    file.write_text((FOLDER / "mistakes.txt").read_text())
    return file


@pytest.fixture
def python_without_stubs(tmp_path: Path) -> str:
    """An environment with all that this one has, but for the generated stubs."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False)
    roots = tmp_path / "roots"
    roots.mkdir()
    (roots / "durabletask_payloads_walkers").symlink_to(ROOT / "generated" / "durabletask_payloads_walkers")
    # Paths in a .pth file are roots, but the .pth files in them do not count: those would lead to the stubs.
    lines = [sysconfig.get_path("purelib"), str(ROOT / "runtime"), str(roots)]
    site_packages = next(folder.rglob("site-packages"))
    (site_packages / "roots.pth").write_text("\n".join(lines))
    return str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")


@pytest.mark.parametrize("check", [mypy, pyright])
def test_every_mistake_is_reported(mistakes: Path, check: Callable[[Path, str], list[Complaint]]) -> None:
    complaints = check(mistakes, sys.executable)
    tree = ast.parse(mistakes.read_text())
    assert functions_with_complaints(complaints) == {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef)
    }
    assert complaints == golden(check.__name__)


@pytest.mark.parametrize("check", [mypy, pyright])
def test_without_the_stubs_mistakes_go_unreported(
    mistakes: Path, python_without_stubs: str, check: Callable[[Path, str], list[Complaint]]
) -> None:
    """So the golden files above also prove that the stubs are picked up, which else fails in silence.

    Without them a forgotten member is reported still, but so is every match that forgets none: a oneof is any text.
    """
    without = check(mistakes, python_without_stubs)
    reported = {complaint.line for complaint in without}
    unreported = [complaint for complaint in golden(check.__name__) if complaint.line not in reported]
    assert functions_with_complaints(unreported) == {"misspelt_field", "misspelt_oneof", "misspelt_member"}
