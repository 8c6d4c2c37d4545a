"""The kinds of work items, and how to tell them by request and RPC. A new kind is a module, and a name here."""

from typing import Final

from durabletask_payloads.interceptors._protocol import SERVICE

from ._activity import Activity
from ._base import FailedOperation, Holder, WorkItem
from ._entity import Entity
from ._orchestration import Lock, Orchestration, held_locks

_KINDS: Final[tuple[type[WorkItem], ...]] = (Activity, Orchestration, Entity)

__all__ = [
    "KIND_BY_ABANDON",
    "KIND_BY_COMPLETION",
    "KIND_BY_PATH",
    "KIND_BY_REQUEST",
    "Activity",
    "Entity",
    "FailedOperation",
    "Holder",
    "Lock",
    "Orchestration",
    "WorkItem",
    "held_locks",
]

KIND_BY_REQUEST: Final = {request: kind for kind in _KINDS for request in kind.requests}
KIND_BY_COMPLETION: Final = {kind.complete: kind for kind in _KINDS}
KIND_BY_PATH: Final = {SERVICE + kind.complete: kind for kind in _KINDS}
KIND_BY_ABANDON: Final = {kind.abandon: kind for kind in _KINDS}
