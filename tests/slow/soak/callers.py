"""The sync and the async client of the SDK behind one interface."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from durabletask.client import AsyncTaskHubGrpcClient, OrchestrationState, TaskHubGrpcClient
    from durabletask.entities import EntityInstanceId, EntityMetadata
    from tests.slow.soak.cases import Case

_T = TypeVar("_T")


class Caller(Protocol):
    """A client, sync or async."""

    async def start(self, case: Case) -> None: ...

    async def raise_event(self, case: Case, name: str, data: str) -> None: ...

    async def wait(self, case: Case, seconds: float, *, payloads: bool) -> OrchestrationState | None: ...


class SyncCaller:
    """The synchronous client, in threads."""

    def __init__(self, client: TaskHubGrpcClient, pool: ThreadPoolExecutor) -> None:
        self._client = client
        self._pool = pool

    async def _run(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def start(self, case: Case) -> None:
        await self._run(
            lambda: self._client.schedule_new_orchestration(
                case.function, input=case.input, instance_id=case.instance_id
            )
        )

    async def raise_event(self, case: Case, name: str, data: str) -> None:
        await self._run(lambda: self._client.raise_orchestration_event(case.instance_id, name, data=data))

    async def wait(self, case: Case, seconds: float, *, payloads: bool) -> OrchestrationState | None:
        return await self._run(
            lambda: self._client.wait_for_orchestration_completion(
                case.instance_id, fetch_payloads=payloads, timeout=int(seconds)
            )
        )

    async def entity(self, entity_id: EntityInstanceId) -> EntityMetadata | None:
        return await self._run(lambda: self._client.get_entity(entity_id))


class AioCaller:
    """The asynchronous client."""

    def __init__(self, client: AsyncTaskHubGrpcClient) -> None:
        self._client = client

    async def start(self, case: Case) -> None:
        await self._client.schedule_new_orchestration(case.function, input=case.input, instance_id=case.instance_id)

    async def raise_event(self, case: Case, name: str, data: str) -> None:
        await self._client.raise_orchestration_event(case.instance_id, name, data=data)

    async def wait(self, case: Case, seconds: float, *, payloads: bool) -> OrchestrationState | None:
        return await self._client.wait_for_orchestration_completion(
            case.instance_id, fetch_payloads=payloads, timeout=seconds
        )
