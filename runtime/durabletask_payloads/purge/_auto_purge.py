"""The flag of a task hub that has the scheduler keep its ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask_payloads_protos import large_payload_purge_pb2 as pb
from durabletask_payloads_protos.large_payload_purge_pb2_grpc import LargePayloadPurgeStub

if TYPE_CHECKING:
    import grpc

CALL_SECONDS = 30.0
"""How long a call to the scheduler may take."""


def set_auto_purge(channel: grpc.Channel, enabled: bool) -> None:
    """Set whether the scheduler keeps a ledger of the payloads of purged instances, for this task hub.

    Nothing else in this package sets it: it is the choice of who owns the task hub.

    Args:
        channel: to the scheduler, with the metadata of the task hub.
        enabled: whether instances that are purged from now on have their payloads deleted by a `PayloadPurger`.

    Raises:
        grpc.RpcError: the scheduler refused; UNIMPLEMENTED if it has no ledger.
    """
    request = pb.SetLargePayloadAutoPurgeRequest(enabled=enabled)
    LargePayloadPurgeStub(channel).SetLargePayloadAutoPurge(request, timeout=CALL_SECONDS)
