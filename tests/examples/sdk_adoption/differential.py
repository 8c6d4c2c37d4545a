"""The helpers of an adopted SDK against those that they replace: on random messages they do the same.

`python -m tests.examples.sdk_adoption.differential COUNT SEED ORIGINAL` runs with the adopted SDK first in PYTHONPATH,
and takes the original helpers from the file ORIGINAL. It prints what occurred, as JSON, and fails at the first
difference of messages, calls of the store and their order, errors, or log lines.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
import logging
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

from durabletask.internal import orchestrator_service_pb2
from durabletask.payload import LargePayloadStorageOptions, PayloadStore
from durabletask.payload import helpers as adopted
from google.protobuf import any_pb2, struct_pb2, wrappers_pb2
from tests.support.random_messages import RandomMessages, text_about

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from google.protobuf.descriptor import FileDescriptor
    from google.protobuf.message import Message

_PREFIXES = ("blob:v1:", "mem-")
_KEPT = 8
_ONE_IN_ASYNC = 4  # one message in so many goes through the asynchronous functions
_LOGGER = "durabletask-payloads"
_SANDBOXES = "durabletask.azuremanaged.internal.sandbox_service_pb2"

Kind = Literal["says its prefix", "subclass", "methods"]


class Helpers(Protocol):
    """The public functions of `durabletask.payload.helpers`."""

    def externalize_payloads(self, msg: Message, store: PayloadStore, *, instance_id: str | None = None) -> None: ...
    def deexternalize_payloads(self, msg: Message, store: PayloadStore) -> None: ...
    def externalize_payloads_async(
        self, msg: Message, store: PayloadStore, *, instance_id: str | None = None
    ) -> Coroutine[object, object, None]: ...
    def deexternalize_payloads_async(self, msg: Message, store: PayloadStore) -> Coroutine[object, object, None]: ...


class StoreError(Exception):
    """A transfer that fails on purpose."""


@dataclass(frozen=True)
class Setting:
    """How the store of one message behaves.

    Attributes:
        prefix: how its tokens begin.
        threshold, maximum: its options, in bytes.
        knows_by_prefix: each text with the prefix is a token, or only those of what it holds.
        kind: it says its prefix, or not, or is no subclass of `PayloadStore` but has its methods.
        transfers: after so many it fails.
    """

    prefix: str
    threshold: int
    maximum: int
    knows_by_prefix: bool
    kind: Kind
    transfers: int


class RecordingStore(PayloadStore):
    """Keeps payloads in memory and writes down each call."""

    def __init__(self, setting: Setting) -> None:
        prefix = setting.prefix
        self.calls: list[tuple[object, ...]] = []
        self.setting = setting
        self._options = LargePayloadStorageOptions(setting.threshold, setting.maximum)
        self._kept = {f"{prefix}{number}": f"payload {number} \U0001f600".encode() for number in range(_KEPT)}
        self._kept[f"{prefix}0"] = b"\xff is no UTF-8"

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        self._write_down("upload", data, instance_id)
        token = f"{self.setting.prefix}{len(self._kept)}"
        self._kept[token] = data
        return token

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        await asyncio.sleep(0)
        self._write_down("asynchronous", data, instance_id)
        return self.upload(data, instance_id=instance_id)

    def download(self, token: str) -> bytes:
        self._write_down("download", token)
        return self._kept[token]

    async def download_async(self, token: str) -> bytes:
        await asyncio.sleep(0)
        self._write_down("asynchronous", token)
        return self.download(token)

    def is_known_token(self, value: str) -> bool:
        if not value:
            raise AssertionError("asked about an empty text")
        return value.startswith(self.setting.prefix) if self.setting.knows_by_prefix else value in self._kept

    def _write_down(self, *call: object) -> None:
        self.calls.append(call)
        if len(self.calls) > self.setting.transfers:
            raise StoreError(f"transfer {len(self.calls)}")


class SayingStore(RecordingStore):
    """Says how its tokens begin."""

    @property
    def token_prefix(self) -> str:
        return self.setting.prefix


@dataclass
class Outcome:
    """What one side did: the message as it is now, the calls of the store, the error and the log lines.

    Uploads are compared with their order: it decides what has moved when a later one fails.
    """

    message: Message
    calls: list[tuple[object, ...]]
    error: tuple[object, ...] | None = None
    log: list[str] = field(default_factory=list[str])


class Log(logging.Handler):
    """Collects the lines of the helpers' logger."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        logger = logging.getLogger(_LOGGER)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.getMessage()}")


