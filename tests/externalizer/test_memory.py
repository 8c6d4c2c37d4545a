"""A payload on its way out, in or back is in memory three times at the most, the message itself included."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.fixtures import ENGINES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.azurite import Azurite

# The modules that are imported for the transfer, and what the allocator keeps.
_SLACK = 0.2
# Out: the message, its text and the bytes of that. In: the body, the parts of the payload and the payload; then that
# and the message. Back: the message as it was and is, and the bytes.
_COPIES = {"out": 3.0, "in": 2.76, "back": 3.0}
_IN_FROM_MEMORY = 2.0  # where the body is anyway


@pytest.fixture(scope="module")
def copies() -> Iterator[Callable[[str, str, str, str], float]]:
    """What says how many copies of a payload a transfer has in memory: `tests.externalizer.memory_probe`."""
    # One malloc arena: with more, glibc holds on to what another thread has freed, which is no copy of ours.
    probe = subprocess.Popen(
        [sys.executable, "-m", "tests.externalizer.memory_probe"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with probe:  # which closes its input, and so ends it
        assert probe.stdin is not None
        assert probe.stdout is not None
        lines, answers = probe.stdin, probe.stdout

        def copies(way: str, form: str, place: str, store: str) -> float:
            print(json.dumps([way, form, place, store]), file=lines, flush=True)
            answer = json.loads(answers.readline())
            assert isinstance(answer, float), answer
            return answer

        yield copies


@pytest.mark.slow  # together
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize(
    ("way", "store"),
    # Not back with the store in memory: that holds what was uploaded, in the same memory.
    [
        *itertools.product(["out", "in"], ["memory", "directory", *ENGINES]),
        *itertools.product(["back"], ["directory", *ENGINES]),
    ],
)
def test_three_copies_of_a_payload_at_the_most(
    way: str,
    form: str,
    store: str,
    azurite: Azurite,
    tmp_path: Path,
    copies: Callable[[str, str, str, str], float],
) -> None:
    place = {"memory": "", "directory": str(tmp_path)}.get(store, azurite.connection_string)
    most = _IN_FROM_MEMORY if (way, store) == ("in", "memory") else _COPIES[way]
    assert 1 < copies(way, form, place, store) < most + _SLACK
