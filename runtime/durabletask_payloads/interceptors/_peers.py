"""Signs that the other side, a client or a worker, has no interceptor. Each is logged once for a process.

Only what is certain is told. A client with the interceptor learns it from a failed instance whose worker parsed the
token of its input. A worker with the interceptor learns it from a payload that no interceptor would have sent inline.
What a worker never sees: how a client without the interceptor reads its results. What a client never sees: payloads of
activities.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, cast

from ._protocol import FAILED, log

if TYPE_CHECKING:
    from collections.abc import Callable

    import durabletask.internal.orchestrator_service_pb2 as pb
    from google.protobuf.message import Message

# No SDK allows a larger threshold, so one that externalizes leaves no payload of more bytes in a message.
_LARGEST_THRESHOLD: Final = 1024 * 1024
# How Python refuses a token as JSON.
_PARSED_TOKEN: Final = "Expecting value: line 1 column 1 (char 0)"

_told: Final[set[Literal["client", "worker"]]] = set()


def look_for_client_without(work: pb.WorkItem) -> None:
    """Log where a work item carries an input or an event that its sender's interceptor would have taken out."""
    if "client" not in _told:
        with suppress(AttributeError):  # a fork's messages have the names, and not all of the fields
            _look_for_client_without(work)


def _look_for_client_without(work: pb.WorkItem) -> None:
    for event in work.orchestratorRequest.newEvents:
        if event.ByteSize() <= _LARGEST_THRESHOLD:
            continue
        for name, payload in (("input", event.executionStarted.input), ("event", event.eventRaised.input)):
            size = payload.ByteSize()
            if size > _LARGEST_THRESHOLD:
                _told.add("client")
                log.warning(
                    "payload not externalized by its sender: instance=%s payload=%s bytes=%d. The client that sent it "
                    "has no interceptor, so it also gets tokens in the place of results: pass "
                    "interceptors=[PayloadInterceptor(store)] to it. Logged once",
                    work.orchestratorRequest.instanceId,
                    name,
                    size,
                )
                return


def look_for_worker_without(response: Message, is_token: Callable[[str], bool]) -> None:
    """Log where an instance failed because its worker took the token of its input for JSON.

    Args:
        response: as it came, with its tokens.
        is_token: of the store.
    """
    if "worker" in _told or response.DESCRIPTOR.full_name != "GetInstanceResponse":
        return
    with suppress(AttributeError):  # as above
        _look_for_worker_without(cast("pb.GetInstanceResponse", response), is_token)  # by its name


def _look_for_worker_without(response: pb.GetInstanceResponse, is_token: Callable[[str], bool]) -> None:
    state = response.orchestrationState
    if state.orchestrationStatus != FAILED or not _is_of_parsed_token(state.failureDetails):
        return
    if is_token(state.input.value):
        _told.add("worker")
        log.warning(
            "token parsed as JSON by a worker: instance=%s reason=%s. The worker that ran it has no interceptor: pass "
            "interceptors=[PayloadInterceptor(store)] to it. Logged once",
            state.instanceId,
            _PARSED_TOKEN,
        )


def _is_of_parsed_token(failure: pb.TaskFailureDetails) -> bool:
    """Return whether it was the SDK that parsed: an application may fail with the same text for reasons of its own."""
    if failure.errorMessage != _PARSED_TOKEN:
        return False
    paths = [path.replace("\\", "/") for path in re.findall(r'File "([^"\n]+)"', failure.stackTrace.value)]
    callers = [path for path in paths if "/json/" not in path]
    return bool(callers) and "/durabletask/" in callers[-1]
