"""Outages, and calls of ours that fail in any way: nothing is lost, nothing is held for ever, what is small passes."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, TypeVar

import durabletask.internal.orchestrator_service_pb2 as pb
import durabletask.internal.orchestrator_service_pb2_grpc as stubs
import grpc
import pytest
from durabletask import task
from google.protobuf.wrappers_pb2 import StringValue
from tests.support.backend import RedeliveringBackend, worker_on
from tests.support.call_forms import opened
from tests.support.hub import FUNCTIONS, LEDGER, Hub, calls_digest, calls_produce, digest, produce, returns
from tests.support.scripted_store import ScriptedStore, nothing, prove
from tests.support.senders import Sender
from tests.support.threads import our_threads
from tests.support.waiting import wait_until

from durabletask_payloads import Externalizer, PayloadStoreUnavailableError
from durabletask_payloads.interceptors import PayloadInterceptor, _verdict
from durabletask_payloads.interceptors.worker import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from google.protobuf.message import Message
    from tests.support.hub import Flow
    from tests.support.server import ScriptedServer

    from durabletask_payloads import PayloadObserver, PayloadStats
    from durabletask_payloads.interceptors._calls import CallFuture, CallIterator

SIZE = 5_000
BAD_SIZE = 6_000
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class FatalError(BaseException):
    """Not an Exception."""


def round_trip(orchestration: task.OrchestrationContext, text: str) -> Flow:
    """Send large payloads to activities and to an entity; returns what they returned."""
    length: int = yield orchestration.call_activity(digest, input=text)
    result: str = yield orchestration.call_activity(produce, input=length)
    grown: str = yield orchestration.call_entity(LEDGER, "grow", length)
    return result + grown


class TouchyStore(ScriptedStore):
    """Has a hook for `is_known_token`, too."""

    def __init__(self) -> None:
        super().__init__()
        self.asking: Callable[[str], None] = lambda text: None

    def is_known_token(self, value: str) -> bool:
        self.asking(value)
        return super().is_known_token(value)


class Below(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """An interceptor below ours, as that of the scheduler's credential: it raises for some calls, for some time.

    Attributes:
        error: makes what is raised; None once the credential works.
        raised: how often it has raised.
    """

    def __init__(self, error: Callable[[], BaseException], concerns: Callable[[str, object], bool]) -> None:
        self.error: Callable[[], BaseException] | None = error
        self.raised = 0
        self._concerns = concerns

    def _check(self, details: grpc.ClientCallDetails, request: object) -> None:
        if self.error is not None and self._concerns(details.method, request):
            self.raised += 1
            raise self.error()

    def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], CallFuture[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> CallFuture[_Response]:
        self._check(client_call_details, request)
        return continuation(client_call_details, request)

    def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.ClientCallDetails, _Request], CallIterator[_Response]],
        client_call_details: grpc.ClientCallDetails,
        request: _Request,
    ) -> CallIterator[_Response]:
        self._check(client_call_details, request)
        return continuation(client_call_details, request)


@pytest.fixture
def store() -> TouchyStore:
    return TouchyStore()


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> RedeliveringBackend:
    return RedeliveringBackend(can_abandon=getattr(request, "param", True))


either_server = pytest.mark.parametrize("backend", [True, False], ids=["abandons", "cannot abandon"], indirect=True)


@pytest.fixture
def hub(backend: RedeliveringBackend, hub_address: str, externalizer: Externalizer) -> Generator[Hub]:
    with contextlib.ExitStack() as stack:
        yield Hub(backend, hub_address, externalizer, stack)


@pytest.fixture(autouse=True)
def no_thread_dies(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    died: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    yield
    assert died == []


@contextlib.contextmanager
def working(hub: Hub, *below: grpc.UnaryUnaryClientInterceptor) -> Generator[None]:
    """Run a worker with `below` below our interceptor."""
    with worker_on(hub.address, [*FUNCTIONS, round_trip], [hub.interceptor, *below]) as worker:
        worker.start()
        yield


def away(payload: bytes) -> None:
    raise PayloadStoreUnavailableError("the store is away")


def stream_threads() -> list[str]:
    """Our threads, but those of the pool that transfers payloads, which is the externalizer's."""
    names = ("durabletask-payloads-reader", "durabletask-payloads-deexternalize", "durabletask-payloads-abandoner")
    return [name for name in our_threads() if name.startswith(names)]


# ---- a store that is away ------------------------------------------------------------------------------------------


