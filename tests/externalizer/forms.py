"""The synchronous and the asynchronous form of an Externalizer behind one interface: one test runs with both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from durabletask_payloads import Externalizer, PlannedDownload, Receipt


class Form:
    """How a test calls an Externalizer."""

    def __init__(self, *, is_async: bool) -> None:
        self.is_async = is_async

    def __repr__(self) -> str:
        return "async" if self.is_async else "sync"

    def externalize(self, externalizer: Externalizer, message: Message, *, instance_id: str | None = None) -> Receipt:
        if self.is_async:
            return asyncio.run(externalizer.externalize_async(message, instance_id=instance_id))
        return externalizer.externalize(message, instance_id=instance_id)

    def deexternalize(
        self,
        externalizer: Externalizer,
        message: Message,
        *,
        on_unreadable: Callable[[PlannedDownload, Exception], None] | None = None,
    ) -> None:
        if self.is_async:
            asyncio.run(externalizer.deexternalize_async(message, on_unreadable=on_unreadable))
        else:
            externalizer.deexternalize(message, on_unreadable=on_unreadable)

    def rollback(self, receipt: Receipt) -> None:
        if self.is_async:
            asyncio.run(receipt.rollback_async())
        else:
            receipt.rollback()


both_forms = pytest.mark.parametrize("form", [Form(is_async=False), Form(is_async=True)], ids=repr)
