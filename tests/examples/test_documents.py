"""README and documentation: their Python runs, their commands exist, their links and quoted error texts are right."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from tests.checkers import USER
from tests.support.documents import DOCS, DOCUMENTS, PAGES, README, ROOT, Document
from tests.support.sdk_backend import sdk_backend
from tests.support.wheels import result, run

from durabletask_payloads import Externalizer, InMemoryPayloadStore
from durabletask_payloads.cli._app import COMMANDS
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.stores.azure_blob import BlobPayloadStore

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

    from durabletask.task import OrchestrationContext
    from tests.support.azurite import Azurite

# What tests/installed/test_wheel.py runs.
RUN_ELSEWHERE = {PAGES["writing-a-store.md"].name}
# In troubleshooting.md, what comes from elsewhere than from this package.
OF_OTHERS = {
    "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "RESOURCE_EXHAUSTED: Received message larger than max",
}
STARTS = [README, PAGES["index.md"]]


def name_of(document: Document) -> str:
    return document.name


def with_addresses(block: str, address: str, azurite: Azurite, folder: Path) -> str:
    """Fill in what an example leaves to its reader."""
    block = block.replace('host_address="..."', f"host_address={address!r}")
    block = block.replace('connection_string="..."', f"connection_string={azurite.connection_string!r}")
    block = block.replace("file:///var/payloads", (folder / "payloads").as_uri())
    assert '"..."' not in block
    return block


def length(_: OrchestrationContext, value: str) -> int:
    return len(value)


@pytest.mark.parametrize("document", STARTS, ids=name_of)
def test_the_integration(document: Document, azurite: Azurite, tmp_path: Path) -> None:
    (program,) = document.programs
    with sdk_backend() as address:
        names: dict[str, Any] = {}
        exec(with_addresses(program, address, azurite, tmp_path), names)
        worker, client, store = names["worker"], names["client"], names["store"]
        assert isinstance(worker, TaskHubGrpcWorker)
        assert isinstance(client, TaskHubGrpcClient)
        assert isinstance(store, BlobPayloadStore)
        worker.add_orchestrator(length)
        with store, worker, client:
            worker.start()
            instance = client.schedule_new_orchestration(length, input="x" * 5_000_000)
            state = client.wait_for_orchestration_completion(instance, timeout=60)
        assert state is not None
        assert state.runtime_status is OrchestrationStatus.COMPLETED
        assert state.serialized_output == "5000000"


@pytest.mark.parametrize(
    "document",
    [one for one in DOCUMENTS if one.programs and one not in STARTS and one.name not in RUN_ELSEWHERE],
    ids=name_of,
)
def test_python_runs(document: Document, azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a document run one after the other, as one program."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in document.programs:
        exec(with_addresses(block, "127.0.0.1:1", azurite, tmp_path), names)


def test_what_the_type_checkers_get() -> None:
    """The example of the page "Type checking" is the code that tests/checkers.py runs the checkers on."""
    assert PAGES["type-checking.md"].blocks("python") == [USER.read_text(encoding="utf-8")]


def test_readme_is_short() -> None:
    assert len(README.text.splitlines()) < 150


def test_the_names_that_readme_mentions_are_there() -> None:
    import durabletask_payloads

    for name in re.findall(r"`(\w+(?:Store|Error|Options))`", README.text):
        elsewhere = ("BlobPayloadStore", "ObjectStorePayloadStore")
        assert hasattr(durabletask_payloads, name) or name in elsewhere, name
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        assert hasattr(externalizer, "externalize_async")


# ---- links and commands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_resolve(document: Document) -> None:
    for path, anchor in document.links:
        target = (document.path.parent / path).resolve() if path else document.path
        assert target.exists(), f"{document.name} links to {path}"
        if anchor:
            assert anchor in Document.of(target).anchors, f"{document.name} links to {path}#{anchor}"


def commands_of(program: str) -> set[str]:
    """Return the commands that the --help of a command line lists: each begins a line, maybe in a frame."""
    done = subprocess.run([sys.executable, "-m", program, "--help"], capture_output=True, text=True, check=True)
    return set(re.findall(r"^[ │]+([a-z][\w-]+)(?=  |$)", done.stdout, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """What may follow the first word of a command: targets, commands, extras."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return {
        "make": set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE)),
        "durabletask-payloads": commands_of("durabletask_payloads.cli") | {"--help"},
        "durabletask-payloads-codegen": commands_of("durabletask_payloads_codegen.cli"),
        "pip": set(pyproject["project"]["optional-dependencies"]),
    }


