"""Moves the payloads of messages in four steps: plan, validate, transfer, commit.

A walk collects; all sizes are checked before the first transfer; transfers run side by side; the message changes only
after all of them succeeded. So after an error the message is as it was, and its uploads are deleted again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

from durabletask_payloads._errors import PayloadError
from durabletask_payloads._lifecycle import Closing
from durabletask_payloads._options import BOOL, LargePayloadStorageOptions, check_type
from durabletask_payloads.observers._safe import SafeObserver
from durabletask_payloads.stores._base import PayloadStore

from ._cache import PayloadCache
from ._downloads import Downloads, name_of
from ._placing import put_payloads
from ._planning import MESSAGE_BUDGET_BYTES, NOTHING_TO_UPLOAD, plan_downloads, plan_uploads, prefixes_of
from ._receipt import Counters, ExternalizedPayload, PayloadStats, Receipt
from ._sizing import Sizing
from ._transfers import Transfers
from ._walkers import check_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from google.protobuf.message import Message

    from durabletask_payloads.observers._base import PayloadObserver
    from durabletask_payloads.stores._base import PayloadStoreLike

    from ._plan import PlannedDownload, PlannedUpload
    from ._planning import UploadPlan

    OnUnreadable = Callable[[PlannedDownload, Exception], None]

_log = logging.getLogger("durabletask_payloads.externalizer")


class Externalizer(Closing):
    """Moves large payloads of messages into a store and back. One per process is enough: share it.

    Safe for any number of threads and event loops. All transfers run in blocking code: in the caller's thread, or in
    threads that are made on first need and end with `close`. The store stays the caller's, and open.

    Args:
        store: a store of this package, or one written for the `durabletask` SDK. Its options stay as they are.
        concurrency: how many transfers run at the same time, over all messages, threads and event loops.
        cache_bytes: how much is kept of what was moved, in bytes, so that a replay downloads nothing. Each payload
            counts 400 bytes more than its size. 0 keeps nothing.
        message_budget_bytes: the largest that a message may be, in bytes: when it is larger after all payloads over
            the threshold were taken out, the largest of the rest go too, until it fits. None for no limit.
        strict: raise SchemaMismatchError, instead of logging a warning, for a message whose schema has StringValue
            fields that the walkers do not know.
        observer: told of each transfer and failure, and by interceptors of each abandonment and substitute.

    Raises:
        ValueError: a setting is out of its range.
        TypeError: `store` is no store, or a setting is of another type.
    """

    def __init__(
        self,
        store: PayloadStoreLike,
        *,
        concurrency: int = 8,
        cache_bytes: int = 64 * 1024 * 1024,
        message_budget_bytes: int | None = MESSAGE_BUDGET_BYTES,
        strict: bool = False,
        observer: PayloadObserver | None = None,
    ) -> None:
        _check_store(store)
        check_type("concurrency", concurrency, int, "a number of transfers, as an int")
        check_type("cache_bytes", cache_bytes, int, "a number of bytes, as an int")
        check_type("message_budget_bytes", message_budget_bytes, int | None, "a number of bytes, as an int, or None")
        check_type("strict", strict, bool, BOOL)
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
        self.strict = strict
        self._sizing = Sizing()
        self._prefixes = prefixes_of(store)
        self._is_token = store.is_known_token
        self._cache = PayloadCache(cache_bytes)
        self._transfers = Transfers(concurrency)
        self.observer = observer
        self._counters = Counters(None if observer is None else SafeObserver(observer))
        self._downloads = Downloads(store, self._cache, self._transfers, self._counters)
        self._nothing_done = Receipt((), [], self._discard)

    @property
    def store(self) -> PayloadStoreLike:
        """Where payloads are. It stays the same: the cache is of this store's payloads."""
        return self._store

    @property
    def stats(self) -> PayloadStats:
        """What was done so far."""
        return self._counters.stats(self._cache.counts)

    # ---- plan -------------------------------------------------------------------------------------------------

    def plan(self, message: Message, *, budget_bytes: int | None = None) -> UploadPlan:
        """Decide which payloads `externalize` would upload, without I/O. The plan is good until `message` changes.

        Args:
            message: a message of the Durable Task protos, of any descriptor pool.
            budget_bytes: a budget for this message in place of `message_budget_bytes`, which None stands for.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
            SchemaMismatchError: with `strict`, its schema has fields that the walkers do not know.
        """
        if self.strict:
            check_schema(message)
        budget = self.message_budget_bytes if budget_bytes is None else budget_bytes
        judged = self._sizing.judge(message, self._store.options.threshold_bytes, budget)
        if judged.is_small:
            return NOTHING_TO_UPLOAD
        return plan_uploads(message, self._store, judged.size, budget, self._sizing)

    def has_tokens(self, message: Message) -> bool:
        """Return whether `deexternalize` would change `message`. Does no I/O.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
        """
        return bool(self._plan_downloads(message))

    def _plan_downloads(self, message: Message) -> list[PlannedDownload]:
        if self.strict:
            check_schema(message)
        return plan_downloads(message, self._prefixes, self._is_token)

    # ---- externalize ------------------------------------------------------------------------------------------

    def externalize(self, message: Message, *, instance_id: str | None = None) -> Receipt:
        """Store the large payloads of `message` and put their tokens in their place.

        Args:
            message: a message of the Durable Task protos, of any descriptor pool; changed in place.
            instance_id: the orchestration or entity that it belongs to, stored beside the payloads.

        Returns:
            What was done, to be taken back if the message is not sent.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
            PayloadTooLargeError: a payload is over `max_stored_payload_bytes`; nothing was uploaded.
            PayloadError: the store failed. The message is as it was; its uploads are deleted again.
        """
        plan = self.plan(message)
        return self._nothing_done if plan is NOTHING_TO_UPLOAD else self.carry_out(plan, instance_id=instance_id)

    def carry_out(
        self, plan: UploadPlan, *, instance_id: str | None = None, receivers: Mapping[int, str] | None = None
    ) -> Receipt:
        """Upload what `plan` says, and put the tokens into its message. Raises as `externalize` does.

        Args:
            plan: of `plan`.
            instance_id: whose the payloads are.
            receivers: whose those are that go to another instance, by `id` of the field in the message.
        """
        batches = _batches_of(plan)
        if not batches:
            return self._nothing_done
        return self._commit(plan, batches, self._upload_all(batches, instance_id, receivers or {}))

    async def externalize_async(self, message: Message, *, instance_id: str | None = None) -> Receipt:
        """Do the same as `externalize` without blocking the event loop.

        After a cancelled call, too, the message is as it was, and uploads under way are deleted in the background.
        """
        return await self.carry_out_async(self.plan(message), instance_id=instance_id)

    async def carry_out_async(self, plan: UploadPlan, *, instance_id: str | None = None) -> Receipt:
        """Do the same as `carry_out` without blocking the event loop."""
        batches = _batches_of(plan)
        if not batches:
            return self._nothing_done
        tokens = await self._transfers.in_thread(lambda: self._upload_all(batches, instance_id, {}), undo=self._discard)
        return self._commit(plan, batches, tokens)

    def _upload_all(
        self, batches: Sequence[list[PlannedUpload]], instance_id: str | None, receivers: Mapping[int, str]
    ) -> list[str]:
        def upload(batch: list[PlannedUpload]) -> str:
            _, path, data = batch[0]
            owners = {receivers.get(id(each), instance_id) for each, _, _ in batch} if receivers else {instance_id}
            owner = owners.pop() if len(owners) == 1 else None  # one payload for several: nobody's own
            started = time.perf_counter()
            with self._transfers.slots:
                token = self._checked_token(self._store.upload(data, instance_id=owner), path)
            self._cache.put(token, data)
            self._counters.moved("upload", path, token, len(data), time.perf_counter() - started)
            return token

        def counted(batch: list[PlannedUpload]) -> str:
            return self._counters.counted("upload", batch[0].path, upload, batch)

        tokens = self._transfers.each(counted, batches, undo=self._discard)
        times = Counter(tokens)
        if len(times) < len(tokens):
            for token in times:
                self._cache.discard(token)
            # One that was returned twice may also be that of an earlier message.
            self._discard(token for token, count in times.items() if count == 1)
            raise PayloadError(f"{name_of(self._store)}.upload returned one token for several payloads")
        return tokens

    def _checked_token(self, token: object, path: str) -> str:
        """Return `token` if it is one: a store may be somebody else's."""
        if isinstance(token, str) and self._store.is_known_token(token):
            return token
        what = "text that its is_known_token rejects" if isinstance(token, str) else f"{type(token).__name__}, not text"
        raise PayloadError(f"{path}: {name_of(self._store)}.upload returned {what}: it cannot stand for the payload")

    def _commit(self, plan: UploadPlan, batches: Iterable[list[PlannedUpload]], tokens: Iterable[str]) -> Receipt:
        done: list[ExternalizedPayload] = []
        for batch, token in zip(batches, tokens, strict=True):
            for field, path, data in batch:
                field.value = token
                done.append(ExternalizedPayload(path, token, len(data)))
        return Receipt(tuple(done), list(plan.uploads), self._discard)

    def _discard(self, tokens: Iterable[str]) -> None:
        """Delete what was uploaded for a message that was not sent."""
        for token in dict.fromkeys(tokens):
            self._cache.discard(token)
            if isinstance(self._store, PayloadStore):
                try:
                    with self._transfers.slots:
                        self._store.delete(token)
                except Exception as error:
                    _log.warning("payload of an unsent message not deleted token=%s error=%s", token, error)
                else:
                    self._counters.count("deletion")

    # ---- deexternalize ----------------------------------------------------------------------------------------

    def deexternalize(self, message: Message, *, on_unreadable: OnUnreadable | None = None) -> None:
        """Put the payloads in the place of all tokens in `message`, or leave it as it is.

        Args:
            message: a message of the Durable Task protos, of any descriptor pool; changed in place.
            on_unreadable: called once for each token whose payload cannot be read, with the first field that holds it
                and the error, in the thread that met it. What it raises ends the call; where it returns, the token
                stays in its fields. None raises the error.

        Raises:
            TypeError: `message` is not of the Durable Task protos.
            PayloadError: a payload cannot be downloaded. The message is as it was.
        """
        planned = self._plan_downloads(message)
        if planned:
            put_payloads(planned, self._downloads.fetch(planned, on_unreadable), on_unreadable)

    async def deexternalize_async(self, message: Message, *, on_unreadable: OnUnreadable | None = None) -> None:
        """Do the same as `deexternalize` without blocking the event loop. A cancelled call changes nothing."""
        planned = self._plan_downloads(message)
        if planned:
            payloads = await self._downloads.fetch_async(planned, on_unreadable)
            put_payloads(planned, payloads, on_unreadable)

    # ---- end --------------------------------------------------------------------------------------------------

    def forget(self, token: str) -> None:
        """Drop the payload of `token` from the cache, since it was deleted from the store."""
        self._cache.discard(token)

    def close(self, *, wait: bool = True) -> None:
        """End the threads after what they are doing now. The store stays open. A second call does nothing.

        Args:
            wait: return only when they have ended.
        """
        self._transfers.close(wait=wait)


