"""The Durable Task protocol by name: RPCs, and messages read and made without importing their classes.

A caller's messages may be of another descriptor pool than the SDK's, and this package may be installed without the SDK.
So a message is made in the pool of the message at hand.
"""

from __future__ import annotations

import logging
from collections.abc import MutableSequence
from copy import deepcopy
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast, overload

from google.protobuf import message_factory
from google.protobuf.message import Message

from durabletask_payloads._errors import PayloadTooLargeError
from durabletask_payloads.externalizer._planning import plan_downloads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.descriptor import Descriptor

log: Final = logging.getLogger("durabletask_payloads.interceptors")

AbandonRequestName = Literal[
    "AbandonActivityTaskRequest", "AbandonOrchestrationTaskRequest", "AbandonEntityTaskRequest"
]
SERVICE: Final = "/TaskHubSidecarService/"

# A completion of up to this size needs none of our care: no server refuses so few bytes for their size.
SMALL_BYTES: Final = 64 * 1024

# RESOURCE_EXHAUSTED is also the code of a quota. It is about the size of a message if its text says so (gRPC's C core
# and Go, Java, .NET), or if more was sent than gRPC accepts by default, in bytes.
_TOO_LARGE: Final = (
    "larger than max",
    "message exceeds maximum size",
    "exceeds the maximum configured message size",
)
# What is said of a response: by gRPC's C core on this side and on the server's, and by a server of .NET.
_OF_A_RESPONSE: Final = ("client: received", "server: sent", "sending message exceeds")
_DEFAULT_LIMIT: Final = 4_000_000

# The timeout of a call of our own, in seconds.
OWN_TIMEOUT_SECONDS: Final = 30.0

# Enum values are ints at run time, their own type exists for the checkers only.
_COMPLETED: Final = cast("pb.OrchestrationStatus.ValueType", 1)
FAILED: Final = cast("pb.OrchestrationStatus.ValueType", 3)


# ---- names ---------------------------------------------------------------------------------------------------------


def rpc_name(method: str | bytes) -> str | None:
    """Return the name of an RPC without its service, None for one of another service. grpc.aio has bytes."""
    path = method.decode() if isinstance(method, bytes) else method
    return path[len(SERVICE) :] if path.startswith(SERVICE) else None


def instance_of(message: Message) -> str | None:
    """Return the instance id that a request names, None if it names none."""
    if not _has(message, "instanceId"):
        return None
    # A protobuf class has its fields as attributes, which a checker sees on the concrete class only.
    return cast("pb.GetInstanceRequest", message).instanceId or None


# ---- making --------------------------------------------------------------------------------------------------------


@overload
def new(like: Message, name: Literal["ActivityResponse"]) -> pb.ActivityResponse: ...
@overload
def new(like: Message, name: Literal["OrchestratorResponse"]) -> pb.OrchestratorResponse: ...
@overload
def new(like: Message, name: Literal["EntityBatchResult"]) -> pb.EntityBatchResult: ...
@overload
def new(like: Message, name: Literal["OperationInfo"]) -> pb.OperationInfo: ...
def new(like: Message, name: str) -> Message:
    """Make an empty message of type `name` in the descriptor pool of `like`."""
    # It accepts the descriptors of both implementations; types-protobuf knows of one.
    return message_factory.GetMessageClass(cast("Descriptor", like.DESCRIPTOR.file.message_types_by_name[name]))()


def with_large_payloads(request: Message) -> Message:
    """Return a copy of a GetWorkItemsRequest with the capability; `request` itself if it has it, or knows none."""
    capabilities = request.DESCRIPTOR.file.enum_types_by_name.get("WorkerCapability")
    if capabilities is None or "WORKER_CAPABILITY_LARGE_PAYLOADS" not in capabilities.values_by_name:
        return request
    # An enum value is an int at run time, its own type exists for the checkers only; the fields as in instance_of.
    capability = cast(
        "pb.WorkerCapability.ValueType", capabilities.values_by_name["WORKER_CAPABILITY_LARGE_PAYLOADS"].number
    )
    if capability in cast("pb.GetWorkItemsRequest", request).capabilities:
        return request
    copy = deepcopy(cast("pb.GetWorkItemsRequest", request))
    copy.capabilities.append(capability)
    return copy


