"""Messages of the Durable Task protos in a descriptor pool of their own: the SDK need not be there, and may be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory, wrappers_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.protobuf.message import Message

_Field = descriptor_pb2.FieldDescriptorProto
_TEXT = ".google.protobuf.StringValue"
# The fields of the protos that a walk of the message looks at, with their numbers there.
_SCHEMA = {
    "EntityBatchRequest": [("entityState", 2, _TEXT, False), ("operations", 3, ".OperationRequest", True)],
    "OperationRequest": [("input", 3, _TEXT, False)],
}


def _classes() -> Mapping[str, type[Message]]:
    file = descriptor_pb2.FileDescriptorProto(
        name="durabletask_payloads/testing.proto", syntax="proto3", dependency=["google/protobuf/wrappers.proto"]
    )
    for name, fields in _SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=_Field.TYPE_MESSAGE, type_name=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
        for name in (*_SCHEMA, _TEXT.lstrip("."))
    }


# All of them are held, and made before there are threads. protobuf 7.36 holds the class of a message in a message by
# its messages only: where a garbage collection takes it, and another thread makes such a message, the process crashes.
_CLASSES: Final = _classes()


def batch(*inputs: str) -> Message:
    """Return a batch of entity operations with these inputs."""
    return json_format.ParseDict({"operations": [{"input": text} for text in inputs]}, _CLASSES["EntityBatchRequest"]())
