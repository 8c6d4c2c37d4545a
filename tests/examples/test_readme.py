"""The README's examples run as they stand there, with an address and a connection string for the dots."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.worker import TaskHubGrpcWorker
from google.protobuf.wrappers_pb2 import StringValue
from tests.checkers import USER
from tests.support.sdk_backend import sdk_backend

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.stores.azure_blob import BlobPayloadStore

if TYPE_CHECKING:
    import pytest
    from durabletask.task import OrchestrationContext
    from tests.support.azurite import Azurite

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def python_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def length(_: OrchestrationContext, value: str) -> int:
    return len(value)


def test_the_integration(azurite: Azurite) -> None:
    program = python_blocks()[0]
    with sdk_backend() as address:
        program = program.replace('host_address="..."', f"host_address={address!r}")
        program = program.replace('connection_string="..."', f"connection_string={azurite.connection_string!r}")
        assert '"..."' not in program
        names: dict[str, Any] = {}
        exec(program, names)
        worker, client, store = names["worker"], names["client"], names["store"]
        assert isinstance(worker, TaskHubGrpcWorker)
        assert isinstance(client, TaskHubGrpcClient)
        assert isinstance(store, BlobPayloadStore)
        worker.add_orchestrator(length)
        with store, worker, client:
            worker.start()
            instance = client.schedule_new_orchestration(length, input="x" * 5_000_000)
            state = client.wait_for_orchestration_completion(instance, timeout=60)
        assert state is not None
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        assert state.serialized_output == "5000000"


def test_the_generated_functions(capsys: pytest.CaptureFixture[str]) -> None:
    store = InMemoryPayloadStore()
    response = pb.ActivityResponse(result=StringValue(value="x" * 300_000))
    exec(python_blocks()[2], {"store": store, "response": response})
    assert capsys.readouterr().out == "ActivityResponse.result 300000\n"


def test_what_the_type_checkers_get() -> None:
    """The example of the section "Type checking" is the code that tests/checkers.py runs the checkers on."""
    assert python_blocks()[3] == USER.read_text(encoding="utf-8")


def test_the_names_it_mentions_are_there() -> None:
    import durabletask_payloads

    for name in re.findall(r"`(\w+(?:Store|Error|Options))`", README):
        elsewhere = ("BlobPayloadStore", "ObjectStorePayloadStore", "S3Store", "GCSStore", "AzureStore")
        assert hasattr(durabletask_payloads, name) or name in elsewhere, name
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        assert hasattr(externalizer, "externalize_async")
