"""What all stores have in common, in both forms."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeAlias

import pytest
from tests.support.store_forms import Form, both_forms

from durabletask_payloads import Externalizer, store_from_url
from durabletask_payloads._errors import (
    PayloadNotFoundError,
    PayloadStoreUnavailableError,
    PayloadTokenError,
    PayloadTooLargeError,
)
from durabletask_payloads._hub_channel import scheduler_channel
from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.stores import DirectoryPayloadStore, InMemoryPayloadStore
from durabletask_payloads.stores._object_options import ObjectStorePayloadStoreOptions
from durabletask_payloads.stores._tokens import PayloadToken
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.azurite import Azurite

    from durabletask_payloads.stores._base import PayloadStore

HEX = "0" * 32


class MakeStore(Protocol):
    def __call__(self, options: LargePayloadStorageOptions | None = None, *, container_name: str = ...) -> PayloadStore:
        """A store of the kind under test, closed when the test ends."""
        ...


Made: TypeAlias = Iterator[MakeStore]


@pytest.fixture(params=["memory", "directory", "azure"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path, azurite: Azurite, container: str) -> Made:
    made: list[PayloadStore] = []

    def make(options: LargePayloadStorageOptions | None = None, *, container_name: str = container) -> PayloadStore:
        options = options or LargePayloadStorageOptions()
        match request.param:
            case "memory":
                store: PayloadStore = InMemoryPayloadStore(options, container_name=container_name)
            case "directory":
                store = DirectoryPayloadStore(tmp_path / "payloads", options, container_name=container_name)
            case _:
                store = BlobPayloadStore(
                    BlobPayloadStoreOptions(
                        threshold_bytes=options.threshold_bytes,
                        max_stored_payload_bytes=options.max_stored_payload_bytes,
                        enable_compression=options.enable_compression,
                        connection_string=azurite.connection_string,
                        container_name=container_name,
                    )
                )
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@both_forms
@pytest.mark.parametrize("compression", [True, False])
@pytest.mark.parametrize(
    "data",
    [b"", b"1", '"\u00e4\U0001f600"'.encode(), b"abc " * 500_000, os.urandom(1_500_000)],
    ids=["empty", "one", "unicode", "text", "noise"],
)
def test_round_trip(make_store: MakeStore, form: Form, data: bytes, compression: bool) -> None:
    store = make_store(LargePayloadStorageOptions(enable_compression=compression))
    token = form.upload(store, data, "instance/1")
    assert form.download(store, token) == data
    shrinks = compression and data.startswith(b"abc ")
    assert store.stored_bytes(token) < 20_000 if shrinks else store.stored_bytes(token) == len(data)


@both_forms
def test_each_upload_has_a_token_of_its_own(make_store: MakeStore, form: Form, container: str) -> None:
    store = make_store()
    tokens = [form.upload(store, b"the same") for _ in range(3)]
    assert len(set(tokens)) == 3
    for text in tokens:
        token = PayloadToken.parse(text)
        assert token is not None
        assert (token.version, token.container) == (1, container)
        assert store.is_known_token(text)
        assert text.encode().startswith(store.token_prefixes)


@both_forms
def test_size_limit(make_store: MakeStore, form: Form) -> None:
    store = make_store(LargePayloadStorageOptions(threshold_bytes=100, max_stored_payload_bytes=1000))
    token = form.upload(store, b"x" * 1000)
    assert form.download(store, token) == b"x" * 1000
    with pytest.raises(
        PayloadTooLargeError, match=r"1001 bytes, which exceeds the maximum of max_stored_payload_bytes \(1000\)"
    ):
        form.upload(store, b"x" * 1001)


@both_forms
@pytest.mark.parametrize("size", [3_000, 500_000])
@pytest.mark.parametrize("compression", [True, False])
def test_size_limit_of_the_reader(make_store: MakeStore, form: Form, compression: bool, size: int) -> None:
    writer = make_store(LargePayloadStorageOptions(enable_compression=compression))
    token = form.upload(writer, b"x" * size)
    if isinstance(writer, InMemoryPayloadStore):  # two of these share nothing
        writer.options.max_stored_payload_bytes = 1000
        reader: PayloadStore = writer
    else:
        reader = make_store(LargePayloadStorageOptions(threshold_bytes=100, max_stored_payload_bytes=1000))
    with pytest.raises(PayloadTooLargeError, match=rf"stored under {token} exceeds the maximum .* \(1000\)"):
        form.download(reader, token)


@both_forms
def test_deleted(make_store: MakeStore, form: Form) -> None:
    store = make_store()
    kept, token = form.upload(store, b"kept"), form.upload(store, b"gone")
    form.delete(store, token)
    form.delete(store, token)  # nothing happens
    with pytest.raises(PayloadNotFoundError, match=token):
        form.download(store, token)
    with pytest.raises(PayloadNotFoundError, match=token):
        store.stored_bytes(token)
    assert form.download(store, kept) == b"kept"


@both_forms
def test_a_folder_that_is_not_there(make_store: MakeStore, form: Form, container: str) -> None:
    store = make_store()
    form.upload(store, b"1")
    for folder in ("a", "a/b", "\u00e9", "%2E%2E"):
        with pytest.raises(PayloadNotFoundError):
            form.download(store, f"blob:v1:{container}:{folder}/{HEX}")


@both_forms
@pytest.mark.parametrize(
    "token",
    [
        f"blob:v1:secrets:{HEX}",
        f"blob:v2:https://account.blob.core.windows.net/durabletask-payloads/{HEX}",
        "blob:v1:a:b",
        f"blob:v1:CONTAINER:../{HEX}",
        f"blob:v1:CONTAINER:{HEX}?comp=metadata",
        "/etc/passwd",
        "",
    ],
)
def test_only_exact_tokens_of_its_own_container(make_store: MakeStore, form: Form, container: str, token: str) -> None:
    store = make_store()
    token = token.replace("CONTAINER", container)
    with pytest.raises(PayloadTokenError):
        form.download(store, token)
    with pytest.raises(PayloadTokenError):
        form.delete(store, token)
    with pytest.raises(PayloadTokenError):
        store.stored_bytes(token)


def test_a_token_of_another_container_is_one_too(make_store: MakeStore) -> None:
    store = make_store()
    assert store.is_known_token(f"blob:v1:secrets:{HEX}")
    assert store.is_known_token(f"blob:v2:https://account.blob.core.windows.net/secrets/{HEX}")
    assert not store.is_known_token("blob:v1:a:b")


def test_containers_are_apart(make_store: MakeStore, container: str) -> None:
    one, other = make_store(), make_store(container_name=f"{container}-other")
    token = one.upload(b"1")
    moved = token.replace(container, f"{container}-other")
    other.upload(b"2")
    with pytest.raises(PayloadNotFoundError):
        other.download(moved)


def test_container_name_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="container_name is 'No'"):
        InMemoryPayloadStore(container_name="No")
    with pytest.raises(ValueError, match="container_name is 'No'"):
        DirectoryPayloadStore(tmp_path, container_name="No")
    with pytest.raises(ValueError, match="container_name is 'No'"):
        BlobPayloadStoreOptions(container_name="No", connection_string="UseDevelopmentStorage=true")


def test_an_asynchronous_call_that_gets_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryPayloadStore(tmp_path)
    token = store.upload(b"1")

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def calls() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            for call in (store.upload_async(b"2"), store.download_async(token), store.delete_async(token)):
                with pytest.raises(PayloadStoreUnavailableError, match="this process gets no more threads"):
                    await call

    asyncio.run(calls())
    assert store.download(token) == b"1"


SWITCHES: list[tuple[Callable[..., object], dict[str, object], str]] = [
    (LargePayloadStorageOptions, {}, "enable_compression"),
    (BlobPayloadStoreOptions, {"connection_string": "UseDevelopmentStorage=true"}, "enable_compression"),
    (BlobPayloadStoreOptions, {"connection_string": "UseDevelopmentStorage=true"}, "create_container"),
    (ObjectStorePayloadStoreOptions, {"url": "s3://bucket"}, "enable_compression"),
    (DirectoryPayloadStore, {"root": "payloads"}, "create_container"),
    (store_from_url, {"url": "memory:"}, "enable_compression"),
    (Externalizer, {"store": InMemoryPayloadStore()}, "strict"),
    (scheduler_channel, {"host_address": "localhost:1"}, "secure_channel"),
]


@pytest.mark.parametrize(("make", "rest", "name"), SWITCHES, ids=lambda value: getattr(value, "__name__", ""))
def test_text_is_no_switch(make: Callable[..., object], rest: dict[str, object], name: str) -> None:
    """Not even "false", as an environment has it, which Python takes for true."""
    with pytest.raises(TypeError, match=f"^{name} is 'false': it must be True or False"):
        make(**rest, **{name: "false"})


def test_in_memory_shows_what_it_holds() -> None:
    store = InMemoryPayloadStore()
    assert len(store) == 0
    assert store  # as an argument, an empty store is one
    first, second = store.upload(b"1", instance_id="order 7"), store.upload(b"2")
    assert list(store.tokens) == [first, second]
    assert len(store) == 2
    assert (store.instance_id(first), store.instance_id(second)) == ("order 7", None)
    store.delete(first)
    assert list(store.tokens) == [second]
