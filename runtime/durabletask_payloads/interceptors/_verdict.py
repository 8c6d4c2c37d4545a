"""The failure table: what an error means for a work item. Decisions only, no I/O."""

from __future__ import annotations

import random
import sys
import time
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

_AZURE_ERRORS = "azure.core.exceptions"

_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 30.0


class Abandon(NamedTuple):
    """The work item is abandoned in `delay` seconds, to be delivered again."""

    delay: float


class Final(NamedTuple):
    """The work item is completed as failed with `error`."""

    error: Exception


def decide(error: Exception, deliveries: int, max_deliveries: int, delay: Callable[[], float]) -> Abandon | Final:
    """Decide what becomes of a work item that failed with `error`.

    Args:
        error: of the store, or of the checks before it.
        deliveries: how many deliveries of the work item failed with a transient error, this one included.
        max_deliveries: with how many of them the work item is completed as failed.
        delay: gives the seconds to wait before the work item is abandoned.
    """
    if not is_transient(error):
        return Final(error)
    if deliveries >= max_deliveries:
        final = as_payload_error(error, f"gave up after {deliveries} deliveries: {error}")
        final.__cause__ = error
        return Final(final)
    return Abandon(delay())


def is_transient(error: BaseException) -> bool:
    """Return whether trying again can help. Errors of other stores than ours count too; unknown ones do not."""
    if isinstance(error, PayloadError):
        return not error.permanent
    if isinstance(error, OSError):  # TimeoutError is one
        return True
    azure = sys.modules.get(_AZURE_ERRORS)  # an error of Azure's client implies that it is imported
    if azure is None:
        return False
    if isinstance(error, (azure.ServiceRequestError, azure.ServiceResponseError)):
        return True
    if isinstance(error, azure.HttpResponseError):
        status = getattr(error, "status_code", None)
        return isinstance(status, int) and (status in (408, 429) or status >= 500)
    return False


def as_payload_error(error: Exception, text: str) -> PayloadError:
    """Return an error with `text`, of the class of `error` if that is one of ours. Raise it from `error`."""
    if isinstance(error, PayloadError):
        return type(error)(text)
    return PayloadStoreUnavailableError(text) if is_transient(error) else PayloadError(text)


class Backoff:
    """Delays before work items are abandoned: without them, redelivery would be a hot loop.

    A delay grows with the deliveries of the work item, and with the rounds in which the store failed and no transfer
    succeeded. Safe for any number of threads.

    Args:
        transfers: counts the transfers that succeeded.
    """

    def __init__(self, transfers: Callable[[], int]) -> None:
        self._transfers = transfers
        self._lock = Lock()
        self._seen: int | None = None
        self._round = 0
        self._round_ends = 0.0

    def delay(self, deliveries: int) -> float:
        """Return the seconds to wait after delivery number `deliveries` failed."""
        now = time.monotonic()
        with self._lock:
            transfers = self._transfers()
            if transfers != self._seen:
                self._seen = transfers
                self._round = 0
                self._round_ends = 0.0
            if now >= self._round_ends:
                self._round += 1
                self._round_ends = now + _seconds(self._round)
            return _seconds(max(self._round, deliveries)) * random.uniform(0.75, 1.0)


def _seconds(step: int) -> float:
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * 2.0 ** min(step - 1, 20))
