"""A task hub without gRPC: streams of work items, completions and abandonments, each with its delay and its failure."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

import durabletask.internal.orchestrator_service_pb2 as pb
import grpc
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads.interceptors._calls import EndedLocallyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tests.interleavings.world import World

SERVICE: Final = "/TaskHubSidecarService/"


class Details(grpc.ClientCallDetails):
    """The details of a call of `rpc`, without a timeout unless one is given."""

    def __init__(self, rpc: str, timeout: float | None = None) -> None:
        self.method = SERVICE + rpc
        self.timeout = timeout
        self.metadata = None
        self.credentials = None


class Answer:
    """A unary call that is over. An error is raised by `result`."""

    def __init__(self, error: EndedLocallyError | None) -> None:
        self._error = error

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK if self._error is None else self._error.code()

    def details(self) -> str:
        return "" if self._error is None else self._error.details()

    def done(self) -> bool:
        return True

    def exception(self) -> Exception | None:
        return self._error


class StreamCall:
    """A streaming call of a client. Iterate it in one thread; `cancel` it from any."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._messages: deque[Message] = deque()
        self._unread = 0
        self._has_ended = False
        self._error: Exception | None = None

    @property
    def has_ended(self) -> bool:
        return self._has_ended

    @property
    def unread(self) -> int:
        """How many messages were sent, and not read."""
        return self._unread

    def send(self, message: Message) -> None:
        self._unread += 1
        self._messages.append(message)

    def end(self, error: Exception | None = None) -> None:
        """End it: after what was sent, or at once if there is an error."""
        if not self._has_ended:
            self._has_ended = True
            self._error = error
            if error is not None:
                self._messages.clear()

    def cancel(self) -> bool:
        self.end(EndedLocallyError(grpc.StatusCode.CANCELLED, "Locally cancelled by application!"))
        return True

    def __iter__(self) -> Iterator[Message]:
        return self

    def __next__(self) -> Message:
        self._world.scheduler.switch(lambda: bool(self._messages) or self._has_ended)
        if self._messages:
            self._unread -= 1
            return self._messages.popleft()
        raise self._error or StopIteration


class Hub:
    """Delivers activities until each of them was completed; one that is abandoned is delivered again.

    Attributes:
        can_abandon: whether it takes work items back; if not, it answers UNIMPLEMENTED.
        failing: the share of calls that it answers with UNAVAILABLE.
        is_closed: the channel was closed: no call can begin.
        completed: how often each activity was completed.
        results: what each activity was completed with.
        twice: answers to deliveries that had been answered before.
    """

    def __init__(self, world: World, inputs: dict[int, str]) -> None:
        self._world = world
        self._inputs = inputs
        self.stream = StreamCall(world)
        self.can_abandon = True
        self.failing = 0.0
        self.is_closed = False
        self.completed: Counter[int] = Counter()
        self.results: dict[int, pb.ActivityResponse] = {}
        self.twice: list[str] = []
        self._deliveries = 0
        self._open: dict[str, int] = {}  # deliveries that were not answered, and their activities

    @property
    def unanswered(self) -> int:
        """How many deliveries were neither completed nor abandoned."""
        return len(self._open)

    def deliver_all(self) -> None:
        for number in self._inputs:
            self._deliver(number)

    def _deliver(self, number: int) -> None:
        self._deliveries += 1
        token = f"delivery {self._deliveries}"
        self._open[token] = number
        self.stream.send(
            pb.WorkItem(
                completionToken=token,
                activityRequest=pb.ActivityRequest(
                    taskId=number,
                    input=StringValue(value=self._inputs[number]),
                    orchestrationInstance=pb.OrchestrationInstance(instanceId="order"),
                ),
            )
        )

    # ---- calls of the interceptor -----------------------------------------------------------------------------

    def unary(self, details: grpc.ClientCallDetails, request: Message) -> Any:  # a call; of its methods few are needed
        return Answer(self._answer(details, request))

    def streaming(self, details: grpc.ClientCallDetails, request: Message) -> Any:  # as above
        if details.method == SERVICE + "GetWorkItems":
            return self.stream
        call = StreamCall(self._world)
        call.end(self._answer(details, request))
        return call

    def _answer(self, details: grpc.ClientCallDetails, request: Message) -> EndedLocallyError | None:
        if self.is_closed:
            raise ValueError("Cannot invoke RPC: Channel closed!")
        self._world.soon()
        if self._world.chance(self.failing):
            return EndedLocallyError(grpc.StatusCode.UNAVAILABLE, "scripted")
        rpc = details.method.rpartition("/")[2]
        if rpc.startswith("Abandon"):
            if not self.can_abandon:
                return EndedLocallyError(grpc.StatusCode.UNIMPLEMENTED, "scripted")
            assert isinstance(request, pb.AbandonActivityTaskRequest)
            number = self._close(request.completionToken, "abandoned")
            if number is not None and not self.stream.has_ended:
                self._deliver(number)
        else:
            assert isinstance(request, pb.ActivityResponse)
            number = self._close(request.completionToken, "completed")
            if number is not None:
                self.completed[number] += 1
                self.results[number] = request
        self._world.scheduler.switch()
        return None

    def _close(self, token: str, what: str) -> int | None:
        number = self._open.pop(token, None)
        if number is None:
            self.twice.append(f"{token} was {what}, and answered before")
        return number
