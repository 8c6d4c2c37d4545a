"""The purger: takes rows from the scheduler's ledger, deletes their payloads, and reports what became of them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Final

import grpc

from durabletask_payloads._lifecycle import Closing
from durabletask_payloads.externalizer._externalizer import Externalizer
from durabletask_payloads.observers._base import Purge
from durabletask_payloads.observers._safe import SafeObserver
from durabletask_payloads.stores._inventory import inventory_of
from durabletask_payloads_protos import large_payload_purge_pb2 as pb
from durabletask_payloads_protos.large_payload_purge_pb2_grpc import LargePayloadPurgeStub

from ._auto_purge import CALL_SECONDS
from ._outcomes import PurgeOutcome, purge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from durabletask_payloads.observers._base import PayloadObserver
    from durabletask_payloads.stores._base import PayloadStoreLike

_log: Final = logging.getLogger("durabletask_payloads.purge")
_LARGEST_BATCH: Final = 1_000
_MOST_DELETIONS: Final = 32
# After an empty batch, one in which nothing could be done, and a call that failed.
_WAIT_SECONDS: Final = 60.0

_DISPOSITIONS: Final = {
    "deleted": pb.LARGE_PAYLOAD_PURGE_DISPOSITION_DELETED,
    "retry": pb.LARGE_PAYLOAD_PURGE_DISPOSITION_RETRY,
    "quarantined": pb.LARGE_PAYLOAD_PURGE_DISPOSITION_QUARANTINED,
}


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What became of a batch of the ledger.

    Attributes:
        outcomes: how many rows ended in each way. An outcome that did not occur is not in it.
        seconds: how long it took.
        retried: the payload tokens of the rows that were reported as "retry", so that a loop can tell rows that are due
            again from rows that are new.
    """

    outcomes: Mapping[PurgeOutcome, int]
    seconds: float
    retried: frozenset[str] = field(default=frozenset(), repr=False)  # no token gets into a log

    @property
    def rows(self) -> int:
        """How many rows the batch had."""
        return sum(self.outcomes.values())

    def count(self, disposition: str) -> int:
        """Return how many rows were reported as "deleted", "retry" or "quarantined"."""
        return sum(count for outcome, count in self.outcomes.items() if outcome.disposition == disposition)


