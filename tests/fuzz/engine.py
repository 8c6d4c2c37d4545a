"""The engine of the fuzz tests: a target, one case of it, and how a failure is made small and shown.

A case is a pure function of target, seed and number, so each can be repeated alone. No state goes from one case to the
next. A plain seeded mutator instead of Hypothesis or atheris: it makes ten to a hundred times as many cases in a second
as Hypothesis, and needs no instrumented build, of which atheris has another release for each Python.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_T = TypeVar("_T")

SECRET: Final = "hush1hush2hush3hush4"
"""Stands for keys, signatures and payloads in inputs. No text of the package may show it. It is valid as base64."""

MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None
"""A folder for files that need no disk, whose times may be any; None for the usual one."""

# Of CPU, by the clock of the process, so that other processes do not count. The slowest case takes a tenth of it.
_SECONDS: Final = 10.0
_SHRINKING_SECONDS: Final = 3.0


@dataclass(frozen=True, init=False)
class Target:
    """What is fuzzed.

    Attributes:
        name: on the command line.
        claim: the property that holds for any input, in one line.
        make: returns an input; it is made of literals, so that its repr can be read back.
        check: raises if the property does not hold for an input.
    """

    name: str
    claim: str
    make: Callable[[Random], object]
    check: Callable[[object], None]

    def __init__(self, name: str, claim: str, make: Callable[[Random], _T], check: Callable[[_T], None]) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "claim", claim)
        object.__setattr__(self, "make", make)
        # It is called with what `make` returned, or what that was printed as.
        object.__setattr__(self, "check", cast("Callable[[object], None]", check))


class Failure(NamedTuple):
    """A case that failed. `key` is the same for failures with one cause, as far as one can tell."""

    target: str
    seed: int
    number: int
    sample: object
    key: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.text}\n"
            f"target: {self.target}, seed: {self.seed}, case: {self.number}\n"
            f"input: {self.sample!r}\n"
            f'repeat: make fuzz ARGS="--only {self.target} --seed {self.seed} --case {self.number}"\n'
            f"keep, in tests/fuzz/corpus.txt: {self.target}\t{self.sample!r}"
        )


def run_case(target: Target, seed: int, number: int) -> Failure | None:
    """Run a case. Return its failure."""
    sample = target.make(Random(f"{target.name} {seed} {number}"))
    fault = fault_of(target, sample)
    return None if fault is None else Failure(target.name, seed, number, sample, *fault)


def shrunk(target: Target, failure: Failure) -> Failure:
    """Return the failure with the smallest input that is found in a few seconds, and has the same fault."""
    end = time.process_time() + _SHRINKING_SECONDS
    smaller = _smaller(failure.sample)
    while time.process_time() < end and (one := next(smaller, None)) is not None:
        fault = fault_of(target, one)
        if fault is not None and fault[0] == failure.key:
            failure = failure._replace(sample=one, text=fault[1])
            smaller = _smaller(one)
    return failure


def fault_of(target: Target, sample: object) -> tuple[str, str] | None:
    """Check an input. Return None if the property holds, or else a key of the fault and the traceback.

    In the main thread only, for the sake of the limit, and not on Windows.
    """
    if signal.getsignal(signal.SIGPROF) is not _stop:
        signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        target.check(sample)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also the panics of obstore, which are no Exceptions
        return _fault(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def outcome(call: Callable[[], _T], *documented: type[Exception], secret: str = SECRET) -> _T | Exception:
    """Return what `call` returns, or the documented error that it raises, which does not show `secret`."""
    try:
        return call()
    except documented as error:
        found = error
    text = shown(found)
    assert secret.lower() not in text.lower(), f"the secret is shown: {text}"
    return found


def shown(error: BaseException) -> str:
    """Return what a traceback shows of an error and its causes, without the code; and its repr."""
    texts: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        texts += [*traceback.format_exception_only(type(seen), seen), repr(seen)]
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return "".join(texts)


def _fault(error: BaseException) -> tuple[str, str]:
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__, limit=-6))
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}", text


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise AssertionError(f"took more than {_SECONDS:g} s of CPU")


def _smaller(sample: object) -> Iterator[object]:
    """Yield inputs of the same form with less in them, the smallest first."""
    if isinstance(sample, tuple):
        parts = cast("tuple[object, ...]", sample)
        for place, part in enumerate(parts):
            for one in _smaller(part):
                yield (*parts[:place], one, *parts[place + 1 :])
    elif isinstance(sample, str):  # noqa: SIM114  # no checker adds parts of what may be either
        yield from (sample[:begin] + sample[end:] for begin, end in _slices(len(sample)))
    elif isinstance(sample, bytes):
        yield from (sample[:begin] + sample[end:] for begin, end in _slices(len(sample)))


def _slices(size: int) -> Iterator[tuple[int, int]]:
    """Yield the halves of what has `size` parts, then the quarters, and so on."""
    part = size // 2
    while part:
        yield from ((begin, begin + part) for begin in range(0, size, part))
        part //= 2
    if size == 1:
        yield 0, 1
