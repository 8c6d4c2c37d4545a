"""The contract of stores, on a real S3: all of it but a child that is forked after use, which is told what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.support.s3 import CONFIG

from durabletask_payloads import PayloadStore, PayloadStoreUnavailableError
from durabletask_payloads.stores.object_store import ObjectStorePayloadStore, ObjectStorePayloadStoreOptions
from durabletask_payloads.testing import MakeStore, PayloadStoreContract
from durabletask_payloads.testing._tools import in_child, require_round_trip, traffic

if TYPE_CHECKING:
    from tests.support.s3 import S3

    from durabletask_payloads import LargePayloadStorageOptions


class TestObjectStorePayloadStore(PayloadStoreContract):
    """Two places are two prefixes of one bucket."""

    secrets = (str(CONFIG["secret_access_key"]),)

    @pytest.fixture
    def make_store(self, s3: S3, bucket: str) -> MakeStore:
        def make(options: LargePayloadStorageOptions, place: str) -> ObjectStorePayloadStore:
            return ObjectStorePayloadStore(
                ObjectStorePayloadStoreOptions(
                    threshold_bytes=options.threshold_bytes,
                    max_stored_payload_bytes=options.max_stored_payload_bytes,
                    enable_compression=options.enable_compression,
                    url=f"s3://{bucket}/{place}",
                    config=s3.config(),
                )
            )

        return make

    def test_a_forked_child_uses_the_store(self, store: PayloadStore) -> None:
        require_round_trip(store)
        in_child(self.timeout_seconds, lambda: _is_refused(store))
        require_round_trip(store)

    def test_a_child_forked_in_the_middle(self, store: PayloadStore) -> None:
        with traffic(store, self.timeout_seconds):
            for _ in range(4):
                in_child(self.timeout_seconds, lambda: _is_refused(store))


def _is_refused(store: PayloadStore) -> None:
    with pytest.raises(PayloadStoreUnavailableError, match="use it only after the fork, or start processes by spawn"):
        store.upload(b"1")
    store.close()
