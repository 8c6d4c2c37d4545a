"""A store in Azure Blob Storage by an identity: no connection string, no key.

    AZURE_STORAGE_ACCOUNT_URL=https://<account>.blob.core.windows.net python azure_managed_identity.py

In Azure this is the managed identity of the machine (AZURE_CLIENT_ID names a user-assigned one), elsewhere that of
`az login`. It needs the role "Storage Blob Data Contributor" on the container, or on the account to create one.
Needs `durabletask-payloads[sdk,azure]` and azure-identity.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from azure.identity import DefaultAzureCredential
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import Externalizer, PayloadAccessDeniedError
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential


# --8<-- [start:main]
def make_store(account_url: str, credential: TokenCredential) -> BlobPayloadStore:
    return BlobPayloadStore(
        BlobPayloadStoreOptions(
            account_url=account_url,
            credential=credential,  # in production: ManagedIdentityCredential(client_id=...), which tries nothing else
            container_name="durabletask-payloads",
            create_container=True,  # False if the identity has rights on the container alone
        )
    )


# --8<-- [end:main]


def main() -> None:
    account_url = os.environ.get("AZURE_STORAGE_ACCOUNT_URL")
    if not account_url:
        raise SystemExit("set AZURE_STORAGE_ACCOUNT_URL to https://<account>.blob.core.windows.net")
    # The store does not close the credential: it may serve the scheduler's client too.
    with DefaultAzureCredential() as credential, make_store(account_url, credential) as store:
        print(store)
        request = pb.CreateInstanceRequest(name="order", input=StringValue(value="x" * 5_000_000))
        with Externalizer(store) as externalizer:
            try:
                receipt = externalizer.externalize(request, instance_id="order-17")
            except PayloadAccessDeniedError as error:
                raise SystemExit(f"the identity may not write: {error}") from error
            for payload in receipt.payloads:
                stored = store.stored_bytes(payload.token)
                print(f"{payload.path}: {payload.raw_bytes:,} bytes, {stored:,} in the store")
            receipt.rollback()  # this message is not sent
            print(f"{externalizer.stats.deletions} deleted again")


if __name__ == "__main__":
    main()
