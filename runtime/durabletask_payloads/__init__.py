"""Large payloads of Durable Task orchestrations: moved out of the gRPC messages into a store, and back.

With the `durabletask` SDK, add `durabletask_payloads.interceptors.PayloadInterceptor` to its worker and client. By
hand, use an `Externalizer`, or the functions of the generated package `durabletask_payloads_walkers`.
"""

from ._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
    SchemaMismatchError,
)
from ._options import LargePayloadStorageOptions
from ._version import __version__
from .externalizer._externalizer import Externalizer
from .externalizer._functions import (
    deexternalize_payloads,
    deexternalize_payloads_async,
    externalize_payloads,
    externalize_payloads_async,
)
from .externalizer._plan import DeexternalizePlan, ExternalizePlan, PlannedDownload, PlannedUpload
from .externalizer._planning import OverBudget, UploadPlan
from .externalizer._receipt import ExternalizedPayload, PayloadStats, Receipt
from .observers import Abandonment, PayloadObserver, Purge, Substitution, TraceParent, Transfer, TransferFailure
from .stores import DirectoryPayloadStore, InMemoryPayloadStore
from .stores._base import PayloadStore, PayloadStoreLike
from .stores._from_url import store_from_url

__all__ = [
    "Abandonment",
    "DeexternalizePlan",
    "DirectoryPayloadStore",
    "ExternalizePlan",
    "ExternalizedPayload",
    "Externalizer",
    "InMemoryPayloadStore",
    "LargePayloadStorageOptions",
    "OverBudget",
    "PayloadAccessDeniedError",
    "PayloadError",
    "PayloadIntegrityError",
    "PayloadNotFoundError",
    "PayloadObserver",
    "PayloadStats",
    "PayloadStore",
    "PayloadStoreLike",
    "PayloadStoreUnavailableError",
    "PayloadTokenError",
    "PayloadTooLargeError",
    "PlannedDownload",
    "PlannedUpload",
    "Purge",
    "Receipt",
    "SchemaMismatchError",
    "Substitution",
    "TraceParent",
    "Transfer",
    "TransferFailure",
    "UploadPlan",
    "__version__",
    "deexternalize_payloads",
    "deexternalize_payloads_async",
    "externalize_payloads",
    "externalize_payloads_async",
    "store_from_url",
]
