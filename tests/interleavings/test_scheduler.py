"""The scheduler finds what it is made for, and repeats it."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.interleavings import event_loop
from tests.interleavings.controlled import controlled
from tests.interleavings.explore import SCENARIOS, run, warm_up
from tests.interleavings.primitives import Condition, Event, Lock, RLock, Semaphore, SimpleQueue, Thread, Time
from tests.interleavings.quiet import quiet
from tests.interleavings.scheduler import ScheduleError, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = 50


def _note(found: set[object], main: Callable[[Scheduler], object], scheduler: Scheduler) -> None:
    found.add(main(scheduler))


def outcomes(main: Callable[[Scheduler], object]) -> set[object]:
    """Return what `main` returns, and the first lines of how it fails, over some seeds."""
    found: set[object] = set()
    for seed in range(SEEDS):
        scheduler = Scheduler(seed)
        try:
            scheduler.run(partial(_note, found, main, scheduler))
        except ScheduleError as error:
            found.add(str(error).splitlines()[0])
    return found


def test_two_locks_in_two_orders_are_a_deadlock() -> None:
    def main(scheduler: Scheduler) -> str:
        first, second = Lock(), Lock()

        def work(*locks: Lock) -> None:
            with locks[0], locks[1]:
                pass

        threads = [Thread(target=work, args=locks) for locks in ((first, second), (second, first))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return "done"

    assert outcomes(main) == {"done", "deadlock at 0.000 s"}


def test_a_read_and_a_write_with_a_switch_between_them_lose_an_update() -> None:
    def main(scheduler: Scheduler) -> int:
        count = 0

        def work() -> None:
            nonlocal count
            before = count
            scheduler.switch()
            count = before + 1

        threads = [Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count

    assert outcomes(main) == {1, 2}


def test_primitives_that_are_used_well_never_fail() -> None:
    def main(scheduler: Scheduler) -> list[int]:
        condition, slots, started, queue, inner = Condition(), Semaphore(2), Event(), SimpleQueue[int](), RLock()
        done: list[int] = []

        def work(number: int) -> None:
            started.wait()
            with slots:
                queue.put(number)
            with condition:
                condition.notify_all()

        for number in range(3):
            Thread(target=work, args=(number,)).start()
        started.set()
        with condition, inner, inner:
            condition.wait_for(lambda: queue.qsize() == 3)
        done.extend(queue.get() for _ in range(3))
        assert queue.empty()
        return sorted(done)

    results: list[object] = []
    assert outcomes(lambda scheduler: results.append(main(scheduler))) == {None}
    assert results == [[0, 1, 2]] * SEEDS


def test_a_wait_for_what_was_notified_before_is_found() -> None:
    def main(scheduler: Scheduler) -> str:
        condition = Condition()

        def notify() -> None:
            with condition:
                condition.notify_all()

        Thread(target=notify).start()
        with condition:
            condition.wait()
        return "woken"

    assert outcomes(main) == {"woken", "deadlock at 0.000 s"}


def test_time_goes_on_when_nobody_can() -> None:
    def main(scheduler: Scheduler) -> tuple[bool, float]:
        event = Event()
        return event.wait(3_600.0), Time.monotonic()

    assert outcomes(main) == {(False, 3_600.0)}


def test_a_thread_that_raises_fails_the_run() -> None:
    def main(scheduler: Scheduler) -> None:
        Thread(target=partial(int, "not a number"), name="bad").start()

    assert "thread bad raised" in outcomes(main)


def test_threads_that_wake_one_another_for_ever_fail_the_run() -> None:
    scheduler = Scheduler(0)

    def main() -> None:
        while True:
            scheduler.switch()

    with pytest.raises(ScheduleError, match="no end after 100000 steps"):
        scheduler.run(main)


def test_tasks_take_turns_as_the_seed_says() -> None:
    def main(scheduler: Scheduler) -> str:
        order: list[str] = []

        async def step(name: str) -> None:
            await asyncio.sleep(0)
            order.append(name)

        async def all_steps() -> None:
            await asyncio.gather(step("a"), step("b"), asyncio.sleep(100.0))

        event_loop.run(scheduler, all_steps)
        return "".join(order)

    with controlled():
        assert outcomes(main) == {"ab", "ba"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_seed_repeats_a_run(name: str) -> None:
    """Whatever ran before. `PYTHONHASHSEED` and addresses change nothing either: sets have an order."""
    warm_up()
    with controlled(), quiet():
        digests = {seed: run(name, seed).digest for seed in range(8)}
        assert {seed: run(name, seed).digest for seed in reversed(range(8))} == digests
    assert len(set(digests.values())) == len(digests)
