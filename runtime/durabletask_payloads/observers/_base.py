"""The base class of observers, and the events that they get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from typing import TypeAlias

    WorkItemKind: TypeAlias = Literal["activity", "orchestration", "entity"]


class TraceParent(NamedTuple):
    """The span that a work item belongs to, as the W3C headers `traceparent` and `tracestate` (empty for none)."""

    traceparent: str
    tracestate: str = ""


class Transfer(NamedTuple):
    """One payload that was moved.

    Attributes:
        direction: "upload", "download", or "cached": a download that the cache made unnecessary.
        path: the field, as `Message.field`; the first of them where several hold the same payload.
        token: the token of the payload. Whoever has it and may read the store can read the payload.
        raw_bytes: the size of the payload before compression, in bytes.
        seconds: how long the transfer took, with the wait for a free slot.
        trace: the span that it belongs to, for a transfer of a worker; None where that is the current span.
    """

    direction: Literal["upload", "download", "cached"]
    path: str
    token: str
    raw_bytes: int
    seconds: float
    trace: TraceParent | None = None


class TransferFailure(NamedTuple):
    """One transfer that failed.

    Attributes:
        direction, path, seconds, trace: as of a `Transfer`.
        error: what the store raised.
    """

    direction: Literal["upload", "download"]
    path: str
    error: Exception
    seconds: float
    trace: TraceParent | None = None


class Abandonment(NamedTuple):
    """A work item that is abandoned since a payload of it could not be transferred, or a substitute not be sent.

    A server that cannot take work items back does not get it: then the transfer is tried again here.

    Attributes:
        kind: "activity", "orchestration" or "entity".
        instance_id: the orchestration or entity; empty where a completion does not tell.
        delay: after how many seconds at most.
        error: why.
    """

    kind: WorkItemKind
    instance_id: str
    delay: float
    error: BaseException


class Substitution(NamedTuple):
    """What a worker completed with something else than its result, since a payload could not be transferred.

    Attributes:
        kind, instance_id, error: as of an `Abandonment`.
        outcome: "failed" for a work item that was completed as failed, "operation failed" for one operation of an
            entity batch, "truncated" for a completion that was sent with texts cut or properties dropped.
    """

    kind: WorkItemKind
    instance_id: str
    outcome: Literal["failed", "operation failed", "truncated"]
    error: BaseException


class Purge(NamedTuple):
    """Rows of the scheduler's ledger that a `PayloadPurger` has reported, those of a batch that ended alike.

    Attributes:
        outcome: what became of the payloads: the name of a `PurgeOutcome` in lower case, as "absent".
        disposition: what was reported.
        rows: how many there are.
    """

    outcome: str
    disposition: Literal["deleted", "retry", "quarantined"]
    rows: int


class PayloadObserver:
    """Told of what an `Externalizer`, its interceptors and a `PayloadPurger` do: a base class for your own.

    Override what you need: the methods of this class do nothing. They are called after the fact, by the thread that
    did the work, from any number of threads at the same time, so an observer has to be safe for that. The context
    variables are those of the code that asked for the transfer. The transfer's thread waits for them: be quick. An
    observer that raises harms nothing: the first error of each of its methods is logged.
    """

    def transferred(self, transfer: Transfer) -> None:
        """Take note of a payload that was moved, or found in the cache."""

    def failed(self, failure: TransferFailure) -> None:
        """Take note of a transfer that failed."""

    def abandoned(self, abandonment: Abandonment) -> None:
        """Take note of a work item that is abandoned."""

    def substituted(self, substitution: Substitution) -> None:
        """Take note of a substitute completion that the server accepted, or of an operation that was taken out."""

    def purged(self, purge: Purge) -> None:
        """Take note of rows of the scheduler's ledger that were reported."""
