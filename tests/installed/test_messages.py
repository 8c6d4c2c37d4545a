"""Mistakes that users make, with the installed wheel: each ends in a text that names it and the next step."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.wheels import ROOT, installed, result, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.azurite import Azurite

pytestmark = pytest.mark.timeout(300)

SECRET = "c2VjcmV0c2VjcmV0c2VjcmV0"
TOKEN = "blob:v1:durabletask-payloads:0123456789abcdef0123456789abcdef"
# A port of 127.0.0.1 that nobody listens on.
NOBODY = "127.0.0.1:9"
IMPORTS = f"""
from azure.identity import DefaultAzureCredential
from durabletask_payloads import *
from durabletask_payloads.interceptors import *
from durabletask_payloads.stores.azure_blob import *
key = "{SECRET}"
identity = DefaultAzureCredential()
"""


@pytest.fixture(scope="module")
def scripts(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment as the README installs one, with azure-identity."""
    return installed(dist, tmp_path_factory.mktemp("messages"), "[azure,sdk,cli]", "azure-identity")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a process that finds no credential: no command line of Azure, no identity of a machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "PYTHON"))}
    return {**kept, "PATH": str(tmp_path), "HOME": str(tmp_path), "AZURE_TOKEN_CREDENTIALS": "dev"}


# ---- arguments that cannot be right: told when an object is made ---------------------------------------------------

ACCOUNT = "https://acc.blob.core.windows.net"
ARGUMENTS = {
    f'at(account_url="http://{NOBODY}/acc", credential=identity)': (
        "ValueError: account_url must begin with https://, since credential is a token credential, which is never sent "
        "over http: an emulator takes an account key"
    ),
    f'at(account_url="{ACCOUNT}", credential="{SECRET}!")': (
        "ValueError: credential is no account key, which is base64: copy the whole key again, up to the = at its end"
    ),
    f'at(connection_string="AccountName=acc;AccountKey={SECRET}!")': (
        "ValueError: AccountKey of connection_string is no account key, which is base64: copy the whole key again, up "
        "to the = at its end"
    ),
    f'at(account_url="{ACCOUNT}")': (
        "ValueError: account_url needs a credential: an account key, AzureSasCredential(...), or one of "
        "azure-identity, as in credential=DefaultAzureCredential()"
    ),
    'at(account_url="acc.blob.core.windows.net", credential=key)': (
        f"ValueError: account_url has no scheme: use {ACCOUNT} (or http:// for an emulator)"
    ),
    'at(account_url="acc", credential=key)': (f"ValueError: account_url is 'acc', which is only a name: use {ACCOUNT}"),
    'at(account_url="https://acc.dfs.core.windows.net", credential=key)': (
        f"ValueError: account_url is of another service than Blob Storage: use {ACCOUNT}"
    ),
    f'at(account_url="{ACCOUNT}/payloads", credential=key)': (
        f"ValueError: account_url must have no path: use {ACCOUNT}, and name the container with container_name=..."
    ),
    f'at(account_url="{ACCOUNT}?sig={SECRET}", credential=key)': (
        "ValueError: account_url must have no query or fragment: pass what stands before it, and a signature (SAS) as "
        "credential=AzureSasCredential(...)"
    ),
    f"at(connection_string='\"AccountName=acc;AccountKey={SECRET}\"')": (
        "ValueError: connection_string has quotation marks around it: remove them"
    ),
    'at(connection_string="foo")': (
        "ValueError: connection_string must be parts of name=value with ; between them, as in "
        "AccountName=<account>;AccountKey=<key>;EndpointSuffix=core.windows.net"
    ),
    f'at(connection_string="AccountKey={SECRET}")': (
        "ValueError: connection_string names no storage account: it must have AccountName, as in "
        "AccountName=<account>;AccountKey=<key>;EndpointSuffix=core.windows.net"
    ),
    'at(connection_string="AccountName=acc")': (
        "ValueError: connection_string has no credential: it must have AccountKey or SharedAccessSignature; for an "
        "identity, use account_url with credential=DefaultAzureCredential()"
    ),
    f'BlobPayloadStore("AccountName=acc;AccountKey={SECRET}")': (
        "TypeError: BlobPayloadStore takes the BlobPayloadStoreOptions of this package, not str: "
        "BlobPayloadStore(BlobPayloadStoreOptions(connection_string=...))"
    ),
    f'Externalizer(at(account_url="{ACCOUNT}", credential=key))': (
        "TypeError: store is of type BlobPayloadStoreOptions, the options of one: pass the store that is made of them"
    ),
    "Externalizer(InMemoryPayloadStore)": (
        "TypeError: store is the class InMemoryPayloadStore: pass an instance of it"
    ),
    'Externalizer(InMemoryPayloadStore(), concurrency="8")': (
        "TypeError: concurrency is '8': it must be a number of transfers, as an int"
    ),
    'Externalizer(InMemoryPayloadStore(), cache_bytes="64M")': (
        "TypeError: cache_bytes is '64M': it must be a number of bytes, as an int"
    ),
    'Externalizer(InMemoryPayloadStore(), message_budget_bytes="3M")': (
        "TypeError: message_budget_bytes is '3M': it must be a number of bytes, as an int, or None"
    ),
    "PayloadInterceptor(None)": (
        "TypeError: store is of type NoneType: it must be a payload store, as in "
        "BlobPayloadStore(BlobPayloadStoreOptions(...))"
    ),
    "async_payload_interceptors(None)": (
        "TypeError: store is of type NoneType: it must be a payload store, as in "
        "BlobPayloadStore(BlobPayloadStoreOptions(...))"
    ),
    f'at(account_url="{ACCOUNT}", credential=key, threshold_bytes="256k")': (
        "TypeError: threshold_bytes is '256k': it must be a number of bytes, as an int"
    ),
}
EVALUATE = f"""{IMPORTS}
import json, sys
at = BlobPayloadStoreOptions
said = {{}}
for expression in json.loads(sys.argv[1]):
    try:
        said[expression] = repr(eval(expression))
    except Exception as error:
        said[expression] = f"{{type(error).__name__}}: {{error}}"
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each expression of ARGUMENTS ends in: one process evaluates them all."""
    shown = run(scripts / "python", "-c", EVALUATE, json.dumps(list(ARGUMENTS)), cwd=tmp_path_factory.mktemp("said"))
    texts: dict[str, str] = json.loads(shown)
    return texts


