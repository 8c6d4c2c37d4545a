"""A purger in a process of its own, to be killed. For test_ledger.

Run it with the address of a ledger, a connection string and a container. It prints a line a batch.
"""

from __future__ import annotations

import sys
import time

import grpc

from durabletask_payloads import PayloadObserver, Purge
from durabletask_payloads.purge import PayloadPurger
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions


class Printer(PayloadObserver):
    def purged(self, purge: Purge) -> None:
        print(purge.rows, flush=True)


def wait(seconds: float) -> bool:
    time.sleep(0.01)
    return False


def main(address: str, connection_string: str, container: str) -> None:
    options = BlobPayloadStoreOptions(
        connection_string=connection_string, container_name=container, token_version=2, retries=0
    )
    with BlobPayloadStore(options) as store, grpc.insecure_channel(address) as channel:
        PayloadPurger(
            store,
            channel,
            batch_size=100,
            observer=Printer(),
            wait=wait,
        ).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
