"""`python -m tests.benchmarks`: all figures of this package against the `durabletask` wheel, in one run."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from rich.console import Console
from tests.benchmarks import chain, latency, report
from tests.benchmarks.adopted import adopted_rows
from tests.benchmarks.engines import engine_rows, speeds
from tests.benchmarks.in_memory import in_memory_rows
from tests.benchmarks.observed import import_row, observed_rows
from tests.benchmarks.overhead import overhead_rows
from tests.benchmarks.rows import Row
from tests.benchmarks.transfers import Transfers, gzip_row
from tests.benchmarks.walks import Walks
from tests.support.azurite import Azurite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.benchmarks.rows import Curve, Speeds

_PARTS = (
    "walks",
    "growth",
    "adopted",
    "gzip",
    "memory",
    "observers",
    "import",
    "transfers",
    "engines",
    "downloads",
    "chains",
    "overhead",
)
_ROUND_TRIP_SECONDS = 0.010
# From 100 to 10,000 events; the smoke size only has to show that it does not grow with their number.
_FLAT, _FLAT_IN_SMOKE = 1.25, 2.0


class Bench:
    """One run of the parts that were asked for.

    Args:
        smoke: short, for a third of each target.
    """

    def __init__(self, parts: Sequence[str], *, smoke: bool) -> None:
        self.rows: list[Row] = []
        self.curves: list[Curve] = []
        self.speeds: list[Speeds] = []
        self.per_event: Mapping[int, float] = {}
        self._parts = parts
        self._smoke = smoke
        self._walks = Walks(rounds=5, seconds=0.002) if smoke else Walks(rounds=15, seconds=0.01)

    def run(self, say: Console) -> None:
        for part in self._parts:
            started = time.monotonic()
            for row in self._rows_of(part):
                self.rows.append(row)
                say.print(f"  {row.case}", style="dim", highlight=False)
            say.print(f"{part}: {time.monotonic() - started:.0f} s", style="dim", highlight=False)

    def missed(self) -> list[str]:
        """A line for each target that was missed; in the smoke size, for each of which not even a third was reached."""
        lines = [
            f"{row.case}: {row.ratio:.2f}x of {row.target:.2f}x"
            if row.unit == "s"
            else f"{row.case}: {row.ours:.0f} downloads, {row.target:.0f} allowed"
            for row in self.rows
            if row.target is not None and not row.reaches(1 / 3 if self._smoke else 1)
        ]
        if self.per_event:
            most = max(self.per_event.values()) / min(self.per_event.values())
            limit = _FLAT_IN_SMOKE if self._smoke else _FLAT
            if most > limit:
                lines.append(f"time per event differs {most:.2f}x between 100 and 10,000 events, {limit}x allowed")
        return lines

    def _rows_of(self, part: str) -> Iterator[Row]:
        match part:
            case "walks":
                yield from self._walks.rows()
            case "growth":
                self.per_event = self._walks.per_event()
                if not self._smoke:
                    self.curves.append(self._walks.curve())
            case "adopted":
                yield from adopted_rows(rounds=5 if self._smoke else 15, seconds=0.002 if self._smoke else 0.02)
            case "gzip":
                yield gzip_row(rounds=3 if self._smoke else 9)
            case "memory":
                yield from in_memory_rows(rounds=3 if self._smoke else 25)
            case "observers":
                yield from observed_rows(rounds=5 if self._smoke else 25, seconds=0.002 if self._smoke else 0.02)
            case "import":
                yield import_row(rounds=3 if self._smoke else 15)
            case "transfers":
                yield from self._transfers()
            case "engines":
                yield from self._engines()
            case "downloads":
                yield from self._downloads((10,) if self._smoke else (10, 50, 100))
            case "chains":
                yield from self._chains()
            case "overhead":
                yield from overhead_rows(processes=1 if self._smoke else 5, rounds=10 if self._smoke else 30)
            case _:
                raise AssertionError(part)

    def _transfers(self) -> Iterator[Row]:
        with ExitStack() as stack:
            azurite = stack.enter_context(Azurite())
            port = stack.enter_context(latency.far_away(azurite.port, round_trip=_ROUND_TRIP_SECONDS))
            transfers = stack.enter_context(Transfers(_through(azurite, port)))
            yield from transfers.rows(count=20, rounds=1 if self._smoke else 5)
            if not self._smoke:
                self.curves.append(transfers.curve((1, 2, 5, 10, 20, 50, 100, 200)))

    def _engines(self) -> Iterator[Row]:
        rounds, share = (1, 0.1) if self._smoke else (5, 1.0)
        yield from engine_rows(rounds=rounds, share=share)
        if not self._smoke:
            self.speeds.extend(speeds((64_000, 256_000, 1_000_000, 4_000_000, 8_000_000), rounds=3))

    def _downloads(self, lengths: Sequence[int]) -> Iterator[Row]:
        for length in lengths:
            outcomes: dict[chain.Side, chain.Outcome] = {}
            for side in ("reference", "ours"):
                with tempfile.TemporaryDirectory() as folder:
                    job = chain.Job(side, "first", activities=length, result_bytes=2_000, folder=folder)
                    outcomes[side] = chain.run(job)
            theirs, ours = outcomes["reference"], outcomes["ours"]
            case = f"chain of {length}: downloads in"
            yield Row(f"{case} one process", 0, theirs.downloads, ours.downloads, unit="downloads")
            yield Row(
                f"{case} a second process", length, theirs.second_downloads, ours.second_downloads, unit="downloads"
            )

    def _chains(self) -> Iterator[Row]:
        length = 15 if self._smoke else 50
        with ExitStack() as stack:
            azurite = stack.enter_context(Azurite())
            port = stack.enter_context(latency.far_away(azurite.port, round_trip=_ROUND_TRIP_SECONDS))
            for where, at, least, rounds in (
                ("Azurite on loopback", azurite.connection_string, 2.5, 1 if self._smoke else 3),
                ("10 ms round trip", _through(azurite, port), 5.0, 1 if self._smoke else 2),
            ):
                times: dict[chain.Side, list[float]] = {"reference": [], "ours": []}
                for _ in range(rounds):
                    for side, seconds in times.items():
                        seconds.append(chain.run(chain.Job(side, activities=length, connection_string=at)).seconds)
                case = f"chain of {length} results of 1 MiB, {where}, wall"
                # The reference grows with the square of the length.
                target = least if length == 50 else 1.0
                yield Row(case, target, median(times["reference"]), median(times["ours"]))


def _through(azurite: Azurite, port: int) -> str:
    return azurite.connection_string.replace(f":{azurite.port}/", f":{port}/")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="under a minute; fails under a third of a target")
    parser.add_argument("--only", nargs="+", choices=_PARTS, default=_PARTS, metavar="PART", help=", ".join(_PARTS))
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), metavar="PATH", help="%(default)s")
    arguments = parser.parse_args()
    out: Path = arguments.json
    bench = Bench(arguments.only, smoke=arguments.smoke)
    bench.run(Console(stderr=True))
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(report.table(bench.rows))
    for curve in bench.curves:
        console.print(report.curve_table(curve))
    for one in bench.speeds:
        console.print(report.speed_table(one))
    for count, seconds in bench.per_event.items():
        console.print(f"{count:>6,} events: {seconds * 1e9:.0f} ns an event", highlight=False)
    report.write_json(out, bench.rows, bench.curves, bench.speeds, bench.per_event)
    if bench.curves or bench.speeds:
        report.draw(out.with_suffix(".svg"), bench.curves, bench.speeds)
    missed = bench.missed()
    for line in missed:
        console.print(f"missed: {line}", style="bold red", highlight=False)
    return 1 if missed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the SDK's threads may take seconds to end
