"""The command `sweep`: with a hub and by age, on a directory and Azurite, broken off, and asked for what cannot be."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from tests.support.backend import RedeliveringBackend, client_on, running, worker_on
from tests.support.ports import reserved_port
from tests.support.waiting import wait_until

from durabletask_payloads import store_from_url
from durabletask_payloads.cli import main
from durabletask_payloads.interceptors import PayloadInterceptor
from durabletask_payloads.stores._inventory import inventory_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durabletask import task
    from tests.support.azurite import Azurite


def echoes(orchestration: task.OrchestrationContext, text: str) -> str:
    return text


class Printed(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def data(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.out)
        return parsed


class Command:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Printed:
        self._capsys.readouterr()
        code = main(["sweep", *arguments])
        printed = self._capsys.readouterr()
        return Printed(code, printed.out, printed.err)

    def refused(self, *arguments: str) -> tuple[int, str]:
        """The exit code and the one line of an error."""
        printed = self(*arguments)
        assert not printed.out
        (line,) = printed.err.splitlines()
        assert line.startswith("durabletask-payloads sweep: ")
        return printed.code, line.removeprefix("durabletask-payloads sweep: ")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    for variable in ("DURABLETASK_PAYLOADS_STORE", "DURABLETASK_PAYLOADS_HUB"):
        monkeypatch.delenv(variable, raising=False)
    return Command(capsys)


@pytest.fixture(params=["directory", "azurite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "directory":
        return (tmp_path / "payloads").as_uri()
    azurite: Azurite = request.getfixturevalue("azurite")
    return f"azurite://127.0.0.1:{azurite.port}/{request.getfixturevalue('container')}"


@pytest.fixture
def hub(url: str) -> Iterator[str]:
    """A hub with two completed orchestrations, of which one was purged: each had two payloads."""
    with ExitStack() as stack:
        store = stack.enter_context(store_from_url(url, threshold_bytes=100))
        address = stack.enter_context(running(RedeliveringBackend()))
        interceptor = PayloadInterceptor(store)
        client = client_on(address, [interceptor])
        stack.callback(client.close)
        stack.enter_context(worker_on(address, [echoes], [interceptor])).start()
        for name in ("kept", "purged"):
            client.schedule_new_orchestration(echoes, input=name * 100, instance_id=name)
            client.wait_for_orchestration_completion(name, timeout=20)
        client.purge_orchestration("purged")
        yield address


def stored(url: str) -> set[str | None]:
    """The instances whose payloads are stored."""
    with store_from_url(url) as store:
        inventory = inventory_of(store)
        return {one.instance_id for name in inventory.partitions for one in inventory.list_payloads(name)}


def test_with_a_hub(url: str, hub: str, command: Command) -> None:
    asked = ("--store", url, "--hub", hub, "--grace", "0s")
    wait_until(lambda: command(*asked, "--json").data["found"]["young"] == 0, what="payloads of an earlier second")

    dry = command(*asked, "--json")
    assert dry.code == 0
    assert (dry.data["deleted"], dry.data["instances"], dry.data["mentions"]) == (False, 1, 2)
    assert {name: count for name, count in dry.data["found"].items() if count and "bytes" not in name} == {
        "examined": 4,
        "mentioned": 2,
        "garbage": 2,
    }
    assert stored(url) == {"kept", "purged"}

    text = command(*asked)
    assert re.search(r"^garbage +2 payloads, \d+ bytes *$", text.out, re.MULTILINE)
    assert "Dry run: nothing was deleted" in text.out

    done = command(*asked, "--delete")
    assert re.search(r"^deleted +2 payloads, \d+ bytes *$", done.out, re.MULTILINE)
    assert "Dry run" not in done.out
    assert stored(url) == {"kept"}
    assert command(*asked, "--delete", "--json").data["found"]["garbage"] == 0


def test_by_age(tmp_path: Path, command: Command) -> None:
    url = (tmp_path / "payloads").as_uri()
    with store_from_url(url) as store:
        store.upload(b"x", instance_id="a")
    young = command("--store", url, "--older-than", "1d", "--delete", "--json")
    assert (young.data["hub"], young.data["found"]["young"], stored(url)) == (None, 1, {"a"})
    oldest = command("--store", url, "--older-than", "36500d", "--json")
    assert (oldest.code, oldest.data["found"]["young"]) == (0, 1)
    command("--store", url, "--older-than", "0s", "--delete")
    assert stored(url) == set()


def test_broken_off_and_gone_on_with(tmp_path: Path, command: Command) -> None:
    """Ctrl-C while it deletes: exit code 130, one line, and the next run ends with the same numbers."""
    url, payloads = (tmp_path / "payloads").as_uri(), 60
    with store_from_url(url) as store:
        for number in range(payloads):
            store.upload(b"x", instance_id=f"order-{number}")
    arguments = ["--store", url, "--older-than", "0s", "--delete", "--state", str(tmp_path / "state")]
    program = [sys.executable, "-m", "durabletask_payloads.cli", "sweep", *arguments, "--rate", "20"]
    with subprocess.Popen(program, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as ran:
        wait_until(lambda: len(stored(url)) < payloads, what="a deletion")
        ran.send_signal(signal.SIGINT)
        out, err = ran.communicate(timeout=20)
    assert (ran.returncode, out) == (130, "")
    assert err.splitlines() == ["durabletask-payloads sweep: interrupted"]
    assert stored(url)

    rest = command(*arguments, "--json")
    assert rest.data["resumed"]
    assert (rest.data["found"]["examined"], rest.data["found"]["garbage"]) == (payloads, payloads)
    assert not stored(url)


def test_the_help_says_what_the_hub_does_not_show(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who deletes need not have read the documentation."""
    monkeypatch.setenv("COLUMNS", "1000")
    said = " ".join(command("--help").out.split())
    assert "A hub shows no delayed signal to an entity before it is due: --grace must be longer than" in said
    assert "and than the longest delay of a signal to an entity, which the hub does not show" in said


