"""Large payloads in the requests that the host of Azure Functions passes: base64 of an OrchestratorRequest.

    python azure_functions.py

The host passes a work item to the function, and takes what it returns for the completion: there is no gRPC call that an
interceptor could see. So the request is deexternalized before the orchestrator runs, and the response is externalized
after it. This file plays the host, offline. Needs `durabletask-payloads[sdk]`.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.worker import TaskHubGrpcWorker
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import Externalizer, InMemoryPayloadStore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from durabletask.task import OrchestrationContext, Task


# --8<-- [start:main]
def run_with_payloads(body: str, execute: Callable[[str], str], externalizer: Externalizer) -> str:
    """Return the response of `execute` to the body of an orchestration trigger: payloads in, tokens out.

    Both are base64. A PayloadError is raised as it is: the function has failed, and the host decides what comes next.
    """
    request = pb.OrchestratorRequest.FromString(base64.b64decode(body))
    externalizer.deexternalize(request)
    answer = execute(base64.b64encode(request.SerializeToString()).decode())
    response = pb.OrchestratorResponse.FromString(base64.b64decode(answer))
    externalizer.externalize(response, instance_id=request.instanceId)
    return base64.b64encode(response.SerializeToString()).decode()


# --8<-- [end:main]


class FunctionsWorker(TaskHubGrpcWorker):
    """Runs orchestrators as the library for Azure Functions does. It is never started, and connects to nothing."""

    def execute(self, body: str) -> str:
        request = pb.OrchestratorRequest.FromString(base64.b64decode(body))
        completion = Completion()
        self._execute_orchestrator(request, completion, "")  # there is no completion token
        return base64.b64encode(completion.response.SerializeToString()).decode()


class Completion:
    """Takes the response that the SDK's worker would send."""

    response: pb.OrchestratorResponse

    def CompleteOrchestratorTask(self, response: pb.OrchestratorResponse) -> None:
        self.response = response


def shout(context: OrchestrationContext, text: str) -> Generator[Task[Any], Any, Any]:
    loud: str = yield context.call_activity("upper", input=text)
    return loud


def main() -> None:
    store = InMemoryPayloadStore()
    with Externalizer(store) as externalizer:
        worker = FunctionsWorker()
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
        answer = run_with_payloads(body, worker.execute, externalizer)
        response = pb.OrchestratorResponse.FromString(base64.b64decode(answer))
        scheduled = response.actions[0].scheduleTask
        size = len(store.download(scheduled.input.value))
        print(f"the host sent {len(body)} characters, and got {len(answer)}")
        print(f"activity {scheduled.name!r} was scheduled with an input of {size:,} bytes")


if __name__ == "__main__":
    main()
