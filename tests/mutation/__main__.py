"""`make mutants ARGS="tokens codec"`: mutates modules, and fails if a mutant survives that is not explained."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from tests.mutation.mutants import Key
from tests.mutation.run import NotGreenError, run
from tests.mutation.survivors import FILE, explained
from tests.mutation.targets import ROOT, TARGETS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tests.mutation.run import Verdict

_LOG = ROOT / "build" / "mutants.log"


class Row(NamedTuple):
    """What became of the mutants of one module."""

    module: str
    mutants: int
    killed: int
    timed_out: int
    survived: int
    explained: int

    @classmethod
    def of(cls, module: str, verdicts: Sequence[Verdict], reasons: Mapping[Key, str]) -> Row:
        survivors = [verdict for verdict in verdicts if verdict.survived]
        return cls(
            module,
            len(verdicts),
            len(verdicts) - len(survivors),
            sum(verdict.timed_out for verdict in verdicts),
            len(survivors),
            sum(verdict.key in reasons for verdict in survivors),
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; all by default")
    parser.add_argument("--processes", type=int, default=2, help="how many mutants run at a time")
    parser.add_argument("--again", action="store_true", help="only the mutants that survived in the last run")
    arguments = parser.parse_args()
    targets: list[str] = arguments.targets or list(TARGETS)
    if wrong := set(targets) - set(TARGETS):
        parser.error(f"no target: {', '.join(sorted(wrong))}")
    reasons = explained(FILE.read_text(encoding="utf-8"))
    _LOG.parent.mkdir(exist_ok=True)
    table = Table("module", *("mutants", "killed", "by time", "survived", "explained", "seconds"), box=None)
    problems = 0
    for name in targets:
        began = time.monotonic()
        try:
            verdicts = run(TARGETS[name], arguments.processes, _LOG, _survivors(name) if arguments.again else None)
        except NotGreenError as error:
            print(error, file=sys.stderr)
            return 2
        seconds = time.monotonic() - began
        survivors = sorted({verdict.key for verdict in verdicts if verdict.survived})
        _survivors_file(name).write_text(json.dumps(survivors, indent=1), encoding="utf-8")
        for module in TARGETS[name].modules:
            of_module = [verdict for verdict in verdicts if verdict.key.module == module]
            row = Row.of(module.partition("/")[2], of_module, reasons)
            table.add_row(*map(str, row), f"{seconds:.0f}")
            seconds = 0.0
        problems += _report(verdicts, reasons)
    Console(width=140).print(table)
    return 1 if problems else 0


def _survivors_file(target: str) -> Path:
    return _LOG.with_name(f"mutants-{target}.json")


def _survivors(target: str) -> set[Key]:
    """Return the mutants that survived in the last run."""
    return {Key(*key) for key in json.loads(_survivors_file(target).read_text(encoding="utf-8"))}


def _report(verdicts: Sequence[Verdict], reasons: Mapping[Key, str]) -> int:
    """Print the mutants that survived without a reason and those that died with one; return how many there are."""
    unexplained = {verdict.key: verdict for verdict in verdicts if verdict.survived and verdict.key not in reasons}
    for key, verdict in unexplained.items():
        print(f"survived {verdict.tests} tests: {key.module} {key.function}\n    {key.line}\n    {key.mutation}")
    survived = {verdict.key for verdict in verdicts if verdict.survived}
    dead = {verdict.key for verdict in verdicts if verdict.key in reasons} - survived
    for key in sorted(dead):
        print(f"explained in {FILE.name}, but killed: {key.module} {key.function}\n    {key.line}\n    {key.mutation}")
    return len(unexplained) + len(dead)


if __name__ == "__main__":
    sys.exit(main())
