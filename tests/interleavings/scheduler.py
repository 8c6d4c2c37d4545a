"""Runs threads one at a time; a seed decides which of them goes on at each switch point, and what the clock says.

A switch point is every operation of the primitives in `tests.interleavings.primitives`, every step of a
`SeededLoop`, and, in some seeds, lines of the package itself. Time is virtual: it stands still while a thread can go
on, except in seeds that let a timeout pass early. So a run takes no longer than its work, and a deadlock is certain
as soon as no thread can go on.
"""

from __future__ import annotations

import gc
import random
import sys
import threading
import traceback
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final

import durabletask_payloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import TypeAlias

    Tracer: TypeAlias = Callable[[FrameType, str, object], "Tracer | None"]

_TRACED: Final = str(Path(durabletask_payloads.__file__).parent)
_HERE: Final = str(Path(__file__).parent)
# Some hundred are usual. Past that, threads wake one another for ever.
_MOST_STEPS: Final = 100_000
# A thread that waits for something real, as a lock that no primitive of ours is, holds up all others.
_PATIENCE_SECONDS: Final = 60.0
_MOST_STOPS: Final = 200


class ScheduleError(AssertionError):
    """A run failed: a thread raised, a deadlock, or no end."""


class Stopped(BaseException):
    """Raised at each switch point once a run has failed."""


class Actor:
    """A thread of a run, as the scheduler sees it.

    Attributes:
        number: in the order of their start, from 0, which is the main thread.
        is_ready: what it waits for; None if it can go on.
        deadline: until when it waits, on the virtual clock.
        is_interruptible: Ctrl-C ends what it waits for.
        is_interrupted: Ctrl-C came, and has not ended anything yet.
    """

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.baton = threading.Lock()
        self.baton.acquire()
        self.ident = 0
        self.is_ready: Callable[[], bool] | None = None
        self.deadline: float | None = None
        self.is_interruptible = False
        self.is_interrupted = False
        self.stops = 0

    def can_go_on(self, now: float) -> bool:
        if self.is_ready is None or (self.is_interruptible and self.is_interrupted):
            return True
        return (self.deadline is not None and self.deadline <= now) or self.is_ready()


