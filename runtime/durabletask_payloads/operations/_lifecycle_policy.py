"""The rules by which a storage service itself deletes old payloads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

Json: TypeAlias = "bool | int | str | list[Json] | dict[str, Json]"


class NoLifecycleError(Exception):
    """The store has nobody who would delete by a rule. The text is one line and says what to do instead."""


@dataclass(frozen=True, slots=True)
class LifecyclePolicy:
    """Rules for one container or bucket.

    Attributes:
        service: whose rules they are.
        policy: the rules, as the service takes them in JSON.
        command: sets them, from a file `policy.json`.
        note: what to know before that.
    """

    service: str
    policy: dict[str, Json]
    command: str
    note: str


_NAME = "durabletask-payloads"


def lifecycle_policy(location: str, days: int) -> LifecyclePolicy:
    """Return the rules that delete payloads of `location` (see `PayloadInventory`) some days after they were written.

    Raises:
        NoLifecycleError: a folder or memory has no such rules.
    """
    parts = urlsplit(location)
    prefix = parts.path.strip("/")
    match parts.scheme:
        case "https":
            return _azure(prefix, parts.netloc.partition(".")[0], days)
        case "http":
            raise NoLifecycleError(
                f"{location} is an emulator, which has no lifecycle rules: name an account in Azure, azure://<account>/<container>"
            )
        case "az":
            return _azure(f"{parts.netloc}/{prefix}".strip("/"), "ACCOUNT", days)
        case "s3":
            return _s3(parts.netloc, prefix, days)
        case "gs":
            return _gcs(parts.netloc, prefix, days)
        case _:
            raise NoLifecycleError(
                f"{location} is in no service that has lifecycle rules: run sweep on a schedule, with --hub or "
                "--older-than"
            )


def _azure(container_and_prefix: str, account: str, days: int) -> LifecyclePolicy:
    rule: dict[str, Json] = {
        "enabled": True,
        "name": _NAME,
        "type": "Lifecycle",
        "definition": {
            "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}},
            "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [f"{container_and_prefix}/"]},
        },
    }
    return LifecyclePolicy(
        "Azure Blob Storage",
        {"rules": [rule]},
        f"az storage account management-policy create --account-name {account} --resource-group GROUP "
        "--policy @policy.json",
        "It replaces the policy of the account: add the rule to the one that is there.",
    )


def _s3(bucket: str, prefix: str, days: int) -> LifecyclePolicy:
    rule: dict[str, Json] = {
        "ID": _NAME,
        "Status": "Enabled",
        "Filter": {"Prefix": f"{prefix}/" if prefix else ""},
        "Expiration": {"Days": days},
    }
    return LifecyclePolicy(
        "Amazon S3",
        {"Rules": [rule]},
        f"aws s3api put-bucket-lifecycle-configuration --bucket {bucket} --lifecycle-configuration file://policy.json",
        _bucket_note(prefix),
    )


def _gcs(bucket: str, prefix: str, days: int) -> LifecyclePolicy:
    condition: dict[str, Json] = {"age": days}
    if prefix:
        condition["matchesPrefix"] = [f"{prefix}/"]
    return LifecyclePolicy(
        "Google Cloud Storage",
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}},
        f"gcloud storage buckets update gs://{bucket} --lifecycle-file=policy.json",
        _bucket_note(prefix),
    )


def _bucket_note(prefix: str) -> str:
    replaced = "It replaces the rules of the bucket: add the rule to those that are there."
    return replaced if prefix else f"{replaced} It goes for all objects in the bucket: the store has no prefix."
