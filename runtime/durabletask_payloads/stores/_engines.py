"""Whether obstore can serve: it has to be installed, and must not have been in use before this process was forked.

Its threads are the process's. In a child of a process that used it every call hangs for ever, of new stores too. So it
is imported on first use only: where it is among the modules of a parent, it may have been used there.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


class _Process:
    forked_after_use = False


def is_installed() -> bool:
    """Return whether an obstore that can serve is there, without importing it."""
    return find_spec("obstore") is not None and not _is_old()


@cache
def _is_old() -> bool:
    """Return whether obstore is of a version before 0.12: somebody else may have asked for it, and not for `[fast]`."""
    try:
        numbers = re.findall(r"\d+", version("obstore"))
    except PackageNotFoundError:  # as in an application that was frozen
        return False
    return [int(number) for number in numbers[:2]] < [0, 12]


def require(what: str, extra: str) -> None:
    """Raise ImportError that says what to install, unless `what` has the obstore that it needs."""
    if is_installed():
        return
    old = ", and so Python 3.11 or newer" if sys.version_info < (3, 11) else ""
    raise ImportError(f"{what} needs obstore 0.12 or newer{old}: pip install durabletask-payloads[{extra}]")


def works_here() -> bool:
    """Return False in a child that was forked from a process that had imported obstore."""
    return not _Process.forked_after_use


def _note_fork() -> None:
    _Process.forked_after_use = _Process.forked_after_use or "obstore" in sys.modules


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_note_fork)