class PayloadPurger(Closing):
    """Carries out the scheduler's ledger of purged payloads.

    It runs on a thread of its own between `start` and `stop`, or batch by batch with `run_once`. Any number of purgers
    may work on one ledger: a payload that another one deleted first is reported as deleted too. A purger may stop or
    be killed at any moment: what it did not report is due again. Deletes only blobs with the metadata `managed_by=dts`,
    as they were when it looked at them.

    The ledger has v2 tokens only: write with `token_version=2`.

    Args:
        store: deletes the payloads; an `Externalizer` deletes those of its store, and forgets them.
        channel: to the scheduler, with the metadata of the task hub: see `scheduler_channel`. It stays open.
        batch_size: how many rows are taken at a time: 1 to 1,000.
        concurrency: how many payloads are deleted at a time: 1 to 32.
        observer: told of each batch that was reported, by `purged`.
        wait: waits for so many seconds, and returns True if the purger is to end; for tests.

    Raises:
        ValueError: a number is out of its range.
        TypeError: the store cannot be listed, as one that was written for the `durabletask` SDK.
    """

    def __init__(
        self,
        store: PayloadStoreLike | Externalizer,
        channel: grpc.Channel,
        *,
        batch_size: int = 200,
        concurrency: int = _MOST_DELETIONS,
        observer: PayloadObserver | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        if not 1 <= batch_size <= _LARGEST_BATCH:
            raise ValueError(f"batch_size is {batch_size}: the scheduler returns 1 to {_LARGEST_BATCH} rows at a time")
        if not 1 <= concurrency <= _MOST_DELETIONS:
            raise ValueError(
                f"concurrency is {concurrency}: it must be from 1 to {_MOST_DELETIONS} deletions at a time"
            )
        self._externalizer = store if isinstance(store, Externalizer) else None
        self._inventory = inventory_of(store.store if isinstance(store, Externalizer) else store)
        self._stub = LargePayloadPurgeStub(channel)
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._safe = None if observer is None else SafeObserver(observer)
        self._stopping = Event()
        self._wait = wait or self._stopping.wait
        self._lock = Lock()
        self._thread: Thread | None = None

    # ---- a batch ----------------------------------------------------------------------------------------------

    def run_once(self) -> PurgeReport:
        """Take a batch of rows, delete their payloads and report them. Blocks; safe for any number of threads.

        Raises:
            grpc.RpcError: the scheduler refused a call. UNIMPLEMENTED: it has no ledger. What was deleted before is
                due again, and reported then.
        """
        started = time.monotonic()
        request = pb.GetLargePayloadTombstonesRequest(limit=self._batch_size)
        rows = self._stub.GetLargePayloadTombstones(request, timeout=CALL_SECONDS).tombstones
        outcomes = self._purge({row.payload_token for row in rows})
        # The service may send a row twice: it is reported once.
        found = {row.tombstone_token: outcomes[row.payload_token] for row in rows}
        if found:
            results = [
                pb.LargePayloadPurgeResult(tombstone_token=row, disposition=_DISPOSITIONS[outcome.disposition])
                for row, outcome in found.items()
            ]
            request_to_report = pb.ReportLargePayloadPurgeResultsRequest(results=results)
            self._stub.ReportLargePayloadPurgeResults(request_to_report, timeout=CALL_SECONDS)
        retried = frozenset(token for token, outcome in outcomes.items() if outcome.disposition == "retry")
        report = PurgeReport(Counter(found.values()), time.monotonic() - started, retried)
        if found:
            self._tell(report)
            _log_report(report)  # last: who reads of it in the log, and interrupts, finds it counted
        return report

    def _tell(self, report: PurgeReport) -> None:
        if self._safe is not None:
            for outcome, count in report.outcomes.items():
                event = Purge(outcome.name.lower(), outcome.disposition, count)
                self._safe.tell(lambda observer: observer.purged, event)

    def _purge(self, tokens: Iterable[str]) -> dict[str, PurgeOutcome]:
        """Purge payloads side by side; return the outcome of each token."""
        tokens = list(tokens)
        if not tokens:
            return {}
        with ThreadPoolExecutor(
            min(self._concurrency, len(tokens)), thread_name_prefix="durabletask-payloads-purge"
        ) as pool:
            outcomes = list(pool.map(partial(purge, self._inventory), tokens))
        done = dict(zip(tokens, outcomes, strict=True))
        if self._externalizer is not None:
            for token, outcome in done.items():
                if outcome in (PurgeOutcome.DELETED, PurgeOutcome.ABSENT):
                    self._externalizer.forget(token)
        return done

    # ---- on a thread of its own -------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to purge on a thread of its own, until `stop`. A second call does nothing.

        The thread ends by itself if the scheduler has no ledger; a log line says so. It does not keep the process.
        """
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = Thread(target=self._run, name="durabletask-payloads-purger", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End after the batch that is under way. Blocks until then; a second call does nothing."""
        self._stopping.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not current_thread():  # on_report may stop the purger
            thread.join()

    def close(self) -> None:
        """Do the same as `stop`. The store and the channel stay open."""
        self.stop()

    def run(self) -> bool:
        """Purge in the calling thread, until `stop` is called in another one.

        Returns:
            False if the scheduler turned out to have no ledger.
        """
        while not self._stopping.is_set():
            seconds = self._step()
            if seconds is None:
                return False
            if seconds > 0 and self._wait(seconds):
                break
        return True

    def _run(self) -> None:
        try:
            self.run()
        except RuntimeError:  # the interpreter shuts down: another purger gets the rows
            _log.info("purger ended, the interpreter shuts down")

    def _step(self) -> float | None:
        """Run a batch. Return the seconds to wait before the next one, or None to end."""
        try:
            report = self.run_once()
        except Exception as error:  # also what an interceptor raises, as one for a credential, and a closed channel
            if isinstance(error, RuntimeError) and not main_thread().is_alive():  # no thread can be begun any more
                raise
            code = error.code() if isinstance(error, grpc.Call) else None
            if code is grpc.StatusCode.UNIMPLEMENTED:
                _log.warning("ended: the scheduler keeps no ledger of purged payloads code=%s", code.name)
                return None
            reason = code.name if code is not None else type(error).__name__
            _log.warning("call failed, will retry code=%s seconds=%g", reason, _WAIT_SECONDS)
            return _WAIT_SECONDS
        return _WAIT_SECONDS if report.count("retry") == report.rows else 0.0


def _log_report(report: PurgeReport) -> None:
    if not report.rows:
        return
    found = [(outcome, report.outcomes[outcome]) for outcome in PurgeOutcome if outcome in report.outcomes]
    counts = " ".join(f"{outcome.name.lower()}={count}" for outcome, count in found)
    _log.info("purged rows=%d seconds=%.3f %s", report.rows, report.seconds, counts)
    if left := report.outcomes.get(PurgeOutcome.NOT_MANAGED):
        _log.warning("left blobs alone which have no metadata managed_by=dts count=%d", left)
