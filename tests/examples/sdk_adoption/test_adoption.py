"""An SDK that has adopted the walkers does what it did, type-checks, and needs nothing of this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.examples.sdk_adoption.adopt import adopt, installed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[3]
DIFFERENTIAL = "tests.examples.sdk_adoption.differential"
# 100,000 messages in all: a share for each process, each with a seed of its own.
MESSAGES, SEEDS = 50_000, (1, 2)
VENDORED = ("durabletask/internal/payload_walkers", "durabletask/payload/helpers.py")
# What `durabletask.payload` needs, and packages that those need.
REQUIRED = ("google",)
PROBE = """
import importlib.util, json, sys
sys.path[:0] = sys.argv[1:]
import durabletask.payload
from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.internal.payload_walkers import externalize_activity_request
print(json.dumps({
    "helpers": durabletask.payload.helpers.__file__,
    "ours": [name for name in sys.modules if "durabletask_payloads" in name],
    "installed": [name for name in ("durabletask_payloads", "durabletask_payloads_walkers", "grpc")
                  if importlib.util.find_spec(name)],
}))
"""


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adopted SDK: first in PYTHONPATH it stands before the installed one."""
    folder = tmp_path_factory.mktemp("adopted")
    adopt(folder)
    return folder


def first_in_path(adopted: Path) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(adopted)}


@pytest.mark.slow
def test_the_helpers_do_what_the_original_ones_do(adopted: Path) -> None:
    original = str(installed() / "payload" / "helpers.py")
    commands = [[sys.executable, "-m", DIFFERENTIAL, str(MESSAGES), str(seed), original] for seed in SEEDS]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=first_in_path(adopted), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    for process in processes:
        printed, errors = process.communicate()
        assert process.returncode == 0, errors[-4_000:]
        seen = json.loads(printed)
        assert seen["fields"] == 91
        for direction in ("externalize", "deexternalize"):
            assert seen[f"{direction} sync"] + seen[f"{direction} async"] == MESSAGES
            assert seen[f"{direction} async"] == MESSAGES / 4
            assert seen[f"{direction} log lines"] > MESSAGES / 4
            assert seen[f"{direction} StoreError"] > 100
        assert min(seen["externalize ValueError"], seen["deexternalize KeyError"]) > 100
        assert seen["deexternalize UnicodeDecodeError"] > 100


def test_nothing_of_this_package_is_needed(adopted: Path, tmp_path: Path) -> None:
    """With the standard library, protobuf and the adopted SDK alone in the path."""
    for name in REQUIRED:
        (tmp_path / name).symlink_to(Path(sysconfig.get_path("purelib"), name), target_is_directory=True)
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(adopted), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    helpers = str(adopted / "durabletask" / "payload" / "helpers.py")
    assert json.loads(done.stdout) == {"helpers": helpers, "ours": [], "installed": []}


def test_nothing_of_this_package_is_imported(adopted: Path) -> None:
    """In an environment that has it."""
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(
        command, env=first_in_path(adopted), cwd=adopted, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ours"], len(found["installed"])) == ([], 3)


@pytest.mark.parametrize(
    "module",
    ["durabletask.payload", "durabletask.extensions.azure_blob_payloads", "durabletask.worker", "durabletask.client"],
)
def test_what_the_sdk_imports(adopted: Path, module: str) -> None:
    """Its blob store says how its tokens begin, and is taken by the helpers like any other store."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with all that this one has, but for this package and its stubs: only .pth files lead to those."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site_packages = next(folder.rglob("site-packages"))
    (site_packages / "packages.pth").write_text(sysconfig.get_path("purelib"))
    return str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def complaints_of_mypy(folder: Path, python: str) -> str:
    """Check what was put in; the rest of the SDK is looked at and not reported."""
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", *VENDORED]
    command += ["--python-version=3.10", f"--python-executable={python}", "--cache-dir=../mypy_cache"]
    return run(command, folder, {**os.environ, "MYPYPATH": str(folder)})


def complaints_of_pyright(folder: Path, python: str) -> str:
    settings = {"typeCheckingMode": "strict", "pythonVersion": "3.10", "include": VENDORED}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return run([sys.executable, "-m", "pyright", "--pythonpath", python, "--project", "."], folder, os.environ)


@pytest.mark.slow
def test_mypy_passes(adopted: Path, python: str) -> None:
    assert complaints_of_mypy(adopted, python) == "Success: no issues found in 6 source files\n"


@pytest.mark.slow
def test_pyright_passes(adopted: Path, python: str) -> None:
    assert complaints_of_pyright(adopted, python) == "0 errors, 0 warnings, 0 informations\n"