# ---- reading -------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """A payload field of a response: the instance that it belongs to, if the response tells, and the field's path."""

    instance_id: str | None
    path: str


def places_of(response: Message, tokens: Collection[str]) -> dict[str, Place]:
    """Return the first place in `response` of each of `tokens`."""
    places: dict[str, Place] = {}
    for part in (*_parts_of(response), response):
        for download in plan_downloads(part, ("",), tokens.__contains__):
            places.setdefault(download.token, Place(instance_of(part), download.path))
    return places


def result_of(response: Message) -> str | None:
    """Return the output of the instance that `response` is about alone, if that instance is completed."""
    # A fork of the protos may have other names in a message of this name.
    if response.DESCRIPTOR.full_name != "GetInstanceResponse" or not _has(response, "orchestrationState"):
        return None
    state = cast("pb.GetInstanceResponse", response).orchestrationState  # by its name
    is_completed = state.orchestrationStatus == _COMPLETED and state.HasField("output")
    return state.output.value if is_completed else None


def _parts_of(response: Message) -> Iterator[Message]:
    """Yield the parts of a response that name the instance that they belong to."""
    for field, value in response.ListFields():
        if field.message_type is not None and "instanceId" in field.message_type.fields_by_name:
            # A field of this type holds a message, or a list of them.
            yield from [value] if isinstance(value, Message) else cast("Sequence[Message]", value)


def _has(message: Message, field: str) -> bool:
    return field in message.DESCRIPTOR.fields_by_name


def refused_for_size(details: str | None, sent_bytes: int) -> bool:
    """Return whether RESOURCE_EXHAUSTED with `details` means that the message of `sent_bytes` was too large."""
    text = (details or "").lower()
    if any(phrase in text for phrase in _OF_A_RESPONSE):
        return False
    return sent_bytes > _DEFAULT_LIMIT or is_about_size(details)


def is_about_size(details: str | None) -> bool:
    """Return whether the `details` of RESOURCE_EXHAUSTED are about the size of a message, and not about a quota."""
    text = (details or "").lower()
    return any(phrase in text for phrase in _TOO_LARGE)


def too_large(message: Message, size: int, budget: int | None) -> PayloadTooLargeError:
    """Return the error for a message that has `size` bytes without its payloads: over the budget, or refused."""
    allowed = "gRPC accepts" if budget is None else f"message_budget_bytes allows ({budget})"
    return PayloadTooLargeError(
        f"{message.DESCRIPTOR.full_name} has {size} bytes after its payloads were taken out, which exceeds the maximum "
        f"that {allowed}: "
        f"its largest field is {largest_field(message)}. Send less, or raise the limit of the server"
    )


def largest_field(message: Message) -> str:
    """Return the path to the largest field of `message`, as `Message.field.field`. Slow: for the text of an error."""
    path = message.DESCRIPTOR.full_name
    while message.DESCRIPTOR.full_name != "google.protobuf.StringValue":
        sizes = [(_size_without(message, field.name), field.name) for field, _ in message.ListFields()]
        if not sizes:
            break
        _, name = min(sizes)
        path += f".{name}"
        value: object = getattr(message, name)
        if isinstance(value, MutableSequence):  # a repeated field: go on in its largest member
            members = [member for member in cast("Sequence[object]", value) if isinstance(member, Message)]
            value = max(members, key=lambda member: member.ByteSize(), default=None)
        if not isinstance(value, Message):
            break
        message = value
    return path


def _size_without(message: Message, field: str) -> int:
    copy = deepcopy(message)
    copy.ClearField(field)
    return copy.ByteSize()
