"""Plans: what rules a message out never does so if something in it has to move, and one walk plans the rest."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.struct_pb2 import Value
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import (
    DeexternalizePlan,
    ExternalizePlan,
    Externalizer,
    InMemoryPayloadStore,
    LargePayloadStorageOptions,
    PayloadTooLargeError,
    PlannedUpload,
    UploadPlan,
    externalize_payloads,
)
from durabletask_payloads.externalizer._planning import LONGEST_TOKEN, plan_uploads
from durabletask_payloads.externalizer._sizing import Judgement, Sizing, estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.message import Message

V1 = f"blob:v1:durabletask-payloads:{'0123456789abcdef' * 2}"
V2 = f"blob:v2:https://account.blob.core.windows.net/durabletask-payloads/{'0123456789abcdef' * 2}"


def text(value: str) -> StringValue:
    return StringValue(value=value)


def events(values: Sequence[str]) -> list[pb.HistoryEvent]:
    return [pb.HistoryEvent(taskCompleted=pb.TaskCompletedEvent(result=text(value))) for value in values]


def tasks(values: Sequence[str]) -> list[pb.OrchestratorAction]:
    return [pb.OrchestratorAction(scheduleTask=pb.ScheduleTaskAction(input=text(value))) for value in values]


def plan(*prefixes: str) -> DeexternalizePlan:
    return DeexternalizePlan(prefixes or ("blob:v1:", "blob:v2:"), lambda text: False)


# ---- incoming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [V1, V2])
@pytest.mark.parametrize("small", ["", "ok", "x" * 1_000, "x" * 5_000])
@pytest.mark.parametrize("count", [1, 7, 8, 40])
def test_no_token_is_overlooked_wherever_it_is(token: str, small: str, count: int) -> None:
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        for place in range(count):
            values = [small] * count
            values[place] = token
            for message in (
                pb.OrchestratorRequest(pastEvents=events(values)),
                pb.OrchestratorRequest(newEvents=events(values)),
                pb.OrchestratorRequest(pastEvents=events(values[:place]), newEvents=events(values[place:])),
                pb.WorkItem(orchestratorRequest=pb.OrchestratorRequest(pastEvents=events(values))),
                pb.QueryInstancesResponse(
                    orchestrationState=[pb.OrchestrationState(customStatus=text(value)) for value in values]
                ),
            ):
                assert externalizer.has_tokens(message)


def test_text_with_a_token_in_it_is_none() -> None:
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        assert not externalizer.has_tokens(pb.OrchestratorRequest(pastEvents=events(["ok"] * 8 + [f" {V1}"])))


def test_a_token_beside_many_small_parts_is_not_overlooked() -> None:
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        batch = pb.EntityBatchRequest(
            entityState=text(V1), operations=[pb.OperationRequest(input=text("ok")) for _ in range(40)]
        )
        assert externalizer.has_tokens(batch)
        batch.entityState.value = "ok"
        assert not externalizer.has_tokens(batch)


@pytest.mark.parametrize(
    ("values", "is_ruled_out"),
    [
        (["ok"] * 8, True),
        (["ok"] * 7, False),  # a walk is as fast
        (["x" * 5_000] * 8, False),  # a search is slower
        (["x" * 1_100] * 4_000, False),  # and takes memory
        (["ok"] * 7 + ["see blob:v9"], False),
        (["x" * 5_000, *["ok"] * 40], True),  # the input of the orchestration, and then small events
    ],
)
def test_when_one_search_decides(values: list[str], is_ruled_out: bool) -> None:
    message = pb.OrchestratorRequest(pastEvents=events(values))
    assert plan().rules_out(message, message.pastEvents, message.newEvents) is is_ruled_out
    message = pb.OrchestratorRequest(pastEvents=events(["ok"]), newEvents=events(values))
    assert plan().rules_out(message, message.pastEvents, message.newEvents) is is_ruled_out


@pytest.mark.parametrize("prefixes", [("",), ("mine:", "yours:"), ("m:", "m-")])
def test_prefixes_without_a_common_beginning_rule_nothing_out(prefixes: tuple[str, ...]) -> None:
    message = pb.OrchestratorRequest(pastEvents=events(["ok"] * 8))
    assert not plan(*prefixes).rules_out(message, message.pastEvents)


# ---- outgoing ------------------------------------------------------------------------------------------------------

THRESHOLD = 20_000
BUDGET = 1_000_000


@pytest.mark.parametrize("was_large", [False, True])
@pytest.mark.parametrize(
    ("message", "is_small"),
    [
        (pb.OrchestratorResponse(actions=tasks(["x" * 100])), True),
        (pb.OrchestratorResponse(actions=tasks(["x" * 100] * 5_000)), True),
        (pb.OrchestratorResponse(actions=tasks(["x" * 15_000] * 40)), True),
        (pb.OrchestratorResponse(actions=tasks(["x" * 100] * 300 + ["x" * 20_001])), False),
        (pb.OrchestratorResponse(actions=tasks(["x" * 15_000] * 40 + ["x" * 20_001])), False),
        (pb.OrchestratorResponse(actions=tasks(["x" * 15_000] * 40), customStatus=text("x" * 20_001)), False),
        (pb.OrchestratorResponse(actions=tasks(["x" * 15_000] * 70)), False),  # the budget
        (pb.OrchestratorResponse(actions=tasks(["é" * 10_001] * 8)), False),
        (pb.OrchestratorResponse(actions=tasks(["x"] * 8), completionToken="x" * 15_000), True),
        (pb.OrchestratorResponse(actions=tasks(["x" * 10_000] * 8), completionToken="x" * 920_000), False),
        (pb.EntityBatchResult(actions=[pb.OperationAction()] * 9, entityState=text("x" * 20_001)), False),
        (pb.EntityBatchResult(results=[pb.OperationResult()] * 9, entityState=text("x" * 19_000)), True),
        (pb.ActivityResponse(result=text("x" * 19_000)), True),
        (pb.ActivityResponse(result=text("x" * 20_001)), False),
        (pb.AbandonActivityTaskRequest(), True),
    ],
)
def test_what_is_sure_to_be_small(message: Message, is_small: bool, was_large: bool) -> None:
    sizing = Sizing()
    if was_large:
        sizing.large.add(type(message))
    size = sizing.judge(message, THRESHOLD, BUDGET).size
    assert (size is None) is is_small
    if size is not None and size > BUDGET:
        assert size == message.ByteSize()  # not more than needed is to go for the budget


def test_a_message_of_the_size_of_the_threshold_is_small() -> None:
    message = pb.ActivityResponse(result=text("x" * 1_000))
    assert Sizing().judge(message, message.ByteSize(), None).is_small
    assert Sizing().judge(message, message.ByteSize() - 1, None) == Judgement(False, message.ByteSize())


def test_what_is_asked_first_depends_on_the_last_message_of_the_kind() -> None:
    sizing = Sizing()
    large, small = (pb.OrchestratorResponse(actions=tasks(["x" * size] * 8)) for size in (15_000, 100))
    for message, was_large in ((large, True), (large, True), (small, False), (small, False), (large, True)):
        assert sizing.judge(message, THRESHOLD, BUDGET).is_small
        assert (pb.OrchestratorResponse in sizing.large) is was_large


def test_a_message_with_a_map_of_its_own_is_measured_as_a_whole() -> None:
    message = pb.OrchestratorRequest(properties={"key": Value(string_value="x" * 30_000)})
    assert Sizing().judge(message, THRESHOLD, BUDGET) == Judgement(False, message.ByteSize())


def test_nothing_that_has_to_go_is_ever_taken_for_small() -> None:
    dice = random.Random(7)
    sizing = Sizing()
    for _ in range(300):
        sizes = [int(dice.paretovariate(0.7) * 40) % 40_000 for _ in range(dice.randrange(60))]
        letter = dice.choice("xé☃")
        message = pb.OrchestratorResponse(actions=tasks([letter * (size // len(letter.encode())) for size in sizes]))
        largest = max((len(action.scheduleTask.input.value.encode()) for action in message.actions), default=0)
        size = sizing.judge(message, THRESHOLD, BUDGET).size
        if largest > THRESHOLD or message.ByteSize() > BUDGET:
            assert size is not None
            assert size >= message.ByteSize()


def test_a_threshold_of_the_sdk_over_the_budget_is_taken_as_it_is() -> None:
    store = InMemoryPayloadStore()
    store.options.threshold_bytes = 5_000_000  # which only the SDK's options take
    message = pb.ActivityResponse(result=text("x" * 4_500_000))
    externalize_payloads(message, store)
    assert len(store) == 0
    message.result.value += "x" * 500_001
    externalize_payloads(message, store)
    assert len(store) == 1


# ---- plans ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([300_000, 100], 1),  # over the threshold
        ([200_000] * 40, 1),  # over the budget
        ([300_000] + [200_000] * 40, 1),  # both
        ([100] * 40, 0),
    ],
)
def test_a_message_is_walked_once(sizes: list[int], expected: int, walks: list[ExternalizePlan]) -> None:
    message = pb.OrchestratorResponse(actions=tasks(["x" * size for size in sizes]))
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        externalizer.externalize(message)
    assert len(walks) == expected
    assert message.ByteSize() <= 3_900_000


def test_a_plan_tells_what_goes_and_whether_the_rest_fits() -> None:
    with Externalizer(InMemoryPayloadStore()) as externalizer:
        assert externalizer.plan(pb.ActivityResponse(result=text("x"))) == UploadPlan()
        message = pb.OrchestratorResponse(actions=tasks(["x" * 300_000, "y"]))
        before = message.SerializeToString()
        plan = externalizer.plan(message)
        assert [(upload.path, len(upload.data)) for upload in plan.uploads] == [("ScheduleTaskAction.input", 300_000)]
        assert plan.over_budget is None
        assert plan.fits
        plan = externalizer.plan(pb.OrchestratorResponse(actions=tasks(["x" * 200_000] * 40)))
        assert plan.over_budget is not None
        assert plan.over_budget.size > 8_000_000
        assert plan.over_budget.smallest < 40 * 600
        assert plan.fits
        plan = externalizer.plan(pb.OrchestratorResponse(completionToken="x" * 4_000_000))
        assert not plan.fits
        plan = externalizer.plan(pb.ActivityResponse(result=text("x" * 11_000_000)))
        assert isinstance(plan.error, PayloadTooLargeError)
        assert "ActivityResponse.result has 11000000 bytes" in str(plan.error)
        with pytest.raises(PayloadTooLargeError):
            externalizer.carry_out(plan)
        assert message.SerializeToString() == before


def test_a_payload_of_the_maximum_goes_and_one_byte_more_is_an_error() -> None:
    options = LargePayloadStorageOptions(threshold_bytes=100, max_stored_payload_bytes=1_000)
    with Externalizer(InMemoryPayloadStore(options)) as externalizer:
        assert externalizer.plan(pb.ActivityResponse(result=text("x" * 1_000))).error is None
        error = externalizer.plan(pb.ActivityResponse(result=text("x" * 1_001))).error
    assert str(error).startswith("ActivityResponse.result has 1001 bytes, which exceeds the maximum")


def test_no_more_goes_for_the_budget_than_is_needed() -> None:
    message = pb.OrchestratorResponse(actions=tasks(["x" * 1_700, "x" * 1_900, "x" * 1_800]))
    budget = message.ByteSize() - (1_900 - LONGEST_TOKEN)
    with Externalizer(InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=2_000))) as externalizer:
        for allowed, expected in ((budget, [1_900]), (budget - 1, [1_900, 1_800])):
            plan = externalizer.plan(message, budget_bytes=allowed)
            assert [len(upload.data) for upload in plan.uploads] == expected


def test_the_smallest_size_leaves_in_what_cannot_be_stored() -> None:
    options = LargePayloadStorageOptions(threshold_bytes=1_000, max_stored_payload_bytes=50_000)
    with Externalizer(InMemoryPayloadStore(options), message_budget_bytes=20_000) as externalizer:
        message = pb.ActivityResponse(
            result=text("r" * 900),
            failureDetails=pb.TaskFailureDetails(errorMessage="m" * 30_000, stackTrace=text("t" * 40_000)),
        )
        plan = externalizer.plan(message)
        assert plan.over_budget is not None
        assert 30_000 < plan.over_budget.smallest < 32_000
        message.failureDetails.stackTrace.value = "t" * 50_001  # over the maximum
        plan = externalizer.plan(message)
        assert plan.error is None
        assert plan.over_budget is not None
        assert plan.over_budget.smallest > 80_000


def test_a_message_like_the_last_one_with_payloads_to_upload_is_walked_before_it_is_measured() -> None:
    sizing = Sizing()
    large, small = pb.ActivityResponse(result=text("x" * 20_001)), pb.ActivityResponse(result=text("x"))
    many = pb.OrchestratorResponse(actions=tasks(["x" * 20_001] * 8))
    store = InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=THRESHOLD))
    for message, was_moved, size in (
        (large, False, large.ByteSize()),
        (large, True, None),
        (small, True, None),
        (small, False, None),
        (large, False, large.ByteSize()),
        (many, False, many.ByteSize()),
        (many, False, many.ByteSize()),  # part by part is faster
    ):
        assert (type(message) in sizing.moved) is was_moved
        is_small, found = sizing.judge(message, THRESHOLD, BUDGET)
        assert is_small is (message is small and not was_moved)
        assert found == size or (found is not None and size is not None and 0 <= found - size < 1_000)
        if not is_small:
            assert bool(plan_uploads(message, store, found, BUDGET, sizing).uploads) is (message is not small)


def test_the_plan_is_the_same_however_the_message_was_measured() -> None:
    dice = random.Random(11)
    options = LargePayloadStorageOptions(threshold_bytes=1_000, max_stored_payload_bytes=30_000)
    store = InMemoryPayloadStore(options)
    moved = Sizing()
    for _ in range(300):
        sizes = [dice.choice((0, 400, 700, 999, 1_001, 9_000, 29_000, 31_000)) for _ in range(5)]
        result, status, first, stack, error = (dice.choice("xé☃") * (size // 2) for size in sizes)
        failure = pb.TaskFailureDetails(errorMessage=error, stackTrace=text(stack))
        for message in (
            pb.ActivityResponse(result=text(result), failureDetails=failure),
            pb.OrchestratorResponse(customStatus=text(status), actions=tasks([first, result])),
        ):
            moved.moved.add(type(message))
            for budget in (None, 5_000, message.ByteSize(), message.ByteSize() - 1):
                assert moved.judge(message, 1_000, budget) == Judgement(False, None)
                ours = plan_uploads(message, store, None, budget, moved)
                theirs = plan_uploads(message, store, message.ByteSize(), budget, Sizing())
                assert list(ours.uploads) == list(theirs.uploads)
                assert str(ours.error) == str(theirs.error)
                assert ours.fits is theirs.fits
                moved.moved.add(type(message))


def test_an_estimate_is_the_size_or_slightly_more() -> None:
    message = pb.OrchestratorResponse(instanceId="one", customStatus=text("☃" * 700), actions=tasks(["é" * 900] * 7))
    uploads = (
        Externalizer(InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=1_000))).plan(message).uploads
    )
    assert len(uploads) == 8
    found = estimate(message, uploads)
    assert found is not None
    assert 0 <= found - message.ByteSize() < 2_000
    assert estimate(pb.OrchestratorResponse(actions=tasks(["x"] * 64)), ()) is None
    assert estimate(pb.OrchestratorRequest(properties={"key": Value(string_value="x")}), ()) is None
    newer = pb.ActivityResponse.FromString(message.SerializeToString())  # of another type: most of it is unknown
    assert estimate(newer, ()) is None


def test_what_is_unknown_in_a_message_counts() -> None:
    unknown = pb.TraceContext(traceParent="z" * 600_000).SerializeToString()  # as a field that a newer schema has
    message = pb.OrchestratorResponse(actions=tasks(["x" * 9_000] * 10))
    message.MergeFromString(b"\xfa\xff\x01" + unknown[1:])
    assert message.ByteSize() > 680_000
    store = InMemoryPayloadStore(LargePayloadStorageOptions(threshold_bytes=THRESHOLD))
    with Externalizer(store, message_budget_bytes=650_000) as externalizer:
        for _ in range(2):  # the second time it is known to be large
            plan = externalizer.plan(message)
            assert len(plan.uploads) == 5
            assert plan.fits


class NeverHashed(bytes):
    def __hash__(self) -> int:
        raise AssertionError("there is nothing that it may be equal to")


def test_only_payloads_that_may_be_equal_are_hashed() -> None:
    store = InMemoryPayloadStore()
    payloads = [b"x" * 2_000, b"x" * 2_001, b"x" * 1_999 + b"y", b"x" * 1_000 + b"y" + b"x" * 999, b"y" + b"x" * 1_999]
    fields = [text("") for _ in payloads]
    plan = UploadPlan([PlannedUpload(f, "path", NeverHashed(p)) for f, p in zip(fields, payloads, strict=True)])
    with Externalizer(store) as externalizer:
        externalizer.carry_out(plan)
    assert [store.download(field.value) for field in fields] == payloads
