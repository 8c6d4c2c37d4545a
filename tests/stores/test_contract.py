"""The contract of stores: all of ours pass it, and each deliberately broken one fails it for its own reason."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import weakref
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple
from xml.etree import ElementTree

import pytest
from durabletask.extensions.azure_blob_payloads import BlobPayloadStore as SdkBlobPayloadStore
from durabletask.extensions.azure_blob_payloads import BlobPayloadStoreOptions as SdkOptions
from tests.support.azurite import Azurite
from tests.support.fixtures import needs_obstore

from durabletask_payloads import DirectoryPayloadStore, InMemoryPayloadStore, LargePayloadStorageOptions
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions
from durabletask_payloads.testing import MakeStore, MakeStoreLike, PayloadStoreContract, PayloadStoreLikeContract
from durabletask_payloads.testing._messages import batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.protobuf.message import Message


# ---- ours, and the SDK's ---------------------------------------------------------------------------------------------


class SharedMemory(InMemoryPayloadStore):
    """A store with the payloads of another one, where that exists: in memory each store is a place of its own."""

    def __init__(self, options: LargePayloadStorageOptions, place: str, first: InMemoryPayloadStore | None) -> None:
        super().__init__(options, container_name=place)
        if first is not None:
            self._stored = first._stored


class TestInMemoryPayloadStore(PayloadStoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        places: dict[str, InMemoryPayloadStore] = {}

        def make(options: LargePayloadStorageOptions, place: str) -> InMemoryPayloadStore:
            store = SharedMemory(options, place, places.get(place))
            places.setdefault(place, store)
            return store

        return make


class TestDirectoryPayloadStore(PayloadStoreContract):
    @pytest.fixture
    def make_store(self, tmp_path: Path) -> MakeStore:
        return lambda options, place: DirectoryPayloadStore(tmp_path / "payloads", options, container_name=place)


class BlobPayloadStoreContract(PayloadStoreContract):
    engine: ClassVar[Literal["auto", "azure-storage-blob"]]
    secrets = (Azurite().account_key,)

    @pytest.fixture
    def make_store(self, azurite: Azurite, container: str) -> MakeStore:
        def make(options: LargePayloadStorageOptions, place: str) -> BlobPayloadStore:
            return BlobPayloadStore(
                BlobPayloadStoreOptions(
                    threshold_bytes=options.threshold_bytes,
                    max_stored_payload_bytes=options.max_stored_payload_bytes,
                    enable_compression=options.enable_compression,
                    connection_string=azurite.connection_string,
                    container_name=f"{container}-{place}",
                    engine=self.engine,
                )
            )

        return make


class TestBlobPayloadStore(BlobPayloadStoreContract):
    engine = "azure-storage-blob"


@needs_obstore
class TestBlobPayloadStoreOnObstore(BlobPayloadStoreContract):
    engine = "auto"  # obstore, and in a forked child the other one

    def test_its_engine(self, store: BlobPayloadStore) -> None:
        assert store.engine == "obstore"


class TestSdkBlobPayloadStore(PayloadStoreLikeContract):
    @pytest.fixture
    def make_store(self, azurite: Azurite, container: str) -> Iterator[MakeStoreLike]:
        made: list[SdkBlobPayloadStore] = []

        def make(options: LargePayloadStorageOptions, place: str) -> SdkBlobPayloadStore:
            store = SdkBlobPayloadStore(
                SdkOptions(
                    threshold_bytes=options.threshold_bytes,
                    max_stored_payload_bytes=options.max_stored_payload_bytes,
                    enable_compression=options.enable_compression,
                    connection_string=azurite.connection_string,
                    container_name=f"{container}-{place}",
                )
            )
            made.append(store)
            return store

        yield make
        for store in made:
            store.close()


def test_the_classes_of_its_messages_stay() -> None:
    """Where one is collected while another thread makes a message of it, protobuf crashes."""
    operation: Message = batch("x").ListFields()[0][1][0]
    kind = weakref.ref(type(operation))
    del operation
    gc.collect()
    assert kind() is not None


# ---- broken ones -----------------------------------------------------------------------------------------------------

NOTHING_LOST = frozenset({"test_a_deletion_takes_its_own_payload_only", "test_a_message_that_was_not_sent"})
TEXTS = frozenset({"test_no_text_shows_a_payload_or_a_secret"})


class Failures(NamedTuple):
    """The tests that fail, without their parameters, and what each of their messages says."""

    tests: frozenset[str]
    message: str


EXPECTED = {
    "ShelfStore": Failures(frozenset(), ""),
    "SdkStore": Failures(frozenset(), ""),
    "ReusesTokens": Failures(
        NOTHING_LOST | {"test_each_upload_has_a_token_of_its_own", "test_deletions_beside_transfers"},
        "assert 1 == 20|PayloadNotFoundError",
    ),
    "Truncates": Failures(
        frozenset(
            {
                "test_round_trip",
                "test_async_round_trip",
                "test_compression_is_a_setting_of_the_writer",
                "test_an_externalizer_moves_a_message",
            }
        ),
        "65536 bytes were read of 1[12]|the message has changed",
    ),
    "IgnoresTheMaximum": Failures(
        frozenset({"test_an_upload_over_the_maximum", "test_a_download_over_the_maximum_of_the_reader"}),
        "DID NOT RAISE PayloadTooLargeError",
    ),
    "ShowsPayloads": Failures(TEXTS, "a payload is shown in the error of a text that is no token$"),
    "ShowsPayloadsInItsRepr": Failures(TEXTS, "a payload is shown in a repr$"),
    "ShowsItsKey": Failures(TEXTS, "a secret is shown in the error of a deleted payload$"),
    "LogsPayloads": Failures(TEXTS, "a payload is shown in a log record$"),
    "LosesUploads": Failures(
        frozenset(
            {
                "test_many_threads",
                "test_deletions_beside_transfers",
                "test_event_loops_at_the_same_time",
                "test_closing_in_the_middle",
                "test_a_forked_child_uses_the_store",
                "test_a_child_forked_in_the_middle",
                "test_an_externalizer_moves_a_message",
                "test_an_externalizer_on_event_loops",
                "test_a_message_that_was_not_sent",
                "test_a_cancelled_message",
            }
        ),
        "PayloadNotFoundError",
    ),
    "HangsAfterAFork": Failures(
        frozenset({"test_a_forked_child_uses_the_store", "test_a_child_forked_in_the_middle"}),
        "a forked child did not end within 2 s",
    ),
    "DeletesTooMuch": Failures(NOTHING_LOST, "PayloadNotFoundError"),
    "FollowsEveryToken": Failures(
        frozenset(
            {
                "test_another_place_is_not_read",
                "test_another_place_is_not_deleted",
                "test_a_message_with_a_token_that_cannot_be_followed",
            }
        ),
        "DID NOT RAISE any of|PayloadNotFoundError: shelf:v1:second:",
    ),
    "TakesTextForTokens": Failures(
        frozenset({"test_text_around_a_token", "test_a_message_with_text_that_looks_like_a_token"}),
        r"assert \['shelf:v1:|True = has_tokens",
    ),
    "RaisesKeyErrors": Failures(
        frozenset(
            {
                "test_a_deleted_payload",
                "test_a_message_that_was_not_sent",
                "test_a_message_with_a_token_that_cannot_be_followed",
            }
        ),
        "^KeyError",
    ),
    "KeepsTheSlotsOfCancelledCalls": Failures(
        frozenset({"test_cancelled_calls"}), "1 of 1 threads did not end within 3 s"
    ),
    "LooksForTokens": Failures(frozenset({"test_is_known_token_does_no_io"}), r"\.stat"),
    "CopiesText": Failures(frozenset({"test_is_known_token_copies_no_long_text"}), "so many bytes were taken"),
    "BreaksWhenClosed": Failures(
        frozenset({"test_use_after_close", "test_closing_in_the_middle"}), "RuntimeError: the session is closed"
    ),
    "DeletesOnce": Failures(frozenset({"test_deleting_twice"}), "PayloadNotFoundError"),
    "ClosesThePlace": Failures(frozenset({"test_closing_one_store_leaves_the_others"}), "PayloadNotFoundError"),
    "WritesOtherPrefixes": Failures(
        frozenset(
            {
                "test_tokens_begin_with_a_prefix",
                "test_an_externalizer_moves_a_message",
                "test_an_externalizer_on_event_loops",
                "test_a_message_that_was_not_sent",
                "test_a_message_with_a_token_that_cannot_be_followed",
                "test_a_cancelled_message",
            }
        ),
        "False = <built-in method startswith|the message has changed|False != True|DID NOT RAISE PayloadNotFoundError",
    ),
    "NeedsPrintableInstances": Failures(frozenset({"test_any_text_is_an_instance_id"}), "^UnicodeEncodeError"),
    "EncodesAnyText": Failures(frozenset({"test_hostile_tokens"}), "^UnicodeEncodeError"),
    "StripsTokens": Failures(frozenset({"test_text_that_is_no_token_is_refused"}), "DID NOT RAISE PayloadTokenError"),
    "CountsNothing": Failures(frozenset({"test_stored_bytes"}), "45000 <= 0"),
    "KnowsWhatItHas": Failures(
        frozenset(
            {
                "test_a_token_is_known_by_its_form",
                "test_another_place_is_not_read",
                "test_a_message_with_a_token_that_cannot_be_followed",
            }
        ),
        "False = is_known_token|the token would stay in its message|DID NOT RAISE PayloadNotFoundError",
    ),
    "ForgetsItsOptions": Failures(frozenset({"test_options_are_those_given"}), r"== \(10, 1000\)"),
    "RunsALoop": Failures(
        frozenset({"test_a_blocking_call_on_an_event_loop"}), "RuntimeError: asyncio.run\\(\\) cannot be called"
    ),
    "StaysOnItsFirstLoop": Failures(
        frozenset(
            {
                "test_event_loops_one_after_the_other",
                "test_event_loops_at_the_same_time",
                "test_cancelled_calls",
                "test_a_forked_child_uses_the_store",
            }
        ),
        "RuntimeError: attached to a different loop",
    ),
}


BROKEN = Path(__file__).with_name("broken_stores.py")
SHARES = 10


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_broken_store_fails_for_its_own_reason(share: int, tmp_path: Path) -> None:
    expected = dict(list(EXPECTED.items())[share::SHARES])
    found = outcomes(tmp_path / "report.xml", *expected)
    failed = {store: {name.partition("[")[0] for name in found[store]} for store in expected}
    assert failed == {store: failures.tests for store, failures in expected.items()}
    for store, failures in expected.items():
        assert [text for text in found[store].values() if not re.search(failures.message, text)] == [], store


def outcomes(report: Path, *stores: str) -> Mapping[str, Mapping[str, str]]:
    """The messages of the tests that failed, by the store's class and the name of the test."""
    classes = [f"{BROKEN}::Test{store}" for store in stores]
    options = ["-q", "-p", "no:randomly", "--tb=line", f"--junitxml={report}"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *classes],
        cwd=BROKEN.parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout[-2_000:] + done.stderr
    failures: dict[str, dict[str, str]] = defaultdict(dict)
    for case in ElementTree.parse(report).iter("testcase"):
        of_class = failures[case.get("classname", "").rpartition(".Test")[2]]
        of_class.update({case.get("name", ""): part.get("message", "") for part in case})
    return failures


def test_all_broken_stores_are_expected() -> None:
    assert set(re.findall(r"^class Test(\w+)\(", BROKEN.read_text(), re.MULTILINE)) == EXPECTED.keys()
