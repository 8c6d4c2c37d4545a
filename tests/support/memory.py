"""The memory that something takes in this process, with threads beside it that earlier tests have left."""

from __future__ import annotations

import time
import tracemalloc
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")
_FURTHER = 3


def peak_of(work: Callable[[], _Result], most: int) -> tuple[_Result, int]:
    """Do `work`, and return its result and how many bytes of Python's it had at its worst.

    What other threads allocate meanwhile counts too: if it is over `most`, it is done again, up to three times.
    """
    for _ in range(_FURTHER):
        result, peak = _traced(work)
        if peak <= most:
            return result, peak
        time.sleep(0.5)
    return _traced(work)


def _traced(work: Callable[[], _Result]) -> tuple[_Result, int]:
    tracemalloc.start()
    try:
        result = work()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
