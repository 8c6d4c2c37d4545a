"""The schema by reflection: what the walkers must agree with. Reflection lives on here, in the tests, only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import Descriptor


def messages() -> Mapping[str, Descriptor]:
    """The top-level messages of the SDK's schema by full name."""
    return {descriptor.full_name: descriptor for descriptor in pb.DESCRIPTOR.message_types_by_name.values()}


def private_pool(change: Callable[[FileDescriptorProto], None]) -> descriptor_pool.DescriptorPool:
    """The SDK's schema, changed, in a pool of its own: what another release of the SDK would have."""
    file = FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)
    change(file)
    pool = descriptor_pool.DescriptorPool()
    for imported in pb.DESCRIPTOR.dependencies:
        pool.AddSerializedFile(imported.serialized_pb)
    pool.Add(file)
    return pool
