"""Plants defects and shows which tests find each: `python -m tests.mutation.defects [NAME ...]`.

A defect is a piece of text in a file and what replaces it: see defects.toml. Each is planted into a copy of the tree,
where the suite runs as far as the first tests that fail, those nearest to the change first. A test has found it if it
fails there twice, and passes in a copy without the defect. The exit status is 1 if a defect was found by none.

A name is `kind/place` or a pattern of such, as `outage/*` or `*/azure*`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import tomli

from .failures import FAILURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("defects.toml")
KINDS = (
    "dropped-field",
    "threshold",
    "early-commit",
    "shared-cache",
    "unpinned",
    "unbounded",
    "disorder",
    "deletion",
    "outage",
    "marker",
    "etag",
    "partial-listing",
)

_SOURCES = ("runtime", "generated", "codegen")
PROCESSES = ("--numprocesses", "2", "--dist", "worksteal")
_ENOUGH = 3
# Some defects make a call wait for ever. Both in seconds: of a test, and of a run.
_LONGEST_TEST = 60
_LONGEST_RUN = 1800
# Words in names of modules that tell nothing about which tests are near.
_SHORTEST_WORD = 4


class DefectError(Exception):
    """A defect cannot be planted, or the tests cannot be run."""


class Defect(NamedTuple):
    """A mistake to plant: in `file`, a path in the repository, `text` becomes `becomes`."""

    kind: str
    place: str
    file: str
    text: str
    becomes: str

    @property
    def name(self) -> str:
        return f"{self.kind}/{self.place}"

    def planted_in(self, source: str) -> str:
        """Return the text of the file with the mistake. Raises DefectError unless its place is there exactly once."""
        count = source.count(self.text)
        if count != 1:
            raise DefectError(
                f"{self.name}: its text is {count} times in {self.file}, and has to be there once: bring it up to date "
                f"in {TABLE.relative_to(ROOT)}, as the same mistake in the code as it is now:\n{self.text}"
            )
        return source.replace(self.text, self.becomes)


class Finding(NamedTuple):
    """Which tests found a defect, and how long that took, in seconds."""

    tests: Sequence[str]
    seconds: float


def load() -> list[Defect]:
    """Return the defects of the table."""
    table: dict[str, list[dict[str, str]]] = tomli.loads(TABLE.read_text(encoding="utf-8"))
    return [Defect(**entry) for entry in table["defect"]]


def nearest(file: str, tests: Path) -> Iterator[list[Path]]:
    """Yield what to run for a change of `file`, one after the other: test files, a folder, all.

    The folders of tests are named as those of the packages. The first files are those that share a word with the
    module in their names.
    """
    package, *path = Path(file).with_suffix("").parts
    inner = path[1:] if package == "runtime" else [package if package != "protos" else "codegen"]
    folder = tests.joinpath(*inner)
    while not folder.is_dir():
        folder = folder.parent
    words = [word for word in Path(file).stem.split("_") if len(word) >= _SHORTEST_WORD]
    named = sorted(path for path in folder.glob("test_*.py") if any(word in path.stem for word in words))
    if named:
        yield named
    if folder != tests:
        yield [folder]
    yield [tests]


class Tree:
    """A copy of the repository, in which pytest runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def failed(self, tests: Iterable[Path | str], seed: int, *options: str) -> list[str]:
        """Run those of `tests` that are not slow, and return the ids of the first that fail.

        Raises:
            DefectError: pytest did not run them.
        """
        failures = self.path / "build" / "failures.txt"
        failures.parent.mkdir(exist_ok=True)
        failures.write_text("", encoding="utf-8")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": os.pathsep.join(str(self.path / source) for source in _SOURCES),
            FAILURES: str(failures),
        }
        plugins = ("-p", "tests.mutation.failures", "-p", "no:cacheprovider", f"--randomly-seed={seed}")
        limits = ("--maxfail", str(_ENOUGH), "--timeout", str(_LONGEST_TEST), "-m", "not slow")
        # Whether a defect can be planted is no finding: where it is, it cannot be planted again.
        left_out = ("--ignore", "tests/mutation", "--ignore", "tests/installed")
        command = [sys.executable, "-m", "pytest", "--quiet", *plugins, *limits, *left_out, *options, *map(str, tests)]
        code, output = _ran(command, self.path, environment)
        found = list(dict.fromkeys(failures.read_text(encoding="utf-8").splitlines()))
        if not found and code not in (0, 5):  # 5: no test, as where all are slow
            raise DefectError(f"pytest ended with {code} in {self.path}:\n{output[-4000:]}")
        return found


