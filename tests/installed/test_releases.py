"""The protos of one SDK release after the other, from one policy, as CONTRIBUTING.md has a maintainer do it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from tests.codegen.support import PB2_MODULE, POLICY, ROOT, contents

from durabletask_payloads_codegen.policy import load_policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from durabletask_payloads_codegen.policy import FieldKind

# Named here, so that a release of the SDK does not fail this test in a change of something else: the test asks for the
# newest once it is locked. From 1.4 on all, which bring no new field; before that, those around the two that do. 0.2.0
# is the first with the .proto at today's path.
WINDOWS = (
    ("0.2.0", "0.3.0", "0.4.0", "1.3.0"),
    ("1.3.0", "1.4.0", "1.5.0", "1.6.0"),
    ("1.6.0", "1.7.0", "1.7.1", "1.7.2"),
    ("1.7.2", "1.8.0", "1.9.0", "1.10.0"),
    ("1.10.0", "1.10.1", "1.11.0", "1.12.0"),
)
NEW_FIELDS = {"0.4.0": 12, "1.4.0": 10}  # and none since
ALL_FIELDS = {release for window in WINDOWS[2:] for release in window}
UNDECIDED = '"payload" | "diagnostic" | "metadata"'
# Proposals that are not what our policy says, by field.
CHANGED = {
    "ListInstanceIdsRequest.lastInstanceKey": UNDECIDED,
    "ListInstanceIdsResponse.lastInstanceKey": UNDECIDED,
    "ExecutionRewoundEvent.reason": '"payload"',  # like all reasons but that of RewindInstanceRequest
}

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each release, unpacked, and nothing that it depends on."""
    folder = tmp_path_factory.mktemp("wheels")

    def fetch(release: str) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", str(folder), f"durabletask=={release}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with zipfile.ZipFile(folder / f"durabletask-{release}-py3-none-any.whl") as wheel:
            wheel.extractall(folder / release)

    releases = sorted({release for window in WINDOWS for release in window})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fetch, releases))
    return {release: folder / release for release in releases}


class Maintainer:
    """Runs the command line in a folder, with a wheel in front of what is installed, and edits the policy.

    Attributes:
        ours: the kinds of all fields today.
        changed: the proposals that are not what our policy says, by field.
    """

    def __init__(self, tree: Path, ours: Mapping[str, FieldKind]) -> None:
        self.tree = tree
        self.policy = tree / "protos/payload_fields.toml"
        self.changed: dict[str, str] = {}
        self.ours = ours
        self._wheel = tree

    def take(self, wheel: Path) -> None:
        self._wheel = wheel

    def run(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "durabletask_payloads_codegen.cli", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(self._wheel)}
        done = subprocess.run(command, cwd=self.tree, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr if code else done.stdout

    def write_policy(self, kinds: Mapping[str, FieldKind]) -> None:
        tables: dict[str, list[str]] = {}
        for field, kind in kinds.items():
            message, _, name = field.rpartition(".")
            tables.setdefault(message, []).append(f'{name} = "{kind}"')
        blocks = ["\n".join([f"[{message}]", *lines]) for message, lines in tables.items()]
        self.policy.write_text("\n\n".join(blocks) + "\n")

    def paste(self, message: str) -> None:
        """Paste the printed lines where they say they belong, with the kinds that are ours."""
        _, _, *blocks = message.split("\n\n")
        for block in blocks:
            header, *lines = block.splitlines()
            there = re.fullmatch(r"# Add below (\[.+\]), which is there:", header)
            table = there[1] if there else header
            settings = [self._decide(table.strip('[]"'), line) for line in lines]
            if there:
                text = self.policy.read_text().replace(f"{table}\n", "\n".join([table, *settings, ""]))
            else:
                text = "\n".join([self.policy.read_text(), table, *settings, ""])
            self.policy.write_text(text)

    def _decide(self, message: str, line: str) -> str:
        setting = re.fullmatch(r"(?:# )?(\w+) = (.+?) +# .+", line)
        assert setting is not None, line
        field = f"{message}.{setting[1]}"
        kind = self.ours[field]
        if setting[2] != f'"{kind}"':
            self.changed[field] = setting[2]
        return f'{setting[1]} = "{kind}"'


def begun_at(wheel: Path, tree: Path) -> Maintainer:
    """With the policy of today, less the fields that the release does not have."""
    (tree / "protos").mkdir(parents=True)
    maintainer = Maintainer(tree, load_policy(POLICY).kinds)
    maintainer.take(wheel)
    maintainer.run("import-proto", PB2_MODULE, "--output", "protos")
    maintainer.write_policy(maintainer.ours)
    if wheel.name in ALL_FIELDS:
        maintainer.run("generate")
        return maintainer
    gone = re.search(r"no such StringValue field: (.+) \(remove\)\n$", maintainer.run("generate", code=2))
    assert gone is not None
    missing = gone[1].split(", ")
    maintainer.write_policy({field: kind for field, kind in maintainer.ours.items() if field not in missing})
    maintainer.run("generate")
    return maintainer


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: f"{window[0]} to {window[-1]}")
def test_one_release_after_the_other_from_one_policy(
    window: tuple[str, ...], wheels: dict[str, Path], tmp_path: Path
) -> None:
    """Each window begins where the one before ends, with the policy that there is then."""
    maintainer = begun_at(wheels[window[0]], tmp_path / "tree")
    stopped: dict[str, int] = {}
    for release in window[1:]:
        maintainer.take(wheels[release])
        same = "No difference in payloads." in maintainer.run("diff", "protos", PB2_MODULE)
        maintainer.run("import-proto", PB2_MODULE, "--output", "protos")
        if not same:
            before = contents(maintainer.tree)
            known = load_policy(maintainer.policy).kinds
            lines = maintainer.run("generate", code=2)
            assert contents(maintainer.tree) == before
            maintainer.paste(lines)
            stopped[release] = len(load_policy(maintainer.policy).kinds) - len(known)
        maintainer.run("generate")

    assert stopped == {release: new for release, new in NEW_FIELDS.items() if release in window[1:]}
    assert maintainer.changed == (CHANGED if "1.4.0" in stopped else {})
    kinds = load_policy(maintainer.policy).kinds
    assert maintainer.ours.items() >= kinds.items()
    assert (kinds == maintainer.ours) is (window[0] != "0.2.0")  # 1.4.0 brings the last of them


def test_the_newest_release_gives_what_is_checked_in(wheels: dict[str, Path], tmp_path: Path) -> None:
    newest = WINDOWS[-1][-1]
    assert newest == version("durabletask"), "add the releases since then to WINDOWS"
    maintainer = begun_at(wheels[newest], tmp_path / "tree")
    written = {name: text for name, text in contents(ROOT / "generated").items() if "__pycache__" not in name}
    written = {name: text for name, text in written.items() if not name.startswith("durabletask_payloads_protos/")}
    assert contents(maintainer.tree / "generated") == written