@pytest.mark.parametrize("document", [one for one in DOCUMENTS if one.commands], ids=name_of)
def test_commands_exist(document: Document, known: dict[str, set[str]]) -> None:
    for command in document.commands:
        program, first, *_ = command.split()
        if program == "pip":
            extras = re.fullmatch(r"pip install 'durabletask-payloads\[([\w,-]+)\]'", command)
            assert extras is not None, command
            assert set(extras[1].split(",")) <= known["pip"], command
        else:
            assert first in known[program], command


@pytest.mark.parametrize("document", [README, PAGES["command-line.md"]], ids=name_of)
def test_every_command_is_in_the_table(document: Document) -> None:
    assert {command.name for command in COMMANDS} <= set(re.findall(r"^\| `([\w-]+)", document.text, re.MULTILINE))


def test_what_a_target_installs(tmp_path: Path) -> None:
    """The demo and the documentation need no checkers, no matplotlib and no Node.js: not all of dev.lock."""
    for target, all_of_it in (("demo", False), ("docs", False), ("test", True)):
        make = ("make", "--dry-run", f"VENV={tmp_path / 'new'}", target)
        assert ("install --quiet --disable-pip-version-check -r dev.lock" in run(*make, cwd=ROOT)) == all_of_it


# ---- error texts -----------------------------------------------------------------------------------------------------


def texts_of_the_package() -> str:
    """Return the literal texts of the runtime, one a line. What is put into them is a … there."""
    texts: list[str] = []
    for path in (ROOT / "runtime").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[-.\d]*\w|\{.*?\}", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(parts))
    return "\n".join(texts)


def test_quoted_errors_are_raised() -> None:
    """Each heading of the troubleshooting page is a text of this package, or one of those that others raise."""
    raised = texts_of_the_package()
    quoted = [heading.strip("`") for heading in PAGES["troubleshooting.md"].headings if heading.startswith("`")]
    assert set(quoted) >= OF_OTHERS
    for text in set(quoted) - OF_OTHERS:
        for fragment in re.split(r"\s*…\s*|[\[\]()]", text.removeprefix("ImportError: ")):
            assert fragment.strip() in raised, text


def test_what_a_worker_without_the_interceptor_ends_in(tmp_path: Path) -> None:
    """The first text of the troubleshooting page."""
    with (
        sdk_backend() as address,
        PayloadInterceptor(InMemoryPayloadStore()) as interceptor,
        TaskHubGrpcWorker(host_address=address) as worker,
        TaskHubGrpcClient(host_address=address, interceptors=[interceptor]) as client,
    ):
        worker.add_orchestrator(length)
        worker.start()
        instance = client.schedule_new_orchestration(length, input="x" * 300_000)
        state = client.wait_for_orchestration_completion(instance, timeout=60)
    assert state is not None
    assert state.failure_details is not None
    found = f"{state.failure_details.error_type}: {state.failure_details.message}"
    assert "JSONDecodeError" in found
    assert "Expecting value: line 1 column 1 (char 0)" in found


def test_the_loggers_are_named() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "runtime").rglob("*.py"))
    loggers = set(re.findall(r"getLogger\(\"durabletask_payloads\.(\w+)\"\)", sources))
    assert (
        set(re.findall(r"^\| `(\w+)` \| (?:ERROR|WARNING|INFO) \|", PAGES["observability.md"].text, re.MULTILINE))
        == loggers
    )


# ---- the site --------------------------------------------------------------------------------------------------------


@pytest.mark.tools
def test_the_site_is_built_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    mkdocs = (sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict")
    done = result(*mkdocs, "--config-file", DOCS / "mkdocs.yml", "--site-dir", tmp_path, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) == len(PAGES) + 1, "and the page for an address that does not exist"
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>", text)
        assert fetched == [], page
