"""Times that can be compared: the candidates take turns, and the median of their turns counts."""

from __future__ import annotations

import gc
import statistics
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def medians(candidates: Mapping[str, Callable[[], object]], *, rounds: int, seconds: float) -> dict[str, float]:
    """The median time of one call of each of `candidates`, in seconds.

    They take turns, so that what else the machine does meets all of them alike.

    Args:
        candidates: what to call, by name.
        rounds: how many turns each of them has.
        seconds: about how long one turn lasts.
    """
    loops = {name: _loops(call, seconds) for name, call in candidates.items()}
    turns: dict[str, list[float]] = {name: [] for name in candidates}
    gc_was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, call in candidates.items():
                turns[name].append(_time(call, loops[name]) / loops[name])
    finally:
        if gc_was_on:
            gc.enable()
    return {name: statistics.median(times) for name, times in turns.items()}


def _loops(call: Callable[[], object], seconds: float) -> int:
    loops = 1
    while (taken := _time(call, loops)) < seconds / 4:
        loops *= 4
    return max(1, round(loops * seconds / max(taken, 1e-9)))


def _time(call: Callable[[], object], loops: int) -> float:
    started = time.perf_counter()
    for _ in range(loops):
        call()
    return time.perf_counter() - started
