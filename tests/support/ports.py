"""A port that nobody else gets while a test needs it.

A port that was free and is closed again is free for all: with tests in parallel, some other server had it a second
later, and answered what should have been refused.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextlib.contextmanager
def reserved_port() -> Generator[int]:
    """Reserve a port of 127.0.0.1. A connection to it is refused, until a server of gRPC is started on it.

    The port is bound and does not listen. gRPC's servers share it (SO_REUSEPORT), who asks for a free port does not.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        yield port
