"""What the errors of Azure's client say of an attempt. Their own text may show signatures."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from traceback import walk_tb
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from aiohttp import ClientConnectionError, ClientConnectorError, ClientPayloadError
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestTimeoutError,
    ServiceResponseTimeoutError,
)
from azure.storage.blob import StorageErrorCode

from ._blob_client import BROKEN_OFF, NO_ANSWER, RequestFailedError, unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

# How much of a credential's text goes into an error, in characters.
_LONGEST_REASON: Final = 480
# What a credential may quote in its text: the values of parameters, and tokens.
_SECRET: Final = re.compile(
    r"(?i)\b(?:sig|signature|secret|client_secret|password|assertion|client_assertion|\w*token|\w*key)=[^\s&;]+"
    r"|\beyJ[\w-]+\.[\w.-]+"
)

_TIMED_OUT: Final = (ServiceResponseTimeoutError, ServiceRequestTimeoutError, asyncio.TimeoutError, TimeoutError)
_BROKEN: Final = (ClientConnectionError, ClientPayloadError, IncompleteReadError, ConnectionError)
# The packages whose frames have ended, or still run, when an error has passed them.
_OF_CLIENT: Final = frozenset({"aiohappyeyeballs", "aiohttp", "asyncio", "azure"})


def error_code(error: Exception) -> str:
    """Return the error code of Blob Storage: "BlobNotFound", or ""."""
    code = getattr(error, "error_code", None)
    return str(code.value if isinstance(code, StorageErrorCode) else code or "")


def failure_of(error: Exception, account_url: str) -> RequestFailedError:
    """Return what an error of the client says of an attempt."""
    response = error.response if isinstance(error, HttpResponseError) else None
    if isinstance(error, ClientAuthenticationError) and _is_of_credential(error, account_url):
        return RequestFailedError(credential=_reasons(error))
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if status is not None and status >= 300:  # with a status of success, the body broke off
        # The type of a response leaves its headers out; there is none if the response broke off.
        text = cast("Mapping[str, str]", getattr(response, "headers", {})).get("Retry-After", "")
        return RequestFailedError(status, error_code(error), retry_after=float(text) if text.isdecimal() else 0.0)
    cause = (error.inner_exception if isinstance(error, AzureError) else None) or error
    if isinstance(cause, ClientConnectorError):
        return unreachable(f"{cause.host}:{cause.port}", _reason(cause.os_error))
    if isinstance(cause, _TIMED_OUT):
        return RequestFailedError(trouble=NO_ANSWER)
    if isinstance(cause, _BROKEN):
        return RequestFailedError(trouble=BROKEN_OFF)
    return RequestFailedError(trouble=f"failed with {type(cause).__name__}")


def clear_locals(failure: RequestFailedError) -> None:
    """Clear the local variables of the client in the tracebacks of `failure` and its causes. Nothing else changes.

    Some of them hold the error itself, which would keep the payload until the garbage collector runs.
    """
    pending: list[BaseException | None] = [failure]
    seen: set[int] = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        pending.append(one.__cause__ if one.__suppress_context__ else one.__context__)
        pending.append(one.inner_exception if isinstance(one, AzureError) else None)
        for frame, _ in walk_tb(one.__traceback__):
            # A coroutine of a credential may have dealt with the error, and go on: clearing it would end it.
            if str(frame.f_globals.get("__name__")).partition(".")[0] in _OF_CLIENT:
                with suppress(RuntimeError):  # it still runs
                    frame.clear()


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
        re.sub(rf"{re.escape(name)} authentication unavailable[,.]? ?", "", reason).partition(". ")[0].rstrip(".")
        or "unavailable"
        for name, reason in re.findall(r"^\t(\w+): (.*)$", text, re.MULTILINE)
    ]
    names = [name.removesuffix("Credential") for name in re.findall(r"^\t(\w+): ", text, re.MULTILINE)]
    parts = [f"{name}: {reason}" for name, reason in zip(names, reasons, strict=True)] or [" ".join(text.split())]
    return "; ".join(_cut(parts, _LONGEST_REASON - len("; ") * (len(parts) - 1)))


def _cut(parts: list[str], longest: int) -> list[str]:
    """Return `parts` cut to `longest` characters together: those that are short leave theirs to the others."""
    left, limit = longest, longest
    for done, size in enumerate(sorted(map(len, parts))):
        limit = left // (len(parts) - done)
        if size > limit:
            break
        left -= size
    return [part if len(part) <= limit else f"{part[: limit - 3].rstrip()}..." for part in parts]
