"""Lifecycle of what holds threads, locks and connections: closing, and starting afresh in a forked child."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

_renewals: set[weakref.WeakMethod[Callable[[], None]]] = set()


def renewed_after_fork(renew: Callable[[], None]) -> None:
    """Call the bound method `renew` in every forked child, as long as its object lives.

    A child has the memory of its parent but none of its threads: a pool never works, a lock may be held for ever.
    """
    _renewals.add(weakref.WeakMethod(renew, _renewals.discard))


def _renew_all() -> None:
    for method in tuple(_renewals):
        renew = method()
        if renew is not None:
            renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew_all)


class Closing:
    """A context manager, synchronous and asynchronous, that closes itself at its end."""

    def close(self) -> None:
        """Release what this holds. A second call does nothing."""

    async def aclose(self) -> None:
        """Do the same as `close` in a thread."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
