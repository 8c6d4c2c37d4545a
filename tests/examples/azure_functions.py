"""Large payloads in the requests that the host of Azure Functions passes: base64 of an OrchestratorRequest.

    python azure_functions.py

The host passes a work item to the function, and takes what it returns for the completion: there is no gRPC call that an
interceptor could see. So the request is deexternalized before the SDK runs the orchestrator, and the response
externalized after it. This file plays the host, offline. Needs `durabletask-payloads[sdk]`.
"""

from __future__ import annotations

import base64
import logging
from typing import TYPE_CHECKING, Any

from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.worker import TaskHubGrpcWorker
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import Externalizer, InMemoryPayloadStore

if TYPE_CHECKING:
    from collections.abc import Generator

    from durabletask.task import OrchestrationContext, Task


# --8<-- [start:main]
class FunctionsWorker(TaskHubGrpcWorker):
    """Runs work items that the host passes to a function. It is never started, and connects to nothing."""

    def __init__(self, externalizer: Externalizer) -> None:
        super().__init__(logger=logging.getLogger("functions"))
        self._externalizer = externalizer

    def handle(self, body: str) -> str:
        """Return the response to the body of an orchestration trigger; both are base64."""
        request = pb.OrchestratorRequest.FromString(base64.b64decode(body))
        self._externalizer.deexternalize(request)
        completion = Completion()
        self._execute_orchestrator(request, completion, "")  # the host needs no completion token
        response = completion.response
        self._externalizer.externalize(response, instance_id=request.instanceId)
        return base64.b64encode(response.SerializeToString()).decode()


class Completion:
    """Takes the response that the SDK's worker would send."""

    response: pb.OrchestratorResponse

    def CompleteOrchestratorTask(self, response: pb.OrchestratorResponse) -> None:
        self.response = response


# --8<-- [end:main]


def shout(context: OrchestrationContext, text: str) -> Generator[Task[Any], Any, Any]:
    loud: str = yield context.call_activity("upper", input=text)
    return loud


def main() -> None:
    store = InMemoryPayloadStore()
    with Externalizer(store) as externalizer:
        worker = FunctionsWorker(externalizer)
        worker.add_orchestrator(shout)
        # A client stored the input: the host has its token.
        token = store.upload(b'"' + b"x" * 5_000_000 + b'"', instance_id="order-17")
        started = pb.ExecutionStartedEvent(name="shout", input=StringValue(value=token))
        events = [
            pb.HistoryEvent(orchestratorStarted=pb.OrchestratorStartedEvent()),
            pb.HistoryEvent(executionStarted=started),
        ]
        request = pb.OrchestratorRequest(instanceId="order-17", newEvents=events)
        body = base64.b64encode(request.SerializeToString()).decode()
        answer = worker.handle(body)
        response = pb.OrchestratorResponse.FromString(base64.b64decode(answer))
        scheduled = response.actions[0].scheduleTask
        size = len(store.download(scheduled.input.value))
        print(f"the host sent {len(body)} characters, and got {len(answer)}")
        print(f"activity {scheduled.name!r} was scheduled with an input of {size:,} bytes")


if __name__ == "__main__":
    main()
