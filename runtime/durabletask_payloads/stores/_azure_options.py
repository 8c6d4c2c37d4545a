"""Options of the Azure Blob store, and the checks of their values. Imports nothing of Azure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from durabletask_payloads._options import LargePayloadStorageOptions

from ._tokens import DEFAULT_CONTAINER, check_container_name, normal_account_url

if TYPE_CHECKING:
    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential, TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential

    AsyncCredential = str | dict[str, str] | AzureNamedKeyCredential | AzureSasCredential | AsyncTokenCredential
    Credential = AsyncCredential | TokenCredential


@dataclass
class BlobPayloadStoreOptions(LargePayloadStorageOptions):
    """Options of a `BlobPayloadStore`; the first five have the names of the `durabletask` SDK's own.

    They can be pickled if the credential can, and show no secret in their repr.

    Attributes:
        container_name: the container to write payloads to and read them from: "durabletask-payloads" by default.
        connection_string: of the storage account. Set either this or `account_url`.
        account_url: of the storage account, `https://<account>.blob.core.windows.net`, without a signature.
        credential: for `account_url`: an account key, a SAS (AzureSasCredential), or a token credential of
            azure-identity. It serves the synchronous and the asynchronous methods alike: a synchronous credential is
            called in a thread; an asynchronous one is used on the store's own event loop, so do not share it with
            other clients. It is not closed with the store.
        api_version: of the Storage API, for an emulator or an appliance that does not know the client's version.
        create_container: create the container when a payload is to be stored and it does not exist. The right to
            create one is never needed where it exists.
        trusted_locations: URLs of further containers, `https://<account>.blob.core.windows.net/<container>`, whose
            payloads may be read. Another account needs a token credential, which is sent there.
        token_version: of the tokens to write: 1, which all SDKs read, or 2, which .NET reads and which names the
            account. Both are read.
        layout: "standard", which .NET and Java read, or "python-sdk" for workers that use the payload store of the
            Python SDK. Both are read.
        connect_timeout: how long to wait for a connection, in seconds: 3 by default.
        read_timeout: how long to wait for the next byte of a response, in seconds: 10 by default.
        total_timeout: the longest that an upload or a download may take with all its retries, in seconds: 25 by
            default. Raise it for large payloads over a slow link.
        retries: how often a request is repeated after a transient failure: 4 by default.

    Raises:
        ValueError: a setting is out of its range, or two settings contradict each other.
    """

    container_name: str = DEFAULT_CONTAINER
    connection_string: str | None = field(default=None, repr=False)
    account_url: str | None = None
    credential: Credential | None = field(default=None, repr=False)
    api_version: str | None = None
    create_container: bool = True
    trusted_locations: tuple[str, ...] = ()
    token_version: Literal[1, 2] = 1
    layout: Literal["standard", "python-sdk"] = "standard"
    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    total_timeout: float = 25.0
    retries: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_container_name(self.container_name)
        if (self.connection_string is None) == (self.account_url is None):
            raise ValueError("either connection_string or account_url (with credential) must be given, and not both")
        if self.connection_string is not None and self.credential is not None:
            raise ValueError("credential goes with account_url: a connection_string has its own")
        if self.account_url is not None:
            normal_account_url(self.account_url)
        if self.token_version not in (1, 2):
            raise ValueError(f"token_version is {self.token_version}: it must be 1 or 2")
        if self.layout not in ("standard", "python-sdk"):
            raise ValueError(f'layout is {self.layout!r}: it must be "standard" or "python-sdk"')
        if self.layout == "python-sdk" and self.token_version != 1:
            raise ValueError('layout "python-sdk" needs token_version 1: the Python SDK reads no other')
        for name in ("connect_timeout", "read_timeout", "total_timeout"):
            value: float = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} is {value}: it must be more than 0 seconds")
        if self.retries < 0:
            raise ValueError(f"retries is {self.retries}: it must be 0 (try once) or more")
        for location in self.trusted_locations:
            parse_location(location)


def parse_location(url: str) -> tuple[str, str]:
    """Return the account URL and the container of a trusted location, or raise ValueError."""
    if "?" in url or "#" in url:  # not quoted: there may be a signature in it
        raise ValueError("a trusted location must be the URL of a container, without query or fragment")
    account_url, _, container = url.rstrip("/").rpartition("/")
    account_url = normal_account_url(account_url)
    check_container_name(container)
    return account_url, container
