"""What the interceptors change in the outcomes of tests, and whether that is known."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


class Outcome(NamedTuple):
    """How a test ended.

    Attributes:
        word: "passed", "failed", "error" (outside of the test itself), "skipped", "xfailed", "xpassed" or "not run".
        reason: why, in a line; empty where it passed.
    """

    word: str
    reason: str = ""


NOT_RUN = Outcome("not run")
Outcomes: TypeAlias = "dict[str, Outcome]"
# Runs tests by name, all without names, with (True) or without (False) the interceptors.
Ask: TypeAlias = "Callable[[str, bool], Outcome]"


@dataclass
class Record:
    """What the plugin wrote down of one run, of all its processes."""

    outcomes: Outcomes = field(default_factory=dict[str, Outcome])
    counts: Counter[str] = field(default_factory=Counter[str])


def read_record(folder: Path) -> Record:
    """Put together what the processes of a run wrote."""
    record = Record()
    for file in sorted(folder.glob("*.json")):
        part = json.loads(file.read_text(encoding="utf-8"))
        record.outcomes.update({name: Outcome(*outcome) for name, outcome in part["outcomes"].items()})
        record.counts.update(part["counts"])
    return record


def read_known(path: Path) -> dict[str, str]:
    """Read the differences that are known, as the reason by the name of the test.

    Raises:
        ValueError: one has no name or no reason, or is listed twice.
    """
    known: dict[str, str] = {}
    for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("difference", []):
        name, reason = entry.get("name"), entry.get("reason")
        if not name or not reason or name in known:
            raise ValueError(f"{path.name}: {entry} needs a name that is listed once, and a reason")
        known[name] = reason
    return known


class Difference(NamedTuple):
    """A test that ends otherwise with the interceptors."""

    name: str
    without: Outcome
    with_us: Outcome


@dataclass
class Comparison:
    """Two runs of the same tests.

    Attributes:
        passed: how many passed with and without.
        not_runnable: what did not pass in either run, by name, with the outcome without the interceptors.
        flaky: what differed in the first runs and not every time again.
        known, unknown: what differs each time, and is listed or not.
        stale: listed tests that ran and do not differ.
    """

    passed: int = 0
    not_runnable: Outcomes = field(default_factory=dict[str, Outcome])
    flaky: list[Difference] = field(default_factory=list["Difference"])
    known: list[Difference] = field(default_factory=list["Difference"])
    unknown: list[Difference] = field(default_factory=list["Difference"])
    stale: list[str] = field(default_factory=list[str])


def compare(without: Outcomes, with_us: Outcomes, known: Mapping[str, str], again: Ask) -> Comparison:
    """Compare two runs. A test that differs is asked `again`, twice each way, and is flaky if any two words agree."""
    result = Comparison()
    for name, difference in _pairs(without, with_us):
        if difference.without.word == difference.with_us.word:
            if difference.without.word == "passed":
                result.passed += 1
            else:
                result.not_runnable[name] = difference.without
            continue
        words = {interceptors: {again(name, interceptors).word for _ in range(2)} for interceptors in (False, True)}
        if (words[False] | {difference.without.word}) & (words[True] | {difference.with_us.word}):
            result.flaky.append(difference)
        else:
            (result.known if name in known else result.unknown).append(difference)
    differing = {difference.name for difference in result.known}
    flaky = {difference.name for difference in result.flaky}
    result.stale = [name for name in known if (name in without or name in with_us) and name not in differing | flaky]
    return result


def _pairs(without: Outcomes, with_us: Outcomes) -> Iterator[tuple[str, Difference]]:
    for name in sorted(without.keys() | with_us.keys()):
        yield name, Difference(name, without.get(name, NOT_RUN), with_us.get(name, NOT_RUN))
