"""Messages of the Durable Task protos in a descriptor pool of their own: the SDK need not be there, and may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, wrappers_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

_Field = descriptor_pb2.FieldDescriptorProto
_TEXT = ".google.protobuf.StringValue"
# The fields of the protos that a walk of the message looks at, with their numbers there.
_SCHEMA = {
    "EntityBatchRequest": [("entityState", 2, _TEXT, False), ("operations", 3, ".OperationRequest", True)],
    "OperationRequest": [("input", 3, _TEXT, False)],
}


# Kept for as long as its messages are used.
_POOL: Final = descriptor_pool.DescriptorPool()


def _batch_class() -> type[Message]:
    file = descriptor_pb2.FileDescriptorProto(
        name="durabletask_payloads/testing.proto", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=_Field.TYPE_MESSAGE, type_name=kind, label=label)
    _POOL.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    _POOL.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("EntityBatchRequest"))


# Made here, and not by the first of the threads that need it: each would make one, and protobuf has crashed then.
_BATCH: Final = _batch_class()


def batch(*inputs: str) -> Message:
    """Return a batch of entity operations with these inputs."""
    return json_format.ParseDict({"operations": [{"input": text} for text in inputs]}, _BATCH())
