"""The sweep at full length: `python -m tests.operations scale [BLOBS ...]`, and `... hub [SEEDS]`.

`scale` sweeps 10,000 to 1,000,000 blobs of a simulated hub with a fifth as many instances, each size in a process of
its own, broken off three times; it prints seconds, and the most memory in MB. `hub` plays 20 scenes with the SDK.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.operations.hub_at_work import play_and_sweep

_SIZES = ("10000", "100000", "1000000")


def main(what: str, *arguments: str) -> None:
    if what == "scale":
        for size in arguments or _SIZES:
            subprocess.run([sys.executable, "-m", "tests.operations.scale_probe", size], check=True)
        return
    for seed in range(1, int(arguments[0] if arguments else 20) + 1):
        with tempfile.TemporaryDirectory() as folder:
            print(play_and_sweep((Path(folder) / "payloads").as_uri(), seed, Path(folder)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
