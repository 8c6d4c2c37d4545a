"""Plan, validate, transfer, commit: the four steps by which a message is externalized or resolved.

The walk collects; every size is checked before the first transfer; transfers run side by side; and the message
changes only after all of them have succeeded. So on an error the message is what it was, and what had been
uploaded for it is deleted again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar, cast

from durabletask_payloads._errors import PayloadIntegrityError
from durabletask_payloads.stores._base import PayloadStore

from ._cache import PayloadCache
from ._planning import (
    MESSAGE_BUDGET_BYTES,
    plan_downloads,
    plan_uploads,
    prefixes_of,
    size_unless_small,
    smallest_bytes,
)
from ._slots import TransferSlots
from ._walkers import walkers_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from types import TracebackType

    from google.protobuf.message import Message
    from typing_extensions import Self

    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._plan import PlannedDownload, PlannedUpload

_log = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Transfer(NamedTuple):
    """One payload that was moved, as `on_transfer` is told.

    Attributes:
        direction: "upload", "download", or "cached": a download that the cache made unnecessary.
        path: the field, as `Message.field`; the first of them where several hold the same payload.
        token: what stands for the payload.
        raw_bytes: its size before compression.
        seconds: how long the transfer took.
    """

    direction: Literal["upload", "download", "cached"]
    path: str
    token: str
    raw_bytes: int
    seconds: float


class PayloadStats(NamedTuple):
    """What an `Externalizer` has done since it was made: counts, and bytes before compression."""

    uploads: int
    uploaded_bytes: int
    downloads: int
    downloaded_bytes: int
    deletions: int
    failures: int
    cache_hits: int
    cache_misses: int
    cache_evictions: int
    cached_payloads: int
    cached_bytes: int


class ExternalizedPayload(NamedTuple):
    """A payload that left a message: which field, under which token, its size in bytes before compression."""

    path: str
    token: str
    raw_bytes: int


class Receipt:
    """What one `externalize` did, to be taken back when the message was not sent. False when it did nothing.

    Belongs to one message; not thread-safe.

    Attributes:
        payloads: what was externalized.
    """

    __slots__ = ("_delete", "_delete_async", "_fields", "payloads")
    payloads: tuple[ExternalizedPayload, ...]

    def __init__(
        self,
        payloads: tuple[ExternalizedPayload, ...],
        fields: list[PlannedUpload],
        delete: Callable[[Iterable[str]], None],
        delete_async: Callable[[Iterable[str]], Awaitable[None]],
    ) -> None:
        self.payloads = payloads
        self._fields = fields
        self._delete = delete
        self._delete_async = delete_async

    def __bool__(self) -> bool:
        return bool(self.payloads)

    def restore(self) -> None:
        """Put the original values back into the message. What was uploaded stays in the store."""
        while self._fields:
            field, _, data = self._fields.pop()
            # A string field takes UTF-8 bytes too, which its type does not tell: with protobuf's upb that is one copy
            # less than of their text.
            field.value = cast("str", data)

    def rollback(self) -> None:
        """`restore`, then delete what was uploaded. What can not be deleted is logged, not raised."""
        self.restore()
        self._delete(self._take_tokens())

    async def rollback_async(self) -> None:
        """`rollback` without blocking the event loop."""
        self.restore()
        await self._delete_async(self._take_tokens())

    def _take_tokens(self) -> list[str]:
        tokens = [payload.token for payload in self.payloads]
        self.payloads = ()
        return tokens


class Externalizer:
    """Moves the large payloads of messages into a store and back. One per process is enough: share it.

    May be used from any number of threads and event loops. Closing it ends its threads; the store is the
    caller's, and stays open.

    Args:
        store: a store of this package, or one written for the `durabletask` SDK. Its options stay as they are.
        concurrency: how many transfers run at the same time, over all messages, threads and event loops.
        cache_bytes: how much is kept of what was moved, so that a replay downloads nothing. 0 turns that off.
        message_budget_bytes: when a message is still larger than this after all payloads over the threshold have
            been taken out, the largest of the remaining ones go too, until it fits. None turns that off.
        strict: raise SchemaMismatchError, where otherwise a warning is logged, for a message whose schema has
            StringValue fields that the walkers do not know.
        on_transfer: is called after each transfer, from the thread or task that did it; it must not raise.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        store: PayloadStoreLike,
        *,
        concurrency: int = 8,
        cache_bytes: int = 64 * 1024 * 1024,
        message_budget_bytes: int | None = MESSAGE_BUDGET_BYTES,
        strict: bool = False,
        on_transfer: Callable[[Transfer], None] | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency is {concurrency}: at least one transfer has to be allowed")
        if cache_bytes < 0:
            raise ValueError(f"cache_bytes is {cache_bytes}: it must be 0 (no cache) or more")
        if message_budget_bytes is not None and message_budget_bytes < store.options.threshold_bytes:
            raise ValueError(
                f"message_budget_bytes is {message_budget_bytes}: it must be None, or at least the threshold_bytes "
                f"of the store, which is {store.options.threshold_bytes}"
            )
        self._store = store
        self.concurrency = concurrency
        self.message_budget_bytes = message_budget_bytes
        self._strict = strict
        self._on_transfer = on_transfer
        self._slots = TransferSlots(concurrency)
        self._cache = PayloadCache(cache_bytes)
        self._prefixes = prefixes_of(store)
        self._is_token = store.is_known_token
        self._nothing_done = Receipt((), [], self._discard, self._discard_async)
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False
        self._uploads = self._uploaded_bytes = self._downloads = self._downloaded_bytes = 0
        self._deletions = self._failures = 0

    @property
    def store(self) -> PayloadStoreLike:
        """Where payloads are. It stays the same: the cache is of this store's payloads."""
        return self._store

    @property
    def untouched_bytes(self) -> int:
        """A message of up to this size is left as it is by `externalize`, in bytes; -1 if its schema is looked at."""
        return -1 if self._strict else self._store.options.threshold_bytes

    # ---- the public steps -----------------------------------------------------------------------------------

    def externalize(self, message: Message, *, instance_id: str | None = None) -> Receipt:
        """Store the large payloads of `message` and put their tokens in their place.

        Args:
            message: a message of the Durable Task protos, of any descriptor pool; changed in place.
            instance_id: the orchestration or entity it belongs to, kept beside the payloads.

        Returns:
            What was done, to be taken back if the message is not sent.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
            PayloadTooLargeError: a payload is over `max_stored_payload_bytes`; nothing was uploaded.
            PayloadError: the store failed. The message is as it was, what had been uploaded is deleted again.
        """
        planned = self._plan_uploads(message)
        if not planned:
            return self._nothing_done
        batches = _equal_payloads(planned)

        def upload(batch: list[PlannedUpload]) -> str:
            started = time.perf_counter()
            with self._slots:
                token = self._store.upload(batch[0].data, instance_id=instance_id)
            self._uploaded(batch[0], token, time.perf_counter() - started)
            return token

        return self._commit(planned, batches, self._each(upload, batches, undo=self._discard))

    async def externalize_async(self, message: Message, *, instance_id: str | None = None) -> Receipt:
        """`externalize` without blocking the event loop. A cancelled call leaves the message as it was, too."""
        planned = self._plan_uploads(message)
        if not planned:
            return self._nothing_done
        batches = _equal_payloads(planned)

        async def upload(batch: list[PlannedUpload]) -> str:
            started = time.perf_counter()
            async with self._slots:
                token = await self._store.upload_async(batch[0].data, instance_id=instance_id)
            self._uploaded(batch[0], token, time.perf_counter() - started)
            return token

        return self._commit(planned, batches, await self._each_async(upload, batches, undo=self._discard_async))

    def deexternalize(self, message: Message) -> None:
        """Put the payloads in the place of all tokens in `message`, or leave it as it is.

        Args:
            message: a message of the Durable Task protos, of any descriptor pool; changed in place.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
            PayloadError: a token can not be resolved. The message is as it was.
        """
        planned = self._plan_downloads(message)
        if not planned:
            return
        payloads, missing = self._from_cache(planned)

        def download(item: PlannedDownload) -> bytes:
            return self._cache.get(item.token, lambda token: self._download(item.path, token))

        payloads.update(zip((item.token for item in missing), self._each(download, missing), strict=True))
        _resolve(planned, payloads)

    async def deexternalize_async(self, message: Message) -> None:
        """`deexternalize` without blocking the event loop. A cancelled call leaves the message as it was, too."""
        planned = self._plan_downloads(message)
        if not planned:
            return
        payloads, missing = self._from_cache(planned)

        async def download(item: PlannedDownload) -> bytes:
            return await self._cache.get_async(item.token, lambda token: self._download_async(item.path, token))

        payloads.update(zip((item.token for item in missing), await self._each_async(download, missing), strict=True))
        _resolve(planned, payloads)

    def has_tokens(self, message: Message) -> bool:
        """Whether `deexternalize` would change `message`. Does no I/O.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
        """
        return bool(self._plan_downloads(message))

    def smallest_bytes(self, message: Message) -> int:
        """The size that `message` would have with all that can be stored taken out of it, in bytes.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
        """
        return smallest_bytes(message, self._store)

    @property
    def stats(self) -> PayloadStats:
        """What was done so far."""
        cache = self._cache.counts
        with self._lock:
            return PayloadStats(
                self._uploads,
                self._uploaded_bytes,
                self._downloads,
                self._downloaded_bytes,
                self._deletions,
                self._failures,
                cache.hits,
                cache.misses,
                cache.evictions,
                cache.payloads,
                cache.bytes,
            )

    def close(self) -> None:
        """End the threads, after what they are doing now. The store stays open. A second call does nothing."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # ---- plan and validate ----------------------------------------------------------------------------------

    def _plan_uploads(self, message: Message) -> list[PlannedUpload]:
        if self._strict:
            walkers_of(message, strict=True)
        budget = self.message_budget_bytes
        size = size_unless_small(message, self._store.options.threshold_bytes, budget)
        return plan_uploads(message, self._store, size, budget) if size else []

    def _plan_downloads(self, message: Message) -> list[PlannedDownload]:
        if self._strict:
            walkers_of(message, strict=True)
        return plan_downloads(message, self._prefixes, self._is_token)

    # ---- transfer -------------------------------------------------------------------------------------------

    def _each(
        self,
        transfer: Callable[[_Item], _Result],
        items: Sequence[_Item],
        *,
        undo: Callable[[Iterable[_Result]], None] | None = None,
    ) -> list[_Result]:
        """Do `transfer` for all `items` side by side. When one fails, `undo` what the others did, and raise."""
        if len(items) <= 1:  # no thread for a single one
            return [self._counted(transfer, item) for item in items]
        pool = self._threads()
        futures: list[Future[_Result]] = []
        try:
            futures.extend(pool.submit(self._counted, transfer, item) for item in items)
            for future in wait(futures, return_when="FIRST_EXCEPTION").done:
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            for future in futures:
                future.cancel()
            wait(futures)
            if undo is not None:
                undo(f.result() for f in futures if not f.cancelled() and f.exception() is None)
            raise

    async def _each_async(
        self,
        transfer: Callable[[_Item], Awaitable[_Result]],
        items: Sequence[_Item],
        *,
        undo: Callable[[Iterable[_Result]], Awaitable[None]] | None = None,
    ) -> list[_Result]:
        if len(items) <= 1:
            return [await self._counted_async(transfer, item) for item in items]
        tasks = [asyncio.ensure_future(self._counted_async(transfer, item)) for item in items]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            if undo is not None:
                done = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
                await asyncio.shield(asyncio.ensure_future(undo(done)))
            raise

    def _counted(self, transfer: Callable[[_Item], _Result], item: _Item) -> _Result:
        try:
            return transfer(item)
        except Exception:
            self._count_failure()
            raise

    async def _counted_async(self, transfer: Callable[[_Item], Awaitable[_Result]], item: _Item) -> _Result:
        try:
            return await transfer(item)
        except Exception:
            self._count_failure()
            raise

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise RuntimeError("this Externalizer is closed: it can not transfer several payloads any more")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="durabletask-payloads")
            return self._pool

    def _from_cache(self, planned: Sequence[PlannedDownload]) -> tuple[dict[str, bytes], list[PlannedDownload]]:
        """What the cache has of `planned`, and one of each token that it does not have."""
        payloads: dict[str, bytes] = {}
        missing: dict[str, PlannedDownload] = {}
        for item in planned:
            if item.token in payloads or item.token in missing:
                continue
            payload = self._cache.find(item.token)
            if payload is None:
                missing[item.token] = item
                continue
            payloads[item.token] = payload
            self._tell(Transfer("cached", item.path, item.token, len(payload), 0.0))
        return payloads, list(missing.values())

    def _download(self, path: str, token: str) -> bytes:
        started = time.perf_counter()
        with self._slots:
            payload = self._store.download(token)
        self._downloaded(path, token, payload, time.perf_counter() - started)
        return payload

    async def _download_async(self, path: str, token: str) -> bytes:
        started = time.perf_counter()
        async with self._slots:
            payload = await self._store.download_async(token)
        self._downloaded(path, token, payload, time.perf_counter() - started)
        return payload

    # ---- commit, or take back -------------------------------------------------------------------------------

    def _commit(
        self, planned: list[PlannedUpload], batches: Iterable[list[PlannedUpload]], tokens: Iterable[str]
    ) -> Receipt:
        done: list[ExternalizedPayload] = []
        for batch, token in zip(batches, tokens, strict=True):
            for field, path, data in batch:
                field.value = token
                done.append(ExternalizedPayload(path, token, len(data)))
        return Receipt(tuple(done), planned, self._discard, self._discard_async)

    def _discard(self, tokens: Iterable[str]) -> None:
        for token in dict.fromkeys(tokens):
            self._cache.discard(token)
            if isinstance(self._store, PayloadStore):
                try:
                    with self._slots:
                        self._store.delete(token)
                except Exception as error:
                    _log_orphan(token, error)
                else:
                    self._count_deletion()

    async def _discard_async(self, tokens: Iterable[str]) -> None:
        for token in dict.fromkeys(tokens):
            self._cache.discard(token)
            if isinstance(self._store, PayloadStore):
                try:
                    async with self._slots:
                        await self._store.delete_async(token)
                except Exception as error:
                    _log_orphan(token, error)
                else:
                    self._count_deletion()

    # ---- counting -------------------------------------------------------------------------------------------

    def _uploaded(self, upload: PlannedUpload, token: str, seconds: float) -> None:
        self._cache.put(token, upload.data)
        with self._lock:
            self._uploads += 1
            self._uploaded_bytes += len(upload.data)
        self._tell(Transfer("upload", upload.path, token, len(upload.data), seconds))

    def _downloaded(self, path: str, token: str, payload: bytes, seconds: float) -> None:
        with self._lock:
            self._downloads += 1
            self._downloaded_bytes += len(payload)
        self._tell(Transfer("download", path, token, len(payload), seconds))

    def _count_failure(self) -> None:
        with self._lock:
            self._failures += 1

    def _count_deletion(self) -> None:
        with self._lock:
            self._deletions += 1

    def _tell(self, transfer: Transfer) -> None:
        if self._on_transfer is not None:
            self._on_transfer(transfer)


def _equal_payloads(planned: Iterable[PlannedUpload]) -> list[list[PlannedUpload]]:
    """`planned` by payload: equal ones are stored once."""
    batches: dict[bytes, list[PlannedUpload]] = {}
    for upload in planned:
        batches.setdefault(upload.data, []).append(upload)
    return list(batches.values())


def _resolve(planned: Sequence[PlannedDownload], payloads: dict[str, bytes]) -> None:
    texts: dict[str, str] = {}
    for _, path, token in planned:
        if token not in texts:
            try:
                texts[token] = payloads.pop(token).decode()
            except UnicodeDecodeError as error:
                # Without its cause, which holds the payload.
                position = f"byte {error.start} of {len(error.object)}"
                raise PayloadIntegrityError(
                    f"{path}: what is stored under {token} is not UTF-8 text ({position})"
                ) from None
    for field, _, token in planned:
        field.value = texts[token]


def _log_orphan(token: str, error: Exception) -> None:
    _log.warning("%s could not be deleted after its message was not sent, and is left in the store: %s", token, error)
