"""The figures of a store, the facts about a payload, the rules of services, and the fields of RPCs."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.fixtures import needs_obstore
from tests.support.memory import peak_of

from durabletask_payloads import DirectoryPayloadStore, InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.operations import _fields, _tally
from durabletask_payloads.operations._fields import PayloadField, schema_fields
from durabletask_payloads.operations._lifecycle_policy import NoLifecycleError, lifecycle_policy
from durabletask_payloads.operations._show import payload_facts
from durabletask_payloads.operations._stats import GB, DayTally, Growth, store_stats
from durabletask_payloads.operations._tally import InstanceTally
from durabletask_payloads.stores._inventory import PARTITIONS, StoredPayload, inventory_of
from durabletask_payloads_walkers.tables import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.s3 import S3

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 3, 31, 12, tzinfo=timezone.utc)
PAYLOAD = StoredPayload("", "token", 100, NOON, "etag", True, "order-1", 400, None)


class Listed:
    """An inventory with one partition, of what it is given."""

    location = "nowhere"
    partitions: Sequence[str] = ("",)

    def __init__(self, *listed: StoredPayload, looked_at: StoredPayload | None = None) -> None:
        self._listed = listed
        self._looked_at = looked_at

    def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
        yield from self._listed

    def look(self, token: str) -> StoredPayload:
        assert self._looked_at is not None
        return self._looked_at

    def delete_unchanged(self, stored: StoredPayload) -> bool:
        raise AssertionError(stored)

    def name_of(self, token: str) -> str | None:
        raise AssertionError(token)

    def service_time(self) -> datetime:
        raise AssertionError


def aged(days: int, **changed: Any) -> StoredPayload:
    return replace(PAYLOAD, modified=NOON - timedelta(days), **changed)


def test_stats() -> None:
    inventory = Listed(
        aged(0),
        aged(6, stored_bytes=50, raw_bytes=None, instance_id="order-2"),
        aged(7, stored_bytes=1000, raw_bytes=1000, instance_id="order-3"),
        aged(29),
        aged(30, managed=False, instance_id=None),
        aged(0, token="", stored_bytes=10**9),
    )
    stats = store_stats(inventory, largest=2, price_per_gb=GB, now=NOON)
    assert (stats.payloads, stats.stored_bytes, stats.raw_bytes) == (5, 1350, 2200)
    assert stats.compression == round(2200 / 1300, 2)
    assert (stats.oldest, stats.newest) == (NOON - timedelta(30), NOON)
    assert (stats.unmanaged, stats.others, stats.without_instance, stats.undescribed) == (1, 1, 1, 0)
    assert (stats.instances, stats.largest) == (
        3,
        (InstanceTally("order-3", 1, 1000), InstanceTally("order-1", 2, 200)),
    )
    assert stats.growth == Growth(of_7_days=150, of_30_days=1250)
    assert stats.days[0] == DayTally("2026-03-01", 1, 100)
    assert [day.day for day in stats.days] == ["2026-03-01", "2026-03-02", "2026-03-24", "2026-03-25", "2026-03-31"]
    assert stats.cost is not None
    assert (stats.cost.per_month, stats.cost.per_month_in_30_days) == (1350, 2600)


def test_stats_of_an_empty_store(tmp_path: Path) -> None:
    with InMemoryPayloadStore() as store:
        stats = store_stats(inventory_of(store), price_per_gb=1)
    assert (stats.payloads, stats.compression, stats.oldest, stats.days, stats.largest) == (0, None, None, (), ())


def test_details_are_asked_for_where_the_listing_lacks_them() -> None:
    bare = aged(1, managed=None, instance_id=None, raw_bytes=None)
    inventory = Listed(bare, aged(0, instance_id="order-9"), looked_at=aged(1, instance_id="order-7"))
    without = store_stats(inventory)
    assert (without.undescribed, without.without_instance, without.raw_bytes) == (1, 1, 400)
    stats = store_stats(inventory, details=True)
    assert (stats.undescribed, stats.without_instance, stats.raw_bytes) == (0, 0, 800)
    assert [one.instance_id for one in stats.largest] == ["order-7", "order-9"]


@needs_obstore
def test_details_of_s3(s3: S3, bucket: str) -> None:
    with s3.store(f"s3://{bucket}/p") as store:
        for number in range(3):
            store.upload(b"1", instance_id=f"order-{number}")
        assert store_stats(inventory_of(store)).undescribed == 3
        assert store_stats(inventory_of(store), details=True).instances == 3


def test_progress_is_told_by_partition() -> None:
    told: list[tuple[int, int]] = []
    with InMemoryPayloadStore() as store:
        store_stats(inventory_of(store), on_partition=lambda done, of: told.append((done, of)))
    assert told[-1] == (len(PARTITIONS), len(PARTITIONS))
    assert len(told) == len(PARTITIONS)


def test_memory_does_not_grow_with_the_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 instances would be 5 MB in a dict."""
    monkeypatch.setattr(_tally, "_HELD", 500)

    class Many(Listed):
        def list_payloads(self, partition: str) -> Iterator[StoredPayload]:
            for number in range(20_000):
                yield replace(PAYLOAD, instance_id=f"order-{number:060}", stored_bytes=number)

    stats, peak = peak_of(lambda: store_stats(Many(), largest=1), 1_500_000)
    assert (stats.instances, stats.largest[0].stored_bytes) == (20_000, 19_999)
    assert peak < 1_500_000, peak


