"""What operators get wrong, for each command: one line on standard error, the exit code, and no traceback."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.fixtures import needs_obstore

from durabletask_payloads import DirectoryPayloadStore
from durabletask_payloads.cli import main
from durabletask_payloads.cli._app import COMMANDS, Command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.azurite import Azurite
    from tests.support.s3 import S3

TOKEN = "blob:v1:durabletask-payloads:0123456789abcdef0123456789abcdef"

# How to call each command that has a store, with {store} for its URL. A new command has its line here.
ON_A_STORE = {
    "show": "show --store {store} {token}",
    "stats": "stats --store {store}",
    "sweep": "sweep --store {store} --older-than 30d",
}
# Those that have none, make no request to it, or have a result all the same: see test_doctor and test_instance.
OTHERS = {
    "lifecycle-policy": "lifecycle-policy --days 3 --store {store}",
    "fields": "fields",
    "purge": "purge run --store {store} --hub 127.0.0.1:9",
    "demo": "demo",
    "doctor": "doctor --store {store}",
    "instance": "instance order-1 --hub 127.0.0.1:1 --store {store}",
}
on_a_store = pytest.mark.parametrize("command", ON_A_STORE)


def call(command: str, store: str, token: str = TOKEN) -> list[str]:
    return {**ON_A_STORE, **OTHERS}[command].format(store=store, token=token).split()


def complaint_of(command: str, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that fails with `code` and one line, and return what the line says."""
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    start = f"durabletask-payloads {command}: "
    assert err.startswith(start), err
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err[len(start) : -1]


def test_each_command_is_tried() -> None:
    assert {command.name for command in COMMANDS} == {*ON_A_STORE, *OTHERS}


# ---- the store -----------------------------------------------------------------------------------------------------


