"""Answers of a scripted server to streaming RPCs, and how a test reads them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from tests.support.call_forms import Stream


class Sender:
    """Answers a streaming RPC with messages, and then waits until the client is gone or `ended` is set."""

    def __init__(
        self, *messages: Message, code: grpc.StatusCode | None = None, details: str = "the server is going"
    ) -> None:
        self.messages = messages
        self.code = code
        self.details = details
        self.ended = threading.Event()
        self.was_cancelled = threading.Event()

    def __call__(self, request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        context.add_callback(self.was_cancelled.set)
        yield from self.messages
        while context.is_active() and not self.ended.wait(0.01):
            pass
        if self.code is not None and context.is_active():
            context.abort(self.code, self.details)


def read_all(stream: Stream) -> list[Message]:
    messages: list[Message] = []
    while True:
        try:
            messages.append(stream.next())
        except StopIteration:
            return messages


def ends_with_an_error(stream: Stream) -> None:
    with pytest.raises((grpc.RpcError, InterruptedError)):
        stream.next()
