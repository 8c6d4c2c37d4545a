"""What becomes of a payload on the scheduler's ledger. The table of dispositions is here, and nowhere else."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Literal

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
)
from durabletask_payloads.stores._tokens import PayloadToken

if TYPE_CHECKING:
    from typing import TypeAlias

    from durabletask_payloads.stores._inventory import PayloadInventory

    Disposition: TypeAlias = Literal["deleted", "retry", "quarantined"]


class PurgeOutcome(Enum):
    """What became of a payload: the reason, and the disposition that is reported for it.

    The scheduler drops a row that is `deleted`, sends one that is to `retry` again later, and keeps a `quarantined` one
    for a person to look at.
    """

    DELETED = ("deleted", "the payload was deleted")
    ABSENT = ("deleted", "there is no such payload, or no such container")
    NOT_MANAGED = ("deleted", "the blob is not marked by managed_by=dts: it was left alone")
    CHANGED = ("retry", "the blob was written or deleted since it was looked at")
    DENIED = ("retry", "the store refused the credential")
    UNAVAILABLE = ("retry", "the store is unavailable")
    ELSEWHERE = ("retry", "the payload is in an account or container that the store may not delete from")
    UNKNOWN_TOKEN = ("retry", "the token is of a kind that is newer than this package")
    FAILED = ("retry", "the deletion failed for another reason")
    MALFORMED = ("quarantined", "it begins as a v2 token, but is none")
    WITHOUT_ACCOUNT = ("quarantined", "a v1 token does not name its account: the payload may be in any")
    REFUSED = ("quarantined", "the store answered 400: the request can never succeed")

    def __init__(self, disposition: Disposition, reason: str) -> None:
        self.disposition: Disposition = disposition
        self.reason = reason


def purge(inventory: PayloadInventory, token: str) -> PurgeOutcome:
    """Delete the payload that a token of the ledger names, if it is one that may be deleted. Raises no Exception."""
    outcome = _judge(token)
    if outcome is not None:
        return outcome
    try:
        if inventory.name_of(token) is None:
            return PurgeOutcome.ELSEWHERE
        stored = inventory.look(token)
        if not stored.managed:
            return PurgeOutcome.NOT_MANAGED
        return PurgeOutcome.DELETED if inventory.delete_unchanged(stored) else PurgeOutcome.CHANGED
    except Exception as error:  # a row fails alone, whatever a store raises
        return outcome_of(error)


def _judge(token: str) -> PurgeOutcome | None:
    """Return what can be said of a token by itself: None if it names a place to look at."""
    if token.startswith("blob:v1:"):
        return PurgeOutcome.WITHOUT_ACCOUNT
    if not token.startswith("blob:v2:"):
        return PurgeOutcome.UNKNOWN_TOKEN
    return PurgeOutcome.MALFORMED if PayloadToken.parse(token) is None else None


def outcome_of(error: Exception) -> PurgeOutcome:
    """Return what an error of a store means for a row of the ledger. When in doubt, the row is due again later."""
    match error:
        case PayloadNotFoundError():  # only where the service says that the blob or the container does not exist
            return PurgeOutcome.ABSENT
        case PayloadAccessDeniedError():
            return PurgeOutcome.DENIED
        case PayloadStoreUnavailableError():
            return PurgeOutcome.UNAVAILABLE
        case PayloadTokenError():
            return PurgeOutcome.ELSEWHERE
        case PayloadError(status=400):
            return PurgeOutcome.REFUSED
        case _:
            return PurgeOutcome.FAILED
