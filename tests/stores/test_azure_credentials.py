"""Token credentials that fail in ways of their own: the store fails in its own way, and in time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from durabletask_payloads import PayloadAccessDeniedError, PayloadStoreUnavailableError
from durabletask_payloads.stores._azure_client import GuardedCredential
from durabletask_payloads.stores._background_loop import BackgroundLoop
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azure.core.credentials import AccessToken
    from tests.support.fixtures import Engine

pytestmark = pytest.mark.usefixtures("engine")


class Sync:
    def __init__(self, answer: Callable[[], object]) -> None:
        self.answer = answer

    def get_token(self, *_scopes: str, **_options: object) -> AccessToken:
        return cast("AccessToken", self.answer())


class Async(Sync):
    async def get_token(self, *_scopes: str, **_options: object) -> AccessToken:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride] - the other protocol
        return cast("AccessToken", self.answer())


def raising(error: BaseException) -> Callable[[], object]:
    def answer() -> object:
        raise error

    return answer


def giving(**attributes: object) -> Callable[[], object]:
    return lambda: SimpleNamespace(**attributes)


def store_with(credential: Sync) -> BlobPayloadStore:
    """A store in an account that nobody is asked for before the credential."""
    return BlobPayloadStore(
        BlobPayloadStoreOptions(account_url="https://127.0.0.1:1", credential=credential, total_timeout=1, retries=0)
    )


@pytest.mark.parametrize("kind", [Sync, Async])
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (raising(RuntimeError("hush")), "raised RuntimeError"),
        (raising(KeyError("hush")), "raised KeyError"),
        (raising(SystemExit(1)), "raised SystemExit"),
        (raising(KeyboardInterrupt()), "raised KeyboardInterrupt"),
        (lambda: None, "gave NoneType, which has no token"),
        (giving(token=b"x", expires_on=0), "gave SimpleNamespace, which has no token"),
        (giving(token="a\r\nb: c", expires_on=0), "gave SimpleNamespace, which has no token"),
        (giving(token="x", expires_on="soon"), "gave SimpleNamespace, which has no expires_on"),
    ],
)
def test_a_credential_that_is_broken(kind: type[Sync], answer: Callable[[], object], text: str) -> None:
    with store_with(kind(answer)) as store, pytest.raises(PayloadAccessDeniedError) as caught:
        store.upload(b"1")
    assert str(caught.value).endswith(f"there is no valid credential for https://127.0.0.1:1: {kind.__name__} {text}")


def test_what_a_credential_does_about_its_error_goes_on() -> None:
    """The store clears frames that the error has passed, but not these: one that waits would end."""
    met: list[OSError] = []

    def refresh() -> Iterator[str]:
        try:
            raise OSError("no network")
        except OSError as error:
            met.append(error)
        yield "waits"
        yield "goes on"

    refreshing = refresh()
    assert next(refreshing) == "waits"
    with store_with(Async(raising(met[0]))) as store, pytest.raises(PayloadStoreUnavailableError):
        store.upload(b"1")
    assert next(refreshing) == "goes on"


@pytest.mark.parametrize("kind", [Sync, Async])
def test_a_credential_that_gets_no_thread(kind: type[Sync]) -> None:
    """That says nothing about the credential: it is no refusal, which would be final."""
    credential = kind(raising(RuntimeError("can't start new thread")))
    with store_with(credential) as store, pytest.raises(PayloadStoreUnavailableError, match="gets no more threads"):
        store.upload(b"1")


@pytest.mark.parametrize("kind", [Sync, Async])
def test_a_credential_that_blocks(kind: type[Sync]) -> None:
    going = threading.Event()
    store = store_with(kind(going.wait))
    try:
        with pytest.raises(PayloadStoreUnavailableError, match=r"did not answer within total_timeout \(1 s"):
            store.upload(b"1")
    finally:
        going.set()
        store.close()


def test_a_credential_that_hangs_for_ever_does_not_keep_the_process(engine: Engine) -> None:
    program = f"""
import threading
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions
class Credential:
    def get_token(self, *scopes, **options):
        threading.Event().wait()
store = BlobPayloadStore(BlobPayloadStoreOptions(account_url="https://127.0.0.1:1", credential=Credential(),
                                                 total_timeout=0.2, retries=0, engine={engine!r}))
try:
    store.upload(b"1")
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "PayloadStoreUnavailableError\n"


def test_calls_of_a_credential_that_hang_do_not_pile_up() -> None:
    going = threading.Event()

    async def calls() -> None:
        credential = GuardedCredential(Sync(going.wait))
        for _ in range(40):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(credential.get_token("scope"), 0.01)

    before = set(threading.enumerate())
    asyncio.run(calls())
    assert len(set(threading.enumerate()) - before) == 32
    going.set()


def test_what_is_submitted_while_a_loop_ends_is_cancelled() -> None:
    loop: BackgroundLoop
    was_refused = threading.Event()

    async def forever() -> None:
        await asyncio.sleep(1000)

    async def on_stop() -> None:
        with pytest.raises(RuntimeError, match="the loop was stopped"):
            loop.submit(forever())
        was_refused.set()

    loop = BackgroundLoop("test-background-loop", on_stop)
    running = [loop.submit(forever()) for _ in range(10)]
    loop.stop()
    assert all(future.cancelled() for future in running)
    assert was_refused.is_set()
