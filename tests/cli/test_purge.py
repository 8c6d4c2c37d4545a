"""`durabletask-payloads purge`: carries out the ledger, sets the flag, and says why it cannot."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.support.ledger import Ledger, serving

from durabletask_payloads.cli import main
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import grpc
    from tests.support.azurite import Azurite

    from durabletask_payloads_protos import large_payload_purge_pb2 as pb


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """The command sets it for its process, which is here that of other tests too."""
    logger = logging.getLogger("durabletask_payloads.purge")
    before = logger.level
    yield
    logger.setLevel(before)


@pytest.fixture
def ledger(azurite: Azurite, container: str) -> Ledger:
    """A ledger with a payload, one that is gone, and a v1 token."""
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string, container_name=container, token_version=2
    )
    with BlobPayloadStore(options) as store:
        token = store.upload(b"x")
    return Ledger([token, f"{token[:-32]}{'0' * 32}", f"blob:v1:{container}:{'0' * 32}"])


@pytest.fixture
def address(ledger: Ledger) -> Iterator[str]:
    with serving(ledger) as address:
        yield address


def arguments(azurite: Azurite, container: str) -> list[str]:
    return ["--store", f"azurite://127.0.0.1:{azurite.port}/{container}"]


def test_once(
    azurite: Azurite,
    container: str,
    ledger: Ledger,
    address: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")  # a line for each row
    command = ["purge", "--once", "--hub", address, "--taskhub", "orders", *arguments(azurite, container)]
    assert main(command) == 0
    assert ledger.states() == ["deleted", "deleted", "quarantined"]
    assert {call.get("taskhub") for call in ledger.metadata} == {"orders"}
    assert capsys.readouterr().out.splitlines()[0] == "3 rows of the ledger were reported."
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 0, "outcomes": []}


def test_outcomes(
    azurite: Azurite, container: str, ledger: Ledger, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["purge", "--once", "--json", "--hub", address, *arguments(azurite, container)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 3
    assert [(row["disposition"], row["outcome"], row["count"]) for row in found["outcomes"]] == [
        ("deleted", "absent", 1),
        ("deleted", "deleted", 1),
        ("quarantined", "without_account", 1),
    ]
    assert ledger.states() == ["deleted", "deleted", "quarantined"]


class Hasty(Ledger):
    """Rows to retry are due again at once."""

    def GetLargePayloadTombstones(
        self, request: pb.GetLargePayloadTombstonesRequest, context: grpc.ServicerContext
    ) -> pb.GetLargePayloadTombstonesResponse:
        for row in self.rows:
            row.due = 0
        return super().GetLargePayloadTombstones(request, context)


@pytest.mark.parametrize(
    ("kind", "to_retry", "last"),
    [(Ledger, 200, "quarantined"), (Ledger, 1_000, "quarantined"), (Hasty, 200, "pending")],
)
def test_once_behind_rows_to_retry(kind: type[Ledger], to_retry: int, last: str, tmp_path: Path) -> None:
    """They hide no row that was not tried, and cannot keep the command from ending."""
    ledger = kind([*(f"blob:v9:newer{number}" for number in range(to_retry)), "blob:v2:nonsense"])
    with serving(ledger) as address:
        assert main(["purge", "--once", "--hub", address, "--store", tmp_path.as_uri()]) == 0
    assert ledger.states() == ["pending"] * to_retry + [last]


def test_the_flag(ledger: Ledger, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge", "enable", "--hub", address]) == 0
    assert "keeps a ledger" in capsys.readouterr().out
    assert main(["purge", "disable", "--hub", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"auto_purge": False}
    assert ledger.enabled == [True, False]


@pytest.mark.parametrize("action", ["run", "enable"])
def test_a_hub_without_a_ledger(
    action: str, azurite: Azurite, container: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(None) as address:
        assert main(["purge", action, "--hub", address, *arguments(azurite, container)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "keeps no ledger of purged payloads" in captured.err


def test_a_hub_that_is_away(azurite: Azurite, container: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["purge", "--once", "--hub", "127.0.0.1:9", *arguments(azurite, container)]) == 1
    assert capsys.readouterr().err.startswith("durabletask-payloads purge: 127.0.0.1:9 refused: UNAVAILABLE (")


def test_no_hub(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DURABLETASK_PAYLOADS_HUB", raising=False)
    assert main(["purge", "enable"]) == 2
    assert capsys.readouterr().err.startswith("durabletask-payloads purge: no hub is named: pass --hub HOST[:PORT]")


def test_ctrl_c(azurite: Azurite, container: str, ledger: Ledger, address: str) -> None:
    command = [sys.executable, "-m", "durabletask_payloads.cli", "purge", "--hub", address]
    with subprocess.Popen(
        [*command, *arguments(azurite, container)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert " purged rows=3 " in line
    assert (process.returncode, err) == (130, "durabletask-payloads purge: interrupted\n")
    assert out.startswith("3 rows of the ledger were reported.\n")
    assert ledger.states() == ["deleted", "deleted", "quarantined"]
