"""The protos of one SDK release after the other, from one policy, as CONTRIBUTING.md has a maintainer do it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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
RELEASES = (
    "0.2.0",
    "0.3.0",
    "0.4.0",
    "1.3.0",
    "1.4.0",
    "1.5.0",
    "1.6.0",
    "1.7.0",
    "1.7.1",
    "1.7.2",
    "1.8.0",
    "1.9.0",
    "1.10.0",
    "1.10.1",
    "1.11.0",
    "1.12.0",
)
UNDECIDED = '"payload" | "diagnostic" | "metadata"'


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, Path]:
    """A folder with the wheel of each release, and nothing that it depends on."""
    folders = {release: tmp_path / "wheels" / release for release in RELEASES}

    def install(release: str) -> None:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--no-deps", "--only-binary=:all:", "--target", str(folders[release]), f"durabletask=={release}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(install, RELEASES))
    return folders


class Maintainer:
    """Runs the command line in a folder, with a wheel in front of what is installed, and edits the policy.

    Attributes:
        changed: the proposals that are not what our policy says, by field.
    """

    def __init__(self, tree: Path, ours: Mapping[str, FieldKind]) -> None:
        self.tree = tree
        self.policy = tree / "protos/payload_fields.toml"
        self.changed: dict[str, str] = {}
        self._ours = ours
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
        kind = self._ours[field]
        if setting[2] != f'"{kind}"':
            self.changed[field] = setting[2]
        return f'{setting[1]} = "{kind}"'


@pytest.mark.timeout(300)
def test_each_release_from_one_policy(wheels: dict[str, Path], tmp_path: Path) -> None:
    assert RELEASES[-1] == version("durabletask"), "add the releases since then to RELEASES"
    tree = tmp_path / "tree"
    (tree / "protos").mkdir(parents=True)
    ours = load_policy(POLICY).kinds
    maintainer = Maintainer(tree, ours)

    maintainer.take(wheels[RELEASES[0]])
    maintainer.run("import-proto", PB2_MODULE, "--output", "protos")
    maintainer.write_policy(ours)
    gone = re.search(r"no such StringValue field: (.+) \(remove\)\n$", maintainer.run("generate", code=2))
    assert gone is not None
    maintainer.write_policy({field: kind for field, kind in ours.items() if field not in gone[1].split(", ")})
    maintainer.run("generate")

    stopped: dict[str, int] = {}
    differ: set[str] = set()
    for release in RELEASES[1:]:
        maintainer.take(wheels[release])
        if "No difference in payloads." not in maintainer.run("diff", "protos", PB2_MODULE):
            differ.add(release)
        maintainer.run("import-proto", PB2_MODULE, "--output", "protos")
        if release in differ:
            before = contents(tree)
            known = load_policy(maintainer.policy).kinds
            lines = maintainer.run("generate", code=2)
            assert contents(tree) == before
            maintainer.paste(lines)
            stopped[release] = len(load_policy(maintainer.policy).kinds) - len(known)
        maintainer.run("generate")

    assert stopped == {"0.4.0": 12, "1.4.0": 10}
    assert maintainer.changed == {
        "ListInstanceIdsRequest.lastInstanceKey": UNDECIDED,
        "ListInstanceIdsResponse.lastInstanceKey": UNDECIDED,
        "ExecutionRewoundEvent.reason": '"payload"',  # like all reasons but that of RewindInstanceRequest
    }
    assert load_policy(maintainer.policy).kinds == ours
    written = {name: text for name, text in contents(ROOT / "generated").items() if "__pycache__" not in name}
    written = {name: text for name, text in written.items() if not name.startswith("durabletask_payloads_protos/")}
    assert contents(tree / "generated") == written
