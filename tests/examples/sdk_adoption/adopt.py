"""An SDK that has adopted the walkers: a copy of the installed `durabletask`, changed as README.md says.

`python -m tests.examples.sdk_adoption.adopt FOLDER` makes FOLDER/durabletask; with FOLDER in PYTHONPATH it is the SDK.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import shutil
from pathlib import Path

from durabletask_payloads_codegen import cli

__all__ = ["adopt", "generate_command", "installed"]

PACKAGE = "durabletask.internal.payload_walkers"
_HERE = Path(__file__).parent
_PB2_MODULE = "durabletask.internal.orchestrator_service_pb2"
_KNOWN = "    def is_known_token(self, value: str) -> bool:\n"
_ABSTRACT = "    @abc.abstractmethod\n"

# The property that a store may override, before the method of each file.
_IN_THE_BASE = '''    @property
    def token_prefix(self) -> str:
        """How each token of this store begins: other texts need not be looked at. By default any text may be one."""
        return ""

'''
_IN_THE_BLOB_STORE = """    @property
    def token_prefix(self) -> str:
        return _TOKEN_PREFIX

"""


def installed() -> Path:
    """Return the folder of the installed `durabletask` package."""
    spec = importlib.util.find_spec("durabletask")
    if spec is None or spec.origin is None:
        raise RuntimeError("durabletask is not installed")
    return Path(spec.origin).parent


def adopt(folder: Path) -> Path:
    """Copy the installed SDK to `folder`, put walkers and helpers into the copy, and return its package.

    Raises:
        RuntimeError: the generator failed, or the SDK is not as this example knows it.
    """
    package = folder / "durabletask"
    shutil.copytree(installed(), package, ignore=shutil.ignore_patterns("__pycache__"))
    _generate(folder)
    shutil.copyfile(_HERE / "helpers.py", package / "payload" / "helpers.py")
    _insert(package / "payload" / "store.py", _ABSTRACT + _KNOWN, _IN_THE_BASE)
    blob_store = package / "extensions" / "azure_blob_payloads" / "blob_payload_store.py"
    _insert(blob_store, _KNOWN, _IN_THE_BLOB_STORE)
    return package


def generate_command(policy: str, output: str) -> list[str]:
    """Return the arguments of `durabletask-payloads-codegen`."""
    command = ["generate", "--from-module", _PB2_MODULE, "--policy", policy, "--output", output]
    return [*command, "--package", PACKAGE, "--with-plan"]


def _generate(folder: Path) -> None:
    command = generate_command(str(_HERE / "payload_fields.toml"), str(folder))
    with contextlib.redirect_stdout(io.StringIO()):  # it lists what it writes
        code = cli.main(command)
    if code:
        raise RuntimeError(f"durabletask-payloads-codegen {' '.join(command)} failed")


def _insert(file: Path, before: str, lines: str) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(before) != 1:
        raise RuntimeError(f"{file}: {before.strip()!r} is in it {text.count(before)} times, expected once")
    file.write_text(text.replace(before, lines + before), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.examples.sdk_adoption.adopt", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    target: Path = parser.parse_args().folder
    print(adopt(target))
