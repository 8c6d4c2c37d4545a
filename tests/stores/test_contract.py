"""The contract of stores: all of ours pass it, and each deliberately broken one fails it for its own reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from durabletask_payloads import DirectoryPayloadStore, InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions
from durabletask_payloads.testing import MakeStore, PayloadStoreContract

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.azurite import Azurite


class SharedMemory(InMemoryPayloadStore):
    """A store with the payloads of another one, where that exists: in memory each store is a place of its own."""

    def __init__(self, options: LargePayloadStorageOptions, place: str, first: InMemoryPayloadStore | None) -> None:
        super().__init__(options, container_name=place)
        if first is not None:
            self._stored = first._stored


class TestInMemoryPayloadStore(PayloadStoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        places: dict[str, InMemoryPayloadStore] = {}

        def make(options: LargePayloadStorageOptions, place: str) -> InMemoryPayloadStore:
            store = SharedMemory(options, place, places.get(place))
            return places.setdefault(place, store) and store

        return make


class TestDirectoryPayloadStore(PayloadStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda options, place: DirectoryPayloadStore(tmp_path / "payloads", options, container_name=place)


class TestBlobPayloadStore(PayloadStoreContract):
    secrets = ("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq",)

    @pytest.fixture
    def make_store(self, azurite: Azurite, container: str) -> MakeStore:
        def make(options: LargePayloadStorageOptions, place: str) -> BlobPayloadStore:
            return BlobPayloadStore(
                BlobPayloadStoreOptions(
                    threshold_bytes=options.threshold_bytes,
                    max_stored_payload_bytes=options.max_stored_payload_bytes,
                    enable_compression=options.enable_compression,
                    connection_string=azurite.connection_string,
                    container_name=f"{container}-{place}",
                )
            )

        return make
