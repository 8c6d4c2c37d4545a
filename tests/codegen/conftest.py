"""Fixtures of the tests of the generator."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

import pytest

from durabletask_payloads_codegen import render, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from durabletask_payloads_codegen.model import Model


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Callable[[Model], Any]]:
    """Write the walkers of a model below `out`, and import their package under a name of its own."""
    name = "walkers_of_a_test"

    def importing(built: Model) -> Any:  # what is in it nobody knows before it runs
        write.write(tmp_path / "out", render.render_walkers(built, render.Home()))
        folder = tmp_path / "out" / render.WALKERS_PACKAGE
        spec = spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        return sys.modules[name]

    yield importing
    for imported in [key for key in sys.modules if key.partition(".")[0] == name]:
        del sys.modules[imported]
