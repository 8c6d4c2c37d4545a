"""The application of the soak's worker. The first parameters `orchestration` and `entity` tell the kind."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from durabletask import entities, task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    Flow: TypeAlias = Generator[task.Task[Any], Any, Any]

TALLY = entities.EntityInstanceId("tally", "all")


def text_of(label: str, size: int) -> str:
    """`size` characters that follow from `label` alone, and that gzip cannot make much smaller."""
    return hashlib.shake_256(label.encode()).hexdigest(size // 2 + 1)[:size]


# ---- activities ------------------------------------------------------------------------------------------------------


def produce(context: task.ActivityContext, order: list[Any]) -> str:
    label, size = order
    return text_of(label, size)


def reverse(context: task.ActivityContext, text: str) -> str:
    return text[::-1]


# ---- entities --------------------------------------------------------------------------------------------------------


def ledger(entity: entities.EntityContext, value: Any) -> Any:
    """put: a state; get: that state; grow: a result of so many characters."""
    if entity.operation == "put":
        entity.set_state(value)
        return None
    if entity.operation == "grow":
        return "g" * value
    return entity.get_state(str, "")


def tally(entity: entities.EntityContext, value: Any) -> Any:
    """add: a text to the texts; get: them. It shows what was done twice, or not at all."""
    texts: list[str] = entity.get_state(list, [])
    if entity.operation == "add":
        entity.set_state([*texts, value])
        return None
    return texts


# ---- orchestrators ---------------------------------------------------------------------------------------------------


def echo(orchestration: task.OrchestrationContext, text: str) -> str:
    return text


def chain(orchestration: task.OrchestrationContext, order: dict[str, Any]) -> Flow:
    """A text, turned round `steps` times."""
    text: str = yield orchestration.call_activity(produce, input=[order["label"], order["size"]])
    for _ in range(order["steps"]):
        text = yield orchestration.call_activity(reverse, input=text)
    return text


def fan_out(orchestration: task.OrchestrationContext, orders: list[list[Any]]) -> Flow:
    texts: list[str] = yield task.when_all([orchestration.call_activity(produce, input=order) for order in orders])
    return texts


def parent(orchestration: task.OrchestrationContext, orders: list[dict[str, Any]]) -> Flow:
    texts: list[str] = yield task.when_all(
        [
            orchestration.call_sub_orchestrator(
                chain, input=order, instance_id=f"{orchestration.instance_id}-child-{number}"
            )
            for number, order in enumerate(orders)
        ]
    )
    return texts


def listen(orchestration: task.OrchestrationContext, events: int) -> Flow:
    """The data of so many events; the custom status is that of the last one."""
    texts: list[str] = []
    for number in range(events):
        text: str = yield orchestration.wait_for_external_event(f"event-{number}")
        texts.append(text)
        orchestration.set_custom_status(text)
    return texts


def book(orchestration: task.OrchestrationContext, order: dict[str, Any]) -> Flow:
    """Put a text into each of some ledgers that are locked, and return their states."""
    ledgers = [entities.EntityInstanceId("ledger", key) for key in order["ledgers"]]
    texts: list[str] = []
    with (yield orchestration.lock_entities(ledgers)):
        for held in ledgers:
            yield orchestration.call_entity(held, "put", f"{held.key}:{order['text']}")
        for held in ledgers:
            text: str = yield orchestration.call_entity(held, "get")
            texts.append(text)
    yield orchestration.call_entity(TALLY, "add", orchestration.instance_id)
    return texts


def overbook(orchestration: task.OrchestrationContext, order: dict[str, Any]) -> Flow:
    """An entity whose result is too large, while it is locked."""
    held = entities.EntityInstanceId("ledger", order["ledger"])
    with (yield orchestration.lock_entities([held])):
        yield orchestration.call_entity(held, "put", order["text"])
        yield orchestration.call_entity(held, "grow", order["size"])


def overask(orchestration: task.OrchestrationContext, order: dict[str, Any]) -> Flow:
    """An activity whose input is too large, while a ledger that others wait for is locked."""
    with (yield orchestration.lock_entities([entities.EntityInstanceId("ledger", order["ledger"])])):
        yield orchestration.call_activity(reverse, input="a" * order["size"])


def rounds(orchestration: task.OrchestrationContext, order: dict[str, Any]) -> Flow:
    """As `chain`, each step in an execution of its own."""
    if not order["left"]:
        return order["text"]
    text: str = yield orchestration.call_activity(reverse, input=order["text"])
    orchestration.continue_as_new({"left": order["left"] - 1, "text": text})
    return None


FUNCTIONS: list[Callable[..., Any]] = [
    produce,
    reverse,
    ledger,
    tally,
    echo,
    chain,
    fan_out,
    parent,
    listen,
    book,
    overbook,
    overask,
    rounds,
]
