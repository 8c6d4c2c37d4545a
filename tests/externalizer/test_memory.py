"""A payload on its way out, in or back is in memory three times at the most, the message itself included."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.fixtures import ENGINES

if TYPE_CHECKING:
    from tests.support.azurite import Azurite

# The modules that are imported for the transfer, and what the allocator keeps.
_SLACK = 0.2
# Out: the message, its text and the bytes of that. In: the body, the parts of the payload and the payload; then that
# and the message. Back: the message as it was and is, and the bytes.
_COPIES = {"out": 3.0, "in": 2.76, "back": 3.0}
_IN_FROM_MEMORY = 2.0  # where the body is anyway


@pytest.mark.slow  # together: each transfer is a process
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
    way: str, form: str, store: str, azurite: Azurite, tmp_path: Path
) -> None:
    place = {"memory": "", "directory": str(tmp_path)}.get(store, azurite.connection_string)
    # One malloc arena: with more, glibc holds on to what another thread has freed, which is no copy of ours.
    done = subprocess.run(
        [sys.executable, "-m", "tests.externalizer.memory_probe", way, form, place, store],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    copies = float(done.stdout)
    most = _IN_FROM_MEMORY if (way, store) == ("in", "memory") else _COPIES[way]
    assert 1 < copies < most + _SLACK
