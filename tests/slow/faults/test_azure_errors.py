"""What becomes of each failure: which error, permanent or not, tried how often, and how soon it is reported."""

from __future__ import annotations

import gc
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest
from tests.support.ports import reserved_port
from tests.support.proxy import Fault, FaultProxy, always, canned, first, in_turn
from tests.support.store_forms import AsyncForm, Form, SyncForm, both_forms

from durabletask_payloads._errors import (
    PayloadAccessDeniedError,
    PayloadError,
    PayloadIntegrityError,
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
)
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.azurite import Azurite
    from tests.support.fixtures import Engine

    Plan = Callable[[int], Fault]
    Case = Callable[[str, Form, FaultProxy], None]

pytestmark = pytest.mark.usefixtures("engine")

T = TypeVar("T")
HEX = "0123456789abcdef" * 2


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections."""
    with reserved_port() as port:
        yield port


@pytest.fixture
def stored(azurite: Azurite, container: str) -> tuple[bytes, str]:
    """A payload that is in the container already, and its token."""
    data = os.urandom(400_000)
    options = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
    with BlobPayloadStore(options) as store:
        return data, store.upload(data)


def through(
    port: int, azurite: Azurite, container: str, *, silent: bool = False, retries: int = 2
) -> BlobPayloadStoreOptions:
    """Options to the storage account behind `port`: if that is silent at times, with a read_timeout that is short.

    On a machine that is busy, a healthy answer would be late for that one too.
    """
    return BlobPayloadStoreOptions(
        connection_string=azurite.connection_string_at(port),
        container_name=container,
        read_timeout=0.5 if silent else 20.0,
        retries=retries,
    )


# ---- answers ------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    fault: Fault
    error: type[PayloadError]
    text: str


ANSWERS = {
    "400": Answer(canned(400, "Bad", "InvalidHeaderValue"), PayloadError, r"refused the request \(400 InvalidHeader"),
    "401": Answer(
        canned(401, "No", "InvalidAuthenticationInfo", WWW_Authenticate="Bearer authorization_uri=x"),
        PayloadAccessDeniedError,
        r"\(401 InvalidAuthenticationInfo\): check the credential",
    ),
    "403": Answer(canned(403, "No", "AuthorizationPermissionMismatch"), PayloadAccessDeniedError, "Data Contributor"),
    "404 blob": Answer(canned(404, "No", "BlobNotFound"), PayloadNotFoundError, "has no such blob"),
    "404 container": Answer(canned(404, "No", "ContainerNotFound"), PayloadNotFoundError, "does not exist in http"),
    "404 alone": Answer(canned(404, "No"), PayloadStoreUnavailableError, "answered 404, 3 times, but not as Blob"),
    "404 of something else": Answer(
        canned(404, "No", "ResourceNotFound"),
        PayloadStoreUnavailableError,
        "answered 404 ResourceNotFound, 3 times, but",
    ),
    "408": Answer(canned(408, "Slow"), PayloadStoreUnavailableError, "answered 408, 3 times"),
    "409": Answer(canned(409, "No", "BlobArchived"), PayloadError, r"refused the request \(409 BlobArchived\)"),
    "409 being deleted": Answer(
        canned(409, "No", "ContainerBeingDeleted"), PayloadStoreUnavailableError, "409 ContainerBeingDeleted, 3 times"
    ),
    "412": Answer(canned(412, "No", "ConditionNotMet"), PayloadIntegrityError, "changed while it was read"),
    "429": Answer(canned(429, "Slow", "TooManyRequests"), PayloadStoreUnavailableError, "429 TooManyRequests, 3 times"),
    "500": Answer(canned(500, "Oops", "InternalError"), PayloadStoreUnavailableError, "500 InternalError, 3 times"),
    "503": Answer(canned(503, "Busy", "ServerBusy"), PayloadStoreUnavailableError, "answered 503 ServerBusy, 3 times"),
    "redirect": Answer(canned(307, "Go", Location="http://127.0.0.1:1/"), PayloadError, r"refused the request \(307"),
    "no blob storage": Answer(
        Fault(answer=b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"),
        PayloadStoreUnavailableError,
        "failed with ValueError, 3 times",
    ),
    "no HTTP": Answer(Fault(answer=b"SSH-2.0-OpenSSH_9.9\r\n"), PayloadStoreUnavailableError, "failed with .*3 times"),
    "nothing": Answer(Fault(answer=b""), PayloadStoreUnavailableError, "closed the connection, 3 times"),
}
# What obstore does not take as an answer: nothing is wrong with the request, so that it is repeated after a wait.
WAITED_FOR = ("408", "429", "500", "503", "no HTTP", "nothing")


def connections(name: str, engine: Engine, attempts: int) -> int:
    """How many connections are made for a request that gets the answer of that name each time."""
    # For an idempotent request whose connection is closed without a word, aiohttp takes a second one by itself.
    of_azure = 2 if name == "nothing" else 1
    if engine == "azure-storage-blob":
        return attempts * of_azure
    # obstore makes the first attempt, and Azure's client then asks for the reason of an answer that is no success.
    return 1 + (attempts - (name in WAITED_FOR)) * of_azure


FORMS: dict[str, Form] = {"sync": SyncForm(), "async": AsyncForm()}


def all_at_once(port: int, faults: dict[str, Fault], plan: Callable[[Fault], Plan], test: Case) -> None:
    """Run `test` through a proxy before `port`, for each fault in each form at the same time: most of it is waiting."""

    def run(case: tuple[str, str]) -> None:
        fault, form = case
        with FaultProxy(port, plan(faults[fault])) as proxy:
            try:
                test(fault, FORMS[form], proxy)
            except BaseException as error:
                raise AssertionError(f"{fault}, {form}: {error!r}") from error

    with ThreadPoolExecutor(len(faults) * len(FORMS)) as pool:
        list(pool.map(run, product(faults, FORMS)))
    gc.collect()  # connections that nobody closed make themselves known, and fail the test


def test_download_answered(azurite: Azurite, container: str, engine: Engine) -> None:
    token = f"blob:v1:{container}:{HEX}"

    def test(name: str, form: Form, proxy: FaultProxy) -> None:
        answer = ANSWERS[name]
        with (
            BlobPayloadStore(through(proxy.port, azurite, container)) as store,
            pytest.raises(answer.error, match=answer.text) as caught,
        ):
            form.download(store, token)
        assert type(caught.value) is answer.error
        assert token in str(caught.value)
        assert caught.value.__cause__ is not None
        transient = answer.error is PayloadStoreUnavailableError
        assert caught.value.permanent is not transient
        assert proxy.connections == connections(name, engine, 3 if transient else 1)

    all_at_once(azurite.port, {name: answer.fault for name, answer in ANSWERS.items()}, always, test)


def test_upload_and_delete_answered(azurite: Azurite, container: str, engine: Engine) -> None:
    def test(name: str, form: Form, proxy: FaultProxy) -> None:
        answer = ANSWERS[name]
        with BlobPayloadStore(through(proxy.port, azurite, container)) as store:
            with pytest.raises(answer.error) as caught:
                form.upload(store, bytes(100_000))
            with pytest.raises(answer.error):
                form.delete(store, f"blob:v1:{container}:{HEX}")
        assert type(caught.value) is answer.error
        attempts = 3 if answer.error is PayloadStoreUnavailableError else 1
        # Azure's client deletes, whatever the engine.
        assert proxy.connections == sum(connections(name, used, attempts) for used in (engine, "azure-storage-blob"))

    # That something is missing means something else to these, and any 200 is good enough for the client.
    left_out = ("404 blob", "404 container", "no blob storage", "no HTTP")
    others = {name: answer.fault for name, answer in ANSWERS.items() if name not in left_out}
    all_at_once(azurite.port, others, always, test)


def test_a_container_that_is_being_deleted_is_not_one_that_exists(
    azurite: Azurite, container: str, proxy: FaultProxy, engine: Engine
) -> None:
    """Only the code tells these two answers to its creation apart."""
    being_deleted = canned(409, "The specified container is being deleted.", "ContainerBeingDeleted")
    missing = canned(404, "No", "ContainerNotFound")
    again = [missing] if engine == "obstore" else []  # the answer to obstore's attempt, then to Azure's client
    proxy.plan = in_turn(*again, *[missing, being_deleted] * 3)
    with BlobPayloadStore(through(proxy.port, azurite, container)) as store:
        with pytest.raises(PayloadStoreUnavailableError, match="409 ContainerBeingDeleted, 3 times"):
            store.upload(b"1")
        assert proxy.connections == 6 + len(again)
        # Somebody else was faster: that is as good as having made it.
        exists = canned(409, "The specified container already exists.", "ContainerAlreadyExists")
        proxy.plan = in_turn(*again, missing, exists, from_number=proxy.connections)
        store_of_others = BlobPayloadStoreOptions(connection_string=azurite.connection_string, container_name=container)
        with BlobPayloadStore(store_of_others) as other:
            other.upload(b"0")
        assert store.download(store.upload(b"1")) == b"1"


@both_forms
def test_wrong_keys(azurite: Azurite, container: str, form: Form) -> None:
    options = BlobPayloadStoreOptions(
        account_url=azurite.account_url,
        credential={"account_name": azurite.account_name, "account_key": "d3Jvbmc="},
        container_name=container,
    )
    with BlobPayloadStore(options) as store:
        with pytest.raises(PayloadAccessDeniedError):
            form.upload(store, b"1")
        with pytest.raises(PayloadAccessDeniedError):
            form.download(store, f"blob:v1:{container}:{HEX}")


# ---- what networks do ---------------------------------------------------------------------------------------------

BROKEN = {
    "swallowed": Fault(swallow=True),
    "reset before the answer": Fault(reset_request_after=1),
    "reset in the head": Fault(reset_response_after=20),
    "closed in the head": Fault(truncate_response_after=20),
    "stalled in the head": Fault(stall_response_after=20),
}
IN_BODY_OF_ANSWER = {
    "reset in the body": Fault(reset_response_after=200_000),
    "closed in the body": Fault(truncate_response_after=200_000),
    "stalled in the body": Fault(stall_response_after=200_000),
}
IN_BODY_OF_REQUEST = {"reset in the body of a request": Fault(reset_request_after=200_000)}


def is_silent(name: str) -> bool:
    return name.startswith(("swallowed", "stalled"))


def trouble(name: str) -> str:
    """What an error says of a fault."""
    return "did not answer in time" if is_silent(name) else "closed the connection"


def works_again(act: Callable[[], T]) -> T:
    """What `act` returns in the end: a fault may be left over from the time before, and an answer late."""
    for _ in range(30):
        try:
            return act()
        except PayloadStoreUnavailableError:
            pass
    return act()


def test_download_broken(azurite: Azurite, container: str, stored: tuple[bytes, str]) -> None:
    data, token = stored

    def test(name: str, form: Form, proxy: FaultProxy) -> None:
        with BlobPayloadStore(through(proxy.port, azurite, container, silent=is_silent(name), retries=0)) as store:
            with pytest.raises(PayloadStoreUnavailableError, match=f"{token}: http.* {trouble(name)}$") as caught:
                form.download(store, token)
            assert not caught.value.permanent
            assert caught.value.__cause__ is not None
            assert works_again(lambda: form.download(store, token)) == data

    # The client asks three times itself when a body breaks off, and aiohttp twice when there is no answer at all.
    all_at_once(azurite.port, BROKEN | IN_BODY_OF_ANSWER, lambda fault: first(3, fault), test)


def test_upload_broken(azurite: Azurite, container: str, stored: tuple[bytes, str]) -> None:
    data, _ = stored

    def test(name: str, form: Form, proxy: FaultProxy) -> None:
        with BlobPayloadStore(through(proxy.port, azurite, container, silent=is_silent(name), retries=0)) as store:
            with pytest.raises(PayloadStoreUnavailableError, match=f"{trouble(name)}$") as caught:
                form.upload(store, data)
            assert not caught.value.permanent
            token = works_again(lambda: form.upload(store, data))
            assert form.download(store, token) == data

    all_at_once(azurite.port, BROKEN | IN_BODY_OF_REQUEST, lambda fault: first(2, fault), test)


def test_two_failures_are_made_good(azurite: Azurite, container: str, stored: tuple[bytes, str]) -> None:
    """With retries to spare: on a machine that is busy, a healthy answer may be late too."""
    data, token = stored
    answers = ("408", "429", "500", "503", "409 being deleted", "nothing")
    faults = BROKEN | IN_BODY_OF_ANSWER | IN_BODY_OF_REQUEST | {name: ANSWERS[name].fault for name in answers}

    def test(name: str, form: Form, proxy: FaultProxy) -> None:
        with BlobPayloadStore(through(proxy.port, azurite, container, silent=is_silent(name), retries=6)) as store:
            assert form.download(store, token) == data
        proxy.plan = first(proxy.connections + 2, faults[name])
        with BlobPayloadStore(through(proxy.port, azurite, container, silent=is_silent(name), retries=6)) as store:
            assert form.download(store, form.upload(store, data)) == data

    all_at_once(azurite.port, faults, lambda fault: first(2, fault), test)


def test_an_upload_whose_answer_was_lost_is_repeated(
    azurite: Azurite, container: str, proxy: FaultProxy, stored: tuple[bytes, str]
) -> None:
    """The blob is there already, and of the same name: that must not fail."""
    proxy.plan = first(1, Fault(reset_response_after=1))
    with BlobPayloadStore(through(proxy.port, azurite, container)) as store:
        assert store.download(store.upload(b"1")) == b"1"
    puts = [line for line in proxy.requests if line.startswith("PUT")]
    assert len(puts) == 2
    assert puts[0] == puts[1]


def test_retry_after(
    azurite: Azurite, container: str, proxy: FaultProxy, stored: tuple[bytes, str], engine: Engine
) -> None:
    data, token = stored
    # obstore does not say how long it is to wait: a second then, and Azure's client is told.
    unheard = 1 if engine == "obstore" else 0
    proxy.plan = first(1 + unheard, canned(503, "Busy", "ServerBusy", Retry_After="3"))
    with BlobPayloadStore(through(proxy.port, azurite, container)) as store:
        begin = time.perf_counter()
        assert store.download(token) == data
        assert time.perf_counter() - begin > 1.4 + 0.4 * unheard


@both_forms
def test_connections_that_are_half_open(
    azurite: Azurite, container: str, proxy: FaultProxy, stored: tuple[bytes, str], form: Form
) -> None:
    data, token = stored
    with BlobPayloadStore(through(proxy.port, azurite, container, silent=True)) as store:
        assert form.download(store, token) == data
        proxy.freeze()
        assert form.download(store, token) == data


@both_forms
def test_refused_and_unknown_hosts(azurite: Azurite, container: str, form: Form, closed_port: int) -> None:
    for url, text in (
        (
            f"http://127.0.0.1:{closed_port}/devstoreaccount1",
            rf"at 127\.0\.0\.1:{closed_port} \(Connection refused\), 2 times: check",
        ),
        ("http://no-such-host.invalid/devstoreaccount1", r"at no-such-host\.invalid:80 \([\w ,.-]+\), 2 times: check"),
    ):
        options = BlobPayloadStoreOptions(
            account_url=url,
            credential={"account_name": azurite.account_name, "account_key": azurite.account_key},
            container_name=container,
            retries=1,
        )
        with BlobPayloadStore(options) as store:
            for act in (
                lambda: form.upload(store, b"1"),
                lambda: form.download(store, f"blob:v1:{container}:{HEX}"),
                lambda: form.delete(store, f"blob:v1:{container}:{HEX}"),
            ):
                with pytest.raises(PayloadStoreUnavailableError, match=f"cannot be reached {text}") as caught:
                    act()
                assert not caught.value.permanent


# ---- deadlines ----------------------------------------------------------------------------------------------------

DEADLINE = 1.0


# What is stalled while it is sent must be larger than the buffers of the kernel on the way.
LARGE = random.Random(7).randbytes(10_000_000)


def test_the_total_holds(azurite: Azurite, container: str) -> None:
    faults = {
        "silent": Fault(swallow=True),
        "stalled upload": Fault(stall_request_after=100_000),
        "stalled download": Fault(stall_response_after=100_000),
        # One byte at a time: there is always something to read, so no timeout of a single read ever strikes.
        "trickling": Fault(chunk=1, delay=0.05),
        "asked to wait": canned(503, "Busy", Retry_After="60"),
    }

    def options(port: int) -> BlobPayloadStoreOptions:
        return BlobPayloadStoreOptions(
            connection_string=azurite.connection_string_at(port),
            container_name=container,
            max_stored_payload_bytes=30_000_000,
            enable_compression=False,
            total_timeout=DEADLINE if port != azurite.port else 25.0,
        )

    with BlobPayloadStore(options(azurite.port)) as store:
        token = store.upload(LARGE)

    def test(name: str, form: Form, proxy: FaultProxy) -> None:
        with BlobPayloadStore(options(proxy.port)) as store:
            acts: list[Callable[[], object]] = []
            if name != "stalled download":  # the answer to an upload is too short to stall in
                acts.append(lambda: form.upload(store, LARGE))
            if name != "stalled upload":  # nor is the request for a download long enough
                acts.append(lambda: form.download(store, token))
            for act in acts:
                begin = time.perf_counter()
                with pytest.raises(PayloadStoreUnavailableError, match=r"within total_timeout \(1 s, all retries\)"):
                    act()
                assert DEADLINE * 0.9 < time.perf_counter() - begin < DEADLINE * 20  # all others are longer

    all_at_once(azurite.port, faults, always, test)


def test_defaults_report_in_time(azurite: Azurite, container: str, closed_port: int) -> None:
    """Refused after five attempts, some 3 s; silent, or stalled in a body, after 25 s; in both forms, all at once.

    The latter with a tenth of each timeout. Each attempt's own would come to twice as long.
    """
    plain = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string, container_name=container, max_stored_payload_bytes=30_000_000
    )
    assert plain.total_timeout == 25
    with BlobPayloadStore(plain) as store:
        token = store.upload(LARGE)

    def complaint(port: int, form: Form, act: Callable[[BlobPayloadStore, Form], object]) -> str:
        part = 1 if port == closed_port else 10  # the delays of retries stay what they are
        options = replace(
            plain,
            connection_string=azurite.connection_string_at(port),
            connect_timeout=plain.connect_timeout / part,
            read_timeout=plain.read_timeout / part,
            total_timeout=plain.total_timeout / part,
        )
        with BlobPayloadStore(options) as store, pytest.raises(PayloadStoreUnavailableError) as caught:
            act(store, form)
        return str(caught.value)

    def upload(store: BlobPayloadStore, form: Form) -> None:
        form.upload(store, LARGE)

    def download(store: BlobPayloadStore, form: Form) -> None:
        form.download(store, token)

    refused, late = "(Connection refused), 5 times", "did not answer within total_timeout (2.5 s, all retries)"
    with (
        FaultProxy(azurite.port, always(Fault(swallow=True))) as silent,
        FaultProxy(azurite.port, always(Fault(stall_request_after=100_000))) as stalled_up,
        FaultProxy(azurite.port, always(Fault(stall_response_after=100_000))) as stalled_down,
        ThreadPoolExecutor(16) as pool,
    ):
        complaints = {
            pool.submit(complaint, port, form, act): text
            for form in FORMS.values()
            for port, act, text in (
                (closed_port, upload, refused),
                (closed_port, download, refused),
                (silent.port, upload, late),
                (silent.port, download, late),
                (stalled_up.port, upload, late),
                (stalled_down.port, download, late),
            )
        }
        for running, text in complaints.items():
            assert text in running.result()


def test_a_slow_link_is_no_dead_one(azurite: Azurite, container: str, proxy: FaultProxy) -> None:
    """6 MB at 2 MB/s, which is longer than any timeout of a single read or connection."""
    data = random.Random(7).randbytes(6_000_000)
    proxy.plan = always(Fault(chunk=65536, delay=0.032))
    options = BlobPayloadStoreOptions(
        connection_string=azurite.connection_string_at(proxy.port),
        container_name=container,
        connect_timeout=2,
        read_timeout=2,
        retries=0,
    )
    with BlobPayloadStore(options) as store:
        begin = time.perf_counter()
        token = store.upload(data)
        assert time.perf_counter() - begin > 2.5  # and so more than any timeout
        assert store.stored_bytes(token) == len(data)


# ---- all at once --------------------------------------------------------------------------------------------------


def test_200_payloads_through_a_bad_network(azurite: Azurite, container: str) -> None:
    """Each one comes back equal, or there is a typed error; none is lost, none is wrong."""
    dice = random.Random(20260731)
    faults = [
        Fault(delay=0.02),
        Fault(swallow=True),
        *(Fault(reset_request_after=dice.randrange(1, 400_000)) for _ in range(4)),
        *(Fault(reset_response_after=dice.randrange(1, 400_000)) for _ in range(4)),
        *(Fault(truncate_response_after=dice.randrange(1, 400_000)) for _ in range(4)),
        Fault(stall_request_after=100_000),
        Fault(stall_response_after=100_000),
        canned(503, "Busy", "ServerBusy"),
        canned(429, "Slow", "TooManyRequests", Retry_After="1"),
        canned(409, "No", "ContainerBeingDeleted"),
        canned(500, "Oops", "InternalError"),
    ]
    lock = threading.Lock()

    def plan(number: int) -> Fault:
        with lock:
            if 20 <= number % 100 < 30:
                return canned(503, "Busy", "ServerBusy")  # a burst
            # No connection lives for long: else there would be few.
            return dice.choice(faults) if dice.random() < 0.5 else Fault(reset_request_after=dice.randrange(800_000))

    payloads = [dice.randbytes(dice.choice([100, 20_000, 300_000])) for _ in range(200)]
    failures: list[PayloadError] = []
    forms = list(FORMS.values())
    with FaultProxy(azurite.port, plan) as proxy:
        options = through(proxy.port, azurite, container, silent=True)
        with BlobPayloadStore(options) as store, ThreadPoolExecutor(16) as pool:

            def there_and_back(number: int) -> bool:
                form = forms[number % 2]
                try:
                    return form.download(store, form.upload(store, payloads[number])) == payloads[number]
                except PayloadStoreUnavailableError as error:
                    failures.append(error)
                    return False

            equal = sum(pool.map(there_and_back, range(200)))
        assert proxy.connections > 50
    # Anything else than a transient error was raised by `map`.
    assert equal + len(failures) == 200
    assert equal > 100
