"""Target: what stands in the folder of a directory store in place of a payload file."""

from __future__ import annotations

import os
import shutil
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, TypeAlias

from tests.fuzz.bodies import LIMITS, any_payload, packed
from tests.fuzz.engine import MEMORY, SECRET, Target, outcome
from tests.fuzz.mutator import any_character, digits, mutated_bytes

from durabletask_payloads import (
    DirectoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadTooLargeError,
)
from durabletask_payloads.stores._inventory import inventory_of
from durabletask_payloads.stores._payload_file import new_header

if TYPE_CHECKING:
    from random import Random

# What it is, its name, its content, the time it was written in seconds since 1970, `max_stored_payload_bytes`, and the
# payload, if it must be found.
_Case: TypeAlias = tuple[str, str, bytes, int, int, "bytes | None"]

_CONTAINER: Final = "durabletask-payloads"
_FRAGMENTS: Final = [
    *(b'{"sha256": "', b'", "', b'": ', b"null", b"true", b"}\n", b"{", b"[" * 1_000, b'{"a":' * 1_000, b"\n", b"\r\n"),
    *(b'"raw_bytes": ', b'"instance_id": "', b"9" * 19, b"9" * 5_000, b"-1", b"1e9", b"NaN", b"\\u0000", b"\\ud800"),
    *(b"\\x", b"\\", b"\x00", b"\xff", b"0" * 64, b", " * 50, b" " * 70_000, SECRET.encode()),
]

_folder: Final = TemporaryDirectory(prefix="fuzz-", dir=MEMORY)
_root: Final = Path(_folder.name)
# The store makes its marker.
DirectoryPayloadStore(_root).upload(b"")


def _make(random: Random) -> _Case:
    payload = any_payload(random)
    instance_id = random.choice((None, "order-17", "".join(any_character(random) for _ in range(8))))
    header = new_header(payload, instance_id)
    body = packed(random, payload)
    kind = random.choice(("file",) * 12 + ("folder", "link", "fifo", "nothing"))
    limit = random.choice(LIMITS)
    modified = random.choice((0, -1, 1_700_000_000, 2**33, 2**40, 2**55, -(2**40)))
    if random.random() < 0.3:
        is_found = kind == "file" and len(payload) <= limit and not payload.startswith(b"\x1f\x8b")
        return kind, digits(random), header + payload, modified, limit, payload if is_found else None
    content = header + body
    if random.random() < 0.6:
        content = mutated_bytes(random, header, _FRAGMENTS) + body
    return kind, digits(random), content, modified, limit, None


def _put(path: Path, kind: str, content: bytes, modified: int) -> None:
    match kind:
        case "file":
            path.write_bytes(content)
            os.utime(path, (0, modified))
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("/etc/passwd")
        case "fifo":
            os.mkfifo(path)
        case _:
            pass


def _check(case: _Case) -> None:
    kind, name, content, modified, limit, payload = case
    store = DirectoryPayloadStore(_root, LargePayloadStorageOptions(0, limit))
    token = f"blob:v1:{_CONTAINER}:{name}"
    shard = _root / _CONTAINER / name[:2]
    shutil.rmtree(shard, ignore_errors=True)
    shard.mkdir()
    _put(shard / name, kind, content, modified)

    documented = {"file": (PayloadIntegrityError, PayloadTooLargeError), "nothing": (PayloadNotFoundError,)}
    errors = documented.get(kind, (PayloadIntegrityError,))
    found = outcome(lambda: store.download(token), *errors)
    assert payload is None or found == payload, f"{found!r:.200} instead of the payload"
    if isinstance(found, bytes):
        assert kind == "file"
        assert len(found) <= limit
        assert content.startswith(b'{"sha256": "%s"' % sha256(found).hexdigest().encode())

    inventory = inventory_of(store)
    looked = outcome(lambda: inventory.look(token), PayloadIntegrityError, PayloadNotFoundError)
    listed = list(inventory.list_payloads(name[:2]))
    assert [one.token for one in listed] == (
        [] if kind == "nothing" else ["" if isinstance(looked, PayloadError) else token]
    )
    # What has a payload has a header, and what has no header is never deleted.
    assert not (isinstance(found, bytes) and isinstance(looked, Exception))
    for one in listed:
        assert inventory.delete_unchanged(one) == bool(one.token)
    assert os.path.lexists(shard / name) == (kind != "nothing" and isinstance(looked, Exception))


TARGETS: Final = (
    Target(
        "directory",
        "a payload with its checksum, or the error for what is there; listed in any case; without a header not deleted",
        _make,
        _check,
    ),
)
