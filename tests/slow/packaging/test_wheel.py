"""The wheel and the sdist, as a user gets them: built once, installed into a new environment."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, cwd=ROOT)
    return folder


def test_what_is_in_the_wheel(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == {
        "durabletask_payloads",
        "durabletask_payloads_codegen",
        "durabletask_payloads_walkers",
    }
    for package in ("durabletask_payloads", "durabletask_payloads_codegen", "durabletask_payloads_walkers"):
        assert f"{package}/py.typed" in names
    assert any(name.endswith(".j2") for name in names), "the templates of the generator"
    assert any(name.endswith("licenses/LICENSE") for name in names)
    for extra in ("azure", "sdk", "fast", "object-store", "otel", "codegen", "all"):
        assert f"Provides-Extra: {extra}" in metadata


def test_what_is_in_the_sdist(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "Makefile",
        "dev.lock",
        "LICENSE",
        "README.md",
        "protos/payload_fields.toml",
        "protos/durabletask/internal/orchestrator_service.proto",
        "generated/PAYLOAD_FIELDS.md",
        "tests/packaging/test_wheel.py",
    ):
        assert name in names


@pytest.mark.timeout(300)
def test_the_wheel_alone_imports_and_with_the_sdk_runs_the_demo(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "dev.lock")
    run(*install, wheel, cwd=tmp_path)
    program = (
        "import importlib, importlib.util, pkgutil\n"
        "for name in ('durabletask', 'azure', 'obstore', 'rich', 'jinja2'):\n"
        "    assert importlib.util.find_spec(name) is None, name\n"
        "for package in ('durabletask_payloads', 'durabletask_payloads_walkers'):\n"
        "    path = importlib.import_module(package).__path__\n"
        "    for module in pkgutil.walk_packages(path, prefix=package + '.'):\n"
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ImportError as error:\n"
        "            print(module.name, str(error).rpartition(': ')[2], sep=': ')\n"
    )
    # The modules of an extra, each with the command that installs it; all others import.
    assert run(python, "-c", program, cwd=tmp_path).stdout.splitlines() == [
        "durabletask_payloads.cli.demo: pip install durabletask-payloads[sdk]",
        "durabletask_payloads.sdk: pip install durabletask-payloads[sdk]",
        "durabletask_payloads.stores.azure_blob: pip install durabletask-payloads[azure]",
    ]
    demo = tmp_path / "env" / "bin" / "durabletask-payloads"
    missing = subprocess.run([demo, "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert missing.stderr.count("\n") == 1
    assert "pip install durabletask-payloads[sdk]" in missing.stderr

    run(*install, f"{wheel}[sdk]", cwd=tmp_path)
    shown = run(demo, "demo", cwd=tmp_path).stdout
    assert "RESOURCE_EXHAUSTED" in shown
    assert "COMPLETED" in shown
