"""What is known of one stored payload, and whether it is whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from durabletask_payloads._errors import PayloadIntegrityError, PayloadTooLargeError
from durabletask_payloads.stores._inventory import inventory_of

if TYPE_CHECKING:
    from datetime import datetime

    from durabletask_payloads.stores._base import PayloadStore

Check = Literal["verified", "readable, without a checksum", "damaged", "too large to read"]


@dataclass(frozen=True, slots=True)
class PayloadFacts:
    """What is known of a stored payload. Sizes are in bytes.

    Attributes:
        written: when, by the clock of the service.
        raw_bytes: its size before compression; None if it cannot be read and the store does not know.
        sha256: the checksum that is stored with it; None if there is none.
        managed: whether the clean-up of the .NET SDK, and ours, may delete it.
        check: what came of reading it.
        trouble: why it cannot be read; None if it can.
    """

    token: str
    location: str
    name: str
    instance_id: str | None
    written: datetime
    stored_bytes: int
    raw_bytes: int | None
    compressed: bool
    sha256: str | None
    managed: bool | None
    check: Check
    trouble: str | None

    @property
    def ok(self) -> bool:
        return self.trouble is None


def payload_facts(store: PayloadStore, token: str) -> tuple[PayloadFacts, bytes | None]:
    """Return what is known of the payload under `token`, and its content, None if it cannot be read.

    Raises:
        PayloadTokenError: `token` is none, or of another place.
        PayloadError: it is not there, or the store cannot be read.
    """
    inventory = inventory_of(store)
    stored = inventory.look(token)
    content: bytes | None = None
    check: Check
    trouble: str | None = None
    try:
        content = store.download(token)
    except PayloadIntegrityError as error:
        check, trouble = "damaged", str(error)
    except PayloadTooLargeError as error:
        check, trouble = "too large to read", str(error)
    else:
        check = "verified" if stored.sha256 else "readable, without a checksum"
        if stored.sha256 and hashlib.sha256(content).hexdigest() != stored.sha256:  # written again meanwhile
            check, trouble = "damaged", f"{token}: its checksum is not the one that it was listed with"
    raw_bytes = stored.raw_bytes if content is None else len(content)
    facts = PayloadFacts(
        token=token,
        location=inventory.location,
        name=stored.name,
        instance_id=stored.instance_id,
        written=stored.modified,
        stored_bytes=stored.stored_bytes,
        raw_bytes=raw_bytes,
        compressed=raw_bytes is not None and raw_bytes != stored.stored_bytes,
        sha256=stored.sha256,
        managed=stored.managed,
        check=check,
        trouble=trouble,
    )
    return facts, content
