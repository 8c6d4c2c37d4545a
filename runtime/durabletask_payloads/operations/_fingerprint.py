"""The settings that client and workers must share, and the notes in which each configuration leaves its own.

A note is a tiny blob or file `settings-<fingerprint>.json` beside the payloads. It has no secrets.
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from durabletask_payloads._version import __version__
from durabletask_payloads.stores._notes import is_note, note_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from durabletask_payloads.stores._base import PayloadStore

Settings: TypeAlias = "dict[str, str | int]"


@dataclass(frozen=True, slots=True)
class Note:
    """What a run of `doctor` has left. Of a foreign note, texts may be anything.

    Attributes:
        name: of the blob or file.
        host: the name of the machine.
        left: when, in UTC, by its clock; as text.
    """

    name: str
    settings: Mapping[str, str | int]
    host: str
    left: str


def settings_of(store: PayloadStore, location: str) -> Settings:
    """Return the settings of `store` on which all processes must agree."""
    if location.startswith("file:"):  # each machine may have it mounted elsewhere
        location = location.rpartition("/")[2]
    settings: Settings = {
        "location": location,
        "max_stored_payload_bytes": store.options.max_stored_payload_bytes,
    }
    names = ["layout", "token_version"]
    if getattr(store.options, "layout", None) == "python-sdk":  # where the reader's setting says what is compressed
        names.append("enable_compression")
    for name in names:
        value: object = getattr(store.options, name, None)
        if isinstance(value, str | int):
            settings[name] = value
    return settings


def fingerprint(settings: Mapping[str, str | int]) -> str:
    """Return 16 hex digits that are the same for the same settings."""
    return hashlib.sha256(json.dumps(dict(settings), sort_keys=True).encode()).hexdigest()[:16]


def to_note(settings: Settings, now: datetime) -> tuple[str, bytes]:
    """Return the name and the content of the note for these settings."""
    content = {
        "settings": settings,
        "host": platform.node(),
        "left": now.isoformat(timespec="seconds"),
        "version": __version__,
    }
    return note_name(fingerprint(settings)), json.dumps(content).encode()


def read_note(name: str, content: bytes) -> Note | None:
    """Return a note; None for what is none, which anybody may have put there."""
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not is_note(name) or not isinstance(found, dict):
        return None
    fields = cast("dict[str, object]", found)  # the keys of a JSON object are text
    settings = fields.get("settings")
    if not isinstance(settings, dict):
        return None
    known = {key: value for key, value in cast("dict[str, object]", settings).items() if isinstance(value, str | int)}
    return Note(name, known, str(fields.get("host", "")), str(fields.get("left", "")))


def differences(ours: Mapping[str, str | int], note: Note) -> list[str]:
    """Return in what a note differs from our settings: a line for each."""
    return [
        f"{name} is {ours.get(name, 'not set')} here, but {note.settings.get(name, 'not set')} on "
        f"{note.host or 'another machine'} ({note.left or 'at an unknown time'}, {note.name})"
        for name in sorted({*ours, *note.settings})
        if ours.get(name) != note.settings.get(name)
    ]
