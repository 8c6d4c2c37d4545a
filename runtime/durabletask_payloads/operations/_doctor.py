"""Examines a store, what is installed, and a task hub: what works, and what to grant or set where it does not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

import durabletask_payloads_walkers as walkers
from durabletask_payloads._errors import PayloadAccessDeniedError, PayloadError
from durabletask_payloads.externalizer._walkers import check_schema
from durabletask_payloads.stores._inventory import inventory_of
from durabletask_payloads.stores._notes import NotedContainer

from ._fingerprint import differences, fingerprint, read_note, settings_of, to_note
from ._sdk import pb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durabletask_payloads.stores._base import PayloadStore

    from ._hub import Hub

Verdict = Literal["ok", "not ok", "skipped"]
Right = Literal["write", "read", "list", "delete"]

_PROBE: Final = b'"written by durabletask-payloads doctor, which deletes it"'
_CLOCK: Final = 60  # seconds that clocks may differ by
_GRPC: Final = 4 * 1024 * 1024  # bytes that gRPC receives by default
_ADVISED: Final = 64 * 1024 * 1024

_S3: Final[Mapping[Right, str]] = {
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}
# Of a signature (SAS).
_LETTERS: Final[Mapping[Right, str]] = {"write": "c and w", "read": "r", "list": "l", "delete": "d"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: how it is, or what to grant or set, or why it was skipped."""

    name: str
    verdict: Verdict
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All checks, in the order in which they were made.

    Attributes:
        store: where the payloads are.
        settings: those on which client and workers must agree.
        fingerprint: 16 hex digits that are the same for the same settings.
    """

    store: str
    settings: Mapping[str, str | int]
    fingerprint: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.verdict != "not ok" for check in self.checks)


@runtime_checkable
class _HasEngine(Protocol):
    @property
    def engine(self) -> str: ...


def diagnose(store: PayloadStore, hub: Hub | None = None, *, clock: Callable[[], datetime] | None = None) -> Diagnosis:
    """Check a store, the installation and a hub. Errors of stores and hubs are findings, not raised.

    A small payload is stored, read and deleted, and a note of the settings is left in the container: see
    `_fingerprint`. Nothing else is changed. No container is created where the store can tell that it is missing.

    Args:
        store: to check.
        hub: to check, if any.
        clock: of this machine.
    """
    examination = _Examination(store, clock or (lambda: datetime.now(timezone.utc)))
    examination.store_itself()
    examination.engine()
    examination.sdk()
    examination.receive_limit()
    examination.settings()
    if hub is not None:
        examination.hub(hub)
    return Diagnosis(
        store=examination.location,
        settings=examination.own,
        fingerprint=fingerprint(examination.own),
        checks=tuple(examination.checks),
    )


class _Examination:
    def __init__(self, store: PayloadStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._inventory = inventory_of(store)
        self._why_skipped: str | None = None  # why nothing more can be asked of the store
        self._no_list = False
        self.location = self._inventory.location
        self.own = settings_of(store, self.location)
        self.checks: list[Check] = []

    def _note(self, name: str, verdict: Verdict, text: str) -> None:
        self.checks.append(Check(name, verdict, text))

    # ---- the store --------------------------------------------------------------------------------------------

    def store_itself(self) -> None:
        """Check connect, container, write, read, list, delete and clock."""
        denied = self._connected()
        if self._why_skipped is None:
            self._container(denied)
        if self._why_skipped is not None:
            for name in ("container", "write", "read", "list", "delete", "clock")[len(self.checks) - 1 :]:
                self._note(name, "skipped", self._why_skipped)

    def _connected(self) -> PayloadError | None:
        """Check that the store answers. Returns what it says if it refuses to list."""
        try:
            exists = not isinstance(self._inventory, NotedContainer) or self._inventory.has_container()
        except PayloadAccessDeniedError as error:
            return error
        except PayloadError as error:
            self._note("connect", "not ok", _reason(error))
            self._why_skipped = "the store cannot be connected"
            return None
        self._note("connect", "ok", self.location)
        if not exists:
            may_create: object = getattr(self._store.options, "create_container", True)  # a bucket never is
            alone = " (the first upload does, where create_container is set)" if may_create else ""
            advice = f"create it{alone}, or correct the URL"
            self._note("container", "not ok", f"{self.location} does not exist: {advice}")
            self._why_skipped = "there is no container"
        return None

    def _container(self, denied: PayloadError | None) -> None:
        """Store a payload, and do all else with it."""
        try:
            token, failure = self._store.upload(_PROBE), None
        except PayloadError as error:
            if denied is not None:
                self._note("connect", "not ok", _reason(denied))
                self._why_skipped = "the store refuses this credential"
                return
            token, failure = None, error
        if denied is not None:
            self._note("connect", "ok", self.location)
        self._note("container", "ok", "exists")
        self._found("write", failure)
        read: PayloadError | None = None
        deleted: PayloadError | None = None
        times: tuple[datetime, datetime] | None = None
        if token is not None:
            try:
                read, times = self._read(token)
            finally:
                deleted = self._deleted(token)
        if token is None:
            self._note("read", "skipped", "nothing could be written")
        else:
            self._found("read", read)
        self._found("list", denied)
        if token is None:
            self._note("delete", "skipped", "nothing could be written")
        else:
            self._found("delete", deleted, more=f"; the payload of this check stays behind: {token}")
        self._no_list = denied is not None
        self._times(times)

    def _read(self, token: str) -> tuple[PayloadError | None, tuple[datetime, datetime] | None]:
        """Read the payload. Returns what went wrong, or the time here and that of the service."""
        here = self._clock()
        try:
            stored = self._inventory.look(token)
            content = self._store.download(token)
        except PayloadError as error:
            return error, None
        if content != _PROBE:
            return PayloadError(f"{token}: other bytes were read than were written: check what is between"), None
        return None, (here, stored.modified)

    def _deleted(self, token: str) -> PayloadError | None:
        try:
            self._store.delete(token)
        except PayloadError as error:
            return error
        return None

    def _found(self, right: Right, trouble: PayloadError | None, *, more: str = "") -> None:
        if trouble is None:
            self._note(right, "ok", "allowed" if right == "list" else "works")
        elif isinstance(trouble, PayloadAccessDeniedError):
            # What is behind "check" are all rights there are: here it is one of them.
            self._note(right, "not ok", f"{self._grant(right)}: {_reason(trouble).partition(': check ')[0]}{more}")
        else:
            self._note(right, "not ok", f"{_reason(trouble)}{more}")

    def _grant(self, right: Right) -> str:
        """Say what to grant, in the words of the service."""
        match self.location.partition(":")[0]:
            case "s3":
                return f"grant {_S3[right]}"
            case "gs":
                return "grant the role Storage Object User"
            case "file" | "memory":
                return "let this process list, read and write the folder and all below it"
            case _:
                return (
                    "grant the identity the role Storage Blob Data Contributor on the container, or a signature (SAS) "
                    f"the permission {_LETTERS[right]}"
                )

    def _times(self, times: tuple[datetime, datetime] | None) -> None:
        if times is None:
            self._note("clock", "skipped", "the time of the service is that of a payload, and none could be read")
            return
        here, there = times
        seconds = round((here - there).total_seconds())
        if abs(seconds) <= _CLOCK:
            self._note("clock", "ok", f"within {_CLOCK} s of the store's")
        else:
            by = f"{abs(seconds):,} s {'ahead of' if seconds > 0 else 'behind'} the store's"
            self._note(
                "clock", "not ok", f"this machine's is {by}: set it by NTP, or signatures and tokens will be refused"
            )

    # ---- what is installed ------------------------------------------------------------------------------------

    def engine(self) -> None:
        """Tell which client serves."""
        kind = type(self._store).__name__
        engine = self._store.engine if isinstance(self._store, _HasEngine) else None
        if engine == "azure-storage-blob":
            text = f"{kind} with azure-storage-blob; with obstore it takes half the CPU: durabletask-payloads[fast]"
        else:
            text = f"{kind} with {engine}" if engine else kind
        self._note("engine", "ok", text)

    def sdk(self) -> None:
        """Check that the walkers know all fields of the SDK's messages."""
        try:
            installed = f"durabletask {version('durabletask')}"
        except PackageNotFoundError:  # as in an application that was frozen
            installed = "durabletask of an unknown version"
        try:
            check_schema(pb.WorkItem())
        except (PayloadError, TypeError) as error:
            self._note("SDK", "not ok", f"{installed}: {error}")
        else:
            self._note("SDK", "ok", f"{installed}; its fields are all known (walkers of {walkers.SOURCE})")

    def receive_limit(self) -> None:
        """Say what a worker should set: its channel is in another process."""
        threshold = self._store.options.threshold_bytes
        fit = f"{_GRPC // threshold} payloads just under threshold_bytes" if threshold else "no large payload"
        self._note(
            "receive limit",
            "ok",
            f"on workers and clients, set GrpcChannelOptions(max_receive_message_length={_ADVISED}): gRPC's default of "
            f"{_GRPC} holds a history with {fit} ({threshold})",
        )

    # ---- what others have set ---------------------------------------------------------------------------------

    def settings(self) -> None:
        """Compare the settings with the notes of others, and leave our own."""
        name = "settings"
        if self._why_skipped is not None:
            self._note(name, "skipped", self._why_skipped)
            return
        if not isinstance(self._inventory, NotedContainer):
            self._note(name, "skipped", "no other process can share this store")
            return
        wrong: list[str] = []
        if not self._no_list:
            try:
                for found, content in self._inventory.notes():
                    note = read_note(found, content)
                    if note is not None:
                        wrong += differences(self.own, note)
            except PayloadError as error:
                self._note(name, "skipped", f"those of others cannot be read: {_reason(error)}")
                return
        try:
            self._inventory.leave_note(*to_note(self.own, self._clock().astimezone(timezone.utc)))
            left = ""
        except PayloadError:
            left = "; not left for others, since that cannot be written"
        if wrong:
            advice = "set the same everywhere, and delete the blob or file of what is no longer in use"
            self._note(name, "not ok", f"{'; '.join(wrong)}: {advice}{left}")
        elif self._no_list:
            self._note(name, "skipped", f"those of others cannot be listed{left}")
        else:
            self._note(name, "ok", f"{fingerprint(self.own)}: no process has left different ones{left}")

    def hub(self, hub: Hub) -> None:
        """Check that the hub answers and may be read."""
        try:
            hub.ping()
            next(hub.instances(payloads=False), None)
        except PayloadError as error:
            self._note("hub", "not ok", str(error))
        else:
            self._note("hub", "ok", f"{hub.location} answers, and may be read")


def _reason(error: PayloadError) -> str:
    """Return the text of an error without the token that it begins with: it is of a payload of ours, or of none."""
    return re.sub(r"^(?:blob|object):\S*: ", "", str(error))
