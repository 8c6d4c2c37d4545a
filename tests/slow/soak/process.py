"""The worker's process, as the soak sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.slow.soak.worker import EXIT_CODE, Farewell, Line, Vitals

_ROOT = Path(__file__).parents[3]
GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL


class WorkerProcess:
    """The worker's process, which can be killed, ended without a stop, and started again."""

    def __init__(self, address: str, connection_string: str, folder: Path) -> None:
        self._arguments = [address, connection_string, str(folder / "worker.log")]
        self._log = folder / "worker.log"
        self._errors = folder / "worker.err"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        with open(self._errors, "a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.slow.soak.worker", *self._arguments],
                cwd=_ROOT,
                # One arena of malloc's: what many of them keep differs from run to run by tens of megabytes.
                env={**os.environ, "MALLOC_ARENA_MAX": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def kill(self) -> None:
        """SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            with process:
                process.kill()

    def exit(self) -> bool:
        """Replace the process by another, after SIGTERM, which it answers with SystemExit, and SIGKILL if it lingers.

        Until it ends, both take work. Return whether it ended by itself: the SDK's worker, which was not stopped, keeps
        it, and its thread pools take nothing more.
        """
        process = self._process
        assert process is not None, "it was started"
        with process:
            process.terminate()
            self.start()
            try:
                code = process.wait(timeout=GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                return False
            finally:
                process.kill()
        if code != EXIT_CODE:
            raise RuntimeError(f"the worker exited with {code}: {self.said()[-2000:]}")
        return True

    def vitals(self) -> Vitals:
        """Ask it what it holds now."""
        process = self._process
        assert process is not None, "it was started"
        assert process.stdin is not None, "as all pipes"
        assert process.stdout is not None, "as all pipes"
        process.stdin.write("\n")
        process.stdin.flush()
        return Vitals(*json.loads(process.stdout.readline()))

    def stop(self) -> Farewell:
        """End it in order."""
        process, self._process = self._process, None
        assert process is not None, "it was started"
        with process:
            try:
                output, _ = process.communicate(timeout=120)
            finally:
                process.kill()
        if process.returncode != 0:
            raise RuntimeError(f"the worker ended with {process.returncode}: {self._errors.read_text()[-2000:]}")
        return Farewell(*json.loads(output))

    def lines(self) -> list[Line]:
        return [Line(*json.loads(line)) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    def said(self) -> str:
        """What it wrote to its standard error."""
        return self._errors.read_text()
