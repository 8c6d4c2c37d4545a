"""Reads survivors.toml: the mutants that survive, and why that is right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from tests.mutation.mutants import Key

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable

FILE: Final = Path(__file__).with_name("survivors.toml")
_TEXTS: Final = {"module", "function", "line", "why"}


class SurvivorsError(Exception):
    """survivors.toml is not as it must be; the text says where."""


def explained(text: str) -> dict[Key, str]:
    """Return the reason for each survivor of a file with `text`.

    Raises:
        SurvivorsError: an entry lacks a field or has one too many, has no reason, or a mutant is there twice.
    """
    document: dict[str, object] = tomllib.loads(text)
    entries = document.pop("survivor", [])
    if document or not isinstance(entries, list):
        raise SurvivorsError("survivors.toml holds [[survivor]] and nothing else")
    found: dict[Key, str] = {}
    for number, entry in enumerate(cast("list[object]", entries), 1):
        fields = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        changes = fields.get("mutations")
        if set(texts) != _TEXTS or set(fields) != {*_TEXTS, "mutations"} or not isinstance(changes, list):
            raise SurvivorsError(f"survivor {number} must have mutations, {', '.join(sorted(_TEXTS))}; not {fields}")
        mutations = cast("list[object]", changes)
        if not texts["why"].strip() or not mutations:
            raise SurvivorsError(f"survivor {number} says nothing: {texts['line']}")
        for mutation in mutations:
            key = Key(texts["module"], texts["function"], texts["line"], str(mutation))
            if key in found:
                raise SurvivorsError(f"survivor {number} is there twice: {key}")
            found[key] = texts["why"]
    return found


def stale(entries: Iterable[Key], there: Iterable[Key]) -> list[Key]:
    """Return the entries whose mutant is not among those that are there."""
    known = set(there)
    return [key for key in entries if key not in known]
