"""The examples run as their users run them, offline and against services, and print what they should."""

from __future__ import annotations

import base64
import json
import os
import re
import runpy
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from durabletask.client import OrchestrationStatus, TaskHubGrpcClient
from durabletask.worker import TaskHubGrpcWorker
from tests.examples.custom_store import SqlitePayloadStore
from tests.support.azurite import Azurite
from tests.support.certificate import certificate
from tests.support.fixtures import needs_sdk_payloads
from tests.support.sdk_backend import quiet, sdk_backend, without_idle_second

from durabletask_payloads.testing import MakeStore, PayloadStoreContract

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    Run: TypeAlias = Callable[[str], str]

FOLDER = Path(__file__).parent
# observability.py has a backend of the tests, which keeps trace contexts, and test_observability.py.
EXAMPLES = sorted(
    path.stem for path in FOLDER.glob("*.py") if not path.name.startswith("test_") and path.stem != "observability"
)

WITH_THE_SDKS_OWN = frozenset({"moving_from_payload_store"})  # payload_store=
PRINTED = {
    "azure_functions": """\
the host sent 120 characters, and got ...
activity 'upper' was scheduled with an input of 5,000,002 bytes
""",
    "azure_managed_identity": "set AZURE_STORAGE_ACCOUNT_URL to https://<account>.blob.core.windows.net\n",
    "custom_store": """\
sqlite:v1:...: 5,000,000 bytes
5,000,000 bytes came back
""",
    "entities_with_large_state": """\
COMPLETED: the entity counts 3 entries
its state has 5,400,000 characters
""",
    "moving_from_payload_store": """\
the worker has moved: COMPLETED, 5,000,000 characters
the client has moved: COMPLETED, 5,000,000 characters
""",
    "scheduler": "COMPLETED in task hub 'default': 5,000,000 characters arrived\n",
    "typed_walkers": """\
ActivityResponse.result: 5,000,000 bytes became blob:v1:dura...
the response now has 77 bytes
ActivityRequest.input: a token became 5,000,000 bytes
the request now has 5,000,016 bytes
""",
    "web_handler": """\
POST /documents with 6 MB: 202
GET /documents/...: COMPLETED, 6,000,000 characters
POST /documents with 12 MB: 413, the document is too large
""",
    "worker_and_client": """\
COMPLETED: 5,400,000 characters, HEAR YE!...
4 payloads were stored, 0 downloaded
""",
}
# They print more than that, which is not theirs to decide: each has a test below.
OTHERS = ["proto_upgrade", "testing_orchestrations"]
# Names of blobs, and the size of a response that has a time in it.
VARYING = re.compile(r"(?<=sqlite:v1:)\w+|(?<=and got )\d{3}$", re.MULTILINE)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the variables that lead an example to a service, and the second that a worker waits at its end."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "DURABLETASK_", "IDENTITY_")) or name in ("ENDPOINT", "TASKHUB"):
            monkeypatch.delenv(name)
    start: Callable[[TaskHubGrpcWorker], None] = TaskHubGrpcWorker.start

    def start_without_idle_second(worker: TaskHubGrpcWorker) -> None:
        without_idle_second(worker)
        start(worker)

    monkeypatch.setattr(TaskHubGrpcWorker, "start", start_without_idle_second)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs an example in this process, and returns what it printed."""

    def run(name: str) -> str:
        path = str(FOLDER / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path])
        ended = ""
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as error:
            ended = f"{error.code}\n"
        return capsys.readouterr().out + ended

    return run


def run_script(name: str, **environment: str) -> str:
    """Run an example in a process of its own, as its docstring says, and return what it printed."""
    command = [sys.executable, str(FOLDER / f"{name}.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# ---- offline -----------------------------------------------------------------------------------------------------


def test_each_example_has_a_test() -> None:
    assert sorted([*PRINTED, *OTHERS]) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_docstring_says_how_to_run_it(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    docstring = text.split('"""')[1]
    assert f"    python {name}.py" in docstring or f" python {name}.py\n" in docstring
    assert re.search(r"Needs\s`durabletask-payloads(\[[a-z,]+\])?`", docstring)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_the_documentation_quotes_is_marked_in_pairs(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    marks = re.findall(r"^ *# --8<-- \[(start|end):(\w+)\]$", text, flags=re.MULTILINE)
    assert text.count("--8<--") == len(marks)
    assert ("start", "main") in marks
    assert marks[::2] == [("start", section) for _, section in marks[1::2]]
    assert {kind for kind, _ in marks[1::2]} == {"end"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_sdk_payloads if name in WITH_THE_SDKS_OWN else ()) for name in PRINTED]
)
def test_what_it_prints(name: str, run: Run) -> None:
    assert VARYING.sub("...", run(name)) == PRINTED[name]


