"""Runs random cases, each from a seed of its own, so that one that fails can be repeated alone."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

from tests.differential.messages import check_message
from tests.differential.schemas import check_schema

if TYPE_CHECKING:
    from collections.abc import Callable

What = Literal["messages", "schemas"]


class FailedCaseError(AssertionError):
    """A case failed; the text has its seed and the command that repeats it."""


class Outcome(NamedTuple):
    """What occurred in `cases` cases, and how long they took in seconds."""

    what: What
    cases: int
    seconds: float
    seen: Counter[str]

    def __str__(self) -> str:
        rate = self.cases / max(self.seconds, 1e-9)
        return f"{self.what}: {self.cases:,} cases in {self.seconds:,.1f} s, {rate:,.1f} cases/s"


def run(what: What, seed: int, count: int, progress: Callable[[Outcome], None] | None = None) -> Outcome:
    """Check the cases of the seeds from `seed` on; tell `progress` of it every minute.

    Raises:
        FailedCaseError: at the first case that fails.
    """
    check = check_message if what == "messages" else check_schema
    seen = Counter[str]()
    started = told = time.perf_counter()
    for done, one in enumerate(range(seed, seed + count), 1):
        try:
            seen.update(check(one))
        except Exception as error:
            rest = {"messages": "--messages 1 --schemas 0", "schemas": "--messages 0 --schemas 1"}[what]
            raise FailedCaseError(
                f"{what}, seed {one}: {type(error).__name__}: {error}\n"
                f"repeat it: .venv/bin/python -m tests.differential {rest} --seed {one}"
            ) from error
        if progress is not None and time.perf_counter() - told > 60:
            told = time.perf_counter()
            progress(Outcome(what, done, told - started, seen))
    return Outcome(what, count, time.perf_counter() - started, seen)
