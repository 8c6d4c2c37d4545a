"""The oracle: one field filled at a time, in every place where the schema has one, must be visited exactly once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol, cast

from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf import message_factory
from tests.generated.reflection import messages, private_pool
from tests.support.oracle import ask, leaf_paths

import durabletask_payloads_walkers as walkers
from durabletask_payloads import DeexternalizePlan, ExternalizePlan
from durabletask_payloads_walkers import DEEXTERNALIZE, EXTERNALIZE, FAN_OUT, FIELDS, MESSAGES, SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.descriptor_pb2 import FileDescriptorProto
    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue

TOKEN = "token:"
LIMIT = 1_000_000


class Walk(Protocol):
    """One direction of the walkers: the fields that a walk of `message` visits, with their paths."""

    def __call__(self, message: Message) -> list[tuple[StringValue, str]]: ...


def large(message: Message, *, include_diagnostics: bool = False) -> list[tuple[StringValue, str]]:
    """Everything that is not empty is large."""
    plan = ExternalizePlan(0, LIMIT, lambda text: False, include_diagnostics=include_diagnostics)
    if walker := EXTERNALIZE.get(message.DESCRIPTOR.full_name):
        # Looked up by the type of the message, which no type checker can see.
        cast("Callable[[Message, ExternalizePlan], None]", walker)(message, plan)
    return [(upload.field, upload.path) for upload in plan.uploads]


def large_with_diagnostics(message: Message) -> list[tuple[StringValue, str]]:
    return large(message, include_diagnostics=True)


def tokens(message: Message) -> list[tuple[StringValue, str]]:
    plan = DeexternalizePlan((TOKEN,), lambda text: text.startswith(TOKEN))
    if walker := DEEXTERNALIZE.get(message.DESCRIPTOR.full_name):
        # As above.
        cast("Callable[[Message, DeexternalizePlan], None]", walker)(message, plan)
    return [(download.field, download.path) for download in plan.downloads]


def test_each_field_alone_from_each_message() -> None:
    # The number of ways to a field, over all messages as roots: a new field or message shows here.
    assert ask(walkers, messages()) == {"payload": 364, "diagnostic": 190, "metadata": 538}


def test_the_size_of_the_tables() -> None:
    assert (len(MESSAGES), len(EXTERNALIZE), len(FIELDS), len(FAN_OUT)) == (118, 61, 91, 10)
    assert Counter(FIELDS.values()) == {"payload": 44, "diagnostic": 3, "metadata": 44}
    assert SOURCE == "durabletask 1.12.0"


def test_a_newer_schema_falls_through() -> None:
    """A oneof member that the walkers do not know, in classes of another pool."""

    def newer(file: FileDescriptorProto) -> None:
        future = file.message_type.add(name="FutureEvent")
        future.field.add(name="input", number=1, type=11, label=1, type_name=".google.protobuf.StringValue")
        (event,) = (message for message in file.message_type if message.name == "HistoryEvent")
        event.field.add(name="future", number=900, type=11, label=1, type_name=".FutureEvent", oneof_index=0)

    descriptor = private_pool(newer).FindMessageTypeByName("OrchestratorRequest")
    request = message_factory.GetMessageClass(descriptor)()
    assert not isinstance(request, pb.OrchestratorRequest)
    paths = {path.text: path for path in leaf_paths(descriptor)}
    future = paths["pastEvents[].future.input"].fill(request, f"{TOKEN}future")
    known = paths["pastEvents[].taskCompleted.result"].fill(request, f"{TOKEN}known")
    for walk in (large, tokens):
        visits = walk(request)
        assert [key for _, key in visits] == ["TaskCompletedEvent.result"]
        visits[0][0].value = f"{TOKEN}moved"
        assert (known.value, future.value) == (f"{TOKEN}moved", f"{TOKEN}future")


def test_an_older_schema_lacks_oneof_members() -> None:
    def older(file: FileDescriptorProto) -> None:
        (event,) = (message for message in file.message_type if message.name == "HistoryEvent")
        (rewound,) = (index for index, field in enumerate(event.field) if field.name == "executionRewound")
        del event.field[rewound]

    descriptor = private_pool(older).FindMessageTypeByName("HistoryChunk")
    chunk = message_factory.GetMessageClass(descriptor)()
    for path in leaf_paths(descriptor):
        path.fill(chunk, f"{TOKEN}{path.text}")
    expected = [path.key for path in leaf_paths(descriptor) if FIELDS[path.key] != "metadata"]
    assert "ExecutionStartedEvent.input" in expected
    assert "ExecutionRewoundEvent.input" not in expected
    for walk in (large_with_diagnostics, tokens):
        assert Counter(key for _, key in walk(chunk)) == Counter(expected)


def test_a_failure_as_deep_as_protobuf_allows() -> None:
    """gRPC refuses a message nested deeper than 100; a walk of one that just passes must not."""
    root = pb.TaskFailureDetails()
    failure = root
    for _ in range(99):
        failure = failure.innerFailure
        failure.stackTrace.value = f"{TOKEN}x"
    deep = pb.TaskFailureDetails.FromString(root.SerializeToString())
    assert len(large_with_diagnostics(deep)) == len(tokens(deep)) == 99


def test_an_empty_message_has_nothing_to_visit() -> None:
    for name, descriptor in messages().items():
        message = message_factory.GetMessageClass(descriptor)()
        assert large_with_diagnostics(message) == tokens(message) == [], name
        assert message.ByteSize() == 0, f"{name}: the walk has set a field"
