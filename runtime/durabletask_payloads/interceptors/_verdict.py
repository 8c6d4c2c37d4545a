"""The failure table: what an error means for a work item. Decisions only, no I/O.

An outage delays a work item and never fails it. So an error is final at once only if it is a property of the payload or
the message itself. "Not found" and "points elsewhere" are also what a worker with the wrong account or container sees:
they are final only on a store that is proven, which has served such a transfer in this process. Any other error may be
an outage: a delivery that meets it counts only if the store has served something else since the last one.
"""

from __future__ import annotations

import random
import sys
import time
from enum import Enum
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from durabletask_payloads._errors import (
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
    SchemaMismatchError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, TypeAlias

    Direction: TypeAlias = Literal["upload", "download"]

_CERTAIN = (PayloadTooLargeError, PayloadIntegrityError, SchemaMismatchError)
_MISSING = (PayloadNotFoundError, PayloadTokenError)

_FIRST_DELAY_SECONDS = 0.25
_LONGEST_DELAY_SECONDS = 60.0
_ITEM_FACTOR = 2.0
_OUTAGE_FACTOR = 1.5


class Abandon(NamedTuple):
    """The work item is abandoned in `delay` seconds, or `least_delay` if the store serves something meanwhile.

    Attributes:
        served: how many transfers in `direction` the store had served.
    """

    delay: float
    least_delay: float
    direction: Direction
    served: int


class Final(NamedTuple):
    """The work item is completed as failed with `error`."""

    error: BaseException


class Decision(Enum):
    """What a failed delivery means: the work item fails for good, or is abandoned."""

    FAIL = "the error is certain"
    GIVE_UP = "too many deliveries have counted"
    COUNT = "abandoned, and the delivery counts"
    WAIT = "abandoned, and the delivery does not count"


def decide(error: BaseException, *, proven: bool, progressed: bool, deliveries: int, max_deliveries: int) -> Decision:
    """Decide what a failed delivery of a work item means.

    Args:
        error: of the store, or of the checks before it.
        proven: whether the store has served a transfer in the same direction in this process.
        progressed: whether the store has served such a transfer since the last delivery of the work item failed.
        deliveries: how many deliveries of the work item have counted before this one.
        max_deliveries: with how many counted ones the work item fails for good.
    """
    if isinstance(error, _CERTAIN) or (proven and isinstance(error, _MISSING)):
        return Decision.FAIL
    if not isinstance(error, _MISSING) and not (proven and progressed):
        return Decision.WAIT
    return Decision.GIVE_UP if deliveries + 1 >= max_deliveries else Decision.COUNT


def as_payload_error(error: BaseException, text: str) -> PayloadError:
    """Return an error with `text`, of the class of `error` if that is one of ours. Raise it from `error`."""
    if isinstance(error, PayloadError):
        return type(error)(text)
    return PayloadStoreUnavailableError(text) if _is_transient(error) else PayloadError(text)


def _is_transient(error: BaseException) -> bool:
    """Return whether an error that is not one of ours says that the store is unavailable."""
    if isinstance(error, OSError):  # TimeoutError is one
        return True
    azure = sys.modules.get("azure.core.exceptions")  # an error of Azure's client implies that it is imported
    if azure is None:
        return False
    if isinstance(error, (azure.ServiceRequestError, azure.ServiceResponseError)):
        return True
    status = getattr(error, "status_code", None) if isinstance(error, azure.HttpResponseError) else None
    return isinstance(status, int) and (status in (408, 429) or status >= 500)


class Backoff:
    """Delays before work items are abandoned: without them, redelivery would be a hot loop.

    A delay grows with the failures of the work item, and, somewhat slower, with the rounds in which the store failed
    and served nothing: so that after an outage the next try comes soon. Safe for any number of threads.

    Args:
        direction: of the transfers that fail.
        served: counts such transfers that the store has served.
        clock: returns seconds.
        jitter: returns the share of a delay to wait.
    """

    def __init__(
        self,
        direction: Direction,
        served: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.0),
    ) -> None:
        self._direction: Direction = direction
        self._served = served
        self._clock = clock
        self._jitter = jitter
        self._lock = Lock()
        self._seen: int | None = None
        self._round = 0
        self._round_ends = 0.0

    def delay(self, failures: int) -> Abandon:
        """Return how long to wait after a work item has failed that many times while the store served others."""
        now, jitter = self._clock(), self._jitter()
        with self._lock:
            served = self._served()
            if served != self._seen:
                self._seen = served
                self._round = 0
                self._round_ends = 0.0
            if now >= self._round_ends:
                self._round += 1
                self._round_ends = now + _seconds(self._round, _OUTAGE_FACTOR)
            own = _seconds(failures, _ITEM_FACTOR)
            longest = max(_seconds(self._round, _OUTAGE_FACTOR), own)
            return Abandon(longest * jitter, own * jitter, self._direction, served)


def _seconds(step: int, factor: float) -> float:
    return min(_LONGEST_DELAY_SECONDS, _FIRST_DELAY_SECONDS * factor ** min(max(step - 1, 0), 40))
