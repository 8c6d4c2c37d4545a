"""A pytest plugin for the SDK's own tests: puts our interceptors into every client and worker that they make.

It is loaded as a module of its own (`-p payloads_everywhere`), since the SDK's tests are a package `tests` as well.

    --record FOLDER       write the outcomes of this process's tests and what was moved into a file in FOLDER
    --threshold BYTES     put the interceptors in; without it the tests run as the SDK's authors run them

With and without, tests that name no host get an in-memory hub each, in place of the sidecar on port 4001.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import durabletask.client
import durabletask.worker
import pytest
from durabletask.internal import shared
from durabletask.testing import InMemoryOrchestrationBackend

from durabletask_payloads import Externalizer, InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor, async_payload_interceptors
from durabletask_payloads.observers import PayloadObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from durabletask_payloads.observers import Transfer

# What the SDK takes in place of our interceptors, or with a channel that has its interceptors already.
OF_THEIR_OWN = ("channel", "payload_store")


class Counts(PayloadObserver):
    """Counts payloads by direction, and the clients and workers by whether they got our interceptors.

    Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.by_name: Counter[str] = Counter()

    def add(self, name: str, number: int = 1) -> None:
        with self._lock:
            self.by_name[name] += number

    def transferred(self, transfer: Transfer) -> None:
        self.add("externalized" if transfer.direction == "upload" else "deexternalized")


class Hub:
    """An in-memory hub on a free port, made when its address is first asked for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: InMemoryOrchestrationBackend | None = None
        self._address = ""

    def address(self) -> str:
        with self._lock:
            if self._running is None:
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", 0))
                    port: int = probe.getsockname()[1]
                self._running = InMemoryOrchestrationBackend(port=port)
                self._running.start()
                self._address = f"127.0.0.1:{port}"
            return self._address

    def stop(self) -> None:
        with self._lock:
            if self._running is not None:
                self._running.stop()
                self._running = None


HUB = Hub()


class Recorder:
    """Collects the outcomes of the tests of this process, and writes them down at its end."""

    def __init__(self, folder: Path, counts: Counts) -> None:
        self._folder = folder
        self._counts = counts
        self._outcomes: dict[str, tuple[str, str]] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if not report.passed:
            self._outcomes[report.nodeid] = ("skipped" if report.skipped else "error", _reason(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            outcome: str = report.outcome
            if hasattr(report, "wasxfail"):
                outcome = "xpassed" if report.passed else "xfailed"
            elif report.failed and report.when != "call":
                outcome = "error"
            self._outcomes[report.nodeid] = (outcome, _reason(report))

    def pytest_sessionfinish(self) -> None:
        record = {"outcomes": self._outcomes, "counts": self._counts.by_name}
        (self._folder / f"{os.getpid()}.json").write_text(json.dumps(record), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, help="write outcomes and counts into a file in this folder")
    parser.addoption("--threshold", type=int, help="threshold in bytes of the interceptors that are put in")


def pytest_configure(config: pytest.Config) -> None:
    counts = Counts()
    threshold: int | None = config.getoption("--threshold")
    folder: Path | None = config.getoption("--record")
    if folder is not None:
        config.pluginmanager.register(Recorder(folder, counts))
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    # Here and not in a fixture: tests import the function by name.
    patch.setattr(shared, "get_default_host_address", HUB.address)
    if threshold is not None:
        put_everywhere(threshold, counts, patch)


@pytest.fixture(autouse=True)
def a_hub_of_its_own() -> Iterator[None]:
    yield
    HUB.stop()


def put_everywhere(threshold: int, counts: Counts, patch: pytest.MonkeyPatch) -> None:
    """Put interceptors with one store into the constructors of the SDK's clients and workers."""
    store = InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=threshold))
    # Without a cache each payload is read from the store, as by a worker that is another process than the client.
    externalizer = Externalizer(store, cache_bytes=0, observer=counts)

    def put_into(of: type, ours: Callable[[], Iterable[object]]) -> None:
        original: Callable[..., None] = vars(of)["__init__"]

        @functools.wraps(original)
        def make(self: object, *arguments: object, **settings: object) -> None:
            if any(settings.get(name) is not None for name in OF_THEIR_OWN):
                counts.add("without")
            else:
                theirs = settings.get("interceptors")
                settings["interceptors"] = [*ours(), *(theirs if isinstance(theirs, list | tuple) else ())]
                counts.add("with")
            original(self, *arguments, **settings)

        patch.setattr(of, "__init__", make)

    put_into(durabletask.client.TaskHubGrpcClient, lambda: [PayloadInterceptor(externalizer)])
    put_into(durabletask.worker.TaskHubGrpcWorker, lambda: [PayloadInterceptor(externalizer)])
    put_into(durabletask.client.AsyncTaskHubGrpcClient, lambda: async_payload_interceptors(externalizer))


def _reason(report: pytest.CollectReport | pytest.TestReport) -> str:
    """Return why a test failed or was skipped, in a line."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    errors = [line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
    return errors[0] if errors else ""
