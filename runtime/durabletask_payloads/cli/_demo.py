"""What the command `demo` runs: one orchestration with large payloads everywhere, without and with this package.

Needs the extras `[sdk]` and `[cli]`: `pip install durabletask-payloads[sdk,cli]`.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import socket
import time
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import grpc
from google.protobuf.message import Message

from durabletask_payloads import DirectoryPayloadStore, Externalizer, PayloadObserver, PayloadStore, Transfer
from durabletask_payloads.interceptors import PayloadInterceptor

from ._azurite import azurite
from ._options import open_store
from ._output import Cell, Column, Rows, output

try:
    from durabletask import client, entities, task, worker
    from durabletask.testing import InMemoryOrchestrationBackend
    from rich.rule import Rule
    from rich.text import Text
except ImportError as _error:
    raise ImportError(
        f"the demo needs the durabletask SDK with its testing backend, and rich ({_error}): "
        "pip install durabletask-payloads[sdk,cli]"
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from rich.console import Console

    from durabletask_payloads.interceptors._calls import CallFuture

_MB = 1_000_000
_FAN_OUT = 5
_TIMEOUT_SECONDS = 60
_WIDTH_OF_RULES = 120  # columns at most
_WIDTH_OF_WHOLE_TOKENS = 140  # columns; on a narrower terminal the table shows the ends of the tokens

# A work item carries the whole history. Its large payloads are tokens, but many small ones add up, and gRPC accepts
# no more than 4 MB by default.
_RECEIVE_LIMIT = 64 * 1024 * 1024

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_SDK = {"worker": worker.TaskHubGrpcWorker, "client": client.TaskHubGrpcClient}


class Order(TypedDict):
    """An order. The payloads of the demo are lists of them, as JSON."""

    id: int
    customer: str
    items: list[str]
    total: float


# ---- the application: knows nothing of large payloads --------------------------------------------------------------


def ledger(context: entities.EntityContext, orders: list[Order] | None) -> int:
    """Keep the orders that were put into the entity: its state is as large as they are."""
    if orders is not None:
        context.set_state(orders)
    return len(context.get_state(list, []))


def enrich(context: task.ActivityContext, batch: int) -> list[Order]:
    """Return a result of 1 MB: the activity."""
    return orders_of(_MB, first=batch * 1_000_000)


def settle(context: task.OrchestrationContext, orders: list[Order]) -> Generator[task.Task[Any], Any, Any]:
    """Take a large input, large results and a large event, and fill a large entity state: the orchestration."""
    batches: list[list[Order]] = yield task.when_all(
        [context.call_activity(enrich, input=batch) for batch in range(_FAN_OUT)]
    )
    approved: list[Order] = yield context.wait_for_external_event("approved")
    book = entities.EntityInstanceId("ledger", context.instance_id)
    booked: int = yield context.call_entity(book, "put", approved)
    return {
        "orders in the input": len(orders),
        "orders from activities": sum(len(batch) for batch in batches),
        "orders in the event": len(approved),
        "orders in the entity": booked,
    }


def orders_of(size: int, *, first: int = 0) -> list[Order]:
    """Make orders of about `size` bytes of JSON."""
    orders: list[Order] = []
    written = 0
    while written < size:
        number = first + len(orders)
        items = [f"item-{(number * 7919 + i) % 5000:04}" for i in range(4)]
        order = Order(id=number, customer=f"customer-{number % 997}", items=items, total=number % 9973 / 7)
        orders.append(order)
        written += len(json.dumps(order)) + 2
    return orders


# ---- the demo ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_place(name: str, folder: Path) -> Generator[PayloadStore]:
    """Open the store that `--store` names: "directory" (in `folder`), "azurite", or one by its URL.

    Raises:
        CommandError: the URL cannot be right, or Azurite cannot be run.
        ImportError: an extra is missing.
    """
    with contextlib.ExitStack() as stack:
        if name == "directory":
            store: PayloadStore = DirectoryPayloadStore(folder)
        elif name == "azurite":
            connection_string = stack.enter_context(azurite())
            from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

            store = BlobPayloadStore(BlobPayloadStoreOptions(connection_string=connection_string))
        else:
            store = open_store(name)
        yield stack.enter_context(store)


def run(store: PayloadStore, *, input_bytes: int) -> int:
    """Run the orchestration without and then with `store`, and print what happened.

    Args:
        store: takes the large payloads.
        input_bytes: the size of the orchestration's input, as JSON.

    Returns:
        0 when both ended as they should, else 1.
    """
    console = output()
    width = min(console.width, _WIDTH_OF_RULES)
    orders = orders_of(input_bytes)
    size = f"{len(json.dumps(orders)) / _MB:.1f} MB"
    with _backend() as address:
        console.print(Rule(f"without durabletask-payloads: an input of {size}"), width=width)
        refused = _without(address, orders, console)
    seen = _Transfers()
    before, after = _LargestRequest(), _LargestRequest()
    with _backend() as address, Externalizer(store, observer=seen) as externalizer:
        title = f"with durabletask-payloads: the same input, kept by {type(store).__name__}"
        console.print(Rule(title), width=width)
        interceptors = [before, PayloadInterceptor(externalizer), after]
        completed = _with(address, orders, interceptors, console)
        console.print(_table(seen.transfers, store, whole_tokens=console.width >= _WIDTH_OF_WHOLE_TOKENS))
        stats = externalizer.stats
        console.print(
            f"put: {stats.uploads} payloads ({stats.uploaded_bytes / _MB:.1f} MB) were stored. "
            f"get: {stats.downloads} were downloaded. hit: {stats.cache_hits} were in the cache."
        )
        console.print(Text(_won(seen.transfers, before.bytes, after.bytes), style="bold"))
    return 0 if refused and completed else 1


class _Transfers(PayloadObserver):
    """Keeps the transfers for the table."""

    def __init__(self) -> None:
        self.transfers: list[Transfer] = []

    def transferred(self, transfer: Transfer) -> None:
        self.transfers.append(transfer)


def _without(address: str, orders: list[Order], console: Console) -> bool:
    with client.TaskHubGrpcClient(host_address=address, **_quiet("client")) as hub:
        try:
            instance = hub.schedule_new_orchestration(settle, input=orders)
        except grpc.RpcError as error:
            console.print("gRPC refused it:", Text(error.code().name, style="bold red"))
            console.print(f"  {error.details()}")
            return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    console.print(f"Accepted as {instance}: it is small enough for gRPC. Try a larger --size.")
    return True


def _with(
    address: str, orders: list[Order], interceptors: Sequence[grpc.UnaryUnaryClientInterceptor], console: Console
) -> bool:
    started = time.perf_counter()
    with (
        worker.TaskHubGrpcWorker(
            host_address=address, interceptors=interceptors, **_channel("worker"), **_quiet("worker")
        ) as hub_worker,
        client.TaskHubGrpcClient(
            host_address=address, interceptors=interceptors, **_channel("client"), **_quiet("client")
        ) as hub,
    ):
        hub_worker.add_orchestrator(settle)
        hub_worker.add_activity(enrich)
        hub_worker.add_entity(ledger)
        hub_worker.start()
        instance = hub.schedule_new_orchestration(settle, input=orders)
        hub.raise_orchestration_event(instance, "approved", data=orders_of(_MB))
        state = hub.wait_for_orchestration_completion(instance, timeout=_TIMEOUT_SECONDS)
    if state is None or state.runtime_status is not client.OrchestrationStatus.COMPLETED:
        console.print(Text(state.runtime_status.name if state else "not found", style="bold red"))
        if state is not None and state.failure_details is not None:
            console.print(f"  {state.failure_details.message}")
        return False
    seconds = f"in {time.perf_counter() - started:.1f} s"
    console.print(Text(state.runtime_status.name, style="bold green"), seconds)
    result: dict[str, int] = json.loads(state.serialized_output or "{}")
    for what, count in result.items():
        console.print(f"  {what}: {count}")
    return result.get("orders in the input") == len(orders)


class _LargestRequest(grpc.UnaryUnaryClientInterceptor):
    """Measures the requests of a channel, where it stands among the interceptors.

    Attributes:
        bytes: the size of the largest request so far.
    """

    def __init__(self) -> None:
        self.bytes = 0

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], CallFuture[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> CallFuture[_Response]:
        if isinstance(request, Message):
            self.bytes = max(self.bytes, request.ByteSize())
        return continuation(client_call_details, request)


def _won(transfers: Sequence[Transfer], largest_before: int, largest_after: int) -> str:
    """Say in one line what was won: `largest_before` and `largest_after` are the largest requests, in bytes."""
    uploads = [transfer for transfer in transfers if transfer.direction == "upload"]
    tokens = sum(len(transfer.token) for transfer in uploads)
    return (
        f"{sum(transfer.raw_bytes for transfer in uploads) / _MB:.1f} MB of payloads crossed gRPC as {len(uploads)} "
        f"tokens of {tokens / 1000:.1f} KB in all; the largest request had {largest_after / 1000:.1f} KB instead of "
        f"{largest_before / _MB:.1f} MB."
    )


def _table(transfers: Sequence[Transfer], store: PayloadStore, *, whole_tokens: bool) -> Rows:
    verbs = {"upload": "put", "download": "get", "cached": "hit"}
    rows: list[list[Cell]] = [
        [
            verbs[transfer.direction],
            transfer.path,
            transfer.raw_bytes,
            store.stored_bytes(transfer.token),
            f"{transfer.seconds * 1000:.1f}" if transfer.direction != "cached" else "",
            transfer.token if whole_tokens else f"…{transfer.token[-8:]}",
        ]
        for transfer in transfers
    ]
    numbers = [Column(name, right=True) for name in ("raw", "stored", "ms")]
    return Rows([Column(""), Column("field"), *numbers, Column("token")], rows)


@contextlib.contextmanager
def _backend() -> Generator[str]:
    """Run the SDK's in-memory backend on a free port; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    backend = InMemoryOrchestrationBackend(port=port)
    backend.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        backend.stop()


def _quiet(role: str) -> dict[str, Any]:
    """Return the argument that keeps the SDK's log off the console: `logger` where it takes one, else `log_handler`."""
    if "logger" not in inspect.signature(_SDK[role]).parameters:
        return {"log_handler": logging.NullHandler()}
    logger = logging.Logger(f"durabletask-payloads-demo-{role}")
    logger.addHandler(logging.NullHandler())
    return {"logger": logger}


def _channel(role: str) -> dict[str, Any]:
    """Return the argument that raises the receive limit, where the SDK has it (from 1.5)."""
    if "channel_options" not in inspect.signature(_SDK[role]).parameters:
        return {}
    from durabletask.grpc_options import GrpcChannelOptions

    return {"channel_options": GrpcChannelOptions(max_receive_message_length=_RECEIVE_LIMIT)}
