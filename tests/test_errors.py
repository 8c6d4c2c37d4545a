from __future__ import annotations

import pickle

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads._errors import PayloadError, PayloadTokenError, PayloadTooLargeError
from durabletask_payloads._options import LargePayloadStorageOptions
from durabletask_payloads.externalizer._plan import ExternalizePlan
from durabletask_payloads.stores._codec import check_size, decode
from durabletask_payloads.stores._tokens import PayloadToken

ERRORS = [PayloadError, *PayloadError.__subclasses__()]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error(kind: type[PayloadError]) -> None:
    """The SDK's interceptors take an exception with `code` for a gRPC error, and call it."""
    error = kind("text")
    assert not hasattr(error, "code")
    assert error.permanent is (kind.__name__ not in ("PayloadStoreUnavailableError", "HubError"))
    assert isinstance(error, ValueError) is (kind in (PayloadTooLargeError, PayloadTokenError))
    assert str(pickle.loads(pickle.dumps(error))) == "text"


def test_too_large_is_what_the_sdk_raises() -> None:
    """Its helpers raise a ValueError that has "exceeds the maximum" and both sizes in its text."""
    options = LargePayloadStorageOptions(threshold_bytes=5, max_stored_payload_bytes=10)
    plan = ExternalizePlan(5, 10, lambda _: False)
    with pytest.raises(
        ValueError, match=r"^Message\.field has 11 bytes, which exceeds the maximum .*\(10\)"
    ) as planned:
        plan.upload(StringValue(value="x" * 11), "Message.field")
    with pytest.raises(ValueError, match=r"^a payload has 11 bytes, which exceeds the maximum .*\(10\)") as checked:
        check_size(bytes(11), options)
    with pytest.raises(ValueError, match=r"stored under blob:v1:x exceeds the maximum .*\(10\)") as read:
        decode(bytes(11), token="blob:v1:x", limit=10, sha256=None)
    assert all(type(caught.value) is PayloadTooLargeError for caught in (planned, checked, read))


def test_no_token_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="is no token") as caught:
        PayloadToken.require("text")
    assert type(caught.value) is PayloadTokenError
