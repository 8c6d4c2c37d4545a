"""Truncated failures: how texts are cut, and which properties are dropped."""

from __future__ import annotations

import durabletask.internal.orchestrator_service_pb2 as pb
import pytest

import durabletask_payloads
from durabletask_payloads.interceptors.worker import _truncation
from durabletask_payloads.interceptors.worker._truncation import cut_texts, drop_properties, with_inner


def cut(response: pb.ActivityResponse, *, max_trace: int = 1_000_000) -> bool:
    return cut_texts(with_inner([response.failureDetails]), max_trace)


def failed(message: str, trace: str = "") -> pb.ActivityResponse:
    details = pb.TaskFailureDetails(errorType="ValueError", errorMessage=message)
    if trace:
        details.stackTrace.value = trace
    return pb.ActivityResponse(failureDetails=details)


def test_a_text_is_cut_to_32_kib_of_utf8_and_never_in_a_character() -> None:
    text = _truncation.cut("ä" * 40_000, " end")
    assert len(text.encode()) in (32 * 1024, 32 * 1024 - 1)
    assert text.endswith("ä end")
    assert _truncation.cut("short", " end") == "short"


def test_what_fits_is_not_cut() -> None:
    response = failed("e" * 32 * 1024, "trace")
    before = response.SerializeToString()
    assert not cut(response)
    assert response.SerializeToString() == before


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        ("", "e" * 40_000 + "\n"),
        ("frames", "e" * 40_000 + "\nframes"),
        ("ValueError: " + "e" * 40_000, "ValueError: " + "e" * 40_000),
    ],
)
def test_the_whole_text_is_in_the_stack_trace_once(trace: str, expected: str) -> None:
    response = failed("e" * 40_000, trace)
    assert cut(response)
    assert response.failureDetails.stackTrace.value == expected
    assert response.failureDetails.errorMessage.endswith(" [cut: 40000 bytes, whole in stackTrace]")
    assert len(response.failureDetails.errorMessage) == 32 * 1024


def test_a_stack_trace_that_can_not_be_stored_is_cut_too() -> None:
    response = failed("short", "t" * 40_000)
    assert cut(response, max_trace=32 * 1024)
    assert response.failureDetails.errorMessage == "short"
    assert len(response.failureDetails.stackTrace.value) == 32 * 1024
    response = failed("e" * 40_000)
    assert cut(response, max_trace=32 * 1024)
    assert response.failureDetails.errorMessage.endswith(" [cut: 40000 bytes]")


def test_properties_go_largest_first_until_enough_is_saved() -> None:
    response = failed("short")
    for name, size in [("a", 10), ("b", 3_000), ("c", 2_000), ("d", 1_000)]:
        response.failureDetails.properties[name].string_value = "p" * size
    size = response.ByteSize()
    assert drop_properties([response.failureDetails], 4_000) > 4_000
    assert response.ByteSize() < size - 4_000
    assert sorted(response.failureDetails.properties) == ["a", "d"]
    text = response.failureDetails.errorMessage
    assert text.startswith("short [property b dropped: 3")
    assert "[property c dropped: 2" in text
    assert drop_properties([response.failureDetails], 0) == 0


def test_inner_failures_are_cut_too() -> None:
    response = failed("short")
    response.failureDetails.innerFailure.innerFailure.errorMessage = "i" * 40_000
    assert cut(response)
    assert response.failureDetails.innerFailure.innerFailure.errorMessage.endswith("whole in stackTrace]")


def test_the_text_of_an_unknown_error_names_its_class() -> None:
    details = pb.TaskFailureDetails()
    _truncation.describe(details, KeyError())
    assert details.errorType == "builtins.KeyError"
    assert details.errorMessage == "builtins.KeyError"  # the in-memory backend takes an empty one for a success
    _truncation.describe(details, durabletask_payloads.PayloadTokenError("t" * 50_000))
    assert details.errorType == "durabletask_payloads.PayloadTokenError"
    assert len(details.errorMessage) == 32 * 1024
