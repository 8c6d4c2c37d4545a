"""The threads of this package that a test started."""

from __future__ import annotations

import threading
from typing import Final

_before: Final[set[threading.Thread]] = set()


def forget_threads() -> None:
    """Leave the threads that are running now out of `our_threads`. tests/conftest.py calls it before each test."""
    _before.clear()
    _before.update(threading.enumerate())


def our_threads() -> list[str]:
    """Return the names of the running threads of this package that the test started.

    Others may be there: a store that another test left to the garbage collector keeps its threads until then.
    """
    started = (thread for thread in threading.enumerate() if thread not in _before)
    return [thread.name for thread in started if thread.name.startswith("durabletask-payloads")]
