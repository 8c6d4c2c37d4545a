"""An observer that keeps what it gets."""

from __future__ import annotations

from typing import TypeVar

from durabletask_payloads import Abandonment, PayloadObserver, Substitution, Transfer, TransferFailure

Event = Transfer | TransferFailure | Abandonment | Substitution
_Event = TypeVar("_Event", Transfer, TransferFailure, Abandonment, Substitution)


class Seen(PayloadObserver):
    """Keeps all events, in the order in which they came."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def of(self, kind: type[_Event]) -> list[_Event]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def transferred(self, transfer: Transfer) -> None:
        self.events.append(transfer)

    def failed(self, failure: TransferFailure) -> None:
        self.events.append(failure)

    def abandoned(self, abandonment: Abandonment) -> None:
        self.events.append(abandonment)

    def substituted(self, substitution: Substitution) -> None:
        self.events.append(substitution)
