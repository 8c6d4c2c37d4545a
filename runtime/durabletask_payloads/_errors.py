"""The errors of this package, one tree. Each is raised `from` its cause where it has one.

None may have an attribute `code`: the SDK's interceptors take an exception that has one for a gRPC error, and call it.
"""

from __future__ import annotations


class PayloadError(Exception):
    """Base of all errors of this package.

    Attributes:
        permanent: False if trying again may help by itself. What becomes of a work item depends on more: see
            `durabletask_payloads.interceptors`.
        status: the HTTP status with which a service refused a request; None where there was no such answer.
    """

    permanent: bool = True
    status: int | None = None


class PayloadTooLargeError(PayloadError, ValueError):
    """A payload is over `max_stored_payload_bytes`, or a message over what gRPC accepts.

    Also a ValueError with "exceeds the maximum" in its text, as the payload helpers of the `durabletask` SDK raise.
    """


class PayloadNotFoundError(PayloadError):
    """The store has no payload under a token: deleted, or written to another store."""


class PayloadAccessDeniedError(PayloadError):
    """The store refused the credential, or its rights do not suffice."""


class PayloadTokenError(PayloadError, ValueError):
    """A text is not a token, or a token points to a place that this store may not read.

    Also a ValueError, as in the payload store of the `durabletask` SDK.
    """


class PayloadIntegrityError(PayloadError):
    """A stored body is truncated, is no gzip where it must be, or differs from its checksum."""


class PayloadStoreUnavailableError(PayloadError):
    """The store did not answer, or cannot serve now; or an Externalizer or store is closed. The only transient one."""

    permanent = False


class SchemaMismatchError(PayloadError):
    """A message class has StringValue fields that the generated walkers do not know (`strict=True`)."""
