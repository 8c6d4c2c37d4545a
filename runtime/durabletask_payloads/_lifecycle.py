"""Lifecycle of what holds threads, locks and connections: closing, and starting afresh in a forked child."""

from __future__ import annotations

import asyncio
import os
import weakref
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

_Owner = TypeVar("_Owner")
_renewals: weakref.WeakKeyDictionary[object, Callable[[], None]] = weakref.WeakKeyDictionary()


def renewed_after_fork(owner: _Owner, renew: Callable[[_Owner], None]) -> None:
    """Call `renew` with `owner` in every forked child, as long as `owner` lives.

    A child has the memory of its parent but none of its threads: a pool never works, a lock may be held for ever.
    """
    reference = weakref.ref(owner)

    def call() -> None:
        alive = reference()
        if alive is not None:
            renew(alive)

    _renewals[owner] = call


def _renew_all() -> None:
    for renew in tuple(_renewals.values()):
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