def _ran(command: Sequence[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command to its end, or as long as a run may take, and all that it has started. Return code and output."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=_LONGEST_RUN)
        finally:
            with suppress(ProcessLookupError):  # nothing of it is left
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def copy(to: Path) -> Tree:
    """Copy the files that git knows, and new ones. The copy is a repository too: a test asks git for its files."""
    listed = _git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():  # not one that was deleted
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    _git(to, "init", "--quiet")
    _git(to, "add", "--all")
    (to / ".venv").symlink_to(ROOT / ".venv")
    return Tree(to)


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def _confirmed(suspects: Sequence[str], tree: Tree, clean: Tree, seed: int) -> list[str]:
    """Return those of `suspects`, which failed in `tree`, that pass without the defect and fail again with it."""
    without = set(clean.failed(suspects, seed)) if suspects else set[str]()
    tests = [test for test in suspects if test not in without]
    return tree.failed(tests, seed) if tests else []


def find(defect: Defect, clean: Tree, folder: Path, seed: int, *, near: bool = False) -> Finding:
    """Plant a defect into a copy of `clean`, in `folder`, and look for tests that find it: all, or the nearest only."""
    source = (clean.path / defect.file).read_text(encoding="utf-8")
    planted = defect.planted_in(source)
    began = time.monotonic()
    # With the compiled files, which Python takes by the time of the source: those of the planted one are made anew.
    tree = Tree(Path(shutil.copytree(clean.path, folder, symlinks=True)))
    (folder / defect.file).write_text(planted, encoding="utf-8")
    tests: list[str] = []
    stages = list(nearest(defect.file, folder / "tests"))
    for stage in stages[:-1] if near else stages:
        # To start further processes takes longer than to run a few files.
        suspects = tree.failed(stage, seed, *(PROCESSES if any(path.is_dir() for path in stage) else ()))
        tests = _confirmed(suspects, tree, clean, seed)
        if tests:
            break
    shutil.rmtree(folder)
    return Finding(tests, time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.defects", description="Plant defects.")
    parser.add_argument("names", nargs="*", default=["*"], metavar="NAME", help="kind/place, or a pattern (all)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the tests")
    parser.add_argument("--near", action="store_true", help="run the tests in the folder of the change only")
    parser.add_argument("--list", action="store_true", help="print the names, and do nothing")
    asked = parser.parse_args(arguments)
    names: list[str] = asked.names
    seed: int = asked.seed
    near: bool = asked.near
    chosen = [defect for defect in load() if any(fnmatch(defect.name, name) for name in names)]
    if not chosen:
        parser.error(f"no defect is named {' or '.join(names)}: --list prints the names")
    if asked.list:
        print(*(defect.name for defect in chosen), sep="\n")
        return 0
    width = max(len(defect.name) for defect in chosen)
    print(f"{'defect':<{width}}  seconds  found by", flush=True)
    missed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="defects-") as temporary:
        folder = Path(temporary).resolve()
        clean = copy(folder / "clean")
        for defect in chosen:
            try:
                finding = find(defect, clean, folder / "planted", seed, near=near)
            except DefectError as error:
                print(error, file=sys.stderr)
                return 2
            if not finding.tests:
                missed.append(defect.name)
            first, *rest = finding.tests or ["NO TEST"]
            print(f"{defect.name:<{width}}  {finding.seconds:7.1f}  {first}", flush=True)
            for test in rest:
                print(f"{'':<{width}}           {test}", flush=True)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} defects found")
    if missed:
        print(f"found by no test: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
