"""How often a replay goes to the store: counts, no times."""

from __future__ import annotations

import time

import pytest
from durabletask import client
from tests.benchmarks.chain import large_chain, working
from tests.support.sdk_backend import quiet_logger, sdk_backend

from durabletask_payloads import Externalizer, InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.interceptors import PayloadInterceptor


@pytest.mark.parametrize("length", [10, *(pytest.param(length, marks=pytest.mark.slow) for length in (50, 100))])
def test_a_chain_downloads_nothing_in_one_process_and_each_result_once_in_the_next(length: int) -> None:
    store = InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=1_000))
    with (
        sdk_backend() as address,
        client.TaskHubGrpcClient(host_address=address, logger=quiet_logger()) as hub,
        Externalizer(store) as first,
        Externalizer(store) as second,  # with a cache of its own, as in another process
    ):
        instance = hub.schedule_new_orchestration(large_chain, input=[length, 2_000, 1])
        with working(address, {"interceptors": [PayloadInterceptor(first)], "logger": quiet_logger()}):
            while (state := hub.get_orchestration_state(instance)) is None or not state.serialized_custom_status:
                time.sleep(0.02)
        with working(address, {"interceptors": [PayloadInterceptor(second)], "logger": quiet_logger()}):
            hub.raise_orchestration_event(instance, "go on")
            state = hub.wait_for_orchestration_completion(instance, timeout=60)
        assert state is not None
        assert state.serialized_output == str(length * 2_000)
        assert (first.stats.uploads, first.stats.downloads) == (length, 0)
        assert first.stats.cache_hits == length * (length + 1) // 2  # the downloads of who has no cache
        assert (second.stats.uploads, second.stats.downloads) == (0, length)