def _check_store(store: object) -> None:
    name = store.__name__ if isinstance(store, type) else type(store).__name__
    if isinstance(store, type):
        raise TypeError(f"store is the class {name}: pass an instance of it")
    if isinstance(store, LargePayloadStorageOptions):
        raise TypeError(f"store is of type {name}, the options of one: pass the store that is made of them")
    if not hasattr(store, "is_known_token"):
        raise TypeError(
            f"store is of type {name}: it must be a payload store, as in BlobPayloadStore(BlobPayloadStoreOptions(...))"
        )


def _batches_of(plan: UploadPlan) -> list[list[PlannedUpload]]:
    """Return the uploads of `plan` by payload, since equal ones are stored once, or raise its error."""
    if plan.error is not None:
        raise plan.error
    # To hash a payload takes a tenth of the time to compress it: only what may be equal to another is hashed.
    outlines = [_outline(upload.data) for upload in plan.uploads]
    times = Counter(outlines)
    batches: dict[object, list[PlannedUpload]] = {}
    for upload, outline in zip(plan.uploads, outlines, strict=True):
        batches.setdefault(outline if times[outline] == 1 else upload.data, []).append(upload)
    return list(batches.values())


def _outline(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """Return what is the same for equal payloads and hardly ever for others: size and a little of the text."""
    size, middle = len(data), len(data) // 2
    return size, data[:32], data[middle : middle + 32], data[-32:]
