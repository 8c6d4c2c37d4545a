"""The wheel and the sdist, built once, and an environment that has the wheel alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.wheels import build, installed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    return folder


@pytest.fixture(scope="session")
def bare(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that has the wheel without an extra."""
    return installed(dist, tmp_path_factory.mktemp("bare"))