# ---- one payload ---------------------------------------------------------------------------------------------------


def test_the_facts_of_a_payload(tmp_path: Path) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        token = store.upload(b'"' + b"1" * 5000 + b'"', instance_id="order-1")
        facts, content = payload_facts(store, token)
    assert content == b'"' + b"1" * 5000 + b'"'
    assert (facts.instance_id, facts.raw_bytes, facts.compressed, facts.managed) == ("order-1", 5002, True, True)
    assert (facts.check, facts.trouble, facts.ok) == ("verified", None, True)


def test_a_payload_that_is_too_large_to_read(tmp_path: Path) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        token = store.upload(b"1" * 5000)
    small = LargePayloadStorageOptions(threshold_bytes=10, max_stored_payload_bytes=100)
    with DirectoryPayloadStore(tmp_path, small) as store:
        facts, content = payload_facts(store, token)
    assert (facts.check, facts.raw_bytes, content, facts.ok) == ("too large to read", 5000, None, False)


# ---- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "prefix", "command"),
    [
        ("https://acc.blob.core.windows.net/orders", "orders/", "--account-name acc "),
        ("az://orders/a/b", "orders/a/b/", "--account-name ACCOUNT "),
    ],
)
def test_the_rule_of_azure(location: str, prefix: str, command: str) -> None:
    policy = lifecycle_policy(location, 90)
    rule = {
        "enabled": True,
        "name": "durabletask-payloads",
        "type": "Lifecycle",
        "definition": {
            "actions": {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 90}}},
            "filters": {"blobTypes": ["blockBlob"], "prefixMatch": [prefix]},
        },
    }
    assert policy.policy == {"rules": [rule]}
    assert command in policy.command


@pytest.mark.parametrize(("location", "prefix"), [("s3://orders/a/b", "a/b/"), ("s3://orders", "")])
def test_the_rule_of_s3(location: str, prefix: str) -> None:
    policy = lifecycle_policy(location, 90)
    expiration = {"ID": "durabletask-payloads", "Status": "Enabled", "Expiration": {"Days": 90}}
    assert policy.policy == {"Rules": [{**expiration, "Filter": {"Prefix": prefix}}]}
    assert ("all objects in the bucket" in policy.note) == (not prefix)


def test_the_rule_of_google() -> None:
    condition = {"age": 90, "matchesPrefix": ["a/"]}
    policy = lifecycle_policy("gs://orders/a", 90)
    assert policy.policy == {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": condition}]}}


@pytest.mark.parametrize("location", ["file:///var/payloads", "memory:x", "http://127.0.0.1:10000/devstoreaccount1/x"])
def test_no_rules(location: str) -> None:
    with pytest.raises(NoLifecycleError):
        lifecycle_policy(location, 90)


# ---- fields --------------------------------------------------------------------------------------------------------


def test_the_fields_are_those_of_the_generated_report() -> None:
    report = (ROOT / "generated/PAYLOAD_FIELDS.md").read_text(encoding="utf-8")
    expected: dict[str, list[tuple[str, str]]] = {}
    for part in report.partition("## Every path")[2].split("### ")[1:]:
        rows = re.findall(r"^\| `\w+\.(\S+)` \| (payload|diagnostic) \|$", part, re.MULTILINE)
        if rows:
            expected[part.splitlines()[0].removesuffix(" (stream)")] = rows
    found = {
        f"{rpc.rpc}, {rpc.direction}": [(field.path, field.kind) for field in rpc.fields]
        for rpc in schema_fields().rpcs
    }
    assert found == expected
    assert len(found) > 15


def test_a_field_that_the_walkers_do_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {name: kind for name, kind in FIELDS.items() if name != "CreateInstanceRequest.input"}
    monkeypatch.setattr(_fields, "FIELDS", known)
    assert schema_fields().rpcs[0].fields == (PayloadField("input", "unknown"),)
