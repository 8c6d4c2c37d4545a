"""Type aliases for gRPC calls, and wrappers around them."""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

import grpc
import grpc.aio

_Response = TypeVar("_Response")

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import TypeAlias

    from google.protobuf.message import Message
    from typing_extensions import Self

    # What a continuation returns: types-grpcio has no public names for it.
    CallFuture: TypeAlias = "grpc._CallFuture[_Response]"  # pyright: ignore[reportPrivateUsage]
    CallIterator: TypeAlias = "grpc._CallIterator[_Response]"  # pyright: ignore[reportPrivateUsage]
    Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]
    UnaryContinuation: TypeAlias = Callable[[grpc.ClientCallDetails, Message], CallFuture[Message]]
    StreamContinuation: TypeAlias = Callable[[grpc.ClientCallDetails, Message], CallIterator[Message]]

    AioUnaryContinuation: TypeAlias = Callable[
        [grpc.aio.ClientCallDetails, Message], Awaitable[grpc.aio.UnaryUnaryCall[Message, Message]]
    ]
    AioStreamContinuation: TypeAlias = Callable[
        [grpc.aio.ClientCallDetails, Message], Awaitable[grpc.aio.UnaryStreamCall[Message, Message]]
    ]

    class _CallAndFuture(grpc.Call, grpc.Future[_Response]): ...

else:  # grpc.Future is generic for the checkers only

    class _CallAndFuture(grpc.Call, grpc.Future, Generic[_Response]):
        pass


def remaining(timeout: float | None, started: float) -> float | None:
    """Return what is left of a timeout that began at `started`, in seconds: less than 0 when it has passed."""
    return None if timeout is None else timeout - (time.monotonic() - started)


class EndedLocallyError(grpc.RpcError, _CallAndFuture[NoReturn]):
    """A call that ended on this side. As with grpc's own errors, the error is the call, for interceptors above ours."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> Metadata:
        return ()

    # RpcError and Call have different types for the checkers, of what is the same.
    def trailing_metadata(self) -> Metadata:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        return ()

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return self._code is grpc.StatusCode.CANCELLED

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False  # as grpc has it for a call that is over

    def add_done_callback(self, fn: Callable[[grpc.Future[NoReturn]], None]) -> None:
        fn(self)

    def result(self, timeout: float | None = None) -> NoReturn:
        raise self

    def exception(self, timeout: float | None = None) -> Exception:
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        return self.__traceback__


TIMEOUT_USED_UP = "the timeout of the call passed while its payloads were uploaded: it was not sent"


class WrappedCall:
    """Wraps a call: everything that a subclass does not define is that of the call."""

    def __init__(self, call: object) -> None:
        self._wrapped = call

    def __getattr__(self, name: str) -> object:
        return getattr(self._wrapped, name)


class FinishedLater(WrappedCall, Generic[_Response]):
    """A call that was not over when the interceptor returned: its response is deexternalized when it is asked for.

    `finish` gets the response, or the error of the RPC, and returns the error for the caller, if any. It is called
    once, by the thread that first asks. In a done callback that is a thread of gRPC's, where a download delays the
    other calls of the channel.
    """

    def __init__(
        self, call: CallFuture[_Response], finish: Callable[[_Response | None, Exception | None], Exception | None]
    ) -> None:
        super().__init__(call)
        self._call = call
        self._finish = finish
        self._lock = Lock()
        self._is_finished = False
        self._error: Exception | None = None

    def result(self, timeout: float | None = None) -> _Response:
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._call.result()

    def exception(self, timeout: float | None = None) -> Exception | None:
        error = self._call.exception(timeout)
        with self._lock:
            if not self._is_finished:
                self._error = self._finish(None if error is not None else self._call.result(), error)
                self._is_finished = True
        return self._error

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        error = self.exception(timeout)
        return None if error is None else error.__traceback__

    def add_done_callback(self, fn: Callable[[Self], None]) -> None:
        self._call.add_done_callback(lambda _: fn(self))


# For isinstance. To define what these have would be to pass on each method by hand.
grpc.Call.register(FinishedLater)
grpc.Future.register(FinishedLater)
