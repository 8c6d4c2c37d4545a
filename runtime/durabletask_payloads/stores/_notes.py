"""Notes in a container: small texts that processes leave for each other. None is ever taken for a payload."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTE: Final = "settings-"
"""The reserved beginning of their names. It is in no name of a payload, which ends with 32 hex digits."""

LONGEST_NOTE: Final = 4096
"""Longer ones are not read, in bytes."""


@runtime_checkable
class NotedContainer(Protocol):
    """A container that several processes share. All methods raise errors of the `PayloadError` tree."""

    def has_container(self) -> bool:
        """Return whether the container exists, by asking for the first names in it. Needs the right to list."""
        ...

    def notes(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each note."""
        ...

    def leave_note(self, name: str, content: bytes) -> None:
        """Write a note, also in the place of one that is there. It is not managed: no clean-up deletes it."""
        ...


def note_name(digits: str) -> str:
    """Return the name of the note with those 16 hex digits."""
    return checked_note(f"{NOTE}{digits}.json")


def is_note(name: str) -> bool:
    """Return whether `name` is that of a note."""
    return re.fullmatch(rf"{NOTE}[0-9a-f]{{16}}\.json", name) is not None


def checked_note(name: str) -> str:
    """Return `name`, or raise ValueError if it is not that of a note."""
    if not is_note(name):
        raise ValueError(f"the name of a note is {NOTE}<16 hex digits>.json, not {name!r}")
    return name
