"""obstore, a client of object stores written in Rust, as a `BlobClient`: half the CPU of Azure's own, and S3 and GCS.

Its calls block and cannot be interrupted, so that each runs in a daemon thread that a caller waits for. Import this on
first use: see `_engines`.

Two operations are less than a service could do: a deletion that depends on an ETag looks at that first, and containers
cannot be made.
"""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeVar, cast
from urllib.parse import urlsplit

import obstore

from durabletask_payloads._errors import PayloadError, PayloadStoreUnavailableError

from ._blob_client import (
    BROKEN_OFF,
    NO_ANSWER,
    Attempt,
    BlobProperties,
    Body,
    Place,
    RequestFailedError,
    unreachable,
)
from ._codec import longest_body, too_large
from ._threads import DaemonThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obstore import Attributes, GetOptions, GetResult, ObjectMeta
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

_T = TypeVar("_T")
_P = TypeVar("_P", bound=Place)

NO_RETRIES: Final[RetryConfig] = {"max_retries": 0}
"""The store repeats requests by itself: obstore's rules know no deadline."""

# How many bytes a slow link sends in a second.
_SLOW_LINK: Final = 1024 * 1024
_NAME_DIGITS: Final = 32
_PAGE: Final = 1000
# Its stub names a type of arro3, which comes with another extra of obstore.
_list: Final = cast("Callable[..., Iterator[Sequence[ObjectMeta]]]", obstore.list)  # pyright: ignore[reportUnknownMemberType]
# Attributes that are headers of HTTP; all others are metadata.
_HEADERS: Final = frozenset(
    {"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Cache-Control", "Storage-Class"}
)
_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
# In the answer to a deletion of many, the one that failed.
_OF_MANY: Final = re.compile(r"delete request failed for key .*\(code: (\w+)\)")
_ADVICE: Final[dict[str, str]] = dict.fromkeys(
    ("PermanentRedirect", "AuthorizationHeaderMalformed"), "the bucket is in another region: set it"
)
_STATUS_OF: Final = {"AccessDenied": 403, "403": 403, "InternalError": 500, "SlowDown": 503}
# Where a machine, a container or an identity provider gives a credential out.
_GIVES_CREDENTIALS: Final = re.compile(
    r"Error performing \w+ https?://(169\.254\.\d+\.\d+|metadata\.google\.internal|sts[.-][^/ ]+|\[fd00:ec2:[^/ ]+)"
    r"|Error performing token request: Error performing \w+ https?://([^/ ]+)"
)
# obstore does not raise an Exception then, but panics.
_PANIC: Final = (
    "cannot be asked by obstore: check that the credential, the region and the endpoint URL have no line break "
    "or other character that a request cannot have"
)
_OS_ERROR: Final = re.compile(r"Os \{\s*code: (\d+)")
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
    """The connection broke, or there was no answer in time."""


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
            result = _begin(self._store_for(place, "read"), place.name, longest_body(limit) + 1)
            if result.meta["size"] > longest_body(limit):
                raise too_large(str(place), limit)
            attributes = result.attributes
            # The buffer of its Bytes, not a copy.
            return Body(memoryview(result.bytes()), _metadata(attributes), attributes.get("Content-Encoding"))

        return self._run(get, attempt)

    def head(self, place: _P, attempt: Attempt) -> BlobProperties:
        def head() -> BlobProperties:
            # Not obstore.head: the answer to HEAD has no body, and so no code that says what is missing.
            result = _begin(self._store_for(place, "read"), place.name, 1)
            return _properties(place.name, result.meta, _metadata(result.attributes))

        return self._run(head, attempt)

    def delete(self, place: _P, etag: str | None, attempt: Attempt) -> None:
        def delete() -> None:
            store = self._store_for(place, "write")
            if etag is not None:
                _begin(store, place.name, 1, {"if_match": etag})
            try:
                obstore.delete(store, place.name)
            except FileNotFoundError as error:
                if not _OF_MANY.search(str(error)):
                    raise
                # The answer to a request for many: it is gone already.

        self._run(delete, attempt)

    def list(self, place: _P, attempt: Attempt) -> Iterator[BlobProperties]:
        """Yield what begins with the name of `place`. S3 lists no metadata."""
        store = self._store_for(place, "read")
        pages = self._run(lambda: _list(store, offset=_before(place.name), chunk_size=_PAGE), attempt)
        while (page := self._run(lambda: next(pages, None), attempt)) is not None:
            for meta in page:
                name = meta["path"]
                if name.startswith(place.name):
                    yield _properties(name, meta, {})
                elif name > place.name:  # the order is that of the names
                    return

    def create_container(self, place: _P, attempt: Attempt) -> None:
        """Raise PayloadStoreUnavailableError: obstore cannot make one."""
        raise PayloadStoreUnavailableError(f"{place}: {place.container!r} cannot be created by obstore: create it")

    def close(self) -> None:
        """End the threads. Callers that wait get ClientClosedError; what they wait for ends by its own timeout.

        In a forked child, do nothing.
        """
        if self.is_of_this_process:  # elsewhere a thread that does not exist may hold the lock
            self._threads.close()

    def _run(self, call: Callable[[], _T], attempt: Attempt, patience: float | None = None) -> _T:
        """Call obstore in a thread, for as long as the attempt may take, or until `patience` ends, in seconds."""
        seconds = attempt.seconds if patience is None else min(patience, attempt.seconds)
        try:
            return self._threads.run(call, seconds)
        except TimeoutError:
            if seconds >= attempt.seconds:
                raise
            raise NoAnswerError(trouble=NO_ANSWER) from None
        except (PayloadError, RequestFailedError):
            raise
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            failure = failure_of(error)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # a class that can be imported from nowhere
                raise
            failure = RequestFailedError(trouble=_PANIC)
        # Not from the error, nor while it is handled: its text quotes what the service, or a credential, said.
        try:
            raise failure
        finally:
            del failure  # or it and this frame would hold each other, and the payload


