"""Messages of other descriptor pools, and fields that the walkers do not know."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from durabletask_payloads import Externalizer, InMemoryPayloadStore, LargePayloadStorageOptions, SchemaMismatchError

if TYPE_CHECKING:
    from google.protobuf.message import Message

SMALL = LargePayloadStorageOptions(threshold_bytes=1_000)


def private_class(name: str, *, new_field: str | None = None, without: str | None = None) -> type[Message]:
    """The class of message `name` in a pool of its own, perhaps with a StringValue field more or a field less."""
    pool = descriptor_pool.DescriptorPool()
    for dependency in pb.DESCRIPTOR.dependencies:
        pool.AddSerializedFile(dependency.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    (message,) = (message for message in file.message_type if message.name == name)
    if new_field is not None:
        message.field.add(
            name=new_field,
            number=99,
            type="TYPE_MESSAGE",
            label="LABEL_OPTIONAL",
            type_name=".google.protobuf.StringValue",
        )
    for field in [field for field in message.field if field.name == without]:
        message.field.remove(field)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def test_a_class_of_another_pool_is_walked_like_the_sdks() -> None:
    message = private_class("ActivityRequest")()
    message.MergeFromString(pb.ActivityRequest(input=wrappers_pb2.StringValue(value="x" * 2_000)).SerializeToString())
    assert not isinstance(message, pb.ActivityRequest)
    before = message.SerializeToString()
    with Externalizer(InMemoryPayloadStore(SMALL)) as externalizer:
        assert externalizer.externalize(message)
        assert message.ByteSize() < 200
        externalizer.deexternalize(message)
    assert message.SerializeToString() == before


def test_a_new_field_is_warned_of_once_and_an_error_if_strict(caplog: pytest.LogCaptureFixture) -> None:
    message = private_class("ActivityRequest", new_field="note")()
    with caplog.at_level(logging.WARNING), Externalizer(InMemoryPayloadStore(SMALL)) as externalizer:
        for _ in range(3):
            externalizer.externalize(message)
    (record,) = caplog.records
    assert "ActivityRequest.note" in record.getMessage()
    assert "make protos generate" in record.getMessage()
    with Externalizer(InMemoryPayloadStore(SMALL), strict=True) as strict:
        for step in (strict.externalize, strict.deexternalize, strict.has_tokens):
            with pytest.raises(SchemaMismatchError, match=r"ActivityRequest\.note"):
                step(message)


def private_class_of_two_files() -> type[Message]:
    """QueryInstancesResponse in a file of its own; the file that it imports has fields that the walkers do not know."""
    pool = descriptor_pool.DescriptorPool()
    for dependency in pb.DESCRIPTOR.dependencies:
        pool.AddSerializedFile(dependency.serialized_pb)
    first = descriptor_pb2.FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    first.ClearField("service")
    (moved,) = (message for message in first.message_type if message.name == "QueryInstancesResponse")
    second = descriptor_pb2.FileDescriptorProto(name="queries.proto", syntax="proto3", message_type=[moved])
    second.dependency.extend([first.name, "google/protobuf/wrappers.proto"])
    first.message_type.remove(moved)
    (state,) = (message for message in first.message_type if message.name == "OrchestrationState")
    text = {"type": "TYPE_MESSAGE", "type_name": ".google.protobuf.StringValue"}
    state.field.add(name="note", number=98, label="LABEL_OPTIONAL", **text)
    entry = state.nested_type.add(name="NotesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
    entry.field.add(name="value", number=2, label="LABEL_OPTIONAL", **text)
    type_name = ".OrchestrationState.NotesEntry"
    state.field.add(name="notes", number=99, label="LABEL_REPEATED", type="TYPE_MESSAGE", type_name=type_name)
    pool.Add(first)
    pool.Add(second)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("QueryInstancesResponse"))


def test_new_fields_of_a_file_that_is_imported_are_warned_of_too(caplog: pytest.LogCaptureFixture) -> None:
    message = private_class_of_two_files()()
    with caplog.at_level(logging.WARNING), Externalizer(InMemoryPayloadStore(SMALL)) as externalizer:
        externalizer.deexternalize(message)
    (record,) = caplog.records
    assert " do not know OrchestrationState.note, OrchestrationState.notes: " in record.getMessage()
    with (
        Externalizer(InMemoryPayloadStore(SMALL), strict=True) as strict,
        pytest.raises(SchemaMismatchError, match=r"OrchestrationState\.note, OrchestrationState\.notes: "),
    ):
        strict.externalize(message)


def test_a_field_that_the_class_lacks_is_fine(caplog: pytest.LogCaptureFixture) -> None:
    message = private_class("HistoryEvent", without="executionRewound")()
    with Externalizer(InMemoryPayloadStore(SMALL), strict=True) as externalizer:
        externalizer.externalize(message)
        externalizer.deexternalize(message)
    assert not caplog.records


def test_the_sdk_itself_has_no_field_that_the_walkers_do_not_know() -> None:
    with Externalizer(InMemoryPayloadStore(SMALL), strict=True) as externalizer:
        externalizer.externalize(pb.OrchestratorResponse())
