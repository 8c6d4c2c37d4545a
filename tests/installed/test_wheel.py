"""The wheel and the sdist, as a user gets them: built once, installed bare and with [all]."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from tests.support.documents import PAGES
from tests.support.wheels import ROOT, Environment, installed, result, run

PACKAGES = {
    "durabletask_payloads",
    "durabletask_payloads_codegen",
    "durabletask_payloads_protos",
    "durabletask_payloads_walkers",
}
PROGRAMS = ("durabletask-payloads", "durabletask-payloads-codegen", "protoc-gen-durabletask-payloads")
OLD_PYTHON = ["tomli"] if sys.version_info < (3, 11) else []


def test_what_is_in_the_wheel(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    roots = {name.partition("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == PACKAGES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    # Python, its stubs, templates and markers: no npm lock, no tests.
    suffixes = {Path(name).suffix for name in names if ".dist-info/" not in name}
    assert suffixes == {".py", ".pyi", ".j2", ".typed"}

    extras: dict[str, set[str]] = {extra: set() for extra in re.findall(r"^Provides-Extra: (.+)$", metadata, re.M)}
    for requirement, extra in re.findall(r"^Requires-Dist: ([\w-]+).*; .*extra == '([\w-]+)'", metadata, re.M):
        extras[extra].add(requirement)
    parts = {
        "azure": {"azure-storage-blob"},
        "cli": {"rich", "typer"},
        "codegen": {"grpcio-tools", "jinja2", "mypy-protobuf", "protobuf", "ruff", "tomli"},
        "fast": {"isal", "obstore"},
        "object-store": {"obstore"},
        "otel": {"opentelemetry-api"},
        "sdk": {"durabletask"},
        "typing": {"types-grpcio", "types-protobuf"},
    }
    assert extras == {**parts, "all": set[str]().union(*parts.values())}


@pytest.mark.timeout(300)
def test_the_purge_service_imports_with_the_oldest_protobuf_and_grpcio(dist: Path, tmp_path: Path) -> None:
    """Beside the SDK's messages, in either order. With the newest ones test_imports does the same."""
    environment = Environment(tmp_path / "env")
    oldest = ("protobuf==4.25.0", "grpcio==1.65.4") if sys.version_info < (3, 13) else ()  # of which there are wheels
    environment.install(*map(str, dist.glob("*.whl")), "durabletask==1.12.0", *oldest, locked=False)
    names = [
        "durabletask.internal.orchestrator_service_pb2",
        "durabletask_payloads_protos.large_payload_purge_pb2_grpc",
    ]
    for order in (names, names[::-1]):
        program = f"import {', '.join(order)}"
        run(environment.python, "-W", "error", "-c", program, cwd=tmp_path)


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
        "tests/installed/test_wheel.py",
        "tests/support/azurite/package-lock.json",
    ):
        assert name in names


