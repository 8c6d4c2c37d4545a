"""The plans that walkers fill: the contract between the generated code and the runtime.

A generated walker gets a message and a plan. It calls `upload` or `download` for each field that may have to move, and
does no I/O. So nothing has changed yet when the walk or a transfer fails.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from os.path import commonprefix
from typing import TYPE_CHECKING, NamedTuple

from durabletask_payloads._errors import PayloadTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue

# One search through the bytes of a message is several times faster than a walk where there are at least so many parts,
# up to this mean size and this total size, in bytes. Above that it is slower: it copies and reads everything.
_MANY = 8
_SMALL = 1_200
_SMALL_IN_ALL = 4_000_000
# Shorter marks stand in most texts, so that finding one would not save the walk.
_SHORTEST_MARK = 4


class PlannedUpload(NamedTuple):
    """A payload to upload: the field that holds it, the path of that field, and its UTF-8 bytes."""

    field: StringValue
    path: str
    data: bytes


class PlannedDownload(NamedTuple):
    """A token to download: the field that holds it, the path of that field, and the token."""

    field: StringValue
    path: str
    token: str


class ExternalizePlan:
    """Collects the payloads of one message that are larger than a threshold.

    Not thread-safe: a plan belongs to one walk.

    Args:
        threshold_bytes: payloads of up to this size stay in the message, in bytes.
        max_payload_bytes: the largest payload allowed, in bytes.
        is_token: tells whether a text is a token already.
        include_diagnostics: collect diagnostic fields (stack traces) too.

    Attributes:
        payload_gate: up to this number of characters the text of a payload field cannot be over the threshold, so
            that a walker need not call `upload`: a character takes at most four bytes of UTF-8.
        diagnostic_gate: the same for a diagnostic field: no text passes it without `include_diagnostics`.
        uploads: the payloads collected, in the order of the walk.
    """

    __slots__ = ("_is_token", "_maximum", "_threshold", "diagnostic_gate", "payload_gate", "uploads")

    def __init__(
        self,
        threshold_bytes: int,
        max_payload_bytes: int,
        is_token: Callable[[str], bool],
        *,
        include_diagnostics: bool = False,
    ) -> None:
        self.payload_gate: int = threshold_bytes // 4
        self.diagnostic_gate: int = self.payload_gate if include_diagnostics else sys.maxsize  # no text is longer
        self.uploads: list[PlannedUpload] = []
        self._threshold = threshold_bytes
        self._maximum = max_payload_bytes
        self._is_token = is_token

    def upload(self, field: StringValue, path: str, text: str | None = None) -> None:
        """Collect `field` if it is larger than the threshold and not a token.

        Args:
            field: the wrapper that holds the text.
            path: the path of the field, as `Message.field`.
            text: the text of the field, where the walker has read it: each read makes a new one.

        Raises:
            PayloadTooLargeError: the payload is over `max_payload_bytes`.
        """
        if text is None:
            text = field.value
        if len(text) <= self._threshold and text.isascii():  # as many bytes as characters: no need to encode it
            return
        data = text.encode()
        if len(data) <= self._threshold or self._is_token(text):
            return
        check_maximum(path, len(data), self._maximum)
        self.uploads.append(PlannedUpload(field, path, data))


class DeexternalizePlan:
    """Collects the tokens of one message.

    Not thread-safe: a plan belongs to one walk.

    Attributes:
        prefixes: a walker calls `download` for texts that begin with one of these.
        downloads: the tokens collected, in the order of the walk.
    """

    __slots__ = ("_is_token", "downloads", "prefixes")

    def __init__(self, prefixes: tuple[str, ...], is_token: Callable[[str], bool]) -> None:
        self.prefixes: tuple[str, ...] = prefixes
        self.downloads: list[PlannedDownload] = []
        self._is_token = is_token

    def rules_out(self, message: Message, *repeated: Sequence[Message]) -> bool:
        """Return True if certainly, without a walk, there is no token in `message`.

        Args:
            message: the message to walk next.
            repeated: its fields that can hold very many tokens.
        """
        for parts in repeated:
            count = len(parts)
            if count >= _MANY:
                mark = _mark(self.prefixes)
                if not mark or mean_bytes(parts) > min(_SMALL, _SMALL_IN_ALL // count):
                    return False
                return message.SerializeToString().rfind(mark) < 0  # from the end: 3 times faster in CPython, on JSON
        return False

    def download(self, field: StringValue, path: str, text: str | None = None) -> None:
        """Collect `field` if its whole text is a token.

        Args:
            field: the wrapper that holds the text.
            path: the path of the field, as `Message.field`.
            text: the text of the field, where the walker has read it.
        """
        if text is None:
            text = field.value
        if self._is_token(text):
            self.downloads.append(PlannedDownload(field, path, text))


def check_maximum(path: str, size: int, maximum: int) -> None:
    """Raise PayloadTooLargeError if a payload of `size` bytes is over `maximum`."""
    if size > maximum:
        raise PayloadTooLargeError(
            f"{path} has {size} bytes, which exceeds the maximum of max_stored_payload_bytes ({maximum}): "
            "raise the setting on the client and on every worker, or send less"
        )


def mean_bytes(parts: Sequence[Message]) -> int:
    """Estimate the mean size of `parts`, in bytes, from three of the middle: the first ones are often different."""
    step = len(parts) // 4
    return (parts[step].ByteSize() + parts[2 * step].ByteSize() + parts[3 * step].ByteSize()) // 3


@lru_cache(maxsize=64)
def _mark(prefixes: tuple[str, ...]) -> bytes:
    """Return a text that is in every token; empty if there is none worth a search."""
    mark = commonprefix(prefixes).encode()  # noqa: RUF071 - they are no paths
    return mark if len(mark) >= _SHORTEST_MARK else b""
