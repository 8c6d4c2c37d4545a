"""A sweep of a hub at work, whose outcome is known: which payloads were mentioned by whom, told by other means.

180 orchestrations and 6 entities with the SDK's worker and client. A worker is killed between the upload of a result
and its completion. 60 orchestrations wait for an event, 60 are completed, 60 completed and purged.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from durabletask import entities, task
from tests.support.backend import RedeliveringBackend, client_on, running, worker_on
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, store_from_url
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.operations._hub import Hub
from durabletask_payloads.operations._mentions import SweepState
from durabletask_payloads.operations._sweep import SweepReport, SweepSettings, sweep
from durabletask_payloads.stores._inventory import PayloadInventory, StoredPayload, inventory_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from durabletask.client import TaskHubGrpcClient

KINDS: Final = ("running", "completed", "purged")
EACH: Final = 60  # by default
BOXES: Final = tuple(entities.EntityInstanceId("box", str(number)) for number in range(6))
GRACE: Final = timedelta(hours=1)
THRESHOLD: Final = 200
_TOKEN: Final = re.compile(r"blob:v1:[a-z0-9-]+:[0-9a-f]{32}")


def produce(context: task.ActivityContext, text: str) -> str:
    return text[::-1]


def works(orchestration: task.OrchestrationContext, text: str) -> Generator[task.Task[Any], Any, Any]:
    result: str = yield orchestration.call_activity(produce, input=text)
    more = ""
    if orchestration.instance_id.startswith("running"):
        more = yield orchestration.wait_for_external_event("go")
    return result + more


def box(entity: entities.EntityContext, text: str) -> None:
    entity.set_state(text)


FUNCTIONS: Final = (produce, works, box)


def text_of(instance_id: str) -> str:
    return f"{instance_id} " * 40


class Aged:
    """An inventory whose payloads of some names are two hours older than they are."""

    def __init__(self, real: PayloadInventory) -> None:
        self._real = real
        self.old: set[str] = set()
        self.location = real.location
        self.partitions: Sequence[str] = real.partitions
        self.look, self.name_of = real.look, real.name_of
        self.delete_unchanged, self.service_time = real.delete_unchanged, real.service_time

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        for stored in self._real.list_payloads(partition):
            earlier = timedelta(hours=2) if stored.name in self.old else timedelta(0)
            modified: datetime = stored.modified - earlier
            yield replace(stored, modified=modified)

    def tokens(self) -> set[str]:
        """The payloads that are stored: not the draft of a file that a killed process was writing."""
        return {stored.token for name in self.partitions for stored in self._real.list_payloads(name) if stored.token}


class Scene:
    """A backend, a worker, a client and a store, with `each` instances of each of KINDS.

    Attributes:
        purged: the tokens that only the purged instances mentioned.
        left: those that the killed worker left.
    """

    def __init__(self, url: str, seed: int, each: int, stack: ExitStack) -> None:
        self._url = url
        self._each = each
        self._random = random.Random(seed)
        self._stack = stack
        self.store = stack.enter_context(store_from_url(url, threshold_bytes=THRESHOLD))
        self.inventory = Aged(inventory_of(self.store))
        self.backend = RedeliveringBackend()
        self.address = stack.enter_context(running(self.backend))
        # Without a cache: what was deleted must not be read from there.
        self._interceptor = PayloadInterceptor(stack.enter_context(Externalizer(self.store, cache_bytes=0)))
        self.client: TaskHubGrpcClient = client_on(self.address, [self._interceptor])
        stack.callback(self.client.close)
        self._new: list[str] = []
        self.purged: set[str] = set()
        self.left: set[str] = set()

    def play(self) -> None:
        """Let all happen up to the sweep."""
        ids = [f"{kind}-{number}" for kind in KINDS for number in range(self._each)]
        self._random.shuffle(ids)
        for instance_id in ids:
            self.client.schedule_new_orchestration(works, input=text_of(instance_id), instance_id=instance_id)
        for _ in range(2):  # the first state of each is mentioned by none in the end
            for one in BOXES:
                self.client.signal_entity(one, "set", text_of(str(one)))
        self._kill_a_worker()
        worker = worker_on(self.address, FUNCTIONS, [self._interceptor])
        self._stack.enter_context(worker).start()
        for instance_id in ids:
            if not instance_id.startswith("running"):
                self.client.wait_for_orchestration_completion(instance_id, fetch_payloads=False, timeout=60)
        wait_until(lambda: self.backend.is_idle, what="the end of all work")
        before = self.mentioned()
        self.left = self.inventory.tokens() - before
        for number in range(self._each):
            self.client.purge_orchestration(f"purged-{number}")
        self.purged = before - self.mentioned()

    def _kill_a_worker(self) -> None:
        killed = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.operations.killed_worker",
                self.address,
                self._url,
                str(self._random.randint(1, self._each)),
            ],
            timeout=60,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, f"the worker was not killed, but ended with {killed.returncode}"

    def mentioned(self) -> set[str]:
        """The tokens in the memory of the backend, read past gRPC and the sweep."""
        return set(_TOKEN.findall(self.backend.kept()))

    def sweep(self, state: Path) -> SweepReport:
        """Sweep, while new payloads are written."""
        stop = threading.Event()
        earlier = len(self._new)

        def write() -> None:
            while not stop.is_set():
                instance_id = f"new-{len(self._new)}"
                self.client.schedule_new_orchestration(works, input=text_of(instance_id), instance_id=instance_id)
                self.client.wait_for_orchestration_completion(instance_id, fetch_payloads=False, timeout=20)
                self._new.append(instance_id)

        writer = threading.Thread(target=write)
        writer.start()
        opened = SweepState(state)
        try:
            wait_until(lambda: len(self._new) > earlier, what="a new payload")
            with Hub(self.address, page_size=self._random.randint(7, 50)) as hub:
                return sweep(self.inventory, hub, opened, SweepSettings(GRACE, delete=True, rate=1e4))
        finally:
            stop.set()
            writer.join()
            opened.close()

    def check_that_all_can_be_read(self) -> None:
        """End the running ones, and read all there is as an application does."""
        for number in range(self._each):
            self.client.raise_orchestration_event(f"running-{number}", "go", data="!" * 300)
        for kind in KINDS[:2]:
            for number in range(self._each):
                instance_id = f"{kind}-{number}"
                state = self.client.wait_for_orchestration_completion(instance_id, timeout=60)
                assert state is not None
                more = "!" * 300 if kind == "running" else ""
                assert state.get_output() == text_of(instance_id)[::-1] + more
                assert state.get_input() == text_of(instance_id)
        for instance_id in self._new:
            state = self.client.get_orchestration_state(instance_id)
            assert state is not None
            assert state.get_output() == text_of(instance_id)[::-1]
        for one in BOXES:
            found = self.client.get_entity(one)
            assert found is not None
            assert found.get_state() == json.dumps(text_of(str(one)))


def play_and_sweep(url: str, seed: int, folder: Path, each: int = EACH) -> str:
    """Play a scene with `each` instances of a kind, sweep it, and check what is left. Returns what was found."""
    with ExitStack() as stack:
        scene = Scene(url, seed, each, stack)
        scene.play()
        assert scene.left
        assert len(scene.purged) == 4 * each, (
            f"{len(scene.purged)}: not the input and output of each, and of its activity"
        )
        garbage = scene.purged | scene.left

        young = scene.sweep(folder / f"{seed}-young.state")
        assert young.tally.garbage == 0
        assert garbage <= scene.inventory.tokens()

        before = scene.inventory.tokens()
        scene.inventory.old = {token.rpartition(":")[2] for token in before}
        report = scene.sweep(folder / f"{seed}.state")
        deleted = before - scene.inventory.tokens()
        assert not deleted - garbage, "what was needed was deleted"
        assert not garbage - deleted, f"{len(garbage - deleted)} of {len(garbage)} are left: {report.tally}"
        assert report.tally.garbage == len(garbage)
        assert scene.mentioned() <= scene.inventory.tokens()
        scene.check_that_all_can_be_read()
        return (
            f"seed {seed}: {len(before)} payloads, {len(scene.purged)} of purged instances and {len(scene.left)} left "
            f"were deleted, {report.tally.young} new ones were written meanwhile"
        )
