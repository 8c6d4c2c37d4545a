"""Stores in Azure Blob Storage and in Azurite by a URL, with a credential from the environment."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from ._azure_options import connection_parts, is_blob_host
from ._tokens import DEFAULT_CONTAINER
from .azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._azure_options import Credential

_LOCATION: Final = re.compile(
    r"[a-z]+:(?://(?P<host>[A-Za-z0-9.-]*|\[[0-9a-f:.]+\])(?P<port>:[0-9]{1,5})?(?:/(?P<container>[A-Za-z0-9_.-]*))?/?)?"
)
# What may be an account of `azure://` in a connection string that has its URL only: no emulator.
_BLOB_ENDPOINT: Final = re.compile(r"https?://(?P<host>[a-z0-9.-]+)/*")
# Azurite's own, published account: no secret.
_AZURITE_ACCOUNT: Final = "devstoreaccount1"
_AZURITE_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def azure_store(url: str, credential: Credential | None, options: Mapping[str, Any]) -> BlobPayloadStore:
    """Return the store of `azure://<account>/<container>`. The types of `options` are those of the store's options."""
    host, port, container = _parts(url)
    if not host or port:
        raise ValueError("an account is its name, or its host without a port")
    account = host.partition(".")[0]
    account_url = f"https://{host}" if "." in host else f"https://{host}.blob.core.windows.net"
    if credential is None:
        text = os.environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
        key = _of_account(account)
        if key is None and _is_of_account(text, host.lower()):
            return BlobPayloadStore(
                BlobPayloadStoreOptions(container_name=container, connection_string=text, **options)
            )
        credential = key or _identity()
    return BlobPayloadStore(
        BlobPayloadStoreOptions(container_name=container, account_url=account_url, credential=credential, **options)
    )


def azurite_store(url: str, options: Mapping[str, Any]) -> BlobPayloadStore:
    """Return the store of `azurite://<host>:<port>/<container>`."""
    host, port, container = _parts(url)
    endpoint = f"http://{host or '127.0.0.1'}{port or ':10000'}/{_AZURITE_ACCOUNT}"
    text = f"AccountName={_AZURITE_ACCOUNT};AccountKey={_AZURITE_KEY};BlobEndpoint={endpoint}"
    return BlobPayloadStore(BlobPayloadStoreOptions(container_name=container, connection_string=text, **options))


def _parts(url: str) -> tuple[str, str, str]:
    match = _LOCATION.fullmatch(url)
    if match is None:
        raise ValueError("one container goes behind one slash")
    return match["host"] or "", match["port"] or "", match["container"] or DEFAULT_CONTAINER


def _of_account(account: str) -> str | None:
    """Return the key or the signature that the environment has for an account, as Azure's command line names them."""
    named = os.environ.get("AZURE_STORAGE_ACCOUNT")
    if named and named.lower() != account.lower():
        return None
    return os.environ.get("AZURE_STORAGE_KEY") or os.environ.get("AZURE_STORAGE_SAS_TOKEN") or None


def _is_of_account(connection_string: str, host: str) -> bool:
    """Return whether a connection string is of the account at `host`, which may be its name alone, in lower case.

    The portal's strings with a signature have no AccountName. Another host may begin with the name of an account too.
    """
    parts = {name: value.lower() for name, value in connection_parts(connection_string).items()}
    if name := parts.get("ACCOUNTNAME"):
        return name == host.partition(".")[0]
    endpoint = _BLOB_ENDPOINT.fullmatch(parts.get("BLOBENDPOINT", ""))
    if endpoint is None:
        return False
    return endpoint["host"] == host or (is_blob_host(endpoint["host"]) and endpoint["host"].partition(".")[0] == host)


def _identity() -> Credential:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise ImportError(
            "azure:// without AZURE_STORAGE_KEY or another credential in the environment needs azure-identity "
            f"({error}): pip install azure-identity"
        ) from error
    return DefaultAzureCredential()
