"""The contract between remote stores and the clients of storage services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


MANAGED: Final = {"managed_by": "dts"}
"""The metadata of blobs that the clean-up of the .NET SDK, and ours, may delete."""


class Place(Protocol):
    """Where a blob is. `str()` gives its token."""

    @property
    def container(self) -> str: ...
    @property
    def name(self) -> str: ...


class Body(NamedTuple):
    """What is stored in a blob.

    Attributes:
        data: of a download it may be memory of the client's own, which nobody has copied.
    """

    data: bytes | memoryview
    metadata: Mapping[str, str]
    content_encoding: str | None


class BlobProperties(NamedTuple):
    """What a service knows of a blob. Its size is in bytes, the time it was written in seconds since 1970."""

    name: str
    size: int
    etag: str
    last_modified: float
    metadata: Mapping[str, str]


class Attempt(NamedTuple):
    """One attempt at an operation: its number from 1 on, and the seconds that it may take."""

    number: int
    seconds: float


class RequestFailedError(Exception):
    """An attempt failed. Raised `from` the error of the client's library.

    Attributes:
        status: of the HTTP answer; None where there was none, or where its body broke off.
        code: of the service, as "BlobNotFound"; "" where it gave none.
        retry_after: the seconds that the service asks to wait, 0 if it does not.
        trouble: what happened where there is no status: "cannot be reached at <host>:<port> (<reason>)".
        advice: what to do about that, or about a status; may be empty.
        credential: why the credential gave nothing to send with a request; None where it did.
    """

    def __init__(
        self,
        status: int | None = None,
        code: str = "",
        *,
        retry_after: float = 0.0,
        trouble: str = "",
        advice: str = "",
        credential: str | None = None,
    ) -> None:
        super().__init__(trouble if status is None else f"{status} {code}".strip())
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.trouble = trouble
        self.advice = advice
        self.credential = credential


NO_ANSWER: Final = "did not answer in time"
BROKEN_OFF: Final = "closed the connection"
NO_THREADS: Final = "cannot be asked: this process gets no more threads"


def unreachable(address: str, reason: str) -> RequestFailedError:
    """Return what it means that there is no connection to an address."""
    return RequestFailedError(
        trouble=f"cannot be reached at {address} ({reason})",
        advice="check the URL, the network, and whether the emulator is running if it is one",
    )


class ClientClosedError(Exception):
    """The client was closed, before or while it was used."""


def is_of_shutdown(error: RuntimeError) -> bool:
    """Return whether `error` is raised because the process ends: no more threads, or a session closed already."""
    return "shutdown" in str(error) or "is closed" in str(error)  # nothing else tells


def lacks_threads(error: RuntimeError) -> bool:
    """Return whether `error` is raised because the process gets no more threads, which may be otherwise soon."""
    return "can't start new thread" in str(error)  # nothing else tells


def no_thread(error: RuntimeError) -> ClientClosedError | RequestFailedError:
    """Return what it means that a thread could not be started with `error`."""
    return ClientClosedError() if is_of_shutdown(error) else RequestFailedError(trouble=NO_THREADS)


_P = TypeVar("_P", bound=Place, contravariant=True)


class BlobClient(Protocol[_P]):
    """One attempt at one operation, blocking, for any number of threads of one process.

    All operations raise RequestFailedError where the service or the way to it is at fault, TimeoutError where they take
    longer than the attempt may, ClientClosedError, and a PayloadError where nothing is left to decide.
    """

    @property
    def is_of_this_process(self) -> bool:
        """False in a forked child, which needs a client of its own."""
        ...

    def put(self, place: _P, body: Body, attempt: Attempt) -> None:
        """Store a blob, also in the place of one that is there."""
        ...

    def get(self, place: _P, limit: int, attempt: Attempt) -> Body:
        """Download a blob. One too long for a payload of `limit` bytes is a PayloadTooLargeError, and is not read."""
        ...

    def head(self, place: _P, attempt: Attempt) -> BlobProperties:
        """Return the properties of a blob."""
        ...

    def delete(self, place: _P, etag: str | None, attempt: Attempt) -> None:
        """Delete a blob; with an `etag` only as it was when it had that one (status 412 otherwise)."""
        ...

    def list(self, place: _P, attempt: Attempt) -> Iterator[BlobProperties]:
        """Yield the blobs in the container of `place` whose names begin with its name. Each page is an attempt.

        Some services list no metadata: it is empty then, and `head` has it.
        """
        ...

    def create_container(self, place: _P, attempt: Attempt) -> None:
        """Make the container of `place`, if there is none."""
        ...

    def close(self) -> None:
        """Close all connections and end the threads. What is under way fails with ClientClosedError."""
        ...


class Dialect(NamedTuple):
    """What a kind of service calls things, for decisions and for the texts of errors.

    Attributes:
        service: its name.
        container: its word for one.
        missing: the codes of a blob that does not exist.
        missing_container: the codes of a container that does not exist.
        busy: the codes of refusals that pass by themselves.
        create: what to do about a missing container.
        rights: which rights to grant.
        container_may_come: whether a missing container makes the store unavailable, since it may be made any moment.
        denied: the codes that refuse a credential with another status than 401 and 403.
        blob: its word for one.
        elsewhere: where a blob that is missing may be.
        address: its word for what its URL names.
        longest_instance_id: the longest that goes into the metadata, in characters as they are written there. All
            metadata of a blob may have 8 KiB, and an instance id 100 or 200 characters with the backends there are.
    """

    service: str
    container: str
    missing: frozenset[str]
    missing_container: frozenset[str]
    busy: frozenset[str]
    create: str
    rights: str
    container_may_come: bool
    denied: frozenset[str] = frozenset()
    blob: str = "blob"
    elsewhere: str = "in another account"
    address: str = "account"
    longest_instance_id: int = 4096


BLOB_STORAGE: Final = Dialect(
    service="Blob Storage",
    container="container",
    missing=frozenset({"BlobNotFound"}),
    missing_container=frozenset({"ContainerNotFound"}),
    busy=frozenset({"ContainerBeingDeleted"}),
    create="set create_container, or create it, or use the same account on the client and on every worker",
    rights="check the credential; an identity needs the role Storage Blob Data Contributor",
    container_may_come=False,
)