def test_what_cannot_be_asked(tmp_path: Path, command: Command) -> None:
    store = ("--store", (tmp_path / "payloads").as_uri())
    for arguments, text in (
        ((), "no hub is named"),
        (("--hub", "localhost:1", "--older-than", "1d"), "--older-than is for a sweep without a hub"),
        (("--older-than", "1d", "--grace", "1d"), "--older-than is for a sweep without a hub"),
        (("--older-than", "a week"), "--older-than is 'a week': it must be a number and a unit"),
        (("--older-than", "999999d"), "--older-than is '999999d': it must be at most 36500d, a hundred years"),
        (("--hub", "localhost:1", "--grace", "36501d"), "--grace is '36501d': it must be at most 36500d"),
        (("--hub", "localhost:1", "--grace", "-1h"), "--grace is '-1h'"),
        (("--hub", "localhost:1", "--credential", "azure"), "--hub: the scheduler needs the name"),
        (("--older-than", "1d", "--rate", "0"), "'--rate'"),
    ):
        code, line = command.refused(*store, *arguments)
        assert (code, text in line) == (2, True), line
    assert command.refused("--older-than", "1d")[0] == 2


def test_what_fails(tmp_path: Path, command: Command) -> None:
    url = (tmp_path / "payloads").as_uri()
    code, line = command.refused("--store", url, "--older-than", "1d")
    assert (code, "does not exist" in line) == (1, True), line
    with store_from_url(url) as store:
        store.upload(b"x", instance_id="a")
    with reserved_port() as port:
        code, line = command.refused("--store", url, "--hub", f"127.0.0.1:{port}", "--grace", "0s", "--delete")
    assert (code, "QueryInstances after 0 instances: UNAVAILABLE" in line) == (1, True), line
    assert stored(url) == {"a"}
    (tmp_path / "text").write_text("no database " * 100)
    code, line = command.refused("--store", url, "--older-than", "0s", "--delete", "--state", str(tmp_path / "text"))
    assert (code, "cannot be used" in line) == (1, True), line
    assert stored(url) == {"a"}


def test_a_container_that_does_not_exist(azurite: Azurite, container: str, command: Command) -> None:
    code, line = command.refused("--store", f"azurite://127.0.0.1:{azurite.port}/{container}", "--older-than", "1d")
    assert (code, f"the container '{container}' does not exist" in line) == (1, True), line
