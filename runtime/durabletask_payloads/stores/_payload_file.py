"""The header of a payload file in a folder: one line of JSON, which the body follows."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from durabletask_payloads._errors import PayloadIntegrityError

from ._codec import checksum

if TYPE_CHECKING:
    from typing import BinaryIO

# A flat JSON object of printable ASCII, as json.dumps writes it. A JSON parser would recurse into hostile nesting, and
# convert integers of any length. Members behind the checksum are not read by `read_header`, so that later versions may
# add some.
_HEADER: Final = re.compile(
    rb'\{"sha256": "(?P<sha256>[0-9a-f]{64})"'
    rb'(?:, "[a-z0-9_]+": (?:null|true|false|[0-9]{1,19}|"(?:[ !#-\[\]-~]|\\[ -~])*"))*\}\n'
)
_LONGEST_HEADER: Final = 64 * 1024
# In characters as JSON escapes them. A longer instance id is left out: the header has to stay readable.
_LONGEST_INSTANCE_ID: Final = 4096


class Header(NamedTuple):
    """What a payload file starts with: the checksum of the payload, and the line itself."""

    sha256: str
    line: bytes

    @property
    def header_bytes(self) -> int:
        return len(self.line)

    def described(self) -> tuple[str | None, int | None]:
        """Return the instance id and the size of the payload before compression; None where it has none."""
        try:
            members: dict[str, object] = json.loads(self.line)
        except ValueError:  # an escape that JSON does not have
            return None, None
        instance_id, raw_bytes = members.get("instance_id"), members.get("raw_bytes")
        return (
            instance_id if isinstance(instance_id, str) else None,
            raw_bytes if isinstance(raw_bytes, int) else None,
        )


def new_header(data: bytes, instance_id: str | None) -> bytes:
    """Return the first line of a payload file: ASCII, surrogates escaped."""
    if instance_id is not None and len(json.dumps(instance_id)) > _LONGEST_INSTANCE_ID:
        instance_id = None
    described = {"sha256": checksum(data), "raw_bytes": len(data), "instance_id": instance_id}
    return json.dumps(described).encode() + b"\n"


def read_header(file: BinaryIO, token: str) -> Header:
    """Read the first line of a payload file. Raises PayloadIntegrityError if it is no header."""
    line = file.readline(_LONGEST_HEADER)
    match = _HEADER.fullmatch(line)
    if match is None:
        raise PayloadIntegrityError(f"{token}: the payload file is damaged: it does not start with a header")
    return Header(match["sha256"].decode(), line)