@pytest.mark.timeout(300)
def test_without_an_extra_all_modules_import_but_those_of_an_extra(bare: Path, tmp_path: Path) -> None:
    program = (
        "import importlib, importlib.util, pkgutil\n"
        "for name in ('durabletask', 'azure', 'rich', 'typer', 'jinja2', 'grpc_tools', 'pytest'):\n"
        "    assert importlib.util.find_spec(name) is None, name\n"
        f"for package in {sorted(PACKAGES)}:\n"
        "    path = importlib.import_module(package).__path__\n"
        "    for module in pkgutil.walk_packages(path, prefix=package + '.'):\n"
        "        parts = ('._azure_', '._obstore_', '._object_client', 'payloads.cli.')\n"
        "        if any(part in module.name for part in parts):\n"
        "            continue\n"  # what azure_blob, object_store and main() of the command line import, and answer for
        "        try:\n"
        "            importlib.import_module(module.name)\n"
        "        except ImportError as error:\n"
        "            print(module.name, str(error).rpartition(': ')[2], sep=': ')\n"
    )
    lines = run(bare / "python", "-c", program, cwd=tmp_path).splitlines()
    operations = [line for line in lines if line.startswith("durabletask_payloads.operations.")]
    assert {line.rpartition(": ")[2] for line in operations} == {"pip install durabletask-payloads[sdk]"}
    assert [line for line in lines if line not in operations] == [
        "durabletask_payloads.observers.opentelemetry: pip install durabletask-payloads[otel]",
        "durabletask_payloads.sdk: pip install durabletask-payloads[sdk]",
        "durabletask_payloads.stores.azure_blob: pip install durabletask-payloads[azure]",
        "durabletask_payloads.stores.object_store: pip install durabletask-payloads[object-store]",
        "durabletask_payloads.testing: pip install pytest",
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", PROGRAMS)
def test_without_an_extra_help_and_version(bare: Path, tmp_path: Path, program: str) -> None:
    if program != "durabletask-payloads":  # whose commands are there with its extra only
        assert run(bare / program, "--help", cwd=tmp_path).startswith(f"usage: {program} ")
    assert re.fullmatch(rf"{program} \d+\.\d+(\.\d+)?\n", run(bare / program, "--version", cwd=tmp_path))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("command", "line"),
    [
        (
            ["durabletask-payloads", "demo"],
            "durabletask-payloads: the command line needs typer and rich (No module named 'typer'): "
            "pip install durabletask-payloads[cli]",
        ),
        (
            ["durabletask-payloads-codegen", "check"],
            "durabletask-payloads-codegen: error: "
            f"{', '.join(['grpc_tools', 'mypy_protobuf', 'jinja2', 'ruff', *OLD_PYTHON])} not found: "
            "pip install durabletask-payloads[codegen]",
        ),
    ],
)
def test_without_its_extra_a_command_says_what_to_install(
    bare: Path, tmp_path: Path, command: list[str], line: str
) -> None:
    done = result(bare / command[0], *command[1:], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{line}\n")


@pytest.mark.timeout(300)
def test_without_its_extra_the_plugin_says_so_through_protoc(bare: Path, tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text('syntax = "proto3";\n')
    plugin = f"--plugin={bare / 'protoc-gen-durabletask-payloads'}"
    protoc = (sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", "--durabletask-payloads_out=.", plugin)
    done = result(*protoc, "a.proto", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"--durabletask-payloads_out: {', '.join(['jinja2', 'ruff', *OLD_PYTHON])} not found: "
        "pip install durabletask-payloads[codegen]\n"
    )


@pytest.mark.timeout(300)
def test_with_all_extras_the_programs_work(dist: Path, tmp_path: Path) -> None:
    scripts = installed(dist, tmp_path / "env", "[all]")
    shown = run(scripts / "durabletask-payloads", "demo", "--size", "5", cwd=tmp_path)
    assert "RESOURCE_EXHAUSTED" in shown
    assert "COMPLETED" in shown
    # Not from the current folder, though it is a clone: its code is not what was installed.
    elsewhere = result(scripts / "durabletask-payloads", "demo", "--store", "azurite", cwd=ROOT)
    assert (elsewhere.returncode, elsewhere.stdout) == (2, "")
    assert elsewhere.stderr == (
        "durabletask-payloads demo: --store azurite needs a clone of the repository: run `make demo` there, "
        "or use --store azure://<account>/<container>\n"
    )
    assert run(scripts / "durabletask-payloads-codegen", "check", cwd=ROOT) == ""


@pytest.mark.timeout(300)
def test_an_author_of_a_store_runs_the_contract(dist: Path, tmp_path: Path) -> None:
    """The documented example, with the wheel, pytest and mypy, and no extra and no SDK."""
    environment = Environment(tmp_path / "env")
    (wheel,) = dist.glob("*.whl")
    environment.install(str(wheel), "pytest", "mypy")
    (example,) = PAGES["writing-a-store.md"].programs
    ours = example.replace("my_package import MyStore", "durabletask_payloads import DirectoryPayloadStore as MyStore")
    assert ours != example
    test = tmp_path / "test_store.py"
    test.write_text(ours, encoding="utf-8")
    passed = run(environment.python, "-m", "pytest", "-q", "-W", "error", test, cwd=tmp_path)
    assert re.search(r"^\d{2,} passed in", passed, re.MULTILINE), passed
    mypy = (environment.python, "-m", "mypy", "--strict", test)
    assert run(*mypy, cwd=tmp_path).startswith("Success")
    test.write_text(ours.replace("-> MakeStore", "-> int"), encoding="utf-8")
    assert "[return-value]" in result(*mypy, cwd=tmp_path).stdout
