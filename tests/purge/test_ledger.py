"""A ledger with rows of all kinds, three purgers, one of them killed twice, storage and scheduler that fail.

In the suite with 300 rows. `python -m tests.purge` runs it with 2,000, or as many as its argument says.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import grpc
from azure.storage.blob import BlobServiceClient
from tests.support.ledger import Ledger, now_and_then, serving
from tests.support.proxy import Fault, canned
from tests.support.waiting import wait_until

from durabletask_payloads.purge import PayloadPurger
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.azurite import Azurite
    from tests.support.proxy import FaultProxy

REPOSITORY = Path(__file__).parents[2]
# Resets and answers that prove nothing about a blob.
FAULTS = [
    canned(503, "Busy", "ServerBusy"),
    canned(500, "Oops", "InternalError"),
    canned(403, "No", "AuthorizationFailure"),
    canned(404, "What", "ResourceNotFound"),
    Fault(reset_request_after=100),
    Fault(truncate_response_after=50),
]


class Blobs(NamedTuple):
    """Names of blobs in the container: ours that were purged, ours that live, and those of others."""

    purged: list[str]
    live: list[str]
    theirs: list[str]


def fill(azurite: Azurite, container: str, tenth: int) -> Blobs:
    """Fill the container, side by side, without faults, for ten times `tenth` rows."""
    with (
        BlobServiceClient.from_connection_string(azurite.connection_string) as service,
        ThreadPoolExecutor(8) as pool,
    ):
        client = service.get_container_client(container)
        client.create_container()

        def write(managed: bool) -> str:
            name = uuid.uuid4().hex
            client.upload_blob(name, b"x", metadata={"managed_by": "dts"} if managed else {})
            return name

        purged = [*pool.map(write, [True] * (9 * tenth // 2))]
        live = [*pool.map(write, [True] * (tenth // 2))]
        return Blobs(purged, live, [*pool.map(write, [False] * (tenth // 2))])


def faults_of(seed: int, count: list[int]) -> Callable[[int], Fault]:
    """Every fifth connection is broken; the others end after some requests, so that there are many."""
    chance = random.Random(seed)

    def fault(number: int) -> Fault:
        count[0] += 1
        if chance.random() < 0.2:
            count[1] += 1
            return chance.choice(FAULTS)
        return Fault(truncate_response_after=chance.randrange(1_000, 3_000))

    return fault


def test_every_row_ends_in_its_state(azurite: Azurite, proxy: FaultProxy, container: str) -> None:
    purge_all(azurite, proxy, container, rows=300)


def purge_all(azurite: Azurite, proxy: FaultProxy, container: str, rows: int) -> str:
    """Let three purgers work through a ledger, and check how each row ends. Returns what happened, in a line."""
    tenth = rows // 10
    blobs = fill(azurite, container, tenth)
    ours = f"blob:v2:{azurite.account_url}/{container}/"
    through = azurite.connection_string_at(proxy.port)
    # The account that a token names is the one that the purgers use: the port is that of the proxy.
    ours = ours.replace(f":{azurite.port}/", f":{proxy.port}/")
    wanted = [
        *((ours + name, "deleted") for name in blobs.purged),
        *((ours + name, "deleted") for name in blobs.purged[: tenth // 2]),  # a payload may have two rows
        *((ours + name, "deleted") for name in blobs.theirs),
        *((ours + uuid.uuid4().hex, "deleted") for _ in range(tenth)),
        *((f"blob:v1:{container}:{name}", "quarantined") for name in blobs.live),
        *((f"{ours}{uuid.uuid4().hex}?x", "quarantined") for _ in range(tenth)),
        *((f"blob:v2:https://other.blob.core.windows.net/x12/{uuid.uuid4().hex}", "pending") for _ in range(tenth)),
        *((f"blob:v3:{uuid.uuid4().hex}", "pending") for _ in range(tenth)),
    ]
    random.Random(7).shuffle(wanted)
    assert len(wanted) == rows
    ledger = Ledger(token for token, _ in wanted)
    ledger.fault = now_and_then(1, 0.1)  # asked before and after: a fifth of the calls
    connections = [0, 0]
    proxy.plan = faults_of(2, connections)
    with serving(ledger) as address, ThreadPoolExecutor(2) as pool:
        stop = threading.Event()
        purgers = [pool.submit(purge_until, stop, address, through, container) for _ in range(2)]
        try:
            for _ in range(2):
                kill_after_some_batches(address, through, container)
            states = [state for _, state in wanted]
            wait_until(lambda: ledger.states() == states, what="the end of all rows", seconds=90)
        finally:
            stop.set()
        assert [purger.result() for purger in purgers] == [None, None]
    assert connections[1] > rows / 100  # there were faults
    assert not ledger.enabled
    with BlobServiceClient.from_connection_string(azurite.connection_string) as service:
        left = {blob.name for blob in service.get_container_client(container).list_blobs()}
    assert left == {*blobs.live, *blobs.theirs}
    retries = Counter(row.retries > 0 for row in ledger.rows if row.state == "deleted")
    assert retries[True] > rows / 100  # and rows that had to come again
    return f"{rows} rows, {connections[1]} of {connections[0]} connections broken, {retries[True]} rows came again"


def purge_until(stop: threading.Event, address: str, connection_string: str, container: str) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=connection_string, container_name=container, token_version=2, retries=0
    )
    with BlobPayloadStore(options) as store, grpc.insecure_channel(address) as channel:
        PayloadPurger(store, channel, batch_size=100, wait=lambda _: stop.wait(0.01)).run()


def kill_after_some_batches(address: str, connection_string: str, container: str) -> None:
    command = [sys.executable, "-m", "tests.purge.purging_probe", address, connection_string, container]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
