"""TOML files: the field policy, and pyproject.toml."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeGuard

from .errors import CodegenError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_table", "read_toml"]


def read_toml(path: Path, *, required: bool = True) -> dict[str, object]:
    """Return what a file holds; nothing if it is missing and not `required`. Values may be anything.

    Raises:
        CodegenError: the file cannot be read, or is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # of the extra

    try:
        document: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        if not required and isinstance(error, FileNotFoundError):
            return {}
        raise CodegenError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise CodegenError(f"{path}: malformed TOML: arrays or tables are nested too deeply") from error
    except ValueError as error:  # of TOML, of UTF-8, and of a number with thousands of digits
        raise CodegenError(f"{path}: malformed TOML: {error}") from error
    return document


def is_table(value: object) -> TypeGuard[dict[str, object]]:
    """Narrow a value to a table: the keys of a TOML table are strings."""
    return isinstance(value, dict)
