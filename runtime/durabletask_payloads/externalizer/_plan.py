"""What a walker writes down: the payloads to move, before any is moved.

A generated walker gets a message and a plan. It calls `upload` or `download` for each field that may have to
move and does no I/O itself, so one walk serves the synchronous and the asynchronous transfer, and nothing has
changed yet when the walk or a transfer fails.
"""

from __future__ import annotations

from functools import lru_cache
from os.path import commonprefix
from typing import TYPE_CHECKING, NamedTuple

from durabletask_payloads._errors import PayloadTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message
    from google.protobuf.wrappers_pb2 import StringValue

# Longer than any Python string: a gate that nothing passes.
_NOTHING = 1 << 62

# One search through the bytes of a message is several times faster than a walk where there are at least so many parts,
# of up to this mean size and of up to this in all, in bytes. Above that it is slower: it copies and reads everything.
_MANY = 8
_SMALL = 1_200
_SMALL_IN_ALL = 4_000_000
# What is shorter stands in most texts, and finding it would not save the walk.
_SHORTEST_MARK = 4


class PlannedUpload(NamedTuple):
    """A payload to be stored: the field that holds it, where that is, and its UTF-8 bytes."""

    field: StringValue
    path: str
    data: bytes


class PlannedDownload(NamedTuple):
    """A token to be resolved: the field that holds it, where that is, and the token."""

    field: StringValue
    path: str
    token: str


class ExternalizePlan:
    """Collects the payloads of one message that are larger than a threshold.

    Not thread-safe: a plan belongs to one walk.

    Attributes:
        payload_gate: the number of characters up to which the text of a payload field can not be large, so
            that a walker need not call `upload`: a character takes four bytes of UTF-8 at the most.
        diagnostic_gate: the same for a diagnostic field (a stack trace): these stay inline unless the
            message as a whole is too large.
        uploads: what was collected, in the order of the walk.
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
        self.payload_gate = threshold_bytes // 4
        self.diagnostic_gate = self.payload_gate if include_diagnostics else _NOTHING
        self.uploads: list[PlannedUpload] = []
        self._threshold = threshold_bytes
        self._maximum = max_payload_bytes
        self._is_token = is_token

    def upload(self, field: StringValue, path: str) -> None:
        """Note `field` for upload if it is larger than the threshold and not yet a token.

        Args:
            field: the wrapper that holds the text.
            path: where it is, as `Message.field`.

        Raises:
            PayloadTooLargeError: it is over `max_stored_payload_bytes`.
        """
        text = field.value
        if len(text) <= self._threshold and text.isascii():  # then it has as many bytes, which need not be made
            return
        data = text.encode()
        if len(data) <= self._threshold or self._is_token(text):
            return
        if len(data) > self._maximum:
            raise PayloadTooLargeError(
                f"{path} has {len(data)} bytes, more than max_stored_payload_bytes allows ({self._maximum}): "
                "raise the setting on the client and on every worker, or send less"
            )
        self.uploads.append(PlannedUpload(field, path, data))


class DeexternalizePlan:
    """Collects the tokens of one message.

    Not thread-safe: a plan belongs to one walk.

    Attributes:
        prefixes: how the text of a field must begin for a walker to call `download`.
        downloads: what was collected, in the order of the walk.
    """

    __slots__ = ("_is_token", "downloads", "prefixes")

    def __init__(self, prefixes: tuple[str, ...], is_token: Callable[[str], bool]) -> None:
        self.prefixes = prefixes
        self.downloads: list[PlannedDownload] = []
        self._is_token = is_token

    def rules_out(self, message: Message, *repeated: Sequence[Message]) -> bool:
        """Whether it is sure, without a walk, that there is no token in `message`.

        Args:
            message: the message to be walked next.
            repeated: those of its fields that can hold very many tokens.
        """
        for parts in repeated:
            count = len(parts)
            if count >= _MANY:
                mark = _mark(self.prefixes)
                if not mark or mean_bytes(parts) > min(_SMALL, _SMALL_IN_ALL // count):
                    return False
                return message.SerializeToString().rfind(mark) < 0  # from the end: 3 times faster in CPython, on JSON
        return False

    def download(self, field: StringValue, path: str) -> None:
        """Note `field` for download if its whole text is a token.

        Args:
            field: the wrapper that holds the text.
            path: where it is, as `Message.field`.
        """
        token = field.value
        if self._is_token(token):
            self.downloads.append(PlannedDownload(field, path, token))


def mean_bytes(parts: Sequence[Message]) -> int:
    """About the mean size of `parts`, in bytes: of three in their midst, since first ones often are of another kind."""
    step = len(parts) // 4
    return (parts[step].ByteSize() + parts[2 * step].ByteSize() + parts[3 * step].ByteSize()) // 3


@lru_cache(maxsize=64)
def _mark(prefixes: tuple[str, ...]) -> bytes:
    """The text that is in every token, None worth a search if it is empty."""
    mark = commonprefix(prefixes).encode()  # noqa: RUF071 - they are no paths
    return mark if len(mark) >= _SHORTEST_MARK else b""
