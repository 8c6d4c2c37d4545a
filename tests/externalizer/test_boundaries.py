"""Plans and estimates at their limits: one byte less, exactly, one byte more."""

from __future__ import annotations

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import (
    DeexternalizePlan,
    ExternalizePlan,
    Externalizer,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadTooLargeError,
    UploadPlan,
)
from durabletask_payloads.externalizer._planning import LONGEST_TOKEN, OverBudget, plan_uploads
from durabletask_payloads.externalizer._sizing import Sizing, estimate

TOKEN = f"blob:v1:durabletask-payloads:{'0123456789abcdef' * 2}"


def text(value: str) -> StringValue:
    return StringValue(value=value)


def store(threshold: int, maximum: int = 50_000) -> InMemoryPayloadStore:
    return InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=threshold, max_stored_payload_bytes=maximum))


def activity(result: str = "", stack: str = "", error: str = "") -> pb.ActivityResponse:
    failure = pb.TaskFailureDetails(errorMessage=error, stackTrace=text(stack))
    return pb.ActivityResponse(result=text(result), failureDetails=failure)


def planned(message: pb.ActivityResponse, where: InMemoryPayloadStore, budget: int) -> tuple[UploadPlan, list[str]]:
    """The plan of a message, the same for each way to measure it, and the fields that it uploads."""
    sizing = Sizing()
    plan = plan_uploads(message, where, message.ByteSize(), budget, sizing)
    other = plan_uploads(message, where, None, budget, sizing)
    fields = [upload.path for upload in plan.uploads]
    assert fields == [upload.path for upload in other.uploads]
    assert (plan.over_budget is None) is (other.over_budget is None)
    return plan, fields


def test_a_token_over_the_threshold_stays() -> None:
    """It would be a token of a token, which no reader follows."""
    message = pb.ActivityResponse(result=text(TOKEN))
    where = store(20)
    with Externalizer(where) as externalizer:
        assert not externalizer.externalize(message)
    assert message.result.value == TOKEN
    assert len(where) == 0


def test_a_field_that_the_walker_has_not_read() -> None:
    outgoing = ExternalizePlan(10, 100, lambda text: text == TOKEN)
    outgoing.upload(text("x" * 10), "path")
    outgoing.upload(text("x" * 11), "path")
    outgoing.upload(text(TOKEN), "path")
    assert [upload.data for upload in outgoing.uploads] == [b"x" * 11]
    incoming = DeexternalizePlan(("blob:",), lambda text: text == TOKEN)
    incoming.download(text(TOKEN), "path")
    incoming.download(text("x"), "path")
    assert [download.token for download in incoming.downloads] == [TOKEN]


def test_the_largest_payload_that_a_plan_takes() -> None:
    plan = ExternalizePlan(10, 100, lambda text: False)
    plan.upload(text("x" * 100), "path", "x" * 100)
    with pytest.raises(PayloadTooLargeError, match="path has 101 bytes, which exceeds the maximum"):
        plan.upload(text("x" * 101), "path", "x" * 101)
    assert len(plan.uploads) == 1


def test_the_budget_is_that_of_the_documentation() -> None:
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        assert externalizer.message_budget_bytes == 3_900_000


def test_a_plan_fits_up_to_the_budget() -> None:
    assert UploadPlan(over_budget=OverBudget(size=20, smallest=10, budget=10)).fits
    assert not UploadPlan(over_budget=OverBudget(size=20, smallest=11, budget=10)).fits


def test_a_message_of_the_size_of_the_budget_is_left_alone() -> None:
    message = activity("r" * 900, "s" * 900)
    plan, fields = planned(message, store(1_000), message.ByteSize())
    assert (plan.over_budget, fields) == (None, [])
    plan, fields = planned(message, store(1_000), message.ByteSize() - 1)
    assert plan.over_budget is not None
    assert len(fields) == 1


@pytest.mark.parametrize(("result", "stack"), [(700, 900), (900, 700)])
def test_the_largest_goes_first_and_no_more_than_needed(result: int, stack: int) -> None:
    message = activity("r" * result, "s" * stack)
    largest = ["ActivityResponse.result" if result > stack else "TaskFailureDetails.stackTrace"]
    enough = message.ByteSize() - (900 - LONGEST_TOKEN)
    assert planned(message, store(1_000), enough)[1] == largest
    assert len(planned(message, store(1_000), enough - 1)[1]) == 2


