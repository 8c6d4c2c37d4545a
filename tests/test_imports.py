"""What can be imported, with what, and in which order."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

PACKAGES = (
    "durabletask_payloads",
    "durabletask_payloads_walkers",
    "durabletask_payloads_codegen",
    "durabletask_payloads_protos",
)
PB2 = "durabletask.internal.orchestrator_service_pb2"
NOT_OURS = ("annotations", "TYPE_CHECKING")


def all_modules() -> list[str]:
    names: list[str] = []
    for package in PACKAGES:
        names.append(package)
        path = importlib.import_module(package).__path__
        names.extend(module.name for module in pkgutil.walk_packages(path, prefix=f"{package}."))
    return [name for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("order", ["the SDK's pb2 first", "ours first"])
def test_every_module_imports_beside_the_sdks_pb2(order: str) -> None:
    modules = all_modules()
    assert len(modules) > 20
    modules.insert(0 if order == "the SDK's pb2 first" else len(modules), PB2)
    program = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *modules], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "module",
    [
        "durabletask_payloads",
        "durabletask_payloads.interceptors",
        "durabletask_payloads.purge",
        "durabletask_payloads.testing",
        PACKAGES[1],
    ],
)
def test_the_public_names_are_those_in_all(module: str) -> None:
    imported = importlib.import_module(module)
    public = {
        name
        for name, value in vars(imported).items()
        if not name.startswith("_")
        and not isinstance(value, type(sys))
        and name not in ("annotations", "TYPE_CHECKING")
    }
    names = [name for name in imported.__all__ if not name.startswith("__")]
    assert set(names) == public
    assert list(imported.__all__) == sorted(imported.__all__), "sorted, so that a diff shows one line"


def test_importing_the_runtime_imports_no_extra() -> None:
    program = (
        "import sys, durabletask_payloads, durabletask_payloads.interceptors, durabletask_payloads.cli\n"
        "import durabletask_payloads.observers\n"
        "heavy = {'azure', 'obstore', 'durabletask', 'rich', 'typer', 'opentelemetry', 'jinja2'}\n"
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
