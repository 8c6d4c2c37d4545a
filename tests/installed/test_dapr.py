"""Dapr's two forks of the protos, with the wheel of this tree: walkers, oracle, type checks, and payloads over gRPC.

Each has an environment of its own: their pb2 modules cannot be imported beside those of the SDK.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from tests.support.wheels import ROOT, Environment, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

INTERNAL = "dapr.ext.workflow._durabletask.internal"
ORACLE = ROOT / "tests" / "support" / "oracle.py"
PAYLOADS = ("input", "output", "result", "customStatus", "data", "details", "reason", "serializedState", "entityState")
METADATA = (
    *("continuationToken", "executionId", "instanceIdPrefix", "instanceIdStartsWith", "lockedBy", "name", "newVersion"),
    *("orchestrationSpanID", "parentAppId", "parentExecutionId", "parentInstanceId", "targetInstanceId"),
    *("taskHubNames", "traceState", "version", "workflowSpanID"),
)
KEYS = """
import sys
from durabletask_payloads_codegen import descriptors, model, schema
print(*model.string_fields(descriptors.declare(schema.from_modules(sys.argv[1:]))), sep="\\n")
"""
# Its own stub and messages, the interceptor of this package, and a server that answers with what it was sent.
CALLS = """
import importlib, sys
from concurrent import futures
import grpc
from durabletask_payloads import InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor

pb, rpcs, states = (importlib.import_module(name) for name in sys.argv[1:])
sent = []

class Hub(rpcs.TaskHubSidecarServiceServicer):
    def StartInstance(self, request, context):
        sent.append(request)
        return pb.CreateInstanceResponse(instanceId=request.instanceId)

    def GetInstance(self, request, context):
        response = pb.GetInstanceResponse(exists=True)
        state = next(field.name for field in response.DESCRIPTOR.fields if field.message_type is not None)
        getattr(response, state).input.value = sent[-1].input.value
        return response

server = grpc.server(futures.ThreadPoolExecutor(2))
rpcs.add_TaskHubSidecarServiceServicer_to_server(Hub(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
store = InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=100))
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    stub = rpcs.TaskHubSidecarServiceStub(grpc.intercept_channel(channel, PayloadInterceptor(store)))
    request = pb.CreateInstanceRequest(instanceId="one", name="order")
    request.input.value = "x" * 1000
    stub.StartInstance(request)
    response = stub.GetInstance(pb.GetInstanceRequest(instanceId="one"))
server.stop(None)
(state,) = (value for _, value in response.ListFields() if hasattr(value, "input"))
print(type(state).__module__, store.is_known_token(sent[-1].input.value), state.input.value == request.input.value)
"""


class Fork(NamedTuple):
    """An SDK from PyPI: what to install, its pb2 modules, that with the service first, and where its states are."""

    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    files: int
    ways: Mapping[str, int]
    states: str
    is_typed: bool = True


FORKS = {
    "dapr-ext-workflow 1.18.3": Fork(
        ("dapr==1.18.3", "dapr-ext-workflow==1.18.3"),
        tuple(
            f"{INTERNAL}.{name}_pb2"
            for name in (
                "orchestrator_service",
                "orchestration",
                "history_events",
                "orchestrator_actions",
                "backend_service",
                "runtime_state",
                "attestation",
            )
        ),
        7,
        {"payload": 381, "diagnostic": 186, "metadata": 364},
        f"{INTERNAL}.orchestration_pb2",
    ),
    "durabletask-dapr 0.17.4": Fork(
        # Without its dependencies: among them are protobuf < 7, and a package asyncio that hides Python's own.
        ("--no-deps", "durabletask-dapr==0.17.4"),
        ("durabletask.internal.orchestrator_service_pb2",),
        1,
        {"payload": 312, "diagnostic": 154, "metadata": 354},
        "durabletask.internal.orchestrator_service_pb2",
        is_typed=False,
    ),
}


def kind(name: str) -> str:
    if name in PAYLOADS:
        return "payload"
    assert name in METADATA or name == "stackTrace", f"{name} has to be classified here"
    return "metadata" if name in METADATA else "diagnostic"


class Tree(NamedTuple):
    """A folder with walkers of a fork, and the environment with the fork and our wheel."""

    fork: Fork
    environment: Environment
    folder: Path

    def generate(self, package: str) -> None:
        command = (self.environment.scripts / "durabletask-payloads-codegen", "generate", "--from-module")
        policy = ("--policy", "fields.toml", "--output", "out", "--package", package)
        run(*command, *self.fork.modules, *policy, cwd=self.folder, environment=self.quiet)

    @property
    def quiet(self) -> dict[str, str]:
        return {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(self.folder / "out")}


@pytest.fixture(scope="module", params=FORKS)
def tree(request: pytest.FixtureRequest, dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The walkers of the fork that have a name of their own."""
    tree = Tree(FORKS[request.param], Environment(tmp_path_factory.mktemp("fork")), tmp_path_factory.mktemp("tree"))
    (wheel,) = dist.glob("*.whl")
    tree.environment.install(f"{wheel}[codegen,typing]")
    tree.environment.install(*tree.fork.requirements, locked=False)
    python = tree.environment.python
    keys = run(python, "-c", KEYS, *tree.fork.modules, cwd=tree.folder, environment=tree.quiet).split()
    fields = [(message, field) for message, _, field in (key.rpartition(".") for key in keys)]
    lines = [f'"{message}".{field} = "{kind(field)}"' for message, field in fields]
    (tree.folder / "fields.toml").write_text("\n".join(lines))
    tree.generate("own_walkers")
    text = (tree.folder / "out/own_walkers/externalize.py").read_text()
    assert text.count(f" ({request.param})\n") == tree.fork.files
    return tree


def test_the_walkers_are_complete(tree: Tree) -> None:
    python = tree.environment.python
    said = run(python, ORACLE, "own_walkers", *tree.fork.modules, cwd=tree.folder, environment=tree.quiet)
    assert json.loads(said) == tree.fork.ways


def test_mypy_and_pyright_pass(tree: Tree) -> None:
    python, out = tree.environment.python, tree.folder / "out"
    strict: dict[str, object] = {"typeCheckingMode": "strict", "pythonVersion": "3.10", "include": ["own_walkers"]}
    if not tree.fork.is_typed:
        program = tree.environment.scripts / "durabletask-payloads-codegen"
        run(program, "stubs", "--from-module", *tree.fork.modules, "--output", "stubs", cwd=tree.folder)
        tree.environment.install(str(tree.folder / "stubs"))
        strict["reportMissingTypeStubs"] = False  # of the package around the module, which says that it has no types
    (out / "pyrightconfig.json").write_text(json.dumps(strict))
    run(sys.executable, "-m", "mypy", "--strict", f"--python-executable={python}", "own_walkers", cwd=out)
    run(sys.executable, "-m", "pyright", "--pythonpath", python, "--project", "pyrightconfig.json", cwd=out)


def test_in_place_of_ours_they_serve_the_interceptors(tree: Tree) -> None:
    tree.generate("durabletask_payloads_walkers")
    service = tree.fork.modules[0]
    arguments = (service, f"{service}_grpc", tree.fork.states)
    said = run(tree.environment.python, "-c", CALLS, *arguments, cwd=tree.folder, environment=tree.quiet)
    assert said == f"{tree.fork.states} True True\n"
