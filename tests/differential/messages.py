"""A random message through our functions and through the walker of the installed SDK, the reference.

Where both do not do the same, the reference is known to be wrong, and this module mends its result before it compares:

- It moves `metadata` too: ids, versions and continuation tokens, which schedulers and other SDKs read as they are.
  They stay byte by byte, and a token in them stays one.
- It moves every large `diagnostic` field, such as a stack trace, which others show as it comes. It stays, unless the
  message as a whole is over its budget.
- It knows no budget, so that many payloads under the threshold add up to a message that gRPC refuses. Beyond what it
  moves, the largest payloads and diagnostic fields go until the message fits.
- At a payload that is over the maximum, or that cannot be read, it leaves the message half changed. Ours is unchanged.
- It uploads equal payloads, and downloads a token, as often as they occur. Once is enough.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.payload import helpers
from tests.differential.leaves import copy, leaves, moved, put_back, require_same
from tests.differential.stores import NOT_UTF_8, KeptStore, PrefixedStore, ReferenceStore, UnreadableError
from tests.support.oracle import messages_of
from tests.support.random_messages import RandomMessages, text_about

from durabletask_payloads import Externalizer, PayloadIntegrityError, PayloadTooLargeError
from durabletask_payloads_walkers import EXTERNALIZE, FIELDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

_ALL: Final = messages_of([pb.DESCRIPTOR])
# All types, and three times as often those with payloads.
_TYPES: Final = (*_ALL.values(), *(_ALL[name] for name in EXTERNALIZE), *(_ALL[name] for name in EXTERNALIZE))
_METADATA: Final = frozenset(key for key, kind in FIELDS.items() if kind == "metadata")
_DIAGNOSTIC: Final = frozenset(key for key, kind in FIELDS.items() if kind == "diagnostic")
_PREFIXES: Final = ("blob:v1:", "mem-", "t:")
# What the plan for a message over its budget takes for the size of a token, in bytes.
_LONGEST_TOKEN: Final = 512


class Setting(NamedTuple):
    """What one message is moved with.

    Attributes:
        threshold, maximum, budget: in bytes.
        limits: texts are about as large as one of these, in characters or bytes.
        says_prefix: the store says how its tokens begin.
        has_unreadable: some tokens are those of payloads that are gone or damaged.
    """

    prefix: str
    threshold: int
    maximum: int
    budget: int | None
    limits: tuple[int, ...]
    says_prefix: bool
    has_unreadable: bool
    cache_bytes: int
    is_async: bool


def random_setting(random: Random) -> Setting:
    share = random.random()
    budget: int | None = None
    limits: tuple[int, ...]
    if share < 0.01:
        threshold = 9_000
        limits = (9_000, 8_500)  # so large that the parts of a message are measured one by one
    elif share < 0.25:
        threshold = random.choice((600, 1_500))
        budget = threshold + random.randrange(random.choice((100, 6_000)))
        limits = (threshold, 520, random.randrange(400, 2_000))
    else:
        threshold = random.choice((0, 1, 7, 24, 100))
        limits = (threshold,)
    maximum = threshold + random.choice((0, 40, *[100_000] * 12))
    return Setting(
        prefix=random.choice(_PREFIXES),
        threshold=threshold,
        maximum=maximum,
        budget=budget,
        limits=limits,
        says_prefix=random.random() < 0.7,
        has_unreadable=random.random() < 0.1,
        cache_bytes=random.choice((0, 1 << 20)),
        is_async=random.random() < 0.06,
    )


@dataclass(frozen=True)
class Case:
    """One message and what moves it.

    Attributes:
        reference: the store, as the reference walker gets it.
        seen: what occurred.
    """

    message: Message
    setting: Setting
    store: KeptStore
    reference: ReferenceStore
    externalizer: Externalizer
    seen: Counter[str]

    def externalize(self, message: Message) -> None:
        if self.setting.is_async:
            asyncio.run(self.externalizer.externalize_async(message, instance_id="order-17"))
        else:
            self.externalizer.externalize(message, instance_id="order-17")

    def deexternalize(self, message: Message) -> None:
        if self.setting.is_async:
            asyncio.run(self.externalizer.deexternalize_async(message))
        else:
            self.externalizer.deexternalize(message)


def check_message(seed: int) -> Counter[str]:
    """Compare both sides on the message of `seed`, and return what occurred. Consecutive seeds go through all types.

    Raises:
        AssertionError: they differ.
    """
    random = Random(seed)
    setting = random_setting(random)
    kind = PrefixedStore if setting.says_prefix else KeptStore
    store = kind(setting.prefix, setting.threshold, setting.maximum)
    texts = _texts(random, setting, store)
    message = RandomMessages(random, lambda: random.choice(texts)).make(_TYPES[seed % len(_TYPES)])
    if random.random() < 0.05:
        message.MergeFromString(_unknown_field(random.randrange(2_000)))
    seen = Counter({f"prefix {setting.prefix if setting.says_prefix else 'not said'}": 1})
    with Externalizer(
        store, concurrency=2, cache_bytes=setting.cache_bytes, message_budget_bytes=setting.budget
    ) as externalizer:
        case = Case(message, setting, store, ReferenceStore(store), externalizer, seen)
        externalized = _check_externalize(case)
        _check_deexternalize(case, message if externalized is None else externalized)
    return seen


def _texts(random: Random, setting: Setting, store: KeptStore) -> Sequence[str]:
    """Make texts to choose from: empty, tokens, nearly tokens, and sizes about the limits in characters and bytes."""
    prefix = setting.prefix
    token = store.upload(f"payload \U0001f600 {'x' * random.randrange(20)}".encode())
    found = ["", "a", token, prefix, prefix[:-1], f"{prefix[:-1]}~", f" {token}", f"{token}0", f'"{token}"']
    found += [token[:-1], token.upper(), f"{prefix}{'0' * setting.threshold}"]
    found += [text_about(random, random.choice(setting.limits)) for _ in range(16)]
    if random.random() < 0.1:
        found.append(text_about(random, setting.maximum))
    if setting.has_unreadable:
        found += [store.token(b"gone"), store.upload(NOT_UTF_8)]
    store.uploads = 0
    return found


def _unknown_field(size: int) -> bytes:
    """Return a text of `size` bytes in a field that only a newer schema has, with the number 4,094."""
    return b"\xf2\xff\x01" + bytes((size & 127 | 128, size >> 7)) + b"x" * size


# ---- externalize ---------------------------------------------------------------------------------------------------


def _check_externalize(case: Case) -> Message | None:
    """Return the message with its tokens, None if it cannot be externalized."""
    message, store, seen = case.message, case.store, case.seen
    too_large = [
        leaf.key
        for leaf in leaves(message)
        if FIELDS[leaf.key] == "payload"
        and len(leaf.field.value.encode()) > case.setting.maximum
        and not store.is_known_token(leaf.field.value)
    ]
    ours = copy(message)
    try:
        case.externalize(ours)
    except PayloadTooLargeError:
        assert too_large, "refused as too large"
        require_same(ours, message, "the message that was refused as too large")
        assert store.uploads == 0
        seen["too large"] += 1
        return None
    assert not too_large, f"not refused: {too_large}"
    theirs = copy(message)
    helpers.externalize_payloads(theirs, case.reference, instance_id="order-17")
    _count(case, ours, theirs)
    if case.setting.budget is None:
        put_back(theirs, message, _METADATA | _DIAGNOSTIC)
        require_same(ours, theirs, "externalized")
    else:
        _check_budget(case, ours, theirs)
    distinct = {leaf.field.value for leaf in moved(message, ours)}
    assert store.uploads == len(distinct), f"{store.uploads} uploads of {len(distinct)} payloads"

    uploads = store.uploads
    again = copy(ours)
    case.externalize(again)
    require_same(again, ours, "externalized a second time")
    assert store.uploads == uploads, "tokens were uploaded"
    again = copy(message)
    case.externalize(again)  # which knows by now what messages of this type are like, and measures in another way
    require_same(again, ours, "the same message, externalized after others of its type")
    return ours


def _check_budget(case: Case, ours: Message, theirs: Message) -> None:
    """Require what the reference moves, and beyond it the largest of the rest, if the budget asks for it."""
    message, budget = case.message, case.setting.budget
    assert budget is not None
    went, stayed = [0], [0]
    smallest = message.ByteSize()  # without what went
    for was, our, their in zip(leaves(message), leaves(ours), leaves(theirs), strict=True):
        text = was.field.value
        kind, size = FIELDS[was.key], len(text.encode())
        can_move = kind != "metadata" and _LONGEST_TOKEN < size <= case.setting.maximum
        if kind == "payload" and their.field.value != text:
            assert our.field.value == their.field.value, f"{was.key}, a payload over the threshold, stayed"
            smallest -= size - _LONGEST_TOKEN
        elif our.field.value != text:
            assert can_move, f"{was.key}, {kind} of {size} bytes, moved"
            assert our.field.value == case.store.token(text.encode())
            went.append(size)
            smallest -= size - _LONGEST_TOKEN
        elif can_move and not case.store.is_known_token(text):
            stayed.append(size)
    case.seen["moved for the budget"] += len(went) - 1
    if message.ByteSize() <= budget:
        assert len(went) == 1, "moved for a budget that was kept"
    elif len(went) > 1:
        assert min(went[1:]) >= max(stayed), "a smaller payload moved and a larger one stayed"
        assert smallest + min(went[1:]) - _LONGEST_TOKEN > budget, "more moved than the budget asks for"
    fits = case.externalizer.plan(message).fits
    assert ours.ByteSize() <= budget if fits else len(stayed) == 1, f"fits: {fits}, of {ours.ByteSize()} bytes"
    case.seen["does not fit"] += not fits
    rest = copy(ours)
    put_back(rest, message, FIELDS)
    require_same(rest, message, "what is no StringValue")


def _count(case: Case, ours: Message, theirs: Message) -> None:
    """Write down what occurred, so that a test can require that all of it does."""
    for key, field in moved(case.message, ours):
        case.seen[f"moved {key}"] += 1
        characters, size = len(field.value), len(field.value.encode())
        case.seen["over the threshold in bytes alone"] += characters <= case.setting.threshold < size
    for key, _ in moved(case.message, theirs):
        case.seen[f"moved by the reference: {FIELDS[key]}"] += 1
    case.seen["async" if case.setting.is_async else "sync"] += 1


# ---- deexternalize -------------------------------------------------------------------------------------------------


def _check_deexternalize(case: Case, message: Message) -> None:
    """Check that the payloads of `message` come back; of the original message the tokens that it had itself."""
    store, seen = case.store, case.seen
    tokens = {
        leaf.field.value
        for leaf in leaves(message)
        if FIELDS[leaf.key] != "metadata" and store.is_known_token(leaf.field.value)
    }
    unreadable = {token for token in tokens if store.kept.get(token, NOT_UTF_8) == NOT_UTF_8}
    store.downloads = 0
    ours = copy(message)
    try:
        case.deexternalize(ours)
    except (UnreadableError, PayloadIntegrityError):
        assert unreadable, "refused as unreadable"
        require_same(ours, message, "the message with a payload that cannot be read")
        seen["unreadable"] += 1
        return
    assert not unreadable, f"not refused: {unreadable}"
    assert store.downloads <= len(tokens)
    theirs = copy(message)
    helpers.deexternalize_payloads(theirs, case.reference)
    put_back(theirs, message, _METADATA)
    require_same(ours, theirs, "deexternalized")

    expected = copy(case.message)
    for leaf in leaves(expected):
        if FIELDS[leaf.key] != "metadata" and leaf.field.value in tokens:
            leaf.field.value = store.kept[leaf.field.value].decode()
            seen["tokens in the original"] += 1
    require_same(ours, expected, "there and back")
    seen["there and back"] += 1
    again = copy(ours)
    case.deexternalize(again)
    require_same(again, ours, "deexternalized a second time")
