"""A TCP proxy that makes a server on this machine as far away as one over the network.

As a program: `python -m tests.benchmarks.latency PORT SECONDS`, with the seconds of half a round trip.

It passes on all data half a round trip later, in both directions, with no other limit: bandwidth stays that of the
machine. It runs in a process of its own, so that it takes nothing from the one that is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextlib.contextmanager
def far_away(port: int, *, round_trip: float) -> Generator[int]:
    """The port of a proxy before `port` of 127.0.0.1, `round_trip` seconds away."""
    command = [sys.executable, "-m", "tests.benchmarks.latency", str(port), str(round_trip / 2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


class _Side(asyncio.Protocol):
    """One of the two connections of a pair."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Future[asyncio.Transport] = self._loop.create_future()
        self.other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport.set_result(transport)

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay, self._pass_on, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._loop.call_later(self._delay, self._pass_on, b"")

    def _pass_on(self, data: bytes) -> None:
        assert self.other is not None
        transport = self.other._transport.result()
        if not data:
            transport.close()
        elif not transport.is_closing():
            transport.write(data)


class _Accepting(_Side):
    """The side of who connects: reads on once the server is connected too."""

    def __init__(self, delay: float, target: int) -> None:
        super().__init__(delay)
        self._target = target

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        self._connecting = self._loop.create_task(self._connect(transport))

    async def _connect(self, transport: asyncio.Transport) -> None:
        _, side = await self._loop.create_connection(lambda: _Side(self._delay), "127.0.0.1", self._target)
        self.other, side.other = side, self
        transport.resume_reading()


async def _serve(target: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Accepting(delay, target), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
