"""What is in the messages of work items, read and made by name.

Never by class: a caller's messages may be of another descriptor pool than the SDK's, and this package may be there
without the SDK. So a message that is made is of the pool of the message at hand.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, cast, overload

from google.protobuf import message_factory
from google.protobuf.message import Message

import durabletask_payloads_walkers as walkers
from durabletask_payloads.externalizer._planning import plan_downloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.descriptor import Descriptor

    Completion: TypeAlias = pb.ActivityResponse | pb.OrchestratorResponse | pb.EntityBatchResult

AbandonRequestName = Literal[
    "AbandonActivityTaskRequest", "AbandonOrchestrationTaskRequest", "AbandonEntityTaskRequest"
]
_Message = TypeVar("_Message", bound="Message")
_SERVICE = "/TaskHubSidecarService/"


class Kind(NamedTuple):
    """A kind of work item: how one is completed, and how one is given back."""

    name: Literal["activity", "orchestration", "entity"]
    complete: str
    abandon: str
    abandon_request: AbandonRequestName


ACTIVITY = Kind("activity", "CompleteActivityTask", "AbandonTaskActivityWorkItem", "AbandonActivityTaskRequest")
ORCHESTRATION = Kind(
    "orchestration", "CompleteOrchestratorTask", "AbandonTaskOrchestratorWorkItem", "AbandonOrchestrationTaskRequest"
)
ENTITY = Kind("entity", "CompleteEntityTask", "AbandonTaskEntityWorkItem", "AbandonEntityTaskRequest")

KIND_BY_COMPLETION = {kind.complete: kind for kind in (ACTIVITY, ORCHESTRATION, ENTITY)}
KIND_BY_PATH = {_SERVICE + kind.complete: kind for kind in (ACTIVITY, ORCHESTRATION, ENTITY)}
KIND_BY_ABANDON = {kind.abandon: kind for kind in (ACTIVITY, ORCHESTRATION, ENTITY)}


class Lock(NamedTuple):
    """An entity that an orchestration holds locked."""

    critical_section_id: str
    entity_id: str


class Operation(NamedTuple):
    """One operation of an entity batch.

    Attributes:
        place: its index in the repeated field; other things may stand there too.
        message: the operation, whose payload can be resolved by itself.
        info: what the completion has to say about it; None for a batch of the first version.
    """

    place: int
    message: pb.OperationRequest | pb.HistoryEvent
    info: pb.OperationInfo | None


# ---- names ---------------------------------------------------------------------------------------------------------


def rpc_name(method: str | bytes) -> str | None:
    """The name of the RPC without its service, None for one of another service. grpc.aio has bytes."""
    path = method.decode() if isinstance(method, bytes) else method
    return path[len(_SERVICE) :] if path.startswith(_SERVICE) else None


def rpc_path(name: str) -> str:
    return _SERVICE + name


def is_known(message: Message) -> bool:
    """Whether the walkers know the type: false for google.protobuf.Empty, and for what a newer SDK may add."""
    return message.DESCRIPTOR.full_name in walkers.MESSAGES


def instance_of(message: Message) -> str | None:
    """The instance id that a request names, None if it names none."""
    if "instanceId" not in message.DESCRIPTOR.fields_by_name:
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
@overload
def new(like: Message, name: AbandonRequestName) -> pb.AbandonActivityTaskRequest: ...  # they are all alike
def new(like: Message, name: str) -> Message:
    """An empty message of type `name`, of the descriptor pool that `like` is of."""
    # It takes a descriptor of either implementation; types-protobuf knows of one.
    return message_factory.GetMessageClass(cast("Descriptor", like.DESCRIPTOR.file.message_types_by_name[name]))()


def copy_of(message: _Message) -> _Message:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def failed_status(like: Message) -> pb.OrchestrationStatus.ValueType:
    """ORCHESTRATION_STATUS_FAILED of the pool that `like` is of."""
    values = like.DESCRIPTOR.file.enum_types_by_name["OrchestrationStatus"].values_by_name
    # An enum value is an int at run time; its own type is known to the checkers only.
    return cast("pb.OrchestrationStatus.ValueType", values["ORCHESTRATION_STATUS_FAILED"].number)


def with_large_payloads(request: Message) -> Message:
    """A copy of a GetWorkItemsRequest that names the capability; `request` itself if it does, or knows no such."""
    capabilities = request.DESCRIPTOR.file.enum_types_by_name.get("WorkerCapability")
    if capabilities is None or "WORKER_CAPABILITY_LARGE_PAYLOADS" not in capabilities.values_by_name:
        return request
    # As for failed_status, and by its name for instance_of.
    capability = cast(
        "pb.WorkerCapability.ValueType", capabilities.values_by_name["WORKER_CAPABILITY_LARGE_PAYLOADS"].number
    )
    if capability in cast("pb.GetWorkItemsRequest", request).capabilities:
        return request
    copy = copy_of(cast("pb.GetWorkItemsRequest", request))
    copy.capabilities.append(capability)
    return copy


def abandonment(kind: Kind, like: Message, token: str) -> Message:
    """The request that gives the work item with `token` back."""
    request = new(like, kind.abandon_request)
    request.completionToken = token
    return request


# ---- reading -------------------------------------------------------------------------------------------------------


def held_locks(events: Iterable[pb.HistoryEvent]) -> tuple[Lock, ...]:
    """The entity locks that a history has asked for and not released: granted or not, as the SDK releases them."""
    held: dict[Lock, None] = {}
    for event in events:
        kind = event.WhichOneof("eventType")
        if kind == "entityLockRequested":
            request = event.entityLockRequested
            held.update((Lock(request.criticalSectionId, entity), None) for entity in request.lockSet)
        elif kind == "entityUnlockSent":
            unlock = event.entityUnlockSent
            held.pop(Lock(unlock.criticalSectionId, unlock.targetInstanceId.value), None)
    return tuple(held)


def operations_of(item: pb.WorkItem) -> list[Operation]:
    """The operations of an entity batch, in order."""
    if item.WhichOneof("request") == "entityRequest":
        return [Operation(index, operation, None) for index, operation in enumerate(item.entityRequest.operations)]
    found: list[Operation] = []
    for index, event in enumerate(item.entityRequestV2.operationRequests):
        if event.HasField("entityOperationSignaled"):
            info = new(item, "OperationInfo")
            info.requestId = event.entityOperationSignaled.requestId
            found.append(Operation(index, event, info))
        elif event.HasField("entityOperationCalled"):
            called = event.entityOperationCalled
            info = new(item, "OperationInfo")
            info.requestId = called.requestId
            info.responseDestination.instanceId = called.parentInstanceId.value
            info.responseDestination.executionId.CopyFrom(called.parentExecutionId)
            found.append(Operation(index, event, info))
    return found


def failures_in(completion: Message) -> Iterator[pb.TaskFailureDetails]:
    """All failure details in a completion, the inner ones too."""
    for outer in _outer_failures(completion):
        failure = outer
        while True:
            yield failure
            if not failure.HasField("innerFailure"):
                break
            failure = failure.innerFailure


def _outer_failures(completion: Message) -> Iterator[pb.TaskFailureDetails]:
    name = completion.DESCRIPTOR.full_name
    if name == "ActivityResponse":
        activity = cast("pb.ActivityResponse", completion)  # by its name, as in instance_of
        if activity.HasField("failureDetails"):
            yield activity.failureDetails
    elif name == "OrchestratorResponse":
        for action in cast("pb.OrchestratorResponse", completion).actions:
            if action.HasField("completeOrchestration") and action.completeOrchestration.HasField("failureDetails"):
                yield action.completeOrchestration.failureDetails
    elif name == "EntityBatchResult":
        batch = cast("pb.EntityBatchResult", completion)
        for result in batch.results:
            if result.HasField("failure"):
                yield result.failure.failureDetails
        if batch.HasField("failureDetails"):
            yield batch.failureDetails


def find_token(response: Message, text: str, is_token: Callable[[str], bool]) -> tuple[str | None, str | None]:
    """Of the tokens in `response` the first that `text`, an error, names: its instance and its field. Or None."""
    for part in _parts_of(response):
        for download in plan_downloads(part, ("",), is_token):
            if download.token in text:
                return instance_of(part), download.path
    return None, None


def _parts_of(response: Message) -> Sequence[Message]:
    """What belongs to one instance each."""
    name = response.DESCRIPTOR.full_name  # which proves the casts
    if name == "QueryInstancesResponse":
        return cast("pb.QueryInstancesResponse", response).orchestrationState
    if name == "QueryEntitiesResponse":
        return cast("pb.QueryEntitiesResponse", response).entities
    if name == "GetInstanceResponse":
        return [cast("pb.GetInstanceResponse", response).orchestrationState]
    if name == "GetEntityResponse":
        return [cast("pb.GetEntityResponse", response).entity]
    return [response]


def largest_field(message: Message) -> str:
    """The path to the largest field of `message`, as `Message.field.field`. Slow: for the text of an error."""
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
    copy = copy_of(message)
    copy.ClearField(field)
    return copy.ByteSize()
