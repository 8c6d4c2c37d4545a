"""Scenarios of an Externalizer: single flight, slots, commit against cancel, and close against all of them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from tests.interleavings.world import (
    CACHE,
    SCRIPTED,
    Outcome,
    SteppedStore,
    inputs_of,
    payload,
    require_idle,
    tasks,
)

from durabletask_payloads import (
    Externalizer,
    deexternalize_payloads_async,
    externalize_payloads_async,
)

if TYPE_CHECKING:
    from tests.interleavings.world import World

_CLOSED = "this Externalizer is closed"


def one_download_for_many(world: World) -> None:
    """Threads and tasks that need the same tokens at the same time; some tasks are cancelled, some downloads fail."""
    store = SteppedStore(world, failing=world.random.choice((0.0, 0.3)))
    tokens = [store.keep(payload(number)) for number in range(world.random.randint(1, 2))]
    is_kept = world.chance(0.5)
    externalizer = Externalizer(store, concurrency=world.random.randint(1, 3), cache_bytes=CACHE if is_kept else 0)
    outcomes = [Outcome(tasks(*(world.random.choice(tokens) for _ in range(2)))) for _ in range(6)]

    async def in_tasks() -> None:
        await asyncio.gather(*(each.of_async(world, externalizer.deexternalize_async) for each in outcomes[3:]))

    for number, each in enumerate(outcomes[:3]):
        world.start(partial(each.of, externalizer.deexternalize), f"reader {number}")
    world.in_loop(in_tasks)
    world.join()
    externalizer.close()
    for each in outcomes:
        each.require((store.text_of(token) for token in each.before), errors=(SCRIPTED,))
    assert store.of_one_token <= 1, f"{store.of_one_token} downloads of one token at a time"
    if is_kept:
        assert max(store.served.values(), default=0) <= 1, "a payload that is in the cache was downloaded again"
    assert externalizer.stats.downloads == store.served.total()
    require_idle(externalizer, store, world)


def commit_against_cancel(world: World) -> None:
    """Threads and tasks that upload, equal payloads too; tasks are cancelled, Ctrl-C comes, some uploads fail."""
    store = SteppedStore(world, failing=world.random.choice((0.0, 0.3)))
    externalizer = Externalizer(store, concurrency=world.random.randint(1, 3), cache_bytes=CACHE)
    outcomes = [
        Outcome(tasks(*(payload(world.random.randrange(4)) for _ in range(world.random.randint(1, 4)))))
        for _ in range(5)
    ]
    mine = Outcome(tasks(payload("a"), payload("b")))

    async def in_tasks() -> None:
        await asyncio.gather(*(each.of_async(world, externalizer.externalize_async) for each in outcomes[2:]))

    main = world.scheduler.current

    def press_ctrl_c() -> None:
        world.soon()
        world.scheduler.interrupt(main)

    for number, each in enumerate(outcomes[:2]):
        world.start(partial(each.of, externalizer.externalize), f"writer {number}")
    world.in_loop(in_tasks)
    if world.chance(0.5):
        world.start(press_ctrl_c, "keyboard")
    mine.of(externalizer.externalize)
    _join_all_the_same(world)
    externalizer.close()
    _require_stored(store, [*outcomes, mine])
    require_idle(externalizer, store, world)


def _join_all_the_same(world: World) -> None:
    while True:
        try:
            world.join()
            return
        except KeyboardInterrupt:  # it came after the call
            continue


def _require_stored(store: SteppedStore, outcomes: list[Outcome]) -> None:
    """Fail unless the store has the payloads of what was committed and no others."""
    for each in outcomes:
        assert not each.is_done or not each.message.actions or inputs_of(each.message) != each.before
        found = [store.text_of(token) for token in inputs_of(each.message)] if each.is_done else each.before
        assert found == each.before
        each.require(inputs_of(each.message), errors=(SCRIPTED, _CLOSED))
        assert len(set(inputs_of(each.message))) == len(set(each.before)), "equal payloads have one token"
    committed = {token for each in outcomes if each.is_done for token in inputs_of(each.message)}
    left = set(store.tokens) - committed
    assert not left, f"{len(left)} payloads of messages that were not sent are left"


def close_against_everything(world: World) -> None:
    """An Externalizer that is closed in the middle of uploads and downloads, by several threads."""
    store = SteppedStore(world, failing=world.random.choice((0.0, 0.2)))
    tokens = [store.keep(payload(f"kept {number}")) for number in range(2)]
    externalizer = Externalizer(store, concurrency=world.random.randint(1, 3), cache_bytes=CACHE)
    reads = [Outcome(tasks(*tokens)) for _ in range(3)]
    writes = [Outcome(tasks(*(payload(f"{k} {n}") for k in range(world.random.randint(1, 3))))) for n in range(4)]

    async def in_tasks() -> None:
        await asyncio.gather(
            *(each.of_async(world, externalizer.externalize_async) for each in writes[2:]),
            *(each.of_async(world, externalizer.deexternalize_async) for each in reads[1:]),
        )

    def close() -> None:
        world.soon()
        externalizer.close(wait=world.chance(0.5))

    world.in_loop(in_tasks)
    for each in writes[:2]:
        world.start(partial(each.of, externalizer.externalize), "writer")
    for each in reads[:1]:
        world.start(partial(each.of, externalizer.deexternalize), "reader")
    for _ in range(world.random.randint(1, 2)):
        world.start(close, "closer")
    world.join()
    externalizer.close()
    for each in reads:
        each.require((store.text_of(token) for token in tokens), errors=(SCRIPTED, _CLOSED))
    for token in tokens:
        store.delete(token)
    _require_stored(store, writes)
    require_idle(externalizer, store, world)


def helpers_that_are_cancelled(world: World) -> None:
    """The drop-in functions, each with an Externalizer of its own that ends with the call, or in the background."""
    store = SteppedStore(world, failing=world.random.choice((0.0, 0.2)))
    outcomes = [Outcome(tasks(*(payload(f"{n} {k}") for k in range(n)))) for n in range(1, 4)]
    tokens = [store.keep(payload(f"kept {number}")) for number in range(2)]
    read = Outcome(tasks(*tokens))

    async def in_tasks() -> None:
        await asyncio.gather(
            *(each.of_async(world, lambda message: externalize_payloads_async(message, store)) for each in outcomes),
            read.of_async(world, lambda message: deexternalize_payloads_async(message, store)),
        )

    world.in_loop(in_tasks)
    world.join()
    world.require_alone()
    read.require((store.text_of(token) for token in tokens), errors=(SCRIPTED,))
    for token in tokens:
        store.delete(token)
    _require_stored(store, outcomes)