@either_server
@pytest.mark.slow
def test_a_store_that_is_away_for_4_s(hub: Hub, store: TouchyStore) -> None:
    """It goes away in the middle of the work: everything completes within 10 s of its return, on the same stream."""
    transfers: list[bytes] = []
    failures: list[bytes] = []
    back_at = [float("inf")]

    def check(payload: bytes) -> None:
        transfers.append(payload)
        if len(transfers) == 20:
            back_at[0] = time.monotonic() + 4
        if len(transfers) >= 20 and time.monotonic() < back_at[0]:
            failures.append(payload)
            away(payload)

    instances = [hub.client.schedule_new_orchestration(round_trip, input="x" * SIZE) for _ in range(30)]
    store.uploading = store.downloading = check
    with working(hub):
        wait_until(lambda: time.monotonic() > back_at[0], what="the return of the store")
        for instance in instances:
            outcome = hub.end_of(instance, seconds=max(1, round(back_at[0] + 10 - time.monotonic())))
            assert outcome.completed, outcome.message
            assert outcome.output == "r" * SIZE + "g" * SIZE
        assert time.monotonic() < back_at[0] + 10
        assert len(failures) > 10
        assert len(hub.backend.capabilities) == 1
        wait_until(lambda: hub.backend.is_idle, what="the end of all work")


class Clock:
    """Each look at it is 100 s after the last one: each delay is of a new round of the outage."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 100
        return self.now


@pytest.fixture
def long_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure is of another round: after some, items wait for a minute."""

    def registry(
        max_deliveries: int, stats: Callable[[], PayloadStats], *, observer: PayloadObserver | None
    ) -> Registry:
        return Registry(max_deliveries, stats, Clock(), observer)

    monkeypatch.setattr("durabletask_payloads.interceptors._sync.Registry", registry)


def activity(number: int, text: str) -> pb.WorkItem:
    instance = pb.OrchestrationInstance(instanceId="order-1")
    request = pb.ActivityRequest(
        name="digest", taskId=number, input=StringValue(value=text), orchestrationInstance=instance
    )
    return pb.WorkItem(completionToken=f"token-{number}", activityRequest=request)


