"""A web application that starts orchestrations with large inputs and returns large results.

    python web_handler.py

It serves a few requests in this process, offline: the task hub is the in-memory backend of the SDK, and payloads are in
memory. DURABLETASK_HUB=host:port names another task hub, DURABLETASK_PAYLOADS_STORE the URL of another store. An ASGI
server runs what `create_app` returns. Needs `durabletask-payloads[sdk]`, starlette and httpx.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import httpx
from durabletask.client import AsyncTaskHubGrpcClient
from durabletask.testing import create_test_backend
from durabletask.worker import TaskHubGrpcWorker
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from durabletask_payloads import Externalizer, PayloadTooLargeError, store_from_url
from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from durabletask.task import OrchestrationContext
    from starlette.requests import Request


# --8<-- [start:main]
def create_app(address: str, externalizer: Externalizer) -> Starlette:
    """Return the application. One client and one `Externalizer` serve all of its requests."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        interceptors = async_payload_interceptors(externalizer)
        async with AsyncTaskHubGrpcClient(host_address=address, interceptors=interceptors) as client:
            app.state.client = client
            yield

    return Starlette(
        routes=[
            Route("/documents", start, methods=["POST"]),
            Route("/documents/{instance_id}", result, methods=["GET"]),
        ],
        exception_handlers={PayloadTooLargeError: too_large},
        lifespan=lifespan,
    )


async def start(request: Request) -> Response:
    client: AsyncTaskHubGrpcClient = request.app.state.client
    text = (await request.body()).decode()
    instance_id = await client.schedule_new_orchestration(reverse, input=text)  # uploads: the event loop is not blocked
    return JSONResponse({"id": instance_id}, status_code=202)


async def result(request: Request) -> Response:
    client: AsyncTaskHubGrpcClient = request.app.state.client
    instance_id: str = request.path_params["instance_id"]
    found = await client.get_orchestration_state(instance_id)
    state = found and await client.wait_for_orchestration_completion(instance_id, timeout=60)
    if state is None:
        return Response(status_code=404)
    return JSONResponse({"status": state.runtime_status.name, "text": state.get_output(str)})


def too_large(_request: Request, _error: Exception) -> Response:
    return Response("the document is too large", status_code=413)


# --8<-- [end:main]


def reverse(_: OrchestrationContext, text: str) -> str:
    return text[::-1]


@contextmanager
def task_hub() -> Generator[str]:
    """Yield the address in DURABLETASK_HUB, or that of an in-memory backend on a free port."""
    if address := os.environ.get("DURABLETASK_HUB"):
        yield address
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    backend = create_test_backend(port=port)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        backend.stop()


async def requests(app: Starlette) -> None:
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        started = await http.post("/documents", content="abc" * 2_000_000)
        print(f"POST /documents with 6 MB: {started.status_code}")
        answer = await http.get(f"/documents/{started.json()['id']}")
        document = answer.json()
        print(f"GET /documents/...: {document['status']}, {len(document['text']):,} characters")
        refused = await http.post("/documents", content="abc" * 4_000_000)
        print(f"POST /documents with 12 MB: {refused.status_code}, {refused.text}")


def main() -> None:
    store = store_from_url(os.environ.get("DURABLETASK_PAYLOADS_STORE", "memory:"))
    with (
        task_hub() as address,
        store,
        Externalizer(store) as externalizer,
        TaskHubGrpcWorker(host_address=address, interceptors=[PayloadInterceptor(externalizer)]) as worker,
    ):
        worker.add_orchestrator(reverse)
        worker.start()
        asyncio.run(requests(create_app(address, externalizer)))


if __name__ == "__main__":
    main()