@pytest.mark.parametrize("expression", ARGUMENTS)
def test_an_argument_that_cannot_be_right(said: dict[str, str], expression: str) -> None:
    assert said[expression] == ARGUMENTS[expression]
    assert SECRET not in said[expression]


# ---- commands: one line, and an exit code --------------------------------------------------------------------------

COMMANDS = {
    "durabletask-payloads demo --store azure --connection-string foo": (
        2,
        "durabletask-payloads demo: No such option: --connection-string: see durabletask-payloads demo --help",
    ),
    "durabletask-payloads demo --store azure": (
        2,
        "durabletask-payloads demo: --store: url names no kind of store: it must be one of "
        "azure://<account>/<container>, ",
    ),
    f"durabletask-payloads show --store azurite://{NOBODY} {TOKEN}": (
        1,
        f"durabletask-payloads show: {TOKEN}: "
        f"http://{NOBODY}/devstoreaccount1 cannot be reached at {NOBODY} (Connection refused), 5 times: check the URL, "
        "the network, and whether the emulator is running if it is one",
    ),
    f"durabletask-payloads show --store azure://acc {TOKEN}": (
        1,
        f"durabletask-payloads show: {TOKEN}: there is no valid credential for {ACCOUNT}: ",
    ),
    "durabletask-payloads-codegen": (
        2,
        "durabletask-payloads-codegen: error: the following arguments are required: COMMAND",
    ),
    "protoc-gen-durabletask-payloads": (
        2,
        "protoc-gen-durabletask-payloads: error: protoc runs this program: protoc --durabletask-payloads_out=DIR ..., "
        "see --help",
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_cannot_do_what_is_asked(
    scripts: Path, tmp_path: Path, environment: dict[str, str], command: str
) -> None:
    program, *arguments = command.split()
    done = result(scripts / program, *arguments, cwd=tmp_path, environment=environment)
    code, line = COMMANDS[command]
    assert (done.returncode, done.stdout) == (code, "")
    *usage, last = done.stderr.splitlines()
    assert last.startswith(line), done.stderr
    assert all(one.startswith("usage: ") for one in usage)


def test_no_credential_is_found_and_each_source_says_why(
    scripts: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    command = (scripts / "durabletask-payloads", "show", "--store", "azure://acc", TOKEN)
    (line,) = result(*command, cwd=tmp_path, environment=environment).stderr.splitlines()
    assert "AzureCli: Azure CLI not found on path; AzurePowerShell: PowerShell is not installed; " in line
    assert len(line) < 700


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT")
def test_ctrl_c_in_the_demo(scripts: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [scripts / "durabletask-payloads", "demo", "--size", "9"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as a terminal does it: to the whole group
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "durabletask-payloads demo: interrupted\n")


# ---- interceptors and stores that do not go together ---------------------------------------------------------------

APPLICATION = """
import logging, socket, sys
from durabletask import client, worker
from durabletask.testing import InMemoryOrchestrationBackend
from durabletask_payloads import InMemoryPayloadStore
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.sdk import SdkPayloadStore

mode = sys.argv[1]
store, other = InMemoryPayloadStore(), InMemoryPayloadStore()
ours = {"interceptors": [PayloadInterceptor(store, max_deliveries=1)]}
sides = {  # of the client, of the worker
    "client only": (ours, {}),
    "worker only": ({}, ours),
    "two stores": ({"payload_store": SdkPayloadStore(other)}, {**ours, "payload_store": SdkPayloadStore(other)}),
    "one store": ({**ours, "payload_store": SdkPayloadStore(store)}, {**ours, "payload_store": SdkPayloadStore(store)}),
}
quiet = logging.Logger("quiet", logging.CRITICAL)
logging.basicConfig(format="%(name)s %(message)s")  # of the package: the SDK's is quiet

def echo(context, value):
    if False:
        yield
    return value

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % probe.getsockname()[1]
backend = InMemoryOrchestrationBackend(port=int(address.rpartition(":")[2]))
backend.start()
for_client, for_worker = sides[mode]
with worker.TaskHubGrpcWorker(host_address=address, logger=quiet, **for_worker) as hub_worker:
    hub_worker.add_orchestrator(echo)
    hub_worker.start()
    with client.TaskHubGrpcClient(host_address=address, logger=quiet, **for_client) as hub:
        for _ in range(2):
            instance = hub.schedule_new_orchestration(echo, input="x" * 1_500_000)
            state = hub.wait_for_orchestration_completion(instance, timeout=30)
            failure = state.failure_details
            print(state.runtime_status.name, failure.message if failure else "")
            try:
                print(len(state.get_output()))
            except Exception as error:
                print(type(error).__name__, error)
backend.stop()
"""
PARSED = "Expecting value: line 1 column 1 (char 0)"
WORKER_WITHOUT = (
    rf"durabletask_payloads\.interceptors token parsed as JSON by a worker: instance=\w+ reason={re.escape(PARSED)}\. "
    r"The worker that ran it has no interceptor: "
    r"pass interceptors=\[PayloadInterceptor\(store\)\] to it\. Logged once\n"
)
CLIENT_WITHOUT = (
    r"durabletask_payloads\.interceptors payload not externalized by its sender: instance=\w+ payload=input "
    r"bytes=15000\d\d\. The client that sent it has no interceptor, so it also gets tokens in the place of results: "
    r"pass interceptors=\[PayloadInterceptor\(store\)\] to it\. Logged once\n"
)
TWO_STORES = (
    r"(durabletask_payloads\.interceptors completing work item as failed kind=orchestration instance=\w+ error="
    r"gave up after 1 deliveries: blob:v1:\S+: "
    r"payload not found in this process: it was deleted, or stored by another store or process\. "
    r"If payload_store= of the SDK is set beside the interceptor, remove it, or give both one store\n){2}"
)


@pytest.mark.parametrize(
    ("mode", "printed", "logged"),
    [
        ("client only", rf"(FAILED {re.escape(PARSED)}\n.*\n){{2}}", WORKER_WITHOUT),
        ("worker only", rf"(COMPLETED \nJSONDecodeError {re.escape(PARSED)}\n){{2}}", CLIENT_WITHOUT),
        (
            "two stores",
            r"(FAILED gave up after 1 deliveries: blob:v1:\S+: payload not found in this process: .*\n.*\n){2}",
            TWO_STORES,
        ),
        ("one store", r"(COMPLETED \n1500000\n){2}", ""),
    ],
)
def test_sides_that_do_not_agree(scripts: Path, tmp_path: Path, mode: str, printed: str, logged: str) -> None:
    done = result(scripts / "python", "-c", APPLICATION, mode, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(printed, done.stdout), done.stdout
    assert re.fullmatch(logged, done.stderr), done.stderr


def test_the_interceptor_for_sync_channels_in_an_asynchronous_client(scripts: Path, tmp_path: Path) -> None:
    """gRPC refuses it, and its text names the class: README and the type checkers tell what to pass."""
    program = (
        "import asyncio\n"
        "from durabletask.client import AsyncTaskHubGrpcClient\n"
        "from durabletask_payloads import InMemoryPayloadStore\n"
        "from durabletask_payloads.interceptors import PayloadInterceptor\n"
        "async def main():\n"
        "    interceptor = PayloadInterceptor(InMemoryPayloadStore())\n"
        f"    client = AsyncTaskHubGrpcClient(host_address='{NOBODY}', interceptors=[interceptor])\n"
        "    await client.get_orchestration_state('a')\n"
        "asyncio.run(main())\n"
    )
    done = result(scripts / "python", "-c", program, cwd=tmp_path)
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if line.startswith("ValueError: ")]
    assert len(last) == 1
    assert "PayloadInterceptor object" in last[0]
    assert "must be UnaryUnaryClientInterceptor" in last[0]


# ---- an account that goes away -------------------------------------------------------------------------------------


def test_azurite_that_is_down_is_named_with_the_reason(scripts: Path, tmp_path: Path) -> None:
    program = f"""{IMPORTS}
options = BlobPayloadStoreOptions(account_url="http://{NOBODY}/acc", credential=key, retries=1)
with BlobPayloadStore(options) as store:
    store.upload(b"1")
"""
    done = result(scripts / "python", "-c", program, cwd=tmp_path)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "PayloadStoreUnavailableError: blob:v1:durabletask-payloads:" in last
    assert f": http://{NOBODY}/acc cannot be reached at {NOBODY} (Connection refused), 2 times: check the URL" in last
    assert SECRET not in done.stderr


def test_a_wrong_key(scripts: Path, tmp_path: Path, azurite: Azurite) -> None:
    """It is base64, so only the account can tell."""
    program = f"""{IMPORTS}
options = BlobPayloadStoreOptions(account_url="{azurite.account_url}", credential=key)
with BlobPayloadStore(options) as store:
    store.upload(b"1")
"""
    done = result(scripts / "python", "-c", program, cwd=tmp_path)
    assert done.returncode == 1
    assert "PayloadAccessDeniedError: " in done.stderr.splitlines()[-1]
    assert SECRET not in done.stderr


# ---- programs without their extra ----------------------------------------------------------------------------------


@pytest.mark.parametrize("program", ["durabletask-payloads-codegen", "protoc-gen-durabletask-payloads"])
def test_help_version_and_nothing_to_do_without_the_extra(bare: Path, tmp_path: Path, program: str) -> None:
    """What it needs for its work is told by test_wheel.py."""
    assert run(bare / program, "--help", cwd=tmp_path).startswith(f"usage: {program} ")
    assert run(bare / program, "--version", cwd=tmp_path).startswith(f"{program} ")
    done = result(bare / program, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


# ---- a clone where npm's packages cannot be had --------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--numprocesses=2", "--dist=worksteal"]], ids=["pytest", "xdist"])
def test_without_the_packages_of_npm_the_tests_end_at_once(tmp_path: Path, options: list[str]) -> None:
    """With one line, and before the first test."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "XDG_CACHE_HOME": str(tmp_path),
        "npm_config_registry": f"http://{NOBODY}",
        "npm_config_cache": str(tmp_path / "npm"),
    }
    tests = ("tests/support/test_azurite.py", "tests/stores/test_azure_interop.py")
    pytest_of_a_clone = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options)
    done = result(*pytest_of_a_clone, *tests, cwd=ROOT, environment=environment)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "npm cannot install Azurite" in line]
    assert len(lines) == 1
    assert re.fullmatch(
        rf"ERROR: npm cannot install Azurite \(exit code 1\): .*{re.escape(NOBODY)}.*\. Set the registry or "
        r"the proxy that npm is to use \(npm_config_registry, HTTPS_PROXY\), and try again",
        lines[0],
    )
    assert len((done.stdout + done.stderr).splitlines()) < 20
    assert " passed" not in done.stdout
