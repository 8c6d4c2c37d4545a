"""Runs the SDK's own tests twice: as they are, and with our interceptors in every client and worker.

Fails at a test that ends otherwise with the interceptors, unless differences.toml has the reason; at an entry of it
that is out of date; and if hardly a payload moved.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.sdk_suite.comparison import NOT_RUN, Comparison, Outcome, Record, compare, read_known, read_record
from tests.sdk_suite.sources import LAST_WITH_TESTS, Source, source_of
from tests.support.wheels import Environment, FailedError, build, result

HERE = Path(__file__).parent
PLUGINS = ("-p", "no:cacheprovider", "-p", "payloads_everywhere")
OPTIONS = ("--quiet", "-c", "pytest.ini", "--timeout", "120", "--continue-on-collection-errors", *PLUGINS)
SETTINGS = "[pytest]\nasyncio_mode = auto\n"
# Hubs that the tests of a file share stay in one process.
IN_PARALLEL = ("--numprocesses", "2", "--dist", "loadfile")
# Fewer payloads each way mean that the interceptors were hardly there.
MOVED_AT_LEAST = 40
# Of pytest's exit codes: all passed, some failed. Others are no result of the tests.
RAN = (0, 1)


class Suite(NamedTuple):
    """The SDK's tests, and what runs them.

    Attributes:
        folder: holds `tests`, and the records of runs.
        python: the interpreter of an environment with the SDK and this package.
        threshold: of the interceptors, in bytes.
    """

    folder: Path
    python: Path
    threshold: int

    def run(self, tests: str, *, interceptors: bool, options: tuple[str, ...] = ()) -> Record:
        """Run a folder of tests, or one by name.

        Raises:
            FailedError: pytest could not run them.
        """
        (self.folder / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
        folder = Path(tempfile.mkdtemp(prefix="record-", dir=self.folder))
        switched_on = ("--threshold", str(self.threshold)) if interceptors else ()
        pytest = (self.python, "-m", "pytest", *OPTIONS, *options, *switched_on, "--record", folder, tests)
        done = result(*pytest, cwd=self.folder, environment={**os.environ, "PYTHONPATH": str(HERE)})
        record = read_record(folder)
        if done.returncode not in RAN or not record.outcomes:
            raise FailedError(f"pytest ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return record

    def again(self, name: str, interceptors: bool) -> Outcome:
        """Run one test alone."""
        return self.run(name, interceptors=interceptors).outcomes.get(name, NOT_RUN)

    def both(self) -> tuple[Record, Record]:
        """Run all tests, without and with the interceptors at the same time: they wait more than they work."""
        tests = "tests/durabletask" if (self.folder / "tests" / "durabletask").is_dir() else "tests"
        with ThreadPoolExecutor() as pool:
            without = pool.submit(self.run, tests, interceptors=False, options=IN_PARALLEL)
            with_us = pool.submit(self.run, tests, interceptors=True, options=IN_PARALLEL)
        return without.result(), with_us.result()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sdk_suite", description=__doc__)
    parser.add_argument("releases", nargs="*", default=[version("durabletask")], help="of the SDK; the locked one")
    parser.add_argument(
        "--tests",
        default=LAST_WITH_TESTS,
        help=f"a release whose sdist has tests, or the folder of a checkout of the SDK ({LAST_WITH_TESTS})",
    )
    parser.add_argument("--threshold", type=int, default=0, help="threshold of the interceptors, in bytes (0)")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sdk-suite-") as name:
        folder = Path(name)
        try:
            wheel = build(folder, "--wheel")
            source = source_of(asked.tests, folder / "sdist")
            failed = [one for one in asked.releases if not passes(one, source, wheel, folder / one, asked.threshold)]
        except FailedError as error:
            print(error, file=sys.stderr)
            return 1
    if failed:
        print(f"failed with durabletask {', '.join(failed)}")
    return 1 if failed else 0


def passes(release: str, source: Source, wheel: Path, folder: Path, threshold: int) -> bool:
    """Run the tests of `source` with a release of the SDK, and print what came of it.

    Raises:
        FailedError: the environment cannot be made, or pytest could not run the tests.
    """
    started = time.monotonic()
    environment = Environment(folder / "environment")
    environment.install(f"{wheel}{source.extras}", f"durabletask=={release}", *source.tools, locked=False)
    source.copy_tests(folder)
    installed = time.monotonic()
    suite = Suite(folder, environment.python, threshold)
    without, with_us = suite.both()
    comparison = compare(without.outcomes, with_us.outcomes, read_known(HERE / "differences.toml"), suite.again)
    seconds = f"{time.monotonic() - installed:.0f} s, and {installed - started:.0f} s for the environment"
    print(f"durabletask {release}, {len(with_us.outcomes)} tests of {source.checkout.name}: {seconds}")
    return report(comparison, with_us)


def report(comparison: Comparison, with_us: Record) -> bool:
    """Print what came of two runs, and return whether that is good."""
    counts = with_us.counts
    print(
        f"  {counts['externalized']} payloads externalized and {counts['deexternalized']} deexternalized, by "
        f"{counts['with']} clients and workers with interceptors; {counts['without']} with a channel or a store of "
        "their own were left alone"
    )
    print(f"  {comparison.passed} pass without and with interceptors")
    print(f"  {len(comparison.not_runnable)} are not runnable here, without and with interceptors")
    by_outcome: defaultdict[Outcome, list[str]] = defaultdict(list)
    for name, outcome in comparison.not_runnable.items():
        by_outcome[outcome].append(name)
    for outcome, names in by_outcome.items():
        print("\n      ".join([f"    {outcome.word}: {outcome.reason}", *names]))
    kinds = (("flaky", comparison.flaky), ("known to differ", comparison.known), ("DIFFERS", comparison.unknown))
    for kind, differences in kinds:
        for name, outcome, ours in differences:
            print(f"  {kind}: {name}: {outcome.word} without, {ours.word} with: {ours.reason or outcome.reason}")
    for name in comparison.stale:
        print(f"  OUT OF DATE: differences.toml lists {name}, which does not differ")
    few = min(counts["externalized"], counts["deexternalized"]) < MOVED_AT_LEAST
    if few:
        print(f"  TOO FEW payloads moved: {MOVED_AT_LEAST} each way are expected")
    return not (few or comparison.unknown or comparison.stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
