"""The orchestrations of a soak and their expected results, computed without the SDK and before anything runs."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.slow.soak import application

if TYPE_CHECKING:
    from collections.abc import Callable

THRESHOLD_BYTES = 32 * 1024
MAX_STORED_BYTES = 4 * 1024 * 1024
TOO_LARGE = "PayloadTooLargeError"
LOST = "PayloadNotFoundError"
LEDGERS = 6  # that all share, so that they wait for one another


@dataclass
class Case:
    """One orchestration.

    Attributes:
        kind: what the summary counts it as.
        function: the orchestrator.
        input: what it is started with; a lost case is started with a token under which nothing is stored.
        events: the data of the events that it gets, in order.
        output: the digest of what it must return.
        custom_status: the digest of what it must have set.
        error: the name of our error with which it must fail; then it has no output.
        input_stays: whether its input can be asked for at its end.
    """

    kind: str
    instance_id: str
    function: Callable[..., Any]
    input: Any
    events: list[str] = field(default_factory=list[str])
    output: str = ""
    custom_status: str | None = None
    error: str | None = None
    input_stays: bool = True


def digest(value: Any) -> str:
    """The SHA-256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def cases_of(seed: int, count: int) -> list[Case]:
    """`count` cases, of each kind the same share, in an order that the seed decides."""
    chance = random.Random(f"cases {seed}")
    kinds = [kind for kind, share in _SHARES.items() for _ in range(share)]
    cases = [_case(kinds[number % len(kinds)], f"{seed}-{number:03}", chance) for number in range(count)]
    chance.shuffle(cases)
    return cases


_SHARES = {
    "one echo": 2,
    "activities in a chain": 3,
    "fan-out": 3,
    "sub-orchestrations": 3,
    "events": 3,
    "entities with locks": 4,
    "continue-as-new": 3,
    "activity input too large": 1,
    "activity result too large": 1,
    "entity result too large": 1,
    "input lost": 1,
}


def _size(chance: random.Random) -> int:
    """Small, about the threshold, or large."""
    low, high = chance.choice([(1, 2_000), (1, 2_000), (32_000, 34_000), (60_000, 200_000), (200_000, 800_000)])
    return chance.randint(low, high)


def _case(kind: str, number: str, chance: random.Random) -> Case:
    text = application.text_of
    instance = f"soak-{number}-{kind.replace(' ', '-')}"
    size = _size(chance)
    several = [(f"{instance} {place}", _size(chance)) for place in range(chance.randint(2, 5))]
    steps = chance.randint(1, 4)
    own = text(instance, size)
    turned = own[::-1] if steps % 2 else own
    order: dict[str, Any]
    match kind:
        case "one echo":
            return Case(kind, instance, application.echo, own, output=digest(own))
        case "activities in a chain":
            order = {"label": instance, "size": size, "steps": steps}
            return Case(kind, instance, application.chain, order, output=digest(turned))
        case "fan-out":
            texts = [text(label, length) for label, length in several]
            return Case(kind, instance, application.fan_out, [list(one) for one in several], output=digest(texts))
        case "sub-orchestrations":
            orders = [{"label": label, "size": length, "steps": 1} for label, length in several[:3]]
            texts = [text(label, length)[::-1] for label, length in several[:3]]
            return Case(kind, instance, application.parent, orders, output=digest(texts))
        case "events":
            texts = [text(label, length) for label, length in several[:3]]
            return Case(
                kind, instance, application.listen, len(texts), texts, digest(texts), custom_status=digest(texts[-1])
            )
        case "entities with locks":
            keys = [f"shared-{place}" for place in chance.sample(range(LEDGERS), chance.randint(1, 2))]
            order = {"ledgers": keys, "text": own}
            return Case(kind, instance, application.book, order, output=digest([f"{key}:{own}" for key in keys]))
        case "continue-as-new":
            order = {"left": steps, "text": own}
            return Case(kind, instance, application.rounds, order, output=digest(turned), input_stays=False)
        case "activity input too large":
            order = {"ledger": f"shared-{chance.randrange(LEDGERS)}", "size": MAX_STORED_BYTES + 1}
            return Case(kind, instance, application.overask, order, error=TOO_LARGE)
        case "activity result too large":
            order = {"label": instance, "size": MAX_STORED_BYTES + 1, "steps": 0}
            return Case(kind, instance, application.chain, order, error=TOO_LARGE)
        case "entity result too large":
            order = {"ledger": instance, "text": own, "size": MAX_STORED_BYTES + 1}
            return Case(kind, instance, application.overbook, order, error=TOO_LARGE)
        case "input lost":
            name = hashlib.md5(instance.encode()).hexdigest()
            return Case(kind, instance, application.echo, name, error=LOST, input_stays=False)
        case _:
            raise ValueError(f"no such kind: {kind}")
