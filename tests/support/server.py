"""A server of the Durable Task service that answers as a test demands. For tests/interceptors."""

from __future__ import annotations

import contextlib
from concurrent import futures
from typing import TYPE_CHECKING, cast

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
from google.protobuf import empty_pb2, message_factory
from google.protobuf.wrappers_pb2 import StringValue

import durabletask_payloads_walkers as walkers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from google.protobuf.descriptor import MethodDescriptor
    from google.protobuf.message import Message

METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["TaskHubSidecarService"].methods}


class ScriptedServer(grpc.GenericRpcHandler):
    """Answers each RPC with what `answers` has for it, else with an empty message; keeps the requests.

    Attributes:
        answers: RPC name -> a function of request and context.
        requests: the RPC's name and the request as it was on the wire, of each call.
        metadata: the RPC's name and the metadata of each call.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Message, grpc.ServicerContext], Message | Iterator[Message]]] = {}
        self.requests: list[tuple[str, Message]] = []
        self.metadata: list[tuple[str, dict[str, str | bytes]]] = []

    def named(self, rpc: str) -> list[Message]:
        """Return the requests of one RPC."""
        return [request for name, request in self.requests if name == rpc]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Message, Message] | None:
        name = handler_call_details.method.rpartition("/")[2]
        method = METHODS[name]
        self.metadata.append((name, dict(handler_call_details.invocation_metadata)))
        answer = self.answers.get(name)

        def note(request: Message) -> None:
            self.requests.append((name, request))

        def unary(request: Message, context: grpc.ServicerContext) -> Message:
            note(request)
            return cast("Message", answer(request, context)) if answer else output_of(method)()

        def stream(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
            note(request)
            return cast("Iterator[Message]", answer(request, context)) if answer else iter(())

        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, input_of(method).FromString, _serialize)
        return grpc.unary_unary_rpc_method_handler(unary, input_of(method).FromString, _serialize)


def input_of(method: MethodDescriptor) -> type[Message]:
    return _class_of(method.input_type.full_name)


def output_of(method: MethodDescriptor) -> type[Message]:
    return _class_of(method.output_type.full_name)


def _class_of(name: str) -> type[Message]:
    if name == "google.protobuf.Empty":
        return empty_pb2.Empty
    return message_factory.GetMessageClass(pb.DESCRIPTOR.message_types_by_name[name])


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


@contextlib.contextmanager
def serving(server: ScriptedServer) -> Generator[str]:
    """Start it; yields its address."""
    executor = futures.ThreadPoolExecutor(16, thread_name_prefix="server")
    running = grpc.server(executor, options=[("grpc.so_reuseport", 0)])
    running.add_generic_rpc_handlers((server,))
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        running.stop(None).wait()
        executor.shutdown()


def payload_fields(message: Message) -> list[StringValue]:
    """Return the payload fields of `message` itself, each made to be there."""
    found: list[StringValue] = []
    for field in message.DESCRIPTOR.fields:
        if walkers.FIELDS.get(f"{message.DESCRIPTOR.full_name}.{field.name}") == "payload":
            value: object = getattr(message, field.name)
            assert isinstance(value, StringValue)
            found.append(value)
    return found