class Differential:
    """Brings the same messages to both helpers."""

    def __init__(self, original: Helpers, seed: int) -> None:
        self.seen: Counter[str] = Counter()
        self._sides: tuple[Helpers, Helpers] = (original, adopted)
        self._random = Random(seed)
        self._log = Log()
        self._loop = asyncio.new_event_loop()
        self._texts: Sequence[str] = ()
        self._messages = RandomMessages(self._random, lambda: self._random.choice(self._texts))
        # By name, since our stubs of the SDK hide this module from type checkers.
        sandboxes: FileDescriptor = importlib.import_module(_SANDBOXES).DESCRIPTOR
        self._types = [
            *orchestrator_service_pb2.DESCRIPTOR.message_types_by_name.values(),
            *sandboxes.message_types_by_name.values(),
            *(one.DESCRIPTOR for one in (any_pb2.Any, struct_pb2.Struct, wrappers_pb2.StringValue)),
        ]

    def run(self, count: int) -> None:
        for number in range(count):
            setting = self._setting()
            self._texts = texts(self._random, setting)
            message = self._messages.make(self._types[number % len(self._types)])
            asynchronous = number % _ONE_IN_ASYNC == 0
            copies = (message, type(message)())
            copies[1].CopyFrom(message)
            stores = (make_store(setting), make_store(setting))
            for direction in ("externalize", "deexternalize"):
                original, ours = (
                    self._outcome(side, direction, copy, store, asynchronous)
                    for side, copy, store in zip(self._sides, copies, stores, strict=True)
                )
                if original != ours:
                    name = message.DESCRIPTOR.full_name
                    raise AssertionError(f"message {number}, {name}, {direction}, {setting}:\n{original}\n{ours}")
                self.seen[f"{direction} {'async' if asynchronous else 'sync'}"] += 1
                self.seen[f"{direction} log lines"] += len(ours.log)
                if ours.error:
                    self.seen[f"{direction} {ours.error[0]}"] += 1
        self.seen["fields"] = len(self._messages.filled)
        self._loop.close()

    def _setting(self) -> Setting:
        random = self._random
        threshold = random.choice((-1, 0, 1, 7, 24, 100))
        maximum = threshold + random.choice((0, 40, *(1_000,) * 6))
        transfers = random.choice((0, 1, 3, *(1_000,) * 12))
        return Setting(
            random.choice(_PREFIXES),
            threshold,
            maximum,
            random.random() < 0.7,
            random.choice(get_args(Kind)),
            transfers,
        )

    def _outcome(
        self, side: Helpers, direction: str, message: Message, store: RecordingStore, asynchronous: bool
    ) -> Outcome:
        outcome = Outcome(message, store.calls)
        self._log.lines = outcome.log
        used = by_its_methods(store) if store.setting.kind == "methods" else store
        try:
            match direction, asynchronous:
                case "externalize", False:
                    side.externalize_payloads(message, used, instance_id="order-17")
                case "externalize", True:
                    self._loop.run_until_complete(
                        side.externalize_payloads_async(message, used, instance_id="order-17")
                    )
                case _, False:
                    side.deexternalize_payloads(message, used)
                case _, True:
                    self._loop.run_until_complete(side.deexternalize_payloads_async(message, used))
        except (StoreError, KeyError, ValueError) as error:
            # Of a ValueError for size the figures count, not the words.
            too_large = type(error) is ValueError
            facts = tuple(re.findall(r"\d+", str(error))) if too_large else error.args
            outcome.error = (type(error).__name__, *facts)
        return outcome


def make_store(setting: Setting) -> RecordingStore:
    return SayingStore(setting) if setting.kind == "says its prefix" else RecordingStore(setting)


def by_its_methods(store: RecordingStore) -> PayloadStore:
    methods = ("upload", "upload_async", "download", "download_async", "is_known_token")
    names = {name: getattr(store, name) for name in methods}
    # No subclass, which a type checker would not let pass; at run time it has always been enough.
    return cast("PayloadStore", SimpleNamespace(options=store.options, **names))


def texts(random: Random, setting: Setting) -> Sequence[str]:
    """Make texts to choose from: empty, tokens, nearly tokens, and sizes about the limits in characters and bytes."""
    prefix = setting.prefix
    found = ["", "a", *(f"{prefix}{random.randrange(1, _KEPT)}" for _ in range(3))]
    found += [prefix[:-1], f" {prefix}1", f"{prefix.upper()}{'x' * setting.threshold}"]
    if random.random() < 0.1:
        found += [prefix, f"{prefix}0", f"{prefix}gone{'o' * random.randrange(150)}"]
    limits = (setting.maximum if random.random() < 0.03 else setting.threshold for _ in range(8))
    found += [text_about(random, limit) for limit in limits]
    return found


def load(file: str) -> Helpers:
    """Load the helpers of a file, beside those that are imported by their name."""
    spec = importlib.util.spec_from_file_location("original_helpers", file)
    if spec is None or spec.loader is None:
        raise ImportError(file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # A module that is loaded from a file has no type.
    return cast("Helpers", module)


if __name__ == "__main__":
    differential = Differential(load(sys.argv[3]), int(sys.argv[2]))
    differential.run(int(sys.argv[1]))
    print(json.dumps(differential.seen))
