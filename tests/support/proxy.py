"""A TCP proxy that breaks connections and answers for the server. For tests/stores, tests/slow/faults and soak."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

    from typing_extensions import Self

_FOR_EVER = 3600.0


@dataclass(frozen=True)
class Fault:
    """What happens to one connection. Counts are of bytes since it was made; nothing happens by default.

    Attributes:
        answer: is sent for the first request, and the server never hears of it; then the connection is closed.
        swallow: everything is read, and nothing is ever answered.
        reset_request_after, reset_response_after: the connection is reset (RST) within a request or an answer.
        stall_request_after, stall_response_after: from there on nothing is passed on, and the connection stays open.
        truncate_response_after: the connection is closed in order within an answer.
        chunk: how much is passed on at once.
        delay: the seconds before each chunk.
    """

    answer: bytes | None = None
    swallow: bool = False
    reset_request_after: int | None = None
    reset_response_after: int | None = None
    stall_request_after: int | None = None
    stall_response_after: int | None = None
    truncate_response_after: int | None = None
    chunk: int = 65536
    delay: float = 0.0


HEALTHY = Fault()


def always(fault: Fault) -> Callable[[int], Fault]:
    """A plan: `fault` for every connection."""
    return lambda number: fault


def first(count: int, fault: Fault) -> Callable[[int], Fault]:
    """A plan: `fault` for the first `count` connections, then none."""
    return lambda number: fault if number < count else HEALTHY


def in_turn(*faults: Fault, from_number: int = 0) -> Callable[[int], Fault]:
    """A plan: one fault for each connection from `from_number` on, then none."""
    return lambda number: faults[number - from_number] if number < from_number + len(faults) else HEALTHY


def canned(status: int, reason: str, code: str = "", **headers: str) -> Fault:
    """An answer as Azure gives it: status, error code and XML body."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{reason}</Message></Error>".encode()
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Server: Windows-Azure-Blob/1.0",
        "Content-Type: application/xml",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *([f"x-ms-error-code: {code}"] if code else []),
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
    ]
    return Fault(answer="\r\n".join(lines).encode() + b"\r\n\r\n" + body)


class FaultProxy:
    """A proxy of 127.0.0.1 before the port `target`, on a loop in a thread of its own.

    Args:
        target: the port of the server.
        plan: the fault of the n-th connection, counted from 0; none by default.

    Attributes:
        port: where it listens.
        connections: how many were made to it.
        open_connections: how many of them are open.
        requests: the request lines that it saw.
        response_bytes: how much it has passed on from the server.
    """

    def __init__(self, target: int, plan: Callable[[int], Fault] | None = None) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[str] = []
        self.response_bytes = 0
        self.plan = plan or always(HEALTHY)
        self._target = target
        self._frozen_before = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def open_connections(self) -> int:
        return len(self._tasks)

    def freeze(self) -> None:
        """Make the connections that there are half open: the peer is gone, and nobody says so. New ones work."""
        self._frozen_before = self.connections

    def __enter__(self) -> Self:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), name="fault-proxy")
        self._thread.start()
        self._loop, self._stopping = started.result()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        stopping = asyncio.Event()
        listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        # What waits in the kernel has left the sender, to whom a slow link would look fast. Connections inherit it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        started.set_result((asyncio.get_running_loop(), stopping))
        accepting = asyncio.create_task(self._accept(listener))
        await stopping.wait()
        listener.close()
        for task in (accepting, *self._tasks):
            task.cancel()
        await asyncio.gather(accepting, *self._tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(listener)
            client.setblocking(False)
            task = asyncio.create_task(self._handle(client, self.connections))
            self.connections += 1
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, client: socket.socket, number: int) -> None:
        fault = self.plan(number)
        server = socket.socket()
        server.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            if fault.answer is not None:
                await self._answer(client, fault.answer)
                return
            await loop.sock_connect(server, ("127.0.0.1", self._target))
            await _first_of(self._requests(client, server, number, fault), self._responses(server, client, fault))
        except OSError:
            pass  # one side is gone, so the other one goes too
        finally:
            client.close()
            server.close()

    async def _answer(self, client: socket.socket, answer: bytes) -> None:
        loop = asyncio.get_running_loop()
        seen = b""
        while b"\r\n\r\n" not in seen:
            seen += await self._receive(client, 65536)
        head, _, body = seen.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        left = (int(length[1]) if length else 0) - len(body)
        # To its end: closing with something unread resets the connection, and the answer is lost.
        while left > 0:
            left -= len(await self._receive(client, 65536))
        if head.startswith(b"HEAD "):  # whose answer has no body
            answer = answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        await loop.sock_sendall(client, answer)

    async def _receive(self, client: socket.socket, count: int) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(client, count)
        if not data:
            raise ConnectionError("the client went")
        self.requests += [line.decode() for line in re.findall(rb"(?:GET|HEAD|PUT|DELETE) [^ \r]+ HTTP/1\.1", data)]
        return data

    async def _requests(self, client: socket.socket, server: socket.socket, number: int, fault: Fault) -> None:
        loop = asyncio.get_running_loop()
        passed = 0
        while True:
            if fault.stall_request_after is not None and passed >= fault.stall_request_after:
                await asyncio.sleep(_FOR_EVER)
            data = await self._receive(client, fault.chunk)
            passed += len(data)
            if fault.swallow or number < self._frozen_before:
                continue
            if fault.reset_request_after is not None and passed >= fault.reset_request_after:
                _reset_on_close(client)
                return
            await asyncio.sleep(fault.delay)
            await loop.sock_sendall(server, data)

    async def _responses(self, server: socket.socket, client: socket.socket, fault: Fault) -> None:
        loop = asyncio.get_running_loop()
        passed = 0
        while True:
            data = await loop.sock_recv(server, fault.chunk)
            if not data:
                return
            ends = [
                end
                for end in (fault.reset_response_after, fault.stall_response_after, fault.truncate_response_after)
                if end is not None
            ]
            left = min(ends) - passed if ends else len(data)
            await asyncio.sleep(fault.delay)
            await loop.sock_sendall(client, data[:left])
            self.response_bytes += len(data[:left])
            passed += len(data)
            if ends and passed >= min(ends):
                if fault.stall_response_after is not None:
                    await asyncio.sleep(_FOR_EVER)
                if fault.reset_response_after is not None:
                    _reset_on_close(client)
                return


async def _first_of(*coroutines: Coroutine[None, None, None]) -> None:
    """Run all until one has ended, and raise what it raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _reset_on_close(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