class Scheduler:
    """One run. Its threads are started by `primitives.Thread`, the first one by `run`.

    Args:
        seed: decides everything, so that a run can be repeated.

    Attributes:
        random: for the decisions of a scenario.
        now: the virtual time, in seconds.
        steps: how many switch points were passed.
        has_early_timeouts: whether timeouts pass although the threads that they wait for could go on.
        choices: how many switches there were.
        digest: of all choices, to compare runs.
    """

    def __init__(self, seed: object) -> None:
        self.random = random.Random(f"interleaving {seed}")
        self.now = 0.0
        self.steps = 0
        self.choices = 0
        self.digest = 0
        # How likely a thread that could go on is held up: at a primitive, and at a line of the package. Races that
        # need few switches at certain places are found with small numbers, others with large ones.
        self._at_primitive = self.random.choice((1.0, 0.5, 0.1))
        self._at_line = self.random.choice((0.0, 0.0, 0.01, 0.05, 0.3))
        # How likely a timeout passes although others can go on.
        self._early = self.random.choice((0.0, 0.0, 0.02))
        self.has_early_timeouts = self._early > 0
        self._actors: list[Actor] = []
        self._started = 0
        self._numbers = 0
        self._current: Actor | None = None
        self._failure: str | None = None
        self._over = threading.Event()
        self._trace = self._tracer()

    # ---- a run ------------------------------------------------------------------------------------------------

    def run(self, main: Callable[[], None]) -> None:
        """Run `main` in a thread, with all that it starts, until the last of them has ended.

        Raises:
            ScheduleError: a thread raised, or nobody can go on.
        """
        from tests.interleavings.primitives import Thread  # which needs the scheduler that runs

        global _running
        assert _running is None, "one run at a time"
        # Finalizers, which the collector would run at moments that no seed decides, may pass switch points.
        gc.disable()
        _running = self
        try:
            first = self.begin(Thread(target=main, name="main"))
            self._current = first
            first.baton.release()
            if not self._over.wait(_PATIENCE_SECONDS):
                raise ScheduleError(f"a thread waits for something real\n{self._stacks(self._actors)}")
        finally:
            _running = None
            gc.enable()
        if self._failure is not None:
            raise ScheduleError(self._failure)

    def let_all_settle(self) -> None:
        """Wait until no thread can go on, and no timeout will let one."""
        self._early = 0.0
        self.sleep(10_000.0)

    # ---- threads ----------------------------------------------------------------------------------------------

    def begin(self, thread: RealThread) -> Actor:
        """Let `thread` take part from now on. It begins when it is chosen."""
        actor = Actor(self._started, thread.name)
        self._started += 1
        self._actors.append(actor)

        def live() -> None:
            actor.ident = threading.get_ident()
            actor.baton.acquire()
            if self._at_line:
                sys.settrace(self._trace)
            try:
                if self._failure is None:
                    thread.run()
            except Stopped:
                pass
            except BaseException:
                self._fail(f"thread {actor.name} raised\n{traceback.format_exc()}")
            finally:
                sys.settrace(None)
                thread.is_over = True
                self._leave(actor)

        threading.Thread(target=live, name=thread.name, daemon=True).start()
        return actor

    @property
    def current(self) -> Actor:
        assert self._current is not None, "a run is going on"
        return self._current

    def number(self) -> int:
        """Return a number that no other call gets: as the hash of what is kept in sets it gives them an order."""
        self._numbers += 1
        return self._numbers

    def names(self) -> set[str]:
        """Return the names of all threads that have not ended."""
        return {actor.name for actor in self._actors}

    def interrupt(self, actor: Actor) -> None:
        """Press Ctrl-C for `actor`, as a signal does for the main thread: what it waits for ends."""
        actor.is_interrupted = True

    def _leave(self, actor: Actor) -> None:
        self._actors.remove(actor)
        if self._actors:
            self._pass_on()
        else:
            self._over.set()

    # ---- switches ---------------------------------------------------------------------------------------------

    def switch(
        self, is_ready: Callable[[], bool] | None = None, timeout: float | None = None, *, interruptible: bool = False
    ) -> bool:
        """Let others go on. Return once `is_ready`, or after `timeout` seconds: whether it is ready.

        Args:
            is_ready: what the calling thread waits for; None if it can go on at once.
            timeout: in seconds of the virtual clock; None for no limit.
            interruptible: raise KeyboardInterrupt if the thread is interrupted.
        """
        me = self.current
        self._check(me)
        if (is_ready is None or is_ready()) and self.random.random() >= self._at_primitive:
            return True
        return self._wait(me, is_ready, timeout, interruptible)

    def sleep(self, seconds: float, *, interruptible: bool = False) -> None:
        """Wait until the virtual clock has gone on by `seconds`."""
        me = self.current
        self._check(me)
        self._wait(me, lambda: False, seconds, interruptible)

    def _wait(self, me: Actor, is_ready: Callable[[], bool] | None, timeout: float | None, interruptible: bool) -> bool:
        me.is_ready = is_ready
        me.deadline = None if timeout is None else self.now + max(timeout, 0.0)
        me.is_interruptible = interruptible
        self._pass_on(me)
        self._check(me)
        if interruptible and me.is_interrupted:
            me.is_interrupted = False
            raise KeyboardInterrupt
        return is_ready is None or is_ready()

    def _pass_on(self, me: Actor | None = None) -> None:
        chosen = self._choose()
        if chosen is me:
            return
        self._current = chosen
        chosen.baton.release()
        if me is not None:
            me.baton.acquire()

    def _choose(self) -> Actor:
        able: list[Actor] = self._actors
        if self._failure is None:
            able = []
            sleeping: list[Actor] = []
            for actor in self._actors:
                if actor.can_go_on(self.now):
                    able.append(actor)
                elif actor.deadline is not None:
                    sleeping.append(actor)
            if sleeping and (not able or (self._early and self.random.random() < self._early)):
                self.now = min(actor.deadline for actor in sleeping if actor.deadline is not None)
                able = [actor for actor in self._actors if actor.can_go_on(self.now)]
            if not able:
                self._fail(f"deadlock at {self.now:.3f} s\n{self._stacks(self._actors)}")
            able = able or self._actors
        chosen = able[self._below(len(able))]
        self.choices += 1
        self.digest = hash((self.digest, chosen.number))
        chosen.is_ready = chosen.deadline = None
        return chosen

    def _check(self, me: Actor) -> None:
        self.steps += 1
        if self.steps > _MOST_STEPS and self._failure is None:
            self._fail(f"no end after {_MOST_STEPS} steps\n{self._stacks(self._actors)}")
        if self._failure is not None:
            me.stops += 1
            if me.stops > _MOST_STOPS:  # it goes on whatever is raised: it stays where it is, for ever
                self._leave(me)
                me.baton.acquire()
            raise Stopped

    def _below(self, bound: int) -> int:
        """Return `self.random.randrange(bound)`, at a third of its price: it is most of what a switch costs."""
        bits = bound.bit_length()
        while (number := self.random.getrandbits(bits)) >= bound:
            pass
        return number

    def _tracer(self) -> Tracer:
        """Return what Python calls for each function and line of a traced thread."""
        chance, share = self.random.random, self._at_line

        def at_each_line(frame: FrameType, event: str, arg: object) -> Tracer | None:
            if event == "line" and chance() < share:
                me = self.current
                self._check(me)
                self._wait(me, None, None, interruptible=False)
            return at_each_line

        def at_each_call(frame: FrameType, event: str, arg: object) -> Tracer | None:
            return at_each_line if frame.f_code.co_filename.startswith(_TRACED) else None

        return at_each_call

    # ---- failures ---------------------------------------------------------------------------------------------

    def _fail(self, text: str) -> None:
        if self._failure is None:
            self._failure = text

    def _stacks(self, actors: list[Actor]) -> str:
        frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]  # documented, in spite of its name
        return "\n".join(
            f"thread {actor.name}, {'waiting' if actor.is_ready else 'able to go on'}:\n"
            + "".join(traceback.format_list(deque(_of_interest(frames[actor.ident]), maxlen=8)))
            for actor in actors
            if actor.ident in frames
        )


def _of_interest(frame: FrameType) -> Iterator[traceback.FrameSummary]:
    """Yield where a thread is, without the scheduler and what is below it."""
    hidden = (f"{_HERE}/scheduler.py", f"{_HERE}/primitives.py", threading.__file__)
    return (each for each in traceback.extract_stack(frame) if each.filename not in hidden)


class RealThread:
    """What the scheduler has to know of a thread: see `primitives.Thread`."""

    name: str
    is_over: bool

    def run(self) -> None:
        """Do its work."""


_running: Scheduler | None = None


def running() -> Scheduler | None:
    """Return the scheduler whose thread calls this; None outside of runs."""
    return _running


def new_number() -> int:
    """Return `Scheduler.number`; 0 outside of runs."""
    return 0 if _running is None else _running.number()
