"""obstore, a client of object stores written in Rust, as a `BlobClient`: half the CPU of Azure's own, and S3 and GCS.

Its calls block and cannot be interrupted, so that each runs in a daemon thread that a caller waits for. Import this on
first use: see `_engines`.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar
from urllib.parse import urlsplit

import obstore

from durabletask_payloads._errors import PayloadError

from ._blob_client import Attempt, BlobProperties, Body, Place, RequestFailedError
from ._codec import longest_body, too_large
from ._threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore import Attributes
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_T = TypeVar("_T")
_P = TypeVar("_P", bound=Place)

NO_RETRIES: Final[RetryConfig] = {"max_retries": 0}
"""The store repeats requests by itself: obstore's rules know no deadline."""

# How many bytes a slow link sends in a second.
_SLOW_LINK: Final = 1024 * 1024
# Attributes that are headers of HTTP; all others are metadata.
_HEADERS: Final = frozenset(
    {"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Cache-Control", "Storage-Class"}
)
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")
_BROKEN: Final = re.compile(r"HTTP error: |error decoding response body|request or response body error")
_TIMED_OUT: Final = re.compile(r"TimedOut|operation timed out|deadline has elapsed")
_URL: Final = re.compile(r"Error performing \w+ (https?://\S+?) in ")


def client_options(connect_timeout: float, read_timeout: float | None, total_timeout: float) -> ClientConfig:
    """Return the settings of connections, from seconds. A read timeout also counts while a body is sent."""
    config: ClientConfig = {
        "connect_timeout": timedelta(seconds=connect_timeout),
        # A call that no caller waits for any more ends by this.
        "timeout": timedelta(seconds=total_timeout),
    }
    if read_timeout is not None:
        config["read_timeout"] = timedelta(seconds=read_timeout)
    return config


class NoAnswerError(RequestFailedError):
    """The connection was not made, or broke, or there was no answer in time."""


class ObstoreClient(Generic[_P]):
    """A `BlobClient` over stores of obstore.

    Args:
        name: of the threads.
        store_for: returns the store of a place, to read from it or to write to it; it is called in any thread.
        read_timeout: how long to wait for the answer to an upload once it was sent, in seconds.
    """

    def __init__(
        self, name: str, store_for: Callable[[_P, Literal["read", "write"]], ObjectStore], read_timeout: float
    ) -> None:
        self._store_for = store_for
        self._read_timeout = read_timeout
        self._threads = DaemonThreads(name)
        self._pid = os.getpid()

    @property
    def is_of_this_process(self) -> bool:
        return self._pid == os.getpid()

    def put(self, place: _P, body: Body, attempt: Attempt) -> None:
        attributes: Attributes = {"Content-Type": "application/octet-stream", **body.metadata}
        if body.content_encoding is not None:
            attributes["Content-Encoding"] = body.content_encoding

        def put() -> None:
            store = self._store_for(place, "write")
            obstore.put(store, place.name, body.data, attributes=attributes, use_multipart=False)

        patience = self._read_timeout + len(body.data) / _SLOW_LINK
        self._run(put, attempt, patience)

    def get(self, place: _P, limit: int, attempt: Attempt) -> Body:
        def get() -> Body:
            # One byte over shows that a blob is too large: no more of it comes.
            end = longest_body(limit) + 1
            result = obstore.get(self._store_for(place, "read"), place.name, options={"range": (0, end)})
            if result.meta["size"] > longest_body(limit):
                raise too_large(str(place), limit)
            attributes = result.attributes
            # The buffer of its Bytes, not a copy.
            return Body(memoryview(result.bytes()), _metadata(attributes), attributes.get("Content-Encoding"))

        return self._run(get, attempt)

    def head(self, place: _P, attempt: Attempt) -> BlobProperties:
        def head() -> BlobProperties:
            # Not obstore.head: the answer to HEAD has no body, and so no code that says what is missing.
            result = obstore.get(self._store_for(place, "read"), place.name)
            meta = result.meta
            return BlobProperties(
                place.name,
                meta["size"],
                meta["e_tag"] or "",
                meta["last_modified"].timestamp(),
                _metadata(result.attributes),
            )

        return self._run(head, attempt)

    def close(self) -> None:
        """End the threads. Callers that wait get ClientClosedError; what they wait for ends by its own timeout."""
        self._threads.close()

    def _run(self, call: Callable[[], _T], attempt: Attempt, patience: float | None = None) -> _T:
        """Call obstore in a thread, for as long as the attempt may take, or until `patience` ends, in seconds."""
        seconds = attempt.seconds if patience is None else min(patience, attempt.seconds)
        try:
            return self._threads.run(call, seconds)
        except TimeoutError:
            if seconds >= attempt.seconds:
                raise
            raise NoAnswerError(trouble=f"did not answer within {seconds:.3g} s") from None
        except (PayloadError, RequestFailedError):
            raise
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise failure_of(error) from error


def failure_of(error: Exception) -> RequestFailedError:
    """Return what an error of obstore says of an attempt. It is in its text, which may show signatures."""
    text = str(error)
    if status := _STATUS.search(text):
        code = _CODE.search(text)
        number = int(status[1])
        # Headers are not handed over, so Retry-After is not known: a second is the least that services ask for.
        return RequestFailedError(number, code[1] if code else "", retry_after=1.0 if number in (429, 503) else 0.0)
    if not _BROKEN.search(text):
        return RequestFailedError(trouble=f"failed with {type(error).__name__}")
    url, reason = _URL.search(text), _OS_ERROR.search(text)
    address = urlsplit(url[1]).netloc.rpartition("@")[2] if url else "its address"
    if reason and "ConnectError" in text:
        return NoAnswerError(
            trouble=f"cannot be reached at {address} ({os.strerror(int(reason[1]))})",
            advice="check the URL, the network, and whether the emulator is running if it is one",
        )
    if _TIMED_OUT.search(text):
        return NoAnswerError(trouble=f"did not answer at {address} in time")
    return NoAnswerError(trouble=f"closed the connection at {address}")


def _metadata(attributes: Attributes) -> dict[str, str]:
    return {str(name): value for name, value in attributes.items() if name not in _HEADERS}
