"""Keeps the log of the package out of runs: its handlers have locks, which no scheduler knows."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextlib.contextmanager
def quiet() -> Generator[None]:
    """Write nothing of what the package and its pools log."""
    loggers = [logging.getLogger(name) for name in ("durabletask_payloads", "concurrent.futures", "asyncio")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
