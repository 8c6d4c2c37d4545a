"""The schema by reflection: what the walkers must agree with. Reflection lives on here, in the tests, only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from tests.support.oracle import STRING_VALUE, is_map

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message


def messages() -> Mapping[str, Descriptor]:
    """The top-level messages of the SDK's schema by full name."""
    return {descriptor.full_name: descriptor for descriptor in pb.DESCRIPTOR.message_types_by_name.values()}


def random_message(descriptor: Descriptor, random: Random, text: Callable[[str], str]) -> Message:
    """A message with some of its fields set, at random; `text` makes the value of a StringValue from its key."""
    message = message_factory.GetMessageClass(descriptor)()

    def fill(message: Message, descriptor: Descriptor, depth: int) -> None:
        chosen = {random.choice(oneof.fields).name for oneof in descriptor.oneofs}
        for field in descriptor.fields:
            target = field.message_type
            if target is None or is_map(field) or random.random() < 0.1 * depth:
                continue
            if field.containing_oneof is not None and field.name not in chosen:
                continue
            content = getattr(message, field.name)
            for _ in range(random.randint(0, 3) if field.is_repeated else 1):
                item = content.add() if field.is_repeated else content
                item.SetInParent()
                if target.full_name == STRING_VALUE:
                    item.value = text(f"{descriptor.full_name}.{field.name}")
                elif target.file.name == pb.DESCRIPTOR.name:
                    fill(item, target, depth + 1)

    fill(message, descriptor, 0)
    return message


def private_pool(change: Callable[[FileDescriptorProto], None]) -> descriptor_pool.DescriptorPool:
    """The SDK's schema, changed, in a pool of its own: what another release of the SDK would have."""
    file = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    change(file)
    pool = descriptor_pool.DescriptorPool()
    for imported in pb.DESCRIPTOR.dependencies:
        pool.AddSerializedFile(imported.serialized_pb)
    pool.Add(file)
    return pool
