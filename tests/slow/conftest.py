"""Marks every test below this folder as slow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # `-m` selects in this hook too
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:  # those of other folders as well: pytest calls the hook once for a run
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.slow)
