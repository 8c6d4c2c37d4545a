"""The contract of tokens: an exact form, known without I/O, and nothing else followed."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from durabletask_payloads._errors import PayloadNotFoundError, PayloadTokenError

from ._payloads import require_typed
from ._tools import SECOND, require_round_trip, require_same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from durabletask_payloads.stores._base import PayloadStore

    from ._tools import OpenStore

_LONG: Final = 4 * 1024 * 1024
# Whose built-in functions do I/O, start threads or hand work over to them.
_MODULES: Final = frozenset({"_socket", "socket", "_ssl", "ssl", "select", "_sqlite3", "sqlite3", "mmap", "_queue"})
_FUNCTIONS: Final = frozenset(
    {
        *("_io.open", "io.open", "_io.FileIO.read", "_io.BufferedReader.read", "_io.TextIOWrapper.read"),
        *("time.sleep", "_thread.start_new_thread", "_thread.start_joinable_thread"),
        *(
            f"{system}.{name}"
            for system in ("posix", "nt")
            for name in ("access", "listdir", "lstat", "mkdir", "open", "pread", "read", "scandir", "stat", "write")
        ),
    }
)


def _around(token: str) -> list[str]:
    """Return texts that hold a token and are none."""
    separated = [f"{token}{mark}{token}" for mark in (" ", "\n", ",", ", ")]
    before = [f"{mark}{token}" for mark in (" ", "\n", "x", '"', "\ufeff", "\x00")]
    after = [f"{token}{mark}" for mark in (" ", "\n", '"', "\r\n", "\x00", " more text", "\u2028")]
    return [*separated, *before, *after, f'"{token}"', f"see {token} for more", f'{{"token": "{token}"}}']


def _hostile(token: str, prefix: str) -> Iterator[str]:
    """Yield texts that begin as a token does, and lead elsewhere where a store believes them."""
    half = token[: (len(prefix) + len(token)) // 2]
    for rest in ("../../../etc/passwd", "..\\..\\a", "%2e%2e/a", "/etc/passwd", "C:\\a", "a\x00b", "\ud800", "\u2028"):
        yield from (prefix + rest, f"{half}/{rest}", f"{token}/{rest}", f"{token}/../{rest}")
    for host in ("http://127.0.0.1:1/a/b", "file:///etc/passwd", "s3://elsewhere/a", "@elsewhere/a", "a?x=1#y"):
        yield prefix + host
    yield from (prefix, prefix + prefix, prefix + token, prefix + "0" * 32, token + "?snapshot=1", token + "\u0130")


class TokenContract:
    """An exact form, known without I/O, and nothing else followed."""

    def test_tokens_begin_with_a_prefix(self, store: PayloadStore) -> None:
        """Each token begins with one of `token_prefixes`: the others of a message are never looked at."""
        prefixes: object = store.token_prefixes
        assert isinstance(prefixes, tuple)
        assert store.token_prefixes
        assert all(isinstance(prefix, bytes) and prefix for prefix in store.token_prefixes)
        for instance_id in (None, "order-17"):
            assert store.upload(b"1", instance_id=instance_id).encode().startswith(store.token_prefixes)

    def test_text_around_a_token(self, store: PayloadStore) -> None:
        """Text is a token as a whole or not at all: what a user wrote around one would be lost."""
        token = store.upload(b"1")
        begins = [prefix.decode() for prefix in store.token_prefixes]
        long = [begin + "a" * 100_000 for begin in begins]
        assert [text for text in (*_around(token), *begins, *long) if store.is_known_token(text)] == []

    def test_a_token_is_known_by_its_form(self, open_store: OpenStore) -> None:
        """A token stays one when its payload is deleted, when its store is closed, and for a store that is unused."""
        store = open_store()
        token = store.upload(b"1")
        store.delete(token)
        store.close()
        assert store.is_known_token(token)
        assert open_store().is_known_token(token)

    def test_is_known_token_does_no_io(self, open_store: OpenStore) -> None:
        """It is asked for each text of each message: it reads no file, sends nothing and starts no thread.

        Seen are the calls of built-in functions in the thread of the caller.
        """
        store = open_store()
        token, theirs = require_round_trip(store), open_store(place=SECOND).upload(b"1")
        for text in (token, theirs, *_around(token), "x"):
            assert _io_of(partial(store.is_known_token, text)) == set()

    def test_is_known_token_copies_no_long_text(self, store: PayloadStore) -> None:
        """A text of megabytes is ruled out by its length or its first characters, without a copy of it."""
        token = store.upload(b"1")
        begins = ["", token, *(prefix.decode() for prefix in store.token_prefixes)]
        for text in (begin + part * (_LONG // len(part)) for begin in begins for part in ("a", "a/", "-:")):
            peak = _memory_of(partial(store.is_known_token, text))
            assert peak < _LONG // 4, "so many bytes were taken while it looked at a text of 4 MiB"

    def test_text_that_is_no_token_is_refused(self, store: PayloadStore) -> None:
        """Every operation refuses it with PayloadTokenError."""
        token = store.upload(b"1")
        for text in ("", "1", "null", "https://example.com/a", f'"{token}"', f"{token}\n", f" {token}"):
            for call in _operations(store, text):
                with pytest.raises(PayloadTokenError) as raised:
                    call()
                require_typed(raised.value)
        require_same(store.download(token), b"1")

    def test_hostile_tokens(self, store: PayloadStore) -> None:
        """What only looks like a token is refused, or nothing is found there. Nothing is deleted."""
        token = store.upload(b"1")
        for prefix in store.token_prefixes:
            for text in _hostile(token, prefix.decode()):
                refused = (PayloadTokenError, PayloadNotFoundError)
                with pytest.raises(refused if store.is_known_token(text) else PayloadTokenError):
                    store.download(text)
                with pytest.raises(refused):
                    store.stored_bytes(text)
                with suppress(PayloadTokenError):
                    store.delete(text)
        require_same(store.download(token), b"1")


def _operations(store: PayloadStore, token: str) -> list[Callable[[], object]]:
    return [
        lambda: store.download(token),
        lambda: store.delete(token),
        lambda: store.stored_bytes(token),
        lambda: asyncio.run(store.download_async(token)),
        lambda: asyncio.run(store.delete_async(token)),
    ]


def _io_of(call: Callable[[], object]) -> set[str]:
    """Return the built-in functions that do I/O, of those that a call calls."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, function: object) -> None:
        if event == "c_call":
            owner: object = getattr(function, "__self__", None)
            module = str(getattr(function, "__module__", None) or type(owner).__module__)
            name = f"{module}.{getattr(function, '__qualname__', '')}"
            if module in _MODULES or name in _FUNCTIONS:
                called.add(name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(before)
    return called


def _memory_of(call: Callable[[], object]) -> int:
    """Return how much memory a call took at its peak, in bytes."""
    was_tracing = tracemalloc.is_tracing()
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not was_tracing:
            tracemalloc.stop()
