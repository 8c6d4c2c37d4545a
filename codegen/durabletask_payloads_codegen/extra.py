"""The extra `[codegen]`: checked once, where the program starts, since some of it is imported and some is run."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["COMMAND_LINE", "PLUGIN", "require"]

# protoc and buf compile the .proto files that a plugin gets.
PLUGIN = ("jinja2", "ruff") if sys.version_info >= (3, 11) else ("jinja2", "ruff", "tomli")
COMMAND_LINE = ("grpc_tools", "mypy_protobuf", *PLUGIN)


def require(modules: Iterable[str]) -> None:
    """Check that `modules` are installed, without importing them.

    Raises:
        CodegenError: some are not; the text has the pip command.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise CodegenError(f"{', '.join(missing)} not found: pip install durabletask-payloads[codegen]")
