"""Puts payloads into the fields of a message, all of them or none."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from durabletask_payloads._errors import PayloadIntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from google.protobuf.wrappers_pb2 import StringValue

    from ._plan import PlannedDownload


def put(field: StringValue, data: bytes) -> None:
    """Set the text of `field` from its UTF-8 bytes: that is one copy and no decoding, unlike from a str.

    Raises:
        ValueError: `data` is not UTF-8, which protobuf checks. `field` is as it was.
    """
    field.value = cast("str", data)  # a string field takes bytes too, which its type does not say


def put_payloads(
    planned: Sequence[PlannedDownload],
    payloads: Mapping[str, bytes],
    on_unreadable: Callable[[PlannedDownload, Exception], None] | None,
) -> None:
    """Put `payloads`, by token, in the place of the tokens in `planned`. A token without a payload stays.

    Args:
        planned: the fields, in the order of the walk.
        payloads: what was downloaded.
        on_unreadable: gets the first field and the error for each payload that is not text, whose token then stays;
            what it raises, and without it the error, leaves all fields as they were.
    """
    unreadable = dict(_put_all(planned, payloads))
    if not unreadable:
        return
    for field, _, token in planned:  # nothing has changed while an error is raised, or decided on
        field.value = token
    for item, error in unreadable.values():
        if on_unreadable is None:
            raise error from None
        on_unreadable(item, error)
    for field, _, token in planned:
        if token in payloads and token not in unreadable:
            put(field, payloads[token])


def _put_all(
    planned: Sequence[PlannedDownload], payloads: Mapping[str, bytes]
) -> Iterator[tuple[str, tuple[PlannedDownload, PayloadIntegrityError]]]:
    """Put `payloads` in place; yield by token the first field of each that is not text."""
    seen: set[str] = set()
    for item in planned:
        payload = payloads.get(item.token)
        if payload is None or item.token in seen:
            continue
        try:
            put(item.field, payload)
        except ValueError:
            seen.add(item.token)
            yield item.token, (item, _not_text(item, payload))


def _not_text(item: PlannedDownload, payload: bytes) -> PayloadIntegrityError:
    """Return the error for a `payload` that is not UTF-8."""
    position = ""
    try:
        payload.decode()
    except UnicodeDecodeError as error:
        # Not as the cause: it holds the payload. Protobuf's own error does not tell the position in every version.
        position = f" (byte {error.start} of {len(error.object)})"
    return PayloadIntegrityError(f"{item.path}: what is stored under {item.token} is not UTF-8 text{position}")
