"""Truncated failures: how an error is written into failure details, and how details that are too large are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from durabletask_payloads._errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import durabletask.internal.orchestrator_service_pb2 as pb
    import grpc

# The limit of a text that cannot be externalized, in bytes.
LONGEST_TEXT = 32 * 1024


def describe(failure: pb.TaskFailureDetails, error: BaseException) -> None:
    """Write `error` into `failure`."""
    module = "durabletask_payloads" if isinstance(error, PayloadError) else type(error).__module__
    failure.errorType = f"{module}.{type(error).__qualname__}"
    failure.errorMessage = cut(str(error)) or failure.errorType
    failure.isNonRetriable = True


def with_inner(failures: Iterable[pb.TaskFailureDetails]) -> Iterator[pb.TaskFailureDetails]:
    """Yield `failures` and all of their inner failures."""
    for outer in failures:
        failure = outer
        yield failure
        while failure.HasField("innerFailure"):
            failure = failure.innerFailure
            yield failure


def cut_texts(failures: Iterable[pb.TaskFailureDetails], longest_trace: int) -> bool:
    """Cut error messages to 32 KiB and stack traces to `longest_trace` bytes, in place.

    The whole text of a message that is cut moves into its stack trace, which can be externalized.

    Returns:
        Whether anything was cut.
    """
    changed = False
    for failure in failures:
        text, trace = failure.errorMessage, failure.stackTrace.value
        size = len(text.encode())
        if size > LONGEST_TEXT and text not in trace:
            trace = f"{text}\n{trace}"
        is_whole = len(trace.encode()) <= longest_trace
        if size > LONGEST_TEXT:
            failure.errorMessage = cut(text, f" [cut: {size} bytes{', whole in stackTrace' * is_whole}]")
            failure.stackTrace.value = trace if is_whole else cut(trace)
            changed = True
        elif not is_whole:
            failure.stackTrace.value = cut(trace)
            changed = True
    return changed


def drop_properties(failures: Sequence[pb.TaskFailureDetails], excess: int) -> int:
    """Drop properties, largest first, in place, until `excess` bytes are saved or none is left.

    Returns:
        How many bytes were saved.
    """
    properties = [(len(key) + value.ByteSize(), key, f) for f in failures for key, value in f.properties.items()]
    properties.sort(key=lambda entry: entry[0])
    saved = 0
    while saved < excess and properties:
        size, key, failure = properties.pop()
        del failure.properties[key]
        note = f" [property {key[:100]} dropped: {size} bytes]"
        failure.errorMessage += note
        saved += max(size - len(note.encode()), 0)
    return saved


def cut(text: str, end: str = "") -> str:
    """Return the first 32 KiB of `text` in UTF-8, including `end`."""
    data = text.encode()
    if len(data) <= LONGEST_TEXT:
        return text
    return data[: LONGEST_TEXT - len(end.encode())].decode(errors="ignore") + end


class NotAcceptedError(Exception):
    """A substitute completion was not accepted: the reason for an abandonment, never raised."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__(f"its substitute completion was not accepted: {code.name}")