@pytest.mark.usefixtures("long_outage")
def test_items_that_wait_for_a_minute_are_abandoned_at_once_after_the_first_success(
    address: str, server: ScriptedServer, externalizer: Externalizer, store: TouchyStore
) -> None:
    failures: list[bytes] = []

    def fail(payload: bytes) -> None:
        if payload.startswith(b"bad"):
            failures.append(payload)
            away(payload)

    texts = [store.upload((f"bad-{number}-" * 1_000).encode()) for number in range(20)]
    good = store.upload(b"good" * 1_000)
    is_back = threading.Event()

    def deliver(request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        yield from (activity(number, text) for number, text in enumerate(texts))
        while context.is_active() and not is_back.wait(0.01):
            pass
        for number in range(8):  # the last failure may not wait yet at the first success
            yield activity(90 + number, good)
            time.sleep(0.05)
        while context.is_active():
            time.sleep(0.01)

    store.downloading = fail
    server.answers["GetWorkItems"] = deliver
    with opened("sync", address, externalizer) as form:
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        received: list[Message] = []
        reading = threading.Thread(target=lambda: received.append(stream.next()), daemon=True)
        reading.start()
        wait_until(lambda: len(failures) >= 20, what="the outage")
        waiting = 20 - len(server.named("AbandonTaskActivityWorkItem"))
        assert waiting >= 10  # from the ninth on it is more than 45 s
        is_back.set()
        reading.join(30)
        assert len(received) == 1
        wait_until(lambda: len(server.named("AbandonTaskActivityWorkItem")) >= 20, what="the abandonment")
        stream.cancel()
    wait_until(lambda: not stream_threads(), what="the end of our threads")


@pytest.mark.usefixtures("long_outage")
@pytest.mark.parametrize("can_abandon", [True, False])
def test_a_completion_that_waits_for_a_minute_ends_after_the_first_success(
    can_abandon: bool, address: str, server: ScriptedServer, externalizer: Externalizer, store: TouchyStore
) -> None:
    def refuse(request: Message, context: grpc.ServicerContext) -> Message:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")

    if not can_abandon:
        server.answers["AbandonTaskActivityWorkItem"] = refuse
    failures: list[bytes] = []

    def fail(payload: bytes) -> None:
        failures.append(payload)
        away(payload)

    server.answers["GetWorkItems"] = Sender(*(activity(number, "small") for number in range(20)))
    ended: list[BaseException | None] = []
    with opened("sync", address, externalizer) as form:
        stream = form.stream("GetWorkItems", pb.GetWorkItemsRequest())
        for _ in range(20):
            stream.next()
        store.uploading = fail

        def complete(number: int) -> None:
            response = pb.ActivityResponse(instanceId="order-1", taskId=number, completionToken=f"token-{number}")
            response.result.value = "r" * SIZE
            try:
                form.call("CompleteActivityTask", response)
                ended.append(None)
            except PayloadStoreUnavailableError as error:
                ended.append(error)

        threads = [threading.Thread(target=complete, args=(number,), daemon=True) for number in range(20)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(failures) >= 20, what="the outage")
        store.uploading = nothing
        assert len(ended) < 20

        def all_have_ended() -> bool:
            prove(externalizer, store)  # goes on serving: a thread may not wait yet at the first success
            return len(ended) == 20

        wait_until(all_have_ended, what="the end of all of them")
        if not can_abandon:
            assert ended == [None] * 20
            assert len(server.named("CompleteActivityTask")) == 20
        stream.cancel()
        for thread in threads:
            thread.join(10)


# ---- interceptors below ours that raise ----------------------------------------------------------------------------


@either_server
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("error", [RuntimeError, ValueError, FatalError])
def test_an_interceptor_below_that_raises_for_abandonments(
    error: Callable[[str], BaseException], hub: Hub, store: TouchyStore
) -> None:
    below = Below(lambda: error("the credential is unavailable"), lambda rpc, request: "Abandon" in rpc)
    instances = [hub.client.schedule_new_orchestration(calls_digest, input="x" * SIZE) for _ in range(6)]
    # Fewer than the SDK has threads: until there is an answer, completions stay in them.
    instances += [hub.client.schedule_new_orchestration(calls_produce, input=SIZE) for _ in range(3)]
    store.uploading = store.downloading = away
    with working(hub, below):
        wait_until(lambda: below.raised >= 10, what="the failures")
        assert hub.run(returns, 10).completed  # small
        below.error = None
        wait_until(lambda: hub.backend.asked_to_abandon > 0, what="an abandonment")
        store.uploading = store.downloading = nothing
        assert all(hub.end_of(instance).output == SIZE for instance in instances)
        wait_until(lambda: hub.backend.is_idle, what="the end of all work")
        assert len(hub.backend.capabilities) == 1


@either_server
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("error", [RuntimeError, ValueError, FatalError])
def test_an_interceptor_below_that_raises_while_items_are_completed_as_failed(
    error: Callable[[str], BaseException],
    hub: Hub,
    hub_address: str,
    store: TouchyStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """40 whose payloads are gone: more than may be transferred at a time. What is small passes all the same."""
    monkeypatch.setattr("durabletask_payloads.interceptors.worker._stream.MOST_WAITING", 30)

    def is_ours(rpc: str, request: object) -> bool:
        if not isinstance(request, pb.OrchestratorResponse):
            return False
        return any(action.completeOrchestration.HasField("failureDetails") for action in request.actions)

    below = Below(lambda: error("the credential is unavailable"), is_ours)
    gone = store.upload(b"x" * SIZE)
    store.delete(gone)
    names = [f"gone-{number}" for number in range(40)]
    with grpc.insecure_channel(hub_address) as channel:
        stub = stubs.TaskHubSidecarServiceStub(channel)
        for name in names:
            stub.StartInstance(pb.CreateInstanceRequest(instanceId=name, name="returns", input=StringValue(value=gone)))
    with working(hub, below):
        wait_until(lambda: below.raised >= 40, what="the failures")
        assert hub.run(returns, 10).completed
        assert sum(hub.backend.abandonments.values()) > 0 or not hub.backend.is_idle
        below.error = None
        outcomes = [hub.end_of_raw(name) for name in names]
        assert all(outcome.failed and "not found" in outcome.message for outcome in outcomes)
        assert len(hub.backend.capabilities) == 1


@either_server
@pytest.mark.usefixtures("fast")
def test_an_interceptor_below_that_raises_for_the_substitute_of_a_completion(hub: Hub, store: TouchyStore) -> None:
    """Its result is too large, and the failure in its place is not sent for some time."""

    def is_ours(rpc: str, request: object) -> bool:
        return isinstance(request, pb.ActivityResponse) and request.HasField("failureDetails")

    below = Below(lambda: RuntimeError("the credential is unavailable"), is_ours)
    with working(hub, below):
        instance = hub.client.schedule_new_orchestration(calls_produce, input=200_000)
        wait_until(lambda: below.raised >= 3, what="the failures")
        assert hub.run(calls_produce, 10).output == 10
        below.error = None
        outcome = hub.end_of(instance)
        assert outcome.failed
        assert "max_stored_payload_bytes" in outcome.message
        assert len(hub.backend.capabilities) == 1


# ---- stores that raise what is no Exception ------------------------------------------------------------------------


@either_server
@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("error", [SystemExit, FatalError])
@pytest.mark.parametrize("where", ["download", "token", "upload", "text"])
def test_a_store_that_raises_no_exception_concerns_that_item_alone(
    where: str, error: Callable[[str], BaseException], hub: Hub, store: TouchyStore
) -> None:
    failures: list[int] = []

    def fail() -> None:
        failures.append(1)
        raise error("of the store")

    def check(payload: bytes) -> None:
        if BAD_SIZE <= len(payload) < BAD_SIZE + 10:
            fail()

    arrives = where in ("download", "token")
    if arrives:
        instance = hub.client.schedule_new_orchestration(calls_digest, input="x" * BAD_SIZE)
    else:
        instance = hub.client.schedule_new_orchestration(calls_produce, input=BAD_SIZE)
    token = hub.backend.input_of(instance)
    match where:
        case "download":
            store.downloading = check
        case "upload":
            store.uploading = check
        case "token":
            store.asking = lambda text: fail() if text == token else None
        case _:
            store.asking = lambda text: fail() if text == f'"{"r" * BAD_SIZE}"' else None
    with working(hub):
        wait_until(lambda: len(failures) >= 2, what="the failures")
        good = [hub.client.schedule_new_orchestration(calls_digest, input="x" * SIZE) for _ in range(5)]
        good += [hub.client.schedule_new_orchestration(calls_produce, input=SIZE) for _ in range(5)]
        assert all(hub.end_of(one).output == SIZE for one in good)
        store.uploading = store.downloading = nothing
        store.asking = lambda text: None
        assert hub.end_of(instance).output == BAD_SIZE
        assert {work.instance_id for work in hub.backend.abandonments} <= {instance}
        assert len(hub.backend.capabilities) == 1


# ---- a channel that is closed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["waits", "is being abandoned", "is completed in place"])
def test_a_channel_that_is_closed_meanwhile_ends_all_threads_without_an_error(
    what: str,
    address: str,
    server: ScriptedServer,
    externalizer: Externalizer,
    store: TouchyStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = threading.Event()

    def hold(request: Message, context: grpc.ServicerContext) -> Message:
        asked.set()
        while context.is_active():
            time.sleep(0.01)
        return pb.AbandonActivityTaskResponse()

    monkeypatch.setattr(_verdict, "_FIRST_DELAY_SECONDS", 0.01 if what == "is being abandoned" else 60.0)
    server.answers["AbandonTaskActivityWorkItem"] = hold
    large = store.upload(b"x" * SIZE)
    is_completed = what == "is completed in place"
    server.answers["GetWorkItems"] = Sender(activity(1, "small" if is_completed else large))
    failures: list[bytes] = []

    def fail(payload: bytes) -> None:
        failures.append(payload)
        away(payload)

    store.uploading = store.downloading = fail
    channel = grpc.insecure_channel(address)
    stub = stubs.TaskHubSidecarServiceStub(grpc.intercept_channel(channel, PayloadInterceptor(externalizer)))
    stream = stub.GetWorkItems(pb.GetWorkItemsRequest())
    ended: list[str] = []

    def read() -> None:
        with contextlib.suppress(grpc.RpcError):
            for item in stream:
                ended.append(item.completionToken)
        ended.append("stream")

    def complete() -> None:
        response = pb.ActivityResponse(instanceId="order-1", taskId=1, completionToken="token-1")
        response.result.value = "r" * SIZE
        with pytest.raises(PayloadStoreUnavailableError):
            stub.CompleteActivityTask(response)

    threads = [threading.Thread(target=read, daemon=True)]
    threads[0].start()
    if is_completed:
        wait_until(lambda: ended == ["token-1"], what="the item")
        threads.append(threading.Thread(target=complete, daemon=True))
        threads[1].start()
    wait_until(lambda: len(failures) >= 1, what="the failure")
    if what == "is being abandoned":
        assert asked.wait(10)
    channel.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert ended[-1] == "stream"
    wait_until(lambda: not stream_threads(), what="the end of our threads")
    assert server.named("CompleteActivityTask") == []
    assert len(server.named("AbandonTaskActivityWorkItem")) == (what == "is being abandoned")
