"""Histories of a sync channel: chunks in order, some of them deexternalized ahead of the reader."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING

from ._read_ahead import Entry, ReadAheadStream

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from ._calls import CallIterator
    from ._client import ClientPayloads


class HistoryStream(ReadAheadStream[Entry]):
    """StreamInstanceHistory."""

    def __init__(
        self, call: CallIterator[Message], payloads: ClientPayloads, timeout: float | None, instance_id: str | None
    ) -> None:
        super().__init__(call, payloads.externalizer.concurrency, timeout)
        self._payloads = payloads
        self._instance_id = instance_id
        self._chunks: deque[Entry] = deque()
        self._context = copy_context()  # for observers: the caller's trace

    def _look_at(self, message: Message) -> Entry:
        return Entry(message, not self._payloads.externalizer.has_tokens(message))

    def _put(self, entry: Entry) -> None:
        with self._changed:
            self._wait_for_room(lambda: len(self._chunks) < self._concurrency)
            self._chunks.append(entry)
            self._changed.notify_all()
        if not entry.is_ready:
            context = self._context.copy()
            try:
                self._threads().submit(context.run, self._deexternalize, entry)
            except RuntimeError:  # this process gets no more threads, or its main thread has ended
                context.run(self._deexternalize, entry)

    def _deexternalize(self, entry: Entry) -> None:
        with self._changed:
            if entry.is_taken:  # a pool that gets no thread for it has queued it all the same
                return
            entry.is_taken = True
        try:
            self._payloads.deexternalize(entry.message, self._instance_id, all_or_nothing=True)
        except BaseException as error:  # it is raised to the reader of the history, who would wait for ever
            entry.error = error
        with self._changed:
            entry.is_ready = True
            self._changed.notify_all()

    def _next_ready(self) -> Message | None:
        if not self._chunks or not self._chunks[0].is_ready:
            return None
        chunk = self._chunks.popleft()
        if chunk.error is not None:
            self._error = chunk.error
            self.cancel()
            raise chunk.error
        return chunk.message

    def _is_empty(self) -> bool:
        return not self._chunks

    def _wind_up(self, error: BaseException | None) -> None:
        if error is not None:  # passed on at once, whatever is still under way
            with self._changed:
                self._chunks.clear()
