"""A proxy in front of Azurite that fails a share of all requests, in ways that the seed decides."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from tests.support.proxy import HEALTHY, Fault, FaultProxy, canned

if TYPE_CHECKING:
    import socket

FAILING = 0.2

# With their weights. Each is certain to fail the request: no answer is shorter than what is let through.
_FAULTS = {
    "answered 503": (30, canned(503, "The server is busy.", "ServerBusy")),
    "answered 500": (15, canned(500, "The server encountered an internal error.", "InternalError")),
    "answered 429": (10, canned(429, "Too many requests.", "TooManyRequests")),
    "request reset": (20, Fault(reset_request_after=1)),
    "done, answer reset": (15, Fault(reset_response_after=20)),
    "done, answer cut off": (8, Fault(truncate_response_after=100)),
    "never answered": (2, Fault(swallow=True)),
}
# Beyond the share that fails: only a large download has so long an answer.
CUT_BODY = "body cut off, if longer"
_CUT_BODY_SHARE = 0.03


class FlakyStorage(FaultProxy):
    """A proxy before an Azurite that fails `FAILING` of its requests. Each has a connection of its own.

    Attributes:
        faults: how often each was chosen.
        failing: whether there are any.
    """

    def __init__(self, target: int, seed: int) -> None:
        super().__init__(target, self._choose)
        self.faults: Counter[str] = Counter()
        self.failing = True
        self._random = random.Random(f"storage {seed}")

    def asked(self) -> Counter[str]:
        """How many requests of each method came."""
        return Counter(line.split(" ", 1)[0] for line in self.requests)

    def _choose(self, number: int) -> Fault:
        chance = self._random.random()
        if not self.failing or chance >= FAILING + _CUT_BODY_SHARE:
            return HEALTHY
        if chance >= FAILING:
            self.faults[CUT_BODY] += 1
            return Fault(truncate_response_after=5_000)
        weights = [weight for weight, _ in _FAULTS.values()]
        (name,) = self._random.choices(list(_FAULTS), weights)
        self.faults[name] += 1
        return _FAULTS[name][1]

    async def _receive(self, client: socket.socket, count: int) -> bytes:
        data = await super()._receive(client, count)
        # The fault of a connection is then that of a request, and Azurite can stop without waiting for idle ones.
        if data.startswith((b"GET ", b"HEAD ", b"PUT ", b"DELETE ")):
            data = data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
        return data
