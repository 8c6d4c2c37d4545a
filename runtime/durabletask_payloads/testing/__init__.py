"""The contract of payload stores as a pytest suite, for authors of a store. Needs pytest 7 or newer.

Subclass `PayloadStoreContract` in a test module, with one fixture, and run pytest:

    class TestRedisStore(PayloadStoreContract):
        @pytest.fixture
        def make_store(self, redis_url: str) -> MakeStore:
            return lambda options, place: RedisStore(redis_url, options, prefix=place)

`make_store` returns a function that makes a store with some options at a place: a container, a folder, a prefix of
keys. Stores of one place read the payloads of each other, stores of different places do not. The suite names two
places, "first" and "second", and closes the stores that it made. A place may hold payloads of earlier tests. Where a
store keeps its payloads in the object itself, `make_store` has to share them among the stores of a place.

A store written for the `durabletask` SDK alone is held to `PayloadStoreLikeContract`: the part of the contract that an
`Externalizer` cannot do without.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as _error:
    raise ImportError(f"durabletask_payloads.testing needs pytest ({_error}): pip install pytest") from _error

# Failures then show the values that were compared, as in the author's own test modules.
pytest.register_assert_rewrite(
    "durabletask_payloads.testing._concurrency",
    "durabletask_payloads.testing._externalizer",
    "durabletask_payloads.testing._lifetime",
    "durabletask_payloads.testing._like",
    "durabletask_payloads.testing._payloads",
    "durabletask_payloads.testing._tokens",
)

from ._contract import PayloadStoreContract  # noqa: E402 - after the registration
from ._like import PayloadStoreLikeContract  # noqa: E402 - likewise
from ._tools import MakeStore, MakeStoreLike  # noqa: E402 - likewise

__all__ = ["MakeStore", "MakeStoreLike", "PayloadStoreContract", "PayloadStoreLikeContract"]
