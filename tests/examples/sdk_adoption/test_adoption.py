"""An SDK that has adopted the walkers does what it did, type-checks, and needs nothing of this package."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.examples.sdk_adoption.adopt import adopt, generate_command, installed
from tests.support.fixtures import needs_sdk_payloads

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[3]
GUIDE = Path(__file__).parent / "README.md"
DIFFERENTIAL = "tests.examples.sdk_adoption.differential"
MESSAGES = 8_000
VENDORED = ("durabletask/internal/payload_walkers", "durabletask/payload/helpers.py")
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
BLOB_STORE = """
from durabletask.extensions.azure_blob_payloads import BlobPayloadStore, BlobPayloadStoreOptions
store = BlobPayloadStore(BlobPayloadStoreOptions(account_url="https://account.blob.core.windows.net", credential="key"))
prefix = store.token_prefix
print(prefix, store.is_known_token(f"{prefix}container/blob".replace("/", ":")), store.is_known_token("blob:v2:c:b"))
"""


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adopted SDK: first in PYTHONPATH it stands before the installed one."""
    folder = tmp_path_factory.mktemp("adopted")
    adopt(folder)
    return folder


def block(language: str) -> str:
    """Return the one block of that language in the guide."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    text: str = found
    return text


def first_in_path(adopted: Path) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(adopted)}


@needs_sdk_payloads
def test_the_helpers_do_what_the_original_ones_do(adopted: Path) -> None:
    """More of them: the module by itself, as here, with another number."""
    original = str(installed() / "payload" / "helpers.py")
    command = [sys.executable, "-m", DIFFERENTIAL, str(MESSAGES), "1", original]
    done = subprocess.run(command, cwd=ROOT, env=first_in_path(adopted), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    seen = json.loads(done.stdout)
    assert seen["fields"] == 91
    for direction in ("externalize", "deexternalize"):
        assert seen[f"{direction} sync"] + seen[f"{direction} async"] == MESSAGES
        assert seen[f"{direction} async"] == MESSAGES / 4
        assert seen[f"{direction} log lines"] > MESSAGES / 4
        assert seen[f"{direction} StoreError"] > 20
    assert min(seen["externalize ValueError"], seen["deexternalize KeyError"]) > 20
    assert seen["deexternalize UnicodeDecodeError"] > 20


def test_nothing_of_this_package_is_needed(adopted: Path, tmp_path: Path) -> None:
    """With the standard library, protobuf and the adopted SDK alone in the path."""
    (tmp_path / "google").symlink_to(Path(sysconfig.get_path("purelib"), "google"), target_is_directory=True)
    command = [sys.executable, "-I", "-S", "-c", PROBE, str(adopted), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    helpers = str(adopted / "durabletask" / "payload" / "helpers.py")
    assert json.loads(done.stdout) == {"helpers": helpers, "ours": [], "installed": []}


def test_nothing_of_this_package_is_imported(adopted: Path) -> None:
    """In an environment that has it."""
    command = [sys.executable, "-c", PROBE]
    done = subprocess.run(command, env=first_in_path(adopted), cwd=adopted, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ours"], len(found["installed"])) == ([], 3)


def test_the_blob_store_says_how_its_tokens_begin(adopted: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOB_STORE], env=first_in_path(adopted), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("blob:v1: True False\n", "")


@pytest.mark.slow
def test_the_sdk_works_with_it(adopted: Path) -> None:
    """Its worker and client move payloads through these helpers, in the tests of our store as a `payload_store=`."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/interceptors/test_sdk_adapter.py"]
    done = subprocess.run(command, cwd=ROOT, env=first_in_path(adopted), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def python_without_stubs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An environment with all that this one has, but for our exact stubs of the SDK: a .pth file leads to those."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site_packages = next(folder.rglob("site-packages"))
    (site_packages / "packages.pth").write_text(sysconfig.get_path("purelib"))
    return str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")


def mypy(folder: Path, python: str) -> str:
    """Check what was put in; the rest of the SDK is read and not reported, which is not clean by itself."""
    settings = "strict = True\npython_version = 3.10\nfollow_imports = silent\nfollow_imports_for_stubs = True\n"
    (folder / "mypy.ini").write_text(f"[mypy]\n{settings}")
    command = [sys.executable, "-m", "mypy", f"--python-executable={python}", "--cache-dir=mypy_cache", *VENDORED]
    environment = {**os.environ, "MYPYPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def pyright(folder: Path, python: str) -> str:
    """Check what was put in."""
    strict = {"typeCheckingMode": "strict", "pythonVersion": "3.10", "include": VENDORED}
    (folder / "pyrightconfig.json").write_text(json.dumps(strict))
    command = [sys.executable, "-m", "pyright", "--pythonpath", python]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.tools
@pytest.mark.slow
def test_mypy_passes(adopted: Path, python_without_stubs: str) -> None:
    """With the SDK's own stubs, and with exact ones."""
    for python in (python_without_stubs, sys.executable):
        assert mypy(adopted, python) == "Success: no issues found in 6 source files\n"


@pytest.mark.tools
@pytest.mark.slow
def test_pyright_passes(adopted: Path, python_without_stubs: str) -> None:
    """With exact stubs, and with the SDK's own, in which a oneof is any text."""
    for python in (sys.executable, python_without_stubs):
        assert pyright(adopted, python).strip() == "0 errors, 0 warnings, 0 informations"


def test_the_guide_says_what_adopt_does() -> None:
    words = shlex.split(block("console").replace("\\\n", " "))
    assert words[words.index("generate") :] == generate_command("payload_fields.toml", ".")
