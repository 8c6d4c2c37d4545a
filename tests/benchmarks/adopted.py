"""An SDK that has adopted the walkers, see tests/examples/sdk_adoption, against the helpers that it had before.

As a program it does one `Job` that it gets as JSON, with the adopted SDK first in PYTHONPATH, and prints the medians.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from durabletask.payload import LargePayloadStorageOptions, PayloadStore, helpers
from tests.benchmarks import messages
from tests.benchmarks.processes import run
from tests.benchmarks.rows import Row
from tests.benchmarks.timing import calling, medians
from tests.examples.sdk_adoption.adopt import adopt, installed
from tests.examples.sdk_adoption.differential import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from timeit import Timer

_TOKEN_PREFIX = "blob:v1:"


@dataclass(frozen=True)
class Job:
    """What the process has to do.

    Attributes:
        original: the file of the helpers that were replaced.
        rounds, seconds: how often, and how long at a time; see `medians`.
    """

    original: str
    rounds: int
    seconds: float


class _Store(PayloadStore):
    """Has nothing to do here but to say that no text is a token, as the SDK's own store does: by the prefix."""

    def __init__(self) -> None:
        self._options = LargePayloadStorageOptions()

    @property
    def options(self) -> LargePayloadStorageOptions:
        return self._options

    def upload(self, data: bytes, *, instance_id: str | None = None) -> str:
        raise NotImplementedError

    async def upload_async(self, data: bytes, *, instance_id: str | None = None) -> str:
        raise NotImplementedError

    def download(self, token: str) -> bytes:
        raise NotImplementedError

    async def download_async(self, token: str) -> bytes:
        raise NotImplementedError

    def is_known_token(self, value: str) -> bool:
        return value.startswith(_TOKEN_PREFIX)


class _SayingStore(_Store):
    """Says that prefix, as the store of the adopted SDK does: the others are asked about each text."""

    @property
    def token_prefix(self) -> str:
        return _TOKEN_PREFIX


def adopted_rows(*, rounds: int, seconds: float) -> Iterator[Row]:
    """Messages in which nothing has to move, through the SDK's public functions."""
    with tempfile.TemporaryDirectory() as folder:
        adopt(Path(folder))
        job = Job(str(installed() / "payload" / "helpers.py"), rounds, seconds)
        outcome = run(__name__, job, first_in_path=folder)
    for case, least in (
        ("deexternalize, 1,000 events x 100 B", 15.0),
        ("deexternalize, 1,000 events x 100 B, prefix not said", 8.0),
        ("externalize, 100 actions x 100 B", 15.0),
    ):
        yield Row(f"adopted SDK: {case}", least, outcome[case]["original"], outcome[case]["adopted"])


def _main(job: Job) -> None:
    original = load(job.original)
    history = messages.orchestrator_request(messages.payloads(1_000, 100))
    response = messages.orchestrator_response(messages.payloads(100, 100))
    cases: dict[str, dict[str, Timer]] = {}
    for store, known in ((_SayingStore(), ""), (_Store(), ", prefix not said")):
        cases[f"deexternalize, 1,000 events x 100 B{known}"] = {
            "original": calling(original.deexternalize_payloads, history, store),
            "adopted": calling(helpers.deexternalize_payloads, history, store),
        }
    cases["externalize, 100 actions x 100 B"] = {
        "original": calling(original.externalize_payloads, response, store),
        "adopted": calling(helpers.externalize_payloads, response, store),
    }
    found = {case: medians(calls, rounds=job.rounds, seconds=job.seconds) for case, calls in cases.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    _main(Job(**json.loads(sys.argv[1])))