def failure_of(error: Exception) -> RequestFailedError:
    """Return what an error of obstore says of an attempt. It is in its text, which may show signatures."""
    text = str(error)
    if source := _GIVES_CREDENTIALS.search(text):
        return _no_credential(source[1] or source[2].rpartition("@")[2], text)
    if status := _STATUS.search(text):
        code = _CODE.search(text)
        number = int(status[1])
        # Headers are not handed over, so Retry-After is not known: a second is the least that services ask for.
        named = code[1] if code else ""
        retry_after = 1.0 if number in (429, 503) else 0.0
        return RequestFailedError(number, named, retry_after=retry_after, advice=_ADVICE.get(named, ""))
    if "redirect without LOCATION" in text:
        return RequestFailedError(301, "PermanentRedirect", advice=_ADVICE["PermanentRedirect"])
    if (refused := _OF_MANY.search(text)) and refused[1] in _STATUS_OF:
        return RequestFailedError(_STATUS_OF[refused[1]], refused[1])
    if not _BROKEN.search(text):
        return RequestFailedError(trouble=f"failed with {type(error).__name__}")
    url, reason = _URL.search(text), _OS_ERROR.search(text)
    address = urlsplit(url[1]).netloc.rpartition("@")[2] if url else "its address"
    if _TIMED_OUT.search(text):
        return NoAnswerError(trouble=NO_ANSWER)
    if "kind: Connect," in text:
        return unreachable(address, os.strerror(int(reason[1])) if reason else "no connection")
    return NoAnswerError(trouble=BROKEN_OFF)


def _no_credential(source: str, text: str) -> RequestFailedError:
    """Return what it means that there is no credential from `source`."""
    answer = _STATUS.search(text)
    if answer and int(answer[1]) not in (408, 429) and int(answer[1]) < 500:
        return RequestFailedError(credential=f"none is set, and {source} gives none (its answer was {answer[1]})")
    what = f"answered {answer[1]}" if answer else "does not answer"
    return NoAnswerError(
        trouble=f"cannot be asked without a credential: none is set, and {source} {what}",
        advice="set one in the environment or in config",
    )


def _begin(store: ObjectStore, name: str, end: int, condition: GetOptions | None = None) -> GetResult:
    """Begin to download a blob, up to `end`. It comes when its bytes are asked for."""
    condition = condition or {}
    try:
        return obstore.get(store, name, options={**condition, "range": (0, end)})
    except obstore.exceptions.BaseError as error:
        if failure_of(error).status != 416:
            raise
        return obstore.get(store, name, options=condition)  # empty: no range of it can be had


def _before(prefix: str) -> str | None:
    """Return a name before all that begin with `prefix`, with few between; None if there is none.

    A listing begins behind it, since obstore takes a prefix for a folder.
    """
    if not prefix.strip("0"):
        return None
    digits = re.fullmatch(r"[0-9a-f]+", prefix)
    if digits is None:
        return f"{prefix[:-1]}{chr(ord(prefix[-1]) - 1)}~"
    return f"{int(prefix.ljust(_NAME_DIGITS, '0'), 16) - 1:0{_NAME_DIGITS}x}"


def _properties(name: str, meta: ObjectMeta, metadata: dict[str, str]) -> BlobProperties:
    return BlobProperties(name, meta["size"], meta["e_tag"] or "", meta["last_modified"].timestamp(), metadata)


def _metadata(attributes: Attributes) -> dict[str, str]:
    return {str(name): value for name, value in attributes.items() if name not in _HEADERS}