@on_a_store
def test_no_store(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLETASK_PAYLOADS_STORE", raising=False)
    arguments = [one for one in call(command, "STORE") if one not in ("--store", "STORE")]
    said = complaint_of(command, arguments, 2, capsys)
    assert said.startswith(
        "--store: no store is named: pass a URL, or set DURABLETASK_PAYLOADS_STORE, to one of azure:"
    )


@on_a_store
def test_a_store_that_cannot_be_right(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint_of(command, call(command, "nfs://host"), 2, capsys)
    assert said.startswith("--store: url names no kind of store")


@on_a_store
def test_a_folder_that_does_not_exist(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint_of(command, call(command, (tmp_path / "gone").as_uri()), 1, capsys)
    assert "the folder of container 'durabletask-payloads' does not exist" in said
    assert not (tmp_path / "gone").exists()


@on_a_store
def test_a_container_that_does_not_exist(
    command: str, azurite: Azurite, container: str, capsys: pytest.CaptureFixture[str]
) -> None:
    token = TOKEN.replace("durabletask-payloads", container)
    url = f"azurite://127.0.0.1:{azurite.port}/{container}"
    said = complaint_of(command, call(command, url, token), 1, capsys)
    assert f"the container '{container}' does not exist in http://127.0.0.1:{azurite.port}/devstoreaccount1" in said
    assert command != "stats" or "blob:v1:" not in said, "a listing is of no payload"


@on_a_store
def test_a_wrong_key(
    command: str, azurite: Azurite, container: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = base64.b64encode(b"another key").decode()
    monkeypatch.setattr("durabletask_payloads.stores._azure_url._AZURITE_KEY", key)
    token = TOKEN.replace("durabletask-payloads", container)
    url = f"azurite://127.0.0.1:{azurite.port}/{container}"
    said = complaint_of(command, call(command, url, token), 1, capsys)
    assert f"refused access to container '{container}' (403" in said
    assert key not in said


@needs_obstore
@on_a_store
def test_no_rights(
    command: str, s3: S3, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-secret-access-key")
    url = f"s3://{bucket}?endpoint={s3.endpoint}&region=us-east-1&retries=0"
    token = f"object:v1:s3://{bucket}/{TOKEN[-32:]}"
    with s3.checking_credentials():
        said = complaint_of(command, call(command, url, token), 1, capsys)
    assert f"refused access to bucket '{bucket}' (403" in said
    assert "the-secret-access-key" not in said


@on_a_store
def test_an_unreachable_store(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    url = "azurite://127.0.0.1:1/durabletask-payloads?retries=0"
    said = complaint_of(command, call(command, url), 1, capsys)
    assert "cannot be reached at 127.0.0.1:1 (" in said


# ---- tokens and files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (TOKEN.replace("durabletask-payloads", "another"), "points out of the container 'durabletask-payloads'"),
        ("nonsense", "a text of 8 characters is no token"),
    ],
)
def test_a_token_of_another_store(token: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DirectoryPayloadStore(tmp_path).close()
    assert why in complaint_of("show", call("show", tmp_path.as_uri(), token), 2, capsys)


def test_a_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DirectoryPayloadStore(tmp_path / "store") as store:
        token = store.upload(b'"the payload"')
    file = tmp_path / "payload.json"
    arguments = [*call("show", (tmp_path / "store").as_uri(), token), "--output", str(file)]
    assert main(arguments) == 0
    assert "the payload" not in capsys.readouterr().out
    assert file.read_bytes() == b'"the payload"'
    file.write_bytes(b"mine")
    assert complaint_of("show", arguments, 2, capsys) == f"--output: {file} exists: --force overwrites it"
    assert file.read_bytes() == b"mine"
    before_it_asks_the_store = [*call("show", (tmp_path / "store").as_uri(), TOKEN), "--output", str(file)]
    assert "--force" in complaint_of("show", before_it_asks_the_store, 2, capsys)
    assert main([*arguments, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["check"] == "verified"
    assert file.read_bytes() == b'"the payload"'
    assert sorted(one.name for one in tmp_path.iterdir()) == ["payload.json", "store"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        token = store.upload(b"1")
    arguments = [*call("show", tmp_path.as_uri(), token), "--output", str(tmp_path / "gone" / "file")]
    assert "No such file or directory" in complaint_of("show", arguments, 1, capsys)


def test_an_rpc_without_payloads(capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint_of("fields", ["fields", "Hello"], 2, capsys)
    assert said.startswith("no RPC with payloads is called 'Hello': there are StartInstance, ")


# ---- the command line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_an_option_that_is_none(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint_of(command.name, [command.name, "--xyz"], 2, capsys)
    assert said == f"No such option: --xyz: see durabletask-payloads {command.name} --help"


@pytest.mark.parametrize("value", ["inf", "nan", "1e400"])
@pytest.mark.parametrize(("command", "option"), [("stats", "--price-per-gb"), ("sweep", "--rate"), ("demo", "--size")])
def test_a_number_that_is_none(command: str, option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has no such numbers."""
    said = complaint_of(command, [*call(command, "STORE"), option, value], 2, capsys)
    assert said.startswith(f"Invalid value for '{option}': ")


@pytest.mark.parametrize(
    ("arguments", "complaint"), [([], "Missing command"), (["nonsense"], "No such command 'nonsense'")]
)
def test_no_command(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", f"durabletask-payloads: {complaint}: see durabletask-payloads --help\n")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_help_fits_a_narrow_terminal(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert main([command.name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("Usage: durabletask-payloads")
    assert "--debug" in out


@pytest.mark.parametrize("color", ["NO_COLOR", "FORCE_COLOR"])
@on_a_store
def test_a_narrow_terminal(
    command: str, color: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markup and control characters of instance ids are shown as they are, or as escapes."""
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv(color, "1")
    with DirectoryPayloadStore(tmp_path) as store:
        token = store.upload(b"1" * 10_000, instance_id="[red]\x1b[31mover[/] a long name of an instance")
    assert main(call(command, tmp_path.as_uri(), token)) == 0
    out = capsys.readouterr().out
    assert ("\x1b[" in out) == (color == "FORCE_COLOR")
    assert "\x1b[31m" not in out
    if command != "sweep":  # which names no instance
        assert "[red]\\x1b[31mover" in out
    if color == "NO_COLOR":
        assert max(map(len, out.splitlines())) <= 40


@on_a_store
def test_debug(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback, and the line behind it."""
    arguments = call(command, "azurite://127.0.0.1:1/durabletask-payloads?retries=0")
    assert main([*arguments, "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.splitlines()[-1].startswith(f"durabletask-payloads {command}: ")


def test_an_unexpected_error_shows_no_text_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("the payload")

    monkeypatch.setattr("durabletask_payloads.operations._stats.store_stats", broken)
    said = complaint_of("stats", call("stats", tmp_path.as_uri()), 1, capsys)
    assert said == "an unexpected KeyError; --debug shows where"


def test_ctrl_c(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("durabletask_payloads.operations._stats.store_stats", interrupted)
    assert complaint_of("stats", [*call("stats", tmp_path.as_uri()), "--debug"], 130, capsys) == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "unbuffered"),
    [("fields", ""), ("fields", "1"), ("fields --json", ""), ("fields --json", "1"), ("--help", ""), ("--version", "")],
)
def test_a_pipe_that_closes(arguments: str, unbuffered: str) -> None:
    """It ends at once, and says nothing: when it writes, or when Python flushes what it wrote."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "durabletask_payloads.cli", *arguments.split()],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def redirected(arguments: str, redirection: str) -> tuple[int, str, str]:
    """Run the command line as a shell redirects it: the exit code, standard output and standard error."""
    program = f'exec "$0" -W error -m durabletask_payloads.cli {arguments} {redirection}'
    done = subprocess.run(
        ["sh", "-c", program, sys.executable],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "redirection", "code"),
    [("fields", "<&- >&-", 0), ("nonsense", "2>&-", 2), ("--version", ">&- 2>&-", 0)],
)
def test_streams_that_are_closed(arguments: str, redirection: str, code: int) -> None:
    """Nothing is said, least of all on the other stream."""
    assert redirected(arguments, redirection) == (code, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the device that is always full is one of Linux")
@pytest.mark.parametrize(
    ("arguments", "stream", "code", "said"),
    [
        ("fields", "1", 1, "durabletask-payloads fields: [Errno 28] No space left on device\n"),
        ("--version", "1", 1, "durabletask-payloads: [Errno 28] No space left on device\n"),
        ("nonsense", "2", 2, ""),
    ],
)
def test_a_disk_that_is_full(arguments: str, stream: str, code: int, said: str) -> None:
    assert redirected(arguments, f"{stream}>/dev/full") == (code, "", said)


def test_a_terminal_that_knows_no_unicode(tmp_path: Path) -> None:
    with DirectoryPayloadStore(tmp_path) as store:
        token = store.upload(b"1", instance_id="größe")
    done = subprocess.run(
        [sys.executable, "-m", "durabletask_payloads.cli", *call("show", tmp_path.as_uri(), token)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert "gr\\xf6\\xdfe" in done.stdout


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delitem(sys.modules, "durabletask_payloads.cli._app")
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["stats"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("durabletask-payloads: the command line needs typer and rich (")
    assert err.endswith(": pip install durabletask-payloads[cli]\n")
    assert main(["--version"]) == 0
