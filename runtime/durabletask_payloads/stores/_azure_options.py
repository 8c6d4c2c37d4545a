"""Options of the Azure Blob store, and the checks of their values. Imports nothing of Azure."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, cast
from urllib.parse import urlsplit

from durabletask_payloads._options import BOOL, LargePayloadStorageOptions, check_timing, check_types

from ._tokens import DEFAULT_CONTAINER, check_container_name, normal_account_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential, TokenCredential
    from azure.core.credentials_async import AsyncTokenCredential

    AsyncCredential = str | dict[str, str] | AzureNamedKeyCredential | AzureSasCredential | AsyncTokenCredential
    Credential = AsyncCredential | TokenCredential

_LOCATION: Final = "the account URL of a trusted location"
_EXAMPLE: Final = "https://<account>.blob.core.windows.net"
_SHAPE: Final = "AccountName=<account>;AccountKey=<key>;EndpointSuffix=core.windows.net"
_BLOB_HOST: Final = re.compile(r"(?:^|\.)blob\.(?:core|storage\.azure)\.")
_OTHER_HOST: Final = re.compile(r"\.(dfs|file|queue|table)\.(core|storage\.azure)\.")


@dataclass
class BlobPayloadStoreOptions(LargePayloadStorageOptions):
    """Options of a `BlobPayloadStore`; the first five have the names of the `durabletask` SDK's own.

    They can be pickled if the credential can, and show no secret in their repr.

    Attributes:
        container_name: the container to write payloads to and read them from: "durabletask-payloads" by default.
        connection_string: of the storage account. Set either this or `account_url`.
        account_url: of the storage account, `https://<account>.blob.core.windows.net`, without a signature.
        credential: for `account_url`, which needs one: an account key, a SAS (AzureSasCredential), or a token
            credential of azure-identity. It serves the synchronous and the asynchronous methods alike: a synchronous
            credential is called in a thread; an asynchronous one is used on the store's own event loop, so do not
            share it with other clients. It is not closed with the store.
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
        engine: the client that serves: "auto" takes obstore where it is installed (`[fast]`), which takes half the CPU,
            and Azure's own client for what obstore cannot do; "azure-storage-blob" never takes obstore; "obstore"
            refuses to serve without it. Tokens, bodies, errors, timeouts and retries are the same.

    Raises:
        ValueError: a setting is out of its range or cannot be right, or two settings contradict each other. The text
            shows no secret.
        TypeError: a setting is of another type.
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
    engine: Literal["auto", "obstore", "azure-storage-blob"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_types()
        check_container_name(self.container_name)
        if (self.connection_string is None) == (self.account_url is None):
            raise ValueError("either connection_string or account_url (with credential) must be given, and not both")
        if self.connection_string is not None and self.credential is not None:
            raise ValueError("credential goes with account_url: a connection_string has its own")
        if self.connection_string is not None:
            check_connection_string(self.connection_string)
        if self.account_url is not None:
            _check_credential(self.credential, checked_account_url(self.account_url, "account_url"), "account_url")
        if self.token_version not in (1, 2):
            raise ValueError(f"token_version is {self.token_version}: it must be 1 or 2")
        if self.layout not in ("standard", "python-sdk"):
            raise ValueError(f'layout is {self.layout!r}: it must be "standard" or "python-sdk"')
        if self.layout == "python-sdk" and self.token_version != 1:
            raise ValueError('layout "python-sdk" needs token_version 1: the Python SDK reads no other')
        check_timing(self)
        if self.engine not in ("auto", "obstore", "azure-storage-blob"):
            raise ValueError(f'engine is {self.engine!r}: it must be "auto", "obstore" or "azure-storage-blob"')
        if self.engine == "obstore" and self.api_version is not None:
            raise ValueError('engine "obstore" has an API version of its own: leave api_version out, or the engine')
        for location in self.trusted_locations:
            account_url, _ = parse_location(location)
            _check_transport(self.credential, account_url, _LOCATION)

    def _check_types(self) -> None:
        check_types(self, ("container_name",), str, "text")
        check_types(self, ("account_url", "api_version"), str | None, "text, or None")
        check_types(self, ("create_container",), bool, BOOL)
        check_types(self, ("trusted_locations",), tuple | list, "a tuple of URLs")
        check_types(self, ("connection_string",), str | None, "text, or None", secret=True)


def parse_location(url: str) -> tuple[str, str]:
    """Return the account URL and the container of a trusted location, or raise ValueError."""
    if "?" in url or "#" in url:  # not quoted: there may be a signature in it
        raise ValueError("a trusted location must be the URL of a container, without query or fragment")
    account_url, _, container = url.rstrip("/").rpartition("/")
    if account_url.endswith(":/"):
        raise ValueError(
            "a trusted location has no container: it must be the URL of one, as in "
            "https://<account>.blob.core.windows.net/<container>"
        )
    account_url = checked_account_url(account_url, _LOCATION)
    check_container_name(container)
    return account_url, container


# ---- account URLs, connection strings, credentials: no text below quotes what may be a secret ---------------------


def checked_account_url(url: str, setting: str) -> str:
    """Return `url` as tokens have it, or raise ValueError that says what to change in `setting`."""
    _check_text(url, setting)
    if "AccountName=" in url or "AccountKey=" in url:
        raise ValueError(f"{setting} is a connection string: pass it as connection_string")
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise ValueError(f"{setting} {_without_scheme(url)}")
    if scheme.lower() not in ("http", "https"):
        raise ValueError(f"{setting} must begin with https:// (or http:// for an emulator), as in {_EXAMPLE}")
    if "?" in rest or "#" in rest:
        raise ValueError(
            f"{setting} must have no query or fragment: pass what stands before it, and a signature (SAS) as "
            "credential=AzureSasCredential(...)"
        )
    if "@" in rest:
        raise ValueError(f'{setting} must have no user information before an "@": pass a key as credential=...')
    try:
        normal = normal_account_url(url)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from None
    host = urlsplit(normal).hostname or ""
    if _OTHER_HOST.search(host):
        host = _OTHER_HOST.sub(r".blob.\2.", host)
        raise ValueError(f"{setting} is of another service than Blob Storage: use https://{host}")
    if is_blob_host(host) and normal.count("/") > 2:
        container = "container_name=..." if setting != _LOCATION else "one segment behind it"
        raise ValueError(
            f"{setting} must have no path: use {normal.rpartition('/')[0]}, and name the container with {container}"
        )
    return normal


def is_blob_host(host: str) -> bool:
    """Return whether `host`, in lower case, is one of Azure's own for Blob Storage, of whichever cloud."""
    return _BLOB_HOST.search(host) is not None


def check_connection_string(text: str) -> None:
    """Raise ValueError that says what to change, if `text` is no connection string of a storage account."""
    _check_text(text, "connection_string")
    if text.lower().startswith(("http://", "https://")):
        raise ValueError(
            "connection_string is a URL: pass what stands before the ? as account_url, and a signature (SAS) behind it "
            "as credential=AzureSasCredential(...)"
        )
    pairs = [part.partition("=") for part in text.rstrip(";").split(";")]
    if not all(name and separator for name, separator, _ in pairs):
        raise ValueError(f"connection_string must be parts of name=value with ; between them, as in {_SHAPE}")
    parts = connection_parts(text)
    if parts.get("USEDEVELOPMENTSTORAGE") == "true":
        return
    _check_parts(parts)
    suffix = parts.get("ENDPOINTSUFFIX", "core.windows.net")
    endpoint = parts.get("BLOBENDPOINT") or f"https://{parts.get('ACCOUNTNAME')}.blob.{suffix}"
    checked_account_url(endpoint, "the account URL of connection_string")


def _check_parts(parts: Mapping[str, str]) -> None:
    account, key = parts.get("ACCOUNTNAME"), parts.get("ACCOUNTKEY")
    if not account and not parts.get("BLOBENDPOINT"):
        raise ValueError(f"connection_string names no storage account: it must have AccountName, as in {_SHAPE}")
    if "BLOBSECONDARYENDPOINT" in parts and not parts.get("BLOBENDPOINT"):
        raise ValueError("connection_string has BlobSecondaryEndpoint, so it must have BlobEndpoint too")
    if parts.get("DEFAULTENDPOINTSPROTOCOL", "https").lower() not in ("http", "https"):
        raise ValueError("DefaultEndpointsProtocol of connection_string must be https (or http for an emulator)")
    signature = parts.get("SHAREDACCESSSIGNATURE")
    if signature:
        if "sig=" not in signature:
            raise ValueError(
                "SharedAccessSignature of connection_string is no signature (SAS), which has sig= in it: copy the "
                "whole of it again"
            )
    else:
        if not key:
            raise ValueError(
                "connection_string has no credential: it must have AccountKey or SharedAccessSignature; for an "
                "identity, use account_url with credential=DefaultAzureCredential()"
            )
        if not account:
            raise ValueError(f"connection_string has AccountKey, so it must have AccountName too, as in {_SHAPE}")
    if key:
        _check_key(key, "AccountKey of connection_string")


def connection_parts(text: str) -> dict[str, str]:
    """Return the parts of a connection string, by their names in capitals."""
    return {name.upper(): value for name, _, value in (part.partition("=") for part in text.rstrip(";").split(";"))}


def _check_text(text: str, setting: str) -> None:
    if text[:1] in ("'", '"') or text[-1:] in ("'", '"'):
        raise ValueError(f"{setting} has quotation marks around it: remove them")
    if re.search(r"\s", text):
        raise ValueError(f"{setting} has a space or a line break in it: remove it, text.strip() does at the ends")
    if not text:
        raise ValueError(f"{setting} is empty: is the variable that it comes from set?")


def _without_scheme(url: str) -> str:
    if re.fullmatch(r"[a-z0-9]{3,24}", url):
        return f"is {url!r}, which is only a name: use https://{url}.blob.core.windows.net"
    if match := re.match(r"/{0,2}([a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]+)?)(?:/|$)", url, re.IGNORECASE):
        return f"has no scheme: use https://{match[1]} (or http:// for an emulator)"
    return f"has no scheme: it must begin with https:// (or http:// for an emulator), as in {_EXAMPLE}"


def _check_credential(credential: object, account_url: str, setting: str) -> None:
    """Raise if `credential` is none for the account of `setting`: ValueError, TypeError for what is none at all."""
    if credential is None or credential == "":
        raise ValueError(
            f"{setting} needs a credential: an account key, AzureSasCredential(...), or one of azure-identity, as in "
            "credential=DefaultAzureCredential()"
        )
    if isinstance(credential, type):
        raise TypeError(f"credential is a class: pass an instance, as in credential={credential.__name__}()")
    _check_transport(credential, account_url, setting)
    if isinstance(credential, dict):
        named = cast("dict[object, object]", credential)
        if not (named.get("account_name") and named.get("account_key")):
            raise ValueError("credential is a dict, so it must have account_name and account_key")
        _check_key(str(named["account_key"]), "account_key of credential")
    elif isinstance(credential, str):
        if "sig=" not in credential:  # a SAS, which Azure's client takes as text too
            _check_key(credential, "credential")
            if not _names_account(account_url):
                raise ValueError(
                    f"credential is an account key, and {setting} {account_url} does not say of which account: pass "
                    'credential={"account_name": ..., "account_key": ...}'
                )
    elif named_key := getattr(credential, "named_key", None):
        _check_key(str(getattr(named_key, "key", "")), "the key of credential")
    elif not (hasattr(credential, "signature") or hasattr(credential, "get_token")):
        raise TypeError(
            f"credential is of type {type(credential).__name__}: it must be an account key, AzureSasCredential(...), "
            "or one of azure-identity, as in DefaultAzureCredential()"
        )


def _names_account(account_url: str) -> bool:
    """Return whether Azure's client finds the name of the account in the URL: in the path on this machine only."""
    parts = urlsplit(account_url)
    is_local = parts.netloc.startswith(("localhost", "127.0.0.1"))
    return ".blob.core." in parts.netloc or (is_local and len(parts.path) > 1)


def _check_transport(credential: object, account_url: str, setting: str) -> None:
    if hasattr(credential, "get_token") and not account_url.startswith("https:"):
        raise ValueError(
            f"{setting} must begin with https://, since credential is a token credential, which is never sent over "
            "http: an emulator takes an account key"
        )


def _check_key(key: str, setting: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except ValueError:
        raise ValueError(
            f"{setting} is no account key, which is base64: copy the whole key again, up to the = at its end"
        ) from None
