"""Every payload of an orchestration or entity, as the task hub has it, and whether the store can read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import durabletask_payloads_walkers as walkers
from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError
from durabletask_payloads.externalizer._plan import ExternalizePlan
from durabletask_payloads.externalizer._walkers import check_schema, walkers_by_class
from durabletask_payloads.stores._inventory import inventory_of
from durabletask_payloads.stores._object_tokens import ObjectToken
from durabletask_payloads.stores._tokens import PayloadToken

from ._hub import HubError
from ._sdk import pb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.protobuf.message import Message

    from durabletask_payloads.stores._base import PayloadStore

    from ._hub import Hub

    Keep = Callable[[str, bytes], str]

_UNLIMITED: Final = 2**62  # bytes


@dataclass(frozen=True, slots=True)
class InstancePayload:
    """A field with a payload. Sizes are in bytes, after decompression.

    Attributes:
        place: the message that it is in: "state", or "event 3", counted from 1.
        field: its path, as `Message.field`.
        size: of the payload; None if it cannot be read.
        token: None where the payload itself is in the message.
        trouble: why the payload cannot be read; None if it can.
        file: the name of the file that it was saved to; None if it was not.
    """

    place: str
    field: str
    size: int | None
    token: str | None
    trouble: str | None
    file: str | None


@dataclass(frozen=True, slots=True)
class InstancePayloads:
    """The payloads of an instance, in the order of its state and its history.

    Attributes:
        status: of an orchestration, as "COMPLETED"; None of an entity.
        unreadable: how many of the payloads cannot be read.
    """

    instance_id: str
    kind: Literal["orchestration", "entity"]
    status: str | None
    hub: str
    store: str
    unreadable: int
    payloads: tuple[InstancePayload, ...]

    @property
    def ok(self) -> bool:
        return self.unreadable == 0


def instance_payloads(
    hub: Hub,
    store: PayloadStore,
    instance_id: str,
    *,
    keep: Keep | None = None,
    on_payload: Callable[[int], None] | None = None,
) -> InstancePayloads:
    """Return all payloads of an instance. One content at a time is in memory, and each token is downloaded once.

    Args:
        hub: has the instance.
        store: has the payloads.
        instance_id: of an orchestration, or of an entity as `@name@key`.
        keep: called with a name and the content of each payload that can be read; returns the name of its file.
        on_payload: called with the number of payloads found so far.

    Raises:
        HubError: there is no such instance, or the hub cannot be read to the end.
        PayloadStoreUnavailableError: the store is unavailable, so that nothing can be said of the rest.
        SchemaMismatchError: the SDK has fields that the walkers do not know.
    """
    state = hub.entity(instance_id) if instance_id.startswith("@") else hub.instance(instance_id)
    kind: Literal["orchestration", "entity"] = "entity" if instance_id.startswith("@") else "orchestration"
    if state is None:
        raise HubError(f"the task hub at {hub.location} has no {kind} {instance_id!r}: it never existed, or is purged")
    check_schema(state)
    reader = _Reader(store, keep)
    found: list[InstancePayload] = []
    for place, message in _messages(hub, state, instance_id):
        for field, text in _texts(message):
            if walkers.FIELDS[field] != "payload" and not reader.is_token(text):
                continue  # a stack trace, of which only a message over its budget makes a token
            found.append(reader.payload(place, field, text))
            if on_payload is not None:
                on_payload(len(found))
    status: str | None = None
    if isinstance(state, pb.OrchestrationState):
        status = pb.OrchestrationStatus.Name(state.orchestrationStatus).removeprefix("ORCHESTRATION_STATUS_")
    return InstancePayloads(
        instance_id=instance_id,
        kind=kind,
        status=status,
        hub=hub.location,
        store=inventory_of(store).location,
        unreadable=sum(one.trouble is not None for one in found),
        payloads=tuple(found),
    )


def _messages(
    hub: Hub, state: pb.OrchestrationState | pb.EntityMetadata, instance_id: str
) -> Iterator[tuple[str, Message]]:
    """Yield the messages that hold payloads, and what they are."""
    yield "state", state
    if isinstance(state, pb.EntityMetadata):
        return  # entities have no history that can be asked for
    number = 0
    for chunk in hub.history(instance_id):
        for event in chunk.events:
            number += 1
            yield f"event {number}", event


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each field that a payload, or a token for one, can be in."""
    walk = walkers_by_class[type(message)].externalize
    if walk is None:
        return
    # The walkers that upload pass every text that is not empty: tokens too, since nothing is taken for one here.
    plan = ExternalizePlan(0, _UNLIMITED, lambda _: False, include_diagnostics=True)
    walk(message, plan)
    for upload in plan.uploads:
        yield upload.path, upload.data.decode()


class _Reader:
    """Reads payloads, and keeps them: each token once."""

    def __init__(self, store: PayloadStore, keep: Keep | None) -> None:
        self._store = store
        self._keep = keep
        self._number = 0
        self._read: dict[str, tuple[int | None, str | None, str | None]] = {}

    def payload(self, place: str, field: str, text: str) -> InstancePayload:
        if not self.is_token(text):
            content = text.encode()
            return InstancePayload(place, field, len(content), None, None, self._kept(place, field, content))
        if text not in self._read:
            self._read[text] = self._downloaded(place, field, text)
        size, trouble, file = self._read[text]
        return InstancePayload(place, field, size, text, trouble, file)

    def is_token(self, text: str) -> bool:
        """Return whether `text` is a token of any store: also of one that this one is not."""
        known = self._store.is_known_token(text)
        return known or PayloadToken.parse(text) is not None or ObjectToken.parse(text) is not None

    def _downloaded(self, place: str, field: str, token: str) -> tuple[int | None, str | None, str | None]:
        """Return the size of the payload, why it cannot be read, and the name of its file."""
        if not self._store.is_known_token(token):
            return None, f"{token}: is a token of another kind of store than {inventory_of(self._store).location}", None
        try:
            content = self._store.download(token)
        except PayloadStoreUnavailableError:
            raise
        except PayloadError as error:
            return None, str(error), None
        return len(content), None, self._kept(place, field, content)

    def _kept(self, place: str, field: str, content: bytes) -> str | None:
        if self._keep is None:
            return None
        self._number += 1
        return self._keep(f"{self._number:04}-{place.replace(' ', '-')}-{field}.txt", content)
