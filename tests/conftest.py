"""Fixtures for all tests, and Azurite installed before the first one."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from tests.support import azurite as emulator
from tests.support.fixtures import azurite, bucket, container, engine, proxy, s3, walks
from tests.support.threads import forget_threads

# There is no obstore for it that has what the store needs.
collect_ignore_glob = ["stores/test_object_*.py"] if sys.version_info < (3, 11) else []

__all__ = ["azurite", "bucket", "container", "engine", "proxy", "s3", "walks"]


@pytest.fixture(autouse=True)
def _threads() -> None:
    """What tests say of our threads is of those that they started themselves."""
    forget_threads()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as there are cores: for half of its time a test waits, for a server or a process of its own."""
    return (os.cpu_count() or 1) * 2


def pytest_configure() -> None:
    """Let Ctrl-C interrupt, here and in the processes that tests start. A shell's job in the background ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """With pytest-xdist, install Azurite here, before there are processes that would each try."""
    if session.config.getoption("numprocesses", None):
        _install()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Without it, install Azurite only if a test asks for it."""
    names = {name for item in session.items if isinstance(item, pytest.Function) for name in item.fixturenames}
    if "azurite" in names and not session.config.option.collectonly:
        _install()


def _install() -> None:
    """Install Azurite if it is not, or end the run with one line: hundreds of tests need it."""
    try:
        emulator.installed()
    except (ImportError, emulator.AzuriteError) as error:
        raise pytest.UsageError(str(error)) from None
