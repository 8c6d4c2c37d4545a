"""Errors of Azure's client, translated to those of this package. The client's own text may show signatures."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from aiohttp import ClientConnectorError
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.storage.blob import StorageErrorCode

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._tokens import PayloadToken

# How much of a credential's text goes into an error, in characters.
_LONGEST_REASON: Final = 340
# What a credential may quote in its text: the values of parameters, and tokens.
_SECRET: Final = re.compile(
    r"(?i)\b(?:sig|signature|secret|client_secret|password|assertion|client_assertion|\w*token|\w*key)=[^\s&;]+"
    r"|\beyJ[\w-]+\.[\w.-]+"
)


def error_code(error: Exception) -> str:
    """Return the error code of Blob Storage: "BlobNotFound", or ""."""
    code = getattr(error, "error_code", None)
    return str(code.value if isinstance(code, StorageErrorCode) else code or "")


def is_missing(error: Exception) -> bool:
    """Return True if Blob Storage says that a blob or its container does not exist, and not just any server 404."""
    return error_code(error) in ("BlobNotFound", "ContainerNotFound")


def retry_after(error: Exception) -> float:
    """Return how many seconds the service asks to wait, 0 if it does not."""
    response = error.response if isinstance(error, HttpResponseError) else None
    # The type of a response leaves its headers out; there is none if the response broke off.
    text = cast("Mapping[str, str]", getattr(response, "headers", {})).get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def translated(error: Exception, token: PayloadToken, account_url: str, attempts: int) -> PayloadError:
    """Return the error of this package for one of the client, after that many attempts."""
    status = error.status_code if isinstance(error, HttpResponseError) else None
    code = error_code(error)
    answer = f"{status} {code}".strip()
    match status:
        case 404 if code == "ContainerNotFound":
            return PayloadNotFoundError(
                f"{token}: the container {token.container!r} does not exist in {account_url}: set create_container, or "
                "create it, or use the same account on the client and on every worker"
            )
        case 404 if code == "BlobNotFound":
            return PayloadNotFoundError(
                f"{token}: {account_url} has no such blob: it was deleted, or stored in another account"
            )
        case _ if isinstance(error, ClientAuthenticationError) and _is_of_credential(error, account_url):
            return PayloadAccessDeniedError(
                f"{token}: there is no valid credential for {account_url}: {_reasons(error)}"
            )
        case 401 | 403:
            return PayloadAccessDeniedError(
                f"{token}: {account_url} refused access to container {token.container!r} ({answer}): check the "
                "credential; an identity needs the role Storage Blob Data Contributor"
            )
        case 412:
            return PayloadIntegrityError(f"{token}: the blob was changed while it was read ({answer})")
        case int() if 300 <= status < 500 and status not in (404, 408, 429) and code != "ContainerBeingDeleted":
            return PayloadError(f"{token}: {account_url} refused the request ({answer})")
        case _:
            times = f", {attempts} times" if attempts > 1 else ""
            return PayloadStoreUnavailableError(f"{token}: {account_url} {_trouble(error, status, answer, times)}")


def _trouble(error: Exception, status: int | None, answer: str, times: str) -> str:
    if status == 404:
        return (
            f"answered {answer}{times}, but not as Blob Storage does where a blob or container is missing: check the "
            "account URL, and what is between it and here"
        )
    if status is not None and status >= 300:  # with a status of success, the body broke off
        return f"answered {answer}{times}"
    cause = (error.inner_exception if isinstance(error, AzureError) else None) or error
    if isinstance(cause, ClientConnectorError):
        return (
            f"cannot be reached at {cause.host}:{cause.port} ({_reason(cause.os_error)}){times}: check the account "
            "URL, the network, and whether the emulator is running if it is one"
        )
    return f"failed with {type(cause).__name__}{times}"


def _reason(error: OSError) -> str:
    """Return why a connection failed: of a refused one, asyncio has only the address as the text."""
    if error.errno is not None and error.errno > 0 and "connect call failed" in str(error).lower():
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__


def _is_of_credential(error: ClientAuthenticationError, account_url: str) -> bool:
    """Return True if a credential raised `error`: without an answer, or with one of another host than the account."""
    if error.response is None:
        return True
    url = str(getattr(getattr(error.response, "request", None), "url", ""))
    refused = (error.status_code or 0) < 500
    return refused and urlsplit(url).hostname not in (None, urlsplit(account_url).hostname)


def _reasons(error: ClientAuthenticationError) -> str:
    """Return why a credential has no token, on one line. A chain of them has a line for each, which all get a share."""
    text = _SECRET.sub("...", str(error.message).partition("\nErrorCode:")[0])  # which the storage client appends
    reasons = [
        re.sub(rf"{re.escape(name)} authentication unavailable[,.]? ?", "", reason) or "unavailable"
        for name, reason in re.findall(r"^\t(\w+): (.*)$", text, re.MULTILINE)
    ]
    names = [name.removesuffix("Credential") for name in re.findall(r"^\t(\w+): ", text, re.MULTILINE)]
    parts = [f"{name}: {reason}" for name, reason in zip(names, reasons, strict=True)] or [" ".join(text.split())]
    share = _LONGEST_REASON // len(parts) - len("; ")
    return "; ".join(part if len(part) <= share else f"{part[: share - 3].rstrip()}..." for part in parts)
