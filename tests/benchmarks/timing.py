"""Times that can be compared: the candidates take turns, and the median of their turns counts.

Ratios are what is judged, and a machine may be half as fast a minute later: so no pyperf and no pytest-benchmark, which
measure one candidate after the other.
"""

from __future__ import annotations

import gc
import statistics
from timeit import Timer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def calling(function: Callable[..., object], *arguments: object) -> Timer:
    """A timer of `function(*arguments)`, written out: what calls it must not weigh on what takes half a microsecond."""
    names = {f"a{number}": argument for number, argument in enumerate(arguments)}
    return Timer(f"function({', '.join(names)})", globals={"function": function, **names})


def medians(candidates: Mapping[str, Timer], *, rounds: int, seconds: float) -> dict[str, float]:
    """The median time of one execution of each of `candidates`, in seconds, without garbage collection.

    They take turns, so that what else the machine does meets all of them alike.

    Args:
        candidates: what to measure, by name.
        rounds: how many turns each of them has.
        seconds: about how long one turn lasts.
    """
    loops = {name: _loops(timer, seconds) for name, timer in candidates.items()}
    turns: dict[str, list[float]] = {name: [] for name in candidates}
    gc.collect()
    for _ in range(rounds):
        for name, timer in candidates.items():
            turns[name].append(timer.timeit(loops[name]) / loops[name])
    return {name: statistics.median(times) for name, times in turns.items()}


def _loops(timer: Timer, seconds: float) -> int:
    loops = 1
    while (taken := timer.timeit(loops)) < seconds / 4:
        loops *= 4
    return max(1, round(loops * seconds / taken))