def test_what_saves_nothing_is_not_moved_for_the_budget() -> None:
    """Of a payload as long as the longest token, the message could only grow."""
    for size, expected in ((LONGEST_TOKEN + 1, 1), (LONGEST_TOKEN, 0), (LONGEST_TOKEN - 1, 0), (300, 0)):
        message = activity(stack="s" * size, error="e" * 2_000)
        for threshold in (100, 10_000):
            plan, fields = planned(message, store(threshold), 1_000)
            assert len(fields) == expected
            assert plan.over_budget is not None
            assert plan.over_budget.smallest == message.ByteSize() - expected


def test_the_smallest_size_counts_no_payload_that_grows() -> None:
    """It is over the threshold, so that it goes; its token may be longer."""
    for size, saved in ((300, 0), (LONGEST_TOKEN, 0), (LONGEST_TOKEN + 1, 1), (LONGEST_TOKEN + 200, 200)):
        message = activity("r" * size, error="e" * 2_000)
        plan, fields = planned(message, store(100), 1_000)
        assert fields == ["ActivityResponse.result"]
        assert plan.over_budget is not None
        assert plan.over_budget.smallest == message.ByteSize() - saved


@pytest.mark.parametrize(("size", "expected"), [(50_000, 1), (50_001, 0)])
def test_what_can_be_stored_goes_for_the_budget(size: int, expected: int) -> None:
    message = activity(stack="s" * size)
    plan, fields = planned(message, store(1_000), 10_000)
    assert len(fields) == expected
    assert plan.fits is (expected == 1)
    message = activity(result="r" * size)  # over the threshold: it goes in any case, or is an error
    plan, _ = planned(message, store(1_000), 10_000)
    assert plan.fits is (plan.error is None) is (expected == 1)


def test_a_message_that_cannot_be_estimated_is_measured() -> None:
    newer = pb.ActivityResponse(result=text("r" * 900))
    newer.MergeFromString(b"\xfa\xff\x01\x02zz")  # a field that a newer schema has
    assert estimate(newer, ()) is None
    plan, fields = planned(newer, store(1_000), newer.ByteSize() - 1)
    assert plan.over_budget == OverBudget(newer.ByteSize(), newer.ByteSize() - 388, newer.ByteSize() - 1)
    assert fields == ["ActivityResponse.result"]


def test_no_estimate_is_less_than_the_size() -> None:
    """Of texts in any letters, and of many short fields."""
    trace = pb.TraceContext(traceParent="a", spanID="b", traceState=text("c"))
    created = pb.CreateInstanceRequest(
        instanceId="a", name="b", version=text("c"), parentTraceContext=trace, requestTime=Timestamp(seconds=1, nanos=1)
    )
    for message in (
        created,
        pb.ActivityRequest(name="\U0001f600" * 1_000, taskId=1, version=text("\U0001f600")),
        pb.TerminateRequest(instanceId="a", recursive=True),
        pb.HistoryEvent(eventId=-1, timestamp=Timestamp(seconds=-1, nanos=999_999_999)),
    ):
        found = estimate(message, ())
        assert found is not None
        assert message.ByteSize() <= found


def test_no_estimate_is_less_than_the_size_where_all_texts_are_short() -> None:
    for descriptor in pb.DESCRIPTOR.message_types_by_name.values():
        message = GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if isinstance(getattr(message, field.name), str):
                setattr(message, field.name, "x")
        found = estimate(message, ())
        assert found is not None
        assert message.ByteSize() <= found, descriptor.name


def test_a_message_with_much_text_beside_its_payloads_is_not_taken_for_small() -> None:
    """Four bytes a character, in a field that is no payload."""
    inputs = [pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=text("x" * 10_000)))] * 8
    message = pb.OrchestratorResponse(actions=inputs, completionToken="\U0001f600" * 230_000)
    sizing = Sizing()
    sizing.large.add(pb.OrchestratorResponse)  # it is measured part by part
    assert sizing.judge(message, 20_000, 920_000) == (False, message.ByteSize())
