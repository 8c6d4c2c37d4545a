"""Errors of Azure's client, translated to those of this package. The client's own text may show signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

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


def error_code(error: Exception) -> str:
    """Return the error code of Blob Storage: "BlobNotFound", or ""."""
    code = getattr(error, "error_code", None)
    return str(code.value if isinstance(code, StorageErrorCode) else code or "")


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
        case 404:
            return PayloadNotFoundError(
                f"{token}: {account_url} has no such blob: it was deleted, or stored in another account"
            )
        case 401 | 403:
            return PayloadAccessDeniedError(
                f"{token}: {account_url} refused access to container {token.container!r} ({answer}): check the "
                "credential; an identity needs the role Storage Blob Data Contributor"
            )
        case 412:
            return PayloadIntegrityError(f"{token}: the blob was changed while it was read ({answer})")
        case int() if 300 <= status < 500 and status not in (408, 429) and code != "ContainerBeingDeleted":
            return PayloadError(f"{token}: {account_url} refused the request ({answer})")
        case None if isinstance(error, ClientAuthenticationError):
            return PayloadAccessDeniedError(
                f"{token}: there is no valid credential for {account_url}: {type(error).__name__}"
            )
        case _:
            # With a status of success, the body broke off.
            what = f"answered {answer}" if status is not None and status >= 300 else f"failed with {_cause(error)}"
            return PayloadStoreUnavailableError(
                f"{token}: {account_url} {what}, {attempts} times" if attempts > 1 else f"{token}: {account_url} {what}"
            )


def _cause(error: Exception) -> str:
    inner = error.inner_exception if isinstance(error, AzureError) else None
    return type(inner or error).__name__
