"""Observers: told of each transfer, failure, abandonment and substitute completion, for metrics and traces."""

from ._base import Abandonment, PayloadObserver, Purge, Substitution, TraceParent, Transfer, TransferFailure

__all__ = ["Abandonment", "PayloadObserver", "Purge", "Substitution", "TraceParent", "Transfer", "TransferFailure"]
