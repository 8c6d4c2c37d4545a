"""Sweeps a simulated container in this process, broken off at random and gone on with: `scale_probe BLOBS [SEED]`.

Prints one line of JSON: what it took, and how much of that the simulation has without a sweep.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.operations.simulation import SimulatedContainer, SimulatedHub, is_garbage

from durabletask_payloads.operations._mentions import SweepState
from durabletask_payloads.operations._sweep import SweepSettings, sweep


def _most_memory() -> float:
    """Return the most memory that this process had, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, where the other figure may be that of the process which started this one
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(size: int, seed: int) -> None:
    container, hub = SimulatedContainer(size), SimulatedHub(size, size // 5)
    breaks = sorted(random.Random(seed).sample(range(size // 5), 3))

    def break_off(count: int) -> None:
        if breaks and count >= breaks[0]:
            del breaks[0]
            raise KeyboardInterrupt

    container.before_deletion = break_off
    before, began, resumptions = _most_memory(), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            state = SweepState(Path(folder) / "sweep.state")
            try:
                report = sweep(container, hub, state, SweepSettings(delete=True, rate=1e6))
                break
            except KeyboardInterrupt:
                resumptions += 1
            finally:
                state.close()
        seconds = time.monotonic() - began
    wrong = [number for number in range(size) if container.deleted[number] != is_garbage(number)]
    assert not wrong, f"{len(wrong)} of {size} are wrong, as {wrong[:5]}"
    assert report.tally.garbage == sum(container.deleted)
    assert report.tally.examined == size
    assert hub.read == size // 5
    print(
        json.dumps(
            {
                "blobs": size,
                "instances": size // 5,
                "resumptions": resumptions,
                "seconds": round(seconds, 1),
                "hub_seconds": round(report.run.hub_seconds, 1),
                "container_seconds": round(report.run.listing_seconds, 1),
                "most_mb": round(_most_memory()),
                "most_mb_before": round(before),
            }
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
