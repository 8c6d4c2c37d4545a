"""The server of the soak: a backend that redelivers, and that loses a share of its answers."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, TypeVar, cast

import grpc
from tests.slow.soak.report import Deliveries
from tests.slow.soak.worker import CONTAINER
from tests.support.backend import RedeliveringBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from durabletask.testing.in_memory_backend import OrchestrationInstance
    from google.protobuf.message import Message

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

LOSING = 0.1

# The messages whose answers are lost. A server has no code of its own for "it was taken before": these are in use.
_CLIENT = [grpc.StatusCode.ALREADY_EXISTS]
_WORKER = [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT]
_REFUSALS = {
    "StartInstance": _CLIENT,
    "RaiseEvent": _CLIENT,
    "CompleteActivityTask": _WORKER,
    "CompleteOrchestratorTask": _WORKER,
    "CompleteEntityTask": _WORKER,
    "AbandonTaskActivityWorkItem": _WORKER,
    "AbandonTaskOrchestratorWorkItem": _WORKER,
    "AbandonTaskEntityWorkItem": _WORKER,
}
LOST_ANSWER = "the answer was lost"
TAKEN_BEFORE = "the message was taken before"


class LostAnswers(grpc.ServerInterceptor):
    """Answers UNAVAILABLE to `LOSING` of the messages after the server took them; refuses one that comes again.

    Attributes:
        lost: how many answers were lost, by RPC.
        refused: how many messages were refused since they had been taken, by RPC.
        resent: how many of these gRPC had sent again by itself.
    """

    def __init__(self, seed: int, *, losing: bool) -> None:
        self.lost: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.resent = 0
        self._losing = losing
        self._random = random.Random(f"answers {seed}")
        self._taken: set[tuple[str, bytes]] = set()
        self._lock = Lock()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[_Request, _Response] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[_Request, _Response] | None:
        handler = continuation(handler_call_details)
        name = handler_call_details.method.rpartition("/")[2]
        if handler is None or handler.unary_unary is None or name not in _REFUSALS or not self._losing:
            return handler
        take = handler.unary_unary
        is_resent = any(key == "grpc-previous-rpc-attempts" for key, _ in handler_call_details.invocation_metadata)

        def answer(request: _Request, context: grpc.ServicerContext) -> _Response:
            message = cast("Message", request)  # of the RPCs above
            taken = name, hashlib.sha256(message.SerializeToString(deterministic=True)).digest()
            self._refuse(taken, context, is_resent=is_resent)
            response = take(request, context)
            with self._lock:
                if is_lost := self._random.random() < LOSING:
                    self._taken.add(taken)
                    self.lost[name] += 1
            if is_lost:
                context.abort(grpc.StatusCode.UNAVAILABLE, LOST_ANSWER)
            return response

        return grpc.unary_unary_rpc_method_handler(answer, handler.request_deserializer, handler.response_serializer)

    def _refuse(self, taken: tuple[str, bytes], context: grpc.ServicerContext, *, is_resent: bool) -> None:
        """Abort the call if the message was taken before."""
        with self._lock:
            if taken not in self._taken:
                return
            self.refused[taken[0]] += 1
            self.resent += is_resent
            code = self._random.choice(_REFUSALS[taken[0]])
        context.abort(code, TAKEN_BEFORE)


class SoakBackend(RedeliveringBackend):
    """A backend that redelivers, with what the soak has to know of it."""

    def __init__(self, answers: LostAnswers) -> None:
        super().__init__(interceptors=[answers])
        self._requeued: Counter[str] = Counter()

    def _wait_for_state(
        self, instance_id: str, predicate: Callable[[OrchestrationInstance], bool], timeout: float | None
    ) -> OrchestrationInstance | None:
        # The SDK's own lets a parent wait for ever once its child has taken 30 s.
        return super()._wait_for_state(instance_id, predicate, 600.0 if timeout is None else timeout)

    def _requeue(self, key: tuple[str, str]) -> bool:
        is_known = super()._requeue(key)
        self._requeued[key[0]] += is_known
        return is_known

    @property
    def under_way(self) -> int:
        """How many work items are with a worker."""
        with self._lock:
            return len(self._delivered)

    def counts(self) -> list[Deliveries]:
        with self._lock:
            found: list[Deliveries] = []
            for kind in ("activity", "entity", "orchestration"):
                times = [number for work, number in self.deliveries.items() if work.kind == kind]
                abandoned = sum(number for work, number in self.abandonments.items() if work.kind == kind)
                lost = self._requeued[kind] - abandoned
                found.append(Deliveries(kind, len(times), sum(times), abandoned, lost, max(times, default=0)))
            return found

    def references(self) -> set[str]:
        """The names of all blobs that it still refers to."""
        with self._lock:
            texts = [event.SerializeToString() for one in self._instances.values() for event in one.history]
            values = [value for one in self._instances.values() for value in (one.input, one.output, one.custom_status)]
            values += [entity.serialized_state for entity in self._entities.values()]
            texts += [value.encode() for value in values if value is not None]
        token = re.compile(rf"blob:v1:{CONTAINER}:([0-9a-f]{{32}})".encode())
        return {name.decode() for text in texts for name in token.findall(text)}
