"""Where the SDK's own tests come from: an sdist on PyPI that carries them, or a checkout of its repository."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

from tests.support.wheels import ROOT, FailedError, run

# The last release whose sdist has tests. Those from 0.3.0 on hold the package alone.
LAST_WITH_TESTS = "0.2.0"
DOWNLOADS = ROOT / "build" / "sdk-suite"
PYTEST = ("pytest", "pytest-timeout", "pytest-xdist")


class Source(NamedTuple):
    """Tests of the SDK.

    Attributes:
        checkout: the folder that `tests` lies in.
        extras: of our wheel, whose packages the tests import.
        tools: what else to install for them.
    """

    checkout: Path
    extras: str
    tools: tuple[str, ...]

    def copy_tests(self, folder: Path) -> None:
        """Copy the tests as `folder/tests`.

        Without the package that lies beside them: the installed one is what is tested.

        Raises:
            FailedError: there are none.
        """
        tests = self.checkout / "tests"
        if not any(tests.rglob("test_*.py")):
            raise FailedError(
                f"no tests in {tests}. Of the sdists of durabletask {LAST_WITH_TESTS} is the last with some"
            )
        shutil.copytree(tests, folder / "tests")


def source_of(name: str, folder: Path) -> Source:
    """Return the tests of a checkout, by its folder, or of an sdist, by its release; it is unpacked in `folder`.

    Raises:
        FailedError: there is no such folder, and PyPI has no such release.
    """
    if Path(name).is_dir():
        return Source(Path(name), "[azure,fast,otel]", (*PYTEST, "opentelemetry-sdk", "pytest-asyncio"))
    return Source(_unpacked(name, folder), "[fast]", PYTEST)


def _unpacked(release: str, folder: Path) -> Path:
    sdist = DOWNLOADS / f"durabletask-{release}.tar.gz"
    if not sdist.exists():
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
        run(*pip, "--no-binary", "durabletask", f"durabletask=={release}", cwd=DOWNLOADS)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"durabletask-{release}"
