"""Scenarios of unary calls: responses that several threads ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
from google.protobuf.wrappers_pb2 import StringValue
from tests.interleavings.hub import Details
from tests.interleavings.world import CACHE, SCRIPTED, SteppedStore, payload, require_idle

from durabletask_payloads import Externalizer, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import PayloadInterceptor

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from tests.interleavings.world import World


class _LateCall:
    """A unary call that is over after a while."""

    def __init__(self, world: World, response: Message) -> None:
        self._world = world
        self._response = response
        self._is_over = False

    def answer(self) -> None:
        self._world.soon()
        self._is_over = True

    def done(self) -> bool:
        return self._is_over

    def code(self) -> grpc.StatusCode:
        self._world.scheduler.switch(lambda: self._is_over)
        return grpc.StatusCode.OK

    def result(self, timeout: float | None = None) -> Message:
        self.code()
        return self._response

    def exception(self, timeout: float | None = None) -> None:
        self.code()


def a_response_that_many_ask_for(world: World) -> None:
    """The future of a call: its response is deexternalized once, by whoever asks first."""
    store = SteppedStore(world, failing=world.random.choice((0.0, 0.5)))
    externalizer = Externalizer(store, concurrency=1, cache_bytes=world.random.choice((0, CACHE)))
    interceptor = PayloadInterceptor(externalizer)
    state = pb.OrchestrationState(output=StringValue(value=store.keep(payload("output"))))
    call = _LateCall(world, pb.GetInstanceResponse(exists=True, orchestrationState=state))

    def send(details: grpc.ClientCallDetails, request: Message) -> Any:  # a call; of its methods few are needed
        return call

    future: Any = interceptor.intercept_unary_unary(
        send, Details("GetInstance"), pb.GetInstanceRequest(instanceId="order")
    )
    texts: list[str] = []
    errors: set[str] = set()

    def ask() -> None:
        try:
            texts.append(future.result().orchestrationState.output.value)
        except PayloadStoreUnavailableError as error:
            errors.add(str(error))

    for number in range(3):
        world.start(ask, f"asking {number}")
    world.start(call.answer, "answer")
    world.join()
    externalizer.close()
    assert set(texts) <= {payload("output")}
    assert not (texts and errors), "all see the same"
    assert all(SCRIPTED in text for text in errors), errors
    assert store.served.total() == (1 if texts else 0)
    require_idle(externalizer, store, world)
