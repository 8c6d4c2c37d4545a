"""The field policy: classifies each StringValue field of each message."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeGuard

from .errors import CodegenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["KINDS", "FieldKind", "Policy", "load_policy"]

FieldKind: TypeAlias = Literal["payload", "diagnostic", "metadata"]
KINDS: Mapping[str, FieldKind] = {"payload": "payload", "diagnostic": "diagnostic", "metadata": "metadata"}
_CHOICE = "payload, diagnostic or metadata"


@dataclass(frozen=True, slots=True)
class Policy:
    """The classification, keyed by `Message.field`, and the file that it was read from."""

    file: str
    kinds: Mapping[str, FieldKind]

    def check(self, fields: Iterable[str]) -> None:
        """Require that exactly `fields` are classified.

        Raises:
            CodegenError: some are not, or entries name no field; the text lists them all.
        """
        known = list(fields)
        faults: list[str] = []
        if missing := [field for field in known if field not in self.kinds]:
            faults.append(f"not classified: {', '.join(missing)} (add each as {_CHOICE})")
        if gone := sorted(self.kinds.keys() - set(known)):
            faults.append(f"no such StringValue field: {', '.join(gone)} (remove)")
        if faults:
            raise CodegenError(f"{self.file}: {'; '.join(faults)}")


def load_policy(path: Path) -> Policy:
    """Read a policy file: a table for each message, `field = "payload" | "diagnostic" | "metadata"` in it.

    Raises:
        CodegenError: the file cannot be read, is not TOML, or has another shape.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib  # of the extra

    try:
        # A table's values may be anything; each is checked below.
        tables: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CodegenError(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CodegenError(f"{path}: malformed TOML: {error}") from error
    kinds: dict[str, FieldKind] = {}
    for message, table in tables.items():
        if not _is_table(table):
            raise CodegenError(f"{path}: {message}: must be a table with the fields of a message, as [{message}]")
        for field, kind in table.items():
            if not isinstance(kind, str) or kind not in KINDS:
                raise CodegenError(f"{path}: {message}.{field}: is {kind!r}, must be {_CHOICE}")
            kinds[f"{message}.{field}"] = KINDS[kind]
    return Policy(str(path), kinds)


def _is_table(value: object) -> TypeGuard[dict[str, object]]:
    """Narrow a value to a table: the keys of a TOML table are strings."""
    return isinstance(value, dict)