def test_it_runs_without_this_process() -> None:
    assert run_script("worker_and_client") == PRINTED["worker_and_client"]


def test_testing_orchestrations() -> None:
    assert re.search(r"^=+ 3 passed in ", run_script("testing_orchestrations"), flags=re.MULTILINE)


def test_proto_upgrade(run: Run) -> None:
    commands = run("proto_upgrade").split("$ durabletask-payloads-codegen ")[1:]
    assert [command.splitlines()[0] for command in commands] == [
        "generate",
        "diff protos upgraded",
        "generate",
        "generate",
        "fields",
    ]
    assert [re.findall(r"\(exit code (\d)\)", command) for command in commands] == [["0"], ["0"], ["2"], ["0"], ["0"]]
    _, diff, stopped, _, fields = commands
    assert "  + Shipping/Cancel\n" in diff
    assert "  + payload? CancelRequest.input as in ShipRequest.input\n" in diff
    assert '\n[CancelRequest]\ninput = "payload"  # proposal: as in ShipRequest.input\n' in stopped
    assert "Shipping/Cancel request: CancelRequest\n  payload    CancelRequest.input\n" in fields


# ---- against services --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["entities_with_large_state", "scheduler", "web_handler", "worker_and_client"])
def test_a_hub_and_a_store_of_ones_own(name: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DURABLETASK_PAYLOADS_STORE", tmp_path.as_uri())
    with sdk_backend() as address:
        monkeypatch.setenv("DURABLETASK_HUB", address)
        monkeypatch.setenv("ENDPOINT", f"http://{address}")
        monkeypatch.setenv("TASKHUB", "orders")
        assert run(name) == PRINTED[name].replace("'default'", "'orders'")
        with TaskHubGrpcClient(host_address=address, **quiet(TaskHubGrpcClient)) as client:
            states = client.get_all_orchestration_states()
    assert [state.runtime_status for state in states] == [OrchestrationStatus.COMPLETED]
    assert any(path.stat().st_size > 5_000 for path in tmp_path.rglob("*") if path.is_file())  # 5 MB, compressed


@needs_sdk_payloads
def test_moving_from_the_payload_store_of_the_sdk(run: Run, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    with sdk_backend() as address:
        monkeypatch.setenv("DURABLETASK_HUB", address)
        assert run("moving_from_payload_store") == PRINTED["moving_from_payload_store"]


def test_azure_managed_identity(tmp_path: Path) -> None:
    """The credential is the real one, and gets its tokens from a server that stands in for that of App Service."""
    certificate_file, key = certificate(tmp_path)
    options = ["--cert", str(certificate_file), "--key", str(key), "--oauth", "basic"]
    with Azurite(options=options) as server, identity_endpoint() as identity:
        printed = run_script(
            "azure_managed_identity",
            AZURE_STORAGE_ACCOUNT_URL=f"https://127.0.0.1:{server.port}/{server.account_name}",
            IDENTITY_ENDPOINT=identity,
            IDENTITY_HEADER="secret",
            SSL_CERT_FILE=str(certificate_file),
        )
    pattern = r"CreateInstanceRequest.input: 5,000,000 bytes, \d,\d{3} in the store\n1 deleted again\n"
    assert re.fullmatch(rf"BlobPayloadStore\(.*\)\n{pattern}", printed), printed


@contextmanager
def identity_endpoint() -> Generator[str]:
    """Serve access tokens as App Service does; they are of nobody, which Azurite does not check. Yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (resource,) = parse_qs(urlsplit(self.path).query)["resource"]
            if self.headers["X-IDENTITY-HEADER"] != "secret":
                self.send_error(401)
                return
            expires = int(time.time()) + 3600
            body = json.dumps(
                {"access_token": jwt(resource, expires), "expires_on": str(expires), "resource": resource}
            )
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/msi/token"
        finally:
            server.shutdown()
            thread.join()


def jwt(audience: str, expires: int) -> str:
    """Return a token without a signature."""
    claims = {
        "aud": audience,
        "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
        "nbf": expires - 3700,
        "iat": expires - 3700,
        "exp": expires,
    }
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])


# ---- the custom store --------------------------------------------------------------------------------------------


class TestCustomStore(PayloadStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda options, place: SqlitePayloadStore(tmp_path / f"{place}.sqlite", options)
