"""Externalize and deexternalize messages: plan, validate, transfer, commit."""

from ._externalizer import Externalizer
from ._functions import (
    deexternalize_payloads,
    deexternalize_payloads_async,
    externalize_payloads,
    externalize_payloads_async,
)
from ._plan import DeexternalizePlan, ExternalizePlan, PlannedDownload, PlannedUpload
from ._planning import OverBudget, UploadPlan
from ._receipt import ExternalizedPayload, PayloadStats, Receipt, Transfer

__all__ = [
    "DeexternalizePlan",
    "ExternalizePlan",
    "ExternalizedPayload",
    "Externalizer",
    "OverBudget",
    "PayloadStats",
    "PlannedDownload",
    "PlannedUpload",
    "Receipt",
    "Transfer",
    "UploadPlan",
    "deexternalize_payloads",
    "deexternalize_payloads_async",
    "externalize_payloads",
    "externalize_payloads_async",
]
