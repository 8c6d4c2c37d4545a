# Source: durabletask/internal/orchestrator_service.proto (durabletask 1.12.0)
# Generator: durabletask-payloads-codegen 1.2
# DO NOT EDIT: run make generate
"""Notes the large payloads of a message, before it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durabletask.internal import orchestrator_service_pb2 as pb

    from durabletask_payloads import ExternalizePlan


def externalize_activity_request(message: pb.ActivityRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ActivityRequest`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ActivityRequest.input", text)


def externalize_activity_response(message: pb.ActivityResponse, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ActivityResponse`: result, failureDetails."""
    if message.HasField("result") and len(text := message.result.value) > plan.payload_gate:
        plan.upload(message.result, "ActivityResponse.result", text)
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_task_failure_details(message: pb.TaskFailureDetails, plan: ExternalizePlan) -> None:
    """Note the large payloads of `TaskFailureDetails`: stackTrace, innerFailure."""
    if message.HasField("stackTrace") and len(text := message.stackTrace.value) > plan.diagnostic_gate:
        plan.upload(message.stackTrace, "TaskFailureDetails.stackTrace", text)
    if message.HasField("innerFailure"):
        externalize_task_failure_details(message.innerFailure, plan)


def externalize_execution_started_event(message: pb.ExecutionStartedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ExecutionStartedEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ExecutionStartedEvent.input", text)


def externalize_execution_completed_event(message: pb.ExecutionCompletedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ExecutionCompletedEvent`: result, failureDetails."""
    if message.HasField("result") and len(text := message.result.value) > plan.payload_gate:
        plan.upload(message.result, "ExecutionCompletedEvent.result", text)
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_execution_terminated_event(message: pb.ExecutionTerminatedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ExecutionTerminatedEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ExecutionTerminatedEvent.input", text)


def externalize_task_scheduled_event(message: pb.TaskScheduledEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `TaskScheduledEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "TaskScheduledEvent.input", text)


def externalize_task_completed_event(message: pb.TaskCompletedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `TaskCompletedEvent`: result."""
    if message.HasField("result") and len(text := message.result.value) > plan.payload_gate:
        plan.upload(message.result, "TaskCompletedEvent.result", text)


def externalize_task_failed_event(message: pb.TaskFailedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `TaskFailedEvent`: failureDetails."""
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_sub_orchestration_instance_created_event(
    message: pb.SubOrchestrationInstanceCreatedEvent, plan: ExternalizePlan
) -> None:
    """Note the large payloads of `SubOrchestrationInstanceCreatedEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "SubOrchestrationInstanceCreatedEvent.input", text)


def externalize_sub_orchestration_instance_completed_event(
    message: pb.SubOrchestrationInstanceCompletedEvent, plan: ExternalizePlan
) -> None:
    """Note the large payloads of `SubOrchestrationInstanceCompletedEvent`: result."""
    if message.HasField("result") and len(text := message.result.value) > plan.payload_gate:
        plan.upload(message.result, "SubOrchestrationInstanceCompletedEvent.result", text)


def externalize_sub_orchestration_instance_failed_event(
    message: pb.SubOrchestrationInstanceFailedEvent, plan: ExternalizePlan
) -> None:
    """Note the large payloads of `SubOrchestrationInstanceFailedEvent`: failureDetails."""
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_event_sent_event(message: pb.EventSentEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EventSentEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "EventSentEvent.input", text)


def externalize_event_raised_event(message: pb.EventRaisedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EventRaisedEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "EventRaisedEvent.input", text)


def externalize_generic_event(message: pb.GenericEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `GenericEvent`: data."""
    if message.HasField("data") and len(text := message.data.value) > plan.payload_gate:
        plan.upload(message.data, "GenericEvent.data", text)


def externalize_history_state_event(message: pb.HistoryStateEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `HistoryStateEvent`: orchestrationState."""
    if message.HasField("orchestrationState"):
        externalize_orchestration_state(message.orchestrationState, plan)


def externalize_continue_as_new_event(message: pb.ContinueAsNewEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ContinueAsNewEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ContinueAsNewEvent.input", text)


def externalize_execution_suspended_event(message: pb.ExecutionSuspendedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ExecutionSuspendedEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ExecutionSuspendedEvent.input", text)


def externalize_execution_resumed_event(message: pb.ExecutionResumedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ExecutionResumedEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ExecutionResumedEvent.input", text)


def externalize_entity_operation_signaled_event(
    message: pb.EntityOperationSignaledEvent, plan: ExternalizePlan
) -> None:
    """Note the large payloads of `EntityOperationSignaledEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "EntityOperationSignaledEvent.input", text)


def externalize_entity_operation_called_event(message: pb.EntityOperationCalledEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EntityOperationCalledEvent`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "EntityOperationCalledEvent.input", text)


def externalize_entity_operation_completed_event(
    message: pb.EntityOperationCompletedEvent, plan: ExternalizePlan
) -> None:
    """Note the large payloads of `EntityOperationCompletedEvent`: output."""
    if message.HasField("output") and len(text := message.output.value) > plan.payload_gate:
        plan.upload(message.output, "EntityOperationCompletedEvent.output", text)


def externalize_entity_operation_failed_event(message: pb.EntityOperationFailedEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EntityOperationFailedEvent`: failureDetails."""
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_execution_rewound_event(message: pb.ExecutionRewoundEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ExecutionRewoundEvent`: reason, input."""
    if message.HasField("reason") and len(text := message.reason.value) > plan.diagnostic_gate:
        plan.upload(message.reason, "ExecutionRewoundEvent.reason", text)
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ExecutionRewoundEvent.input", text)


def externalize_history_event(message: pb.HistoryEvent, plan: ExternalizePlan) -> None:
    """Note the large payloads of `HistoryEvent`.

    In executionStarted, executionCompleted, executionTerminated, taskScheduled, taskCompleted, taskFailed,
    subOrchestrationInstanceCreated, subOrchestrationInstanceCompleted, subOrchestrationInstanceFailed, eventSent,
    eventRaised, genericEvent, historyState, continueAsNew, executionSuspended, executionResumed,
    entityOperationSignaled, entityOperationCalled, entityOperationCompleted, entityOperationFailed, executionRewound.
    """
    match message.WhichOneof("eventType"):
        case "executionStarted":
            externalize_execution_started_event(message.executionStarted, plan)
        case "executionCompleted":
            externalize_execution_completed_event(message.executionCompleted, plan)
        case "executionTerminated":
            externalize_execution_terminated_event(message.executionTerminated, plan)
        case "taskScheduled":
            externalize_task_scheduled_event(message.taskScheduled, plan)
        case "taskCompleted":
            externalize_task_completed_event(message.taskCompleted, plan)
        case "taskFailed":
            externalize_task_failed_event(message.taskFailed, plan)
        case "subOrchestrationInstanceCreated":
            externalize_sub_orchestration_instance_created_event(message.subOrchestrationInstanceCreated, plan)
        case "subOrchestrationInstanceCompleted":
            externalize_sub_orchestration_instance_completed_event(message.subOrchestrationInstanceCompleted, plan)
        case "subOrchestrationInstanceFailed":
            externalize_sub_orchestration_instance_failed_event(message.subOrchestrationInstanceFailed, plan)
        case "eventSent":
            externalize_event_sent_event(message.eventSent, plan)
        case "eventRaised":
            externalize_event_raised_event(message.eventRaised, plan)
        case "genericEvent":
            externalize_generic_event(message.genericEvent, plan)
        case "historyState":
            externalize_history_state_event(message.historyState, plan)
        case "continueAsNew":
            externalize_continue_as_new_event(message.continueAsNew, plan)
        case "executionSuspended":
            externalize_execution_suspended_event(message.executionSuspended, plan)
        case "executionResumed":
            externalize_execution_resumed_event(message.executionResumed, plan)
        case "entityOperationSignaled":
            externalize_entity_operation_signaled_event(message.entityOperationSignaled, plan)
        case "entityOperationCalled":
            externalize_entity_operation_called_event(message.entityOperationCalled, plan)
        case "entityOperationCompleted":
            externalize_entity_operation_completed_event(message.entityOperationCompleted, plan)
        case "entityOperationFailed":
            externalize_entity_operation_failed_event(message.entityOperationFailed, plan)
        case "executionRewound":
            externalize_execution_rewound_event(message.executionRewound, plan)
        case (
            "timerCreated"
            | "timerFired"
            | "orchestratorStarted"
            | "orchestratorCompleted"
            | "entityLockRequested"
            | "entityLockGranted"
            | "entityUnlockSent"
            | None
        ):
            pass


def externalize_schedule_task_action(message: pb.ScheduleTaskAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ScheduleTaskAction`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "ScheduleTaskAction.input", text)


def externalize_create_sub_orchestration_action(
    message: pb.CreateSubOrchestrationAction, plan: ExternalizePlan
) -> None:
    """Note the large payloads of `CreateSubOrchestrationAction`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "CreateSubOrchestrationAction.input", text)


def externalize_send_event_action(message: pb.SendEventAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `SendEventAction`: data."""
    if message.HasField("data") and len(text := message.data.value) > plan.payload_gate:
        plan.upload(message.data, "SendEventAction.data", text)


def externalize_complete_orchestration_action(message: pb.CompleteOrchestrationAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `CompleteOrchestrationAction`: result, details, carryoverEvents, failureDetails."""
    if message.HasField("result") and len(text := message.result.value) > plan.payload_gate:
        plan.upload(message.result, "CompleteOrchestrationAction.result", text)
    if message.HasField("details") and len(text := message.details.value) > plan.payload_gate:
        plan.upload(message.details, "CompleteOrchestrationAction.details", text)
    for carryoverEvents_item in message.carryoverEvents:
        externalize_history_event(carryoverEvents_item, plan)
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_terminate_orchestration_action(message: pb.TerminateOrchestrationAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `TerminateOrchestrationAction`: reason."""
    if message.HasField("reason") and len(text := message.reason.value) > plan.payload_gate:
        plan.upload(message.reason, "TerminateOrchestrationAction.reason", text)


def externalize_send_entity_message_action(message: pb.SendEntityMessageAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `SendEntityMessageAction`: entityOperationSignaled, entityOperationCalled."""
    match message.WhichOneof("EntityMessageType"):
        case "entityOperationSignaled":
            externalize_entity_operation_signaled_event(message.entityOperationSignaled, plan)
        case "entityOperationCalled":
            externalize_entity_operation_called_event(message.entityOperationCalled, plan)
        case "entityLockRequested" | "entityUnlockSent" | None:
            pass


def externalize_rewind_orchestration_action(message: pb.RewindOrchestrationAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `RewindOrchestrationAction`: newHistory."""
    for newHistory_item in message.newHistory:
        externalize_history_event(newHistory_item, plan)


def externalize_orchestrator_action(message: pb.OrchestratorAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OrchestratorAction`.

    In scheduleTask, createSubOrchestration, sendEvent, completeOrchestration, terminateOrchestration,
    sendEntityMessage, rewindOrchestration.
    """
    match message.WhichOneof("orchestratorActionType"):
        case "scheduleTask":
            externalize_schedule_task_action(message.scheduleTask, plan)
        case "createSubOrchestration":
            externalize_create_sub_orchestration_action(message.createSubOrchestration, plan)
        case "sendEvent":
            externalize_send_event_action(message.sendEvent, plan)
        case "completeOrchestration":
            externalize_complete_orchestration_action(message.completeOrchestration, plan)
        case "terminateOrchestration":
            externalize_terminate_orchestration_action(message.terminateOrchestration, plan)
        case "sendEntityMessage":
            externalize_send_entity_message_action(message.sendEntityMessage, plan)
        case "rewindOrchestration":
            externalize_rewind_orchestration_action(message.rewindOrchestration, plan)
        case "createTimer" | None:
            pass


def externalize_orchestrator_request(message: pb.OrchestratorRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OrchestratorRequest`: pastEvents, newEvents."""
    for pastEvents_item in message.pastEvents:
        externalize_history_event(pastEvents_item, plan)
    for newEvents_item in message.newEvents:
        externalize_history_event(newEvents_item, plan)


def externalize_orchestrator_response(message: pb.OrchestratorResponse, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OrchestratorResponse`: actions, customStatus."""
    for actions_item in message.actions:
        externalize_orchestrator_action(actions_item, plan)
    if message.HasField("customStatus") and len(text := message.customStatus.value) > plan.payload_gate:
        plan.upload(message.customStatus, "OrchestratorResponse.customStatus", text)


def externalize_create_instance_request(message: pb.CreateInstanceRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `CreateInstanceRequest`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "CreateInstanceRequest.input", text)


def externalize_get_instance_response(message: pb.GetInstanceResponse, plan: ExternalizePlan) -> None:
    """Note the large payloads of `GetInstanceResponse`: orchestrationState."""
    if message.HasField("orchestrationState"):
        externalize_orchestration_state(message.orchestrationState, plan)


def externalize_rewind_instance_request(message: pb.RewindInstanceRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `RewindInstanceRequest`: reason."""
    if message.HasField("reason") and len(text := message.reason.value) > plan.diagnostic_gate:
        plan.upload(message.reason, "RewindInstanceRequest.reason", text)


def externalize_orchestration_state(message: pb.OrchestrationState, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OrchestrationState`: input, output, customStatus, failureDetails."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "OrchestrationState.input", text)
    if message.HasField("output") and len(text := message.output.value) > plan.payload_gate:
        plan.upload(message.output, "OrchestrationState.output", text)
    if message.HasField("customStatus") and len(text := message.customStatus.value) > plan.payload_gate:
        plan.upload(message.customStatus, "OrchestrationState.customStatus", text)
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_raise_event_request(message: pb.RaiseEventRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `RaiseEventRequest`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "RaiseEventRequest.input", text)


def externalize_terminate_request(message: pb.TerminateRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `TerminateRequest`: output."""
    if message.HasField("output") and len(text := message.output.value) > plan.payload_gate:
        plan.upload(message.output, "TerminateRequest.output", text)


def externalize_suspend_request(message: pb.SuspendRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `SuspendRequest`: reason."""
    if message.HasField("reason") and len(text := message.reason.value) > plan.payload_gate:
        plan.upload(message.reason, "SuspendRequest.reason", text)


def externalize_resume_request(message: pb.ResumeRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `ResumeRequest`: reason."""
    if message.HasField("reason") and len(text := message.reason.value) > plan.payload_gate:
        plan.upload(message.reason, "ResumeRequest.reason", text)


def externalize_query_instances_response(message: pb.QueryInstancesResponse, plan: ExternalizePlan) -> None:
    """Note the large payloads of `QueryInstancesResponse`: orchestrationState."""
    for orchestrationState_item in message.orchestrationState:
        externalize_orchestration_state(orchestrationState_item, plan)


def externalize_signal_entity_request(message: pb.SignalEntityRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `SignalEntityRequest`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "SignalEntityRequest.input", text)


def externalize_get_entity_response(message: pb.GetEntityResponse, plan: ExternalizePlan) -> None:
    """Note the large payloads of `GetEntityResponse`: entity."""
    if message.HasField("entity"):
        externalize_entity_metadata(message.entity, plan)


def externalize_query_entities_response(message: pb.QueryEntitiesResponse, plan: ExternalizePlan) -> None:
    """Note the large payloads of `QueryEntitiesResponse`: entities."""
    for entities_item in message.entities:
        externalize_entity_metadata(entities_item, plan)


def externalize_entity_metadata(message: pb.EntityMetadata, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EntityMetadata`: serializedState."""
    if message.HasField("serializedState") and len(text := message.serializedState.value) > plan.payload_gate:
        plan.upload(message.serializedState, "EntityMetadata.serializedState", text)


def externalize_entity_batch_request(message: pb.EntityBatchRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EntityBatchRequest`: entityState, operations."""
    if message.HasField("entityState") and len(text := message.entityState.value) > plan.payload_gate:
        plan.upload(message.entityState, "EntityBatchRequest.entityState", text)
    for operations_item in message.operations:
        externalize_operation_request(operations_item, plan)


def externalize_entity_batch_result(message: pb.EntityBatchResult, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EntityBatchResult`: results, actions, entityState, failureDetails."""
    for results_item in message.results:
        externalize_operation_result(results_item, plan)
    for actions_item in message.actions:
        externalize_operation_action(actions_item, plan)
    if message.HasField("entityState") and len(text := message.entityState.value) > plan.payload_gate:
        plan.upload(message.entityState, "EntityBatchResult.entityState", text)
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_entity_request(message: pb.EntityRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `EntityRequest`: entityState, operationRequests."""
    if message.HasField("entityState") and len(text := message.entityState.value) > plan.payload_gate:
        plan.upload(message.entityState, "EntityRequest.entityState", text)
    for operationRequests_item in message.operationRequests:
        externalize_history_event(operationRequests_item, plan)


def externalize_operation_request(message: pb.OperationRequest, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OperationRequest`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "OperationRequest.input", text)


def externalize_operation_result(message: pb.OperationResult, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OperationResult`: success, failure."""
    match message.WhichOneof("resultType"):
        case "success":
            externalize_operation_result_success(message.success, plan)
        case "failure":
            externalize_operation_result_failure(message.failure, plan)
        case None:
            pass


def externalize_operation_result_success(message: pb.OperationResultSuccess, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OperationResultSuccess`: result."""
    if message.HasField("result") and len(text := message.result.value) > plan.payload_gate:
        plan.upload(message.result, "OperationResultSuccess.result", text)


def externalize_operation_result_failure(message: pb.OperationResultFailure, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OperationResultFailure`: failureDetails."""
    if message.HasField("failureDetails"):
        externalize_task_failure_details(message.failureDetails, plan)


def externalize_operation_action(message: pb.OperationAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `OperationAction`: sendSignal, startNewOrchestration."""
    match message.WhichOneof("operationActionType"):
        case "sendSignal":
            externalize_send_signal_action(message.sendSignal, plan)
        case "startNewOrchestration":
            externalize_start_new_orchestration_action(message.startNewOrchestration, plan)
        case None:
            pass


def externalize_send_signal_action(message: pb.SendSignalAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `SendSignalAction`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "SendSignalAction.input", text)


def externalize_start_new_orchestration_action(message: pb.StartNewOrchestrationAction, plan: ExternalizePlan) -> None:
    """Note the large payloads of `StartNewOrchestrationAction`: input."""
    if message.HasField("input") and len(text := message.input.value) > plan.payload_gate:
        plan.upload(message.input, "StartNewOrchestrationAction.input", text)


def externalize_skip_graceful_orchestration_terminations_request(
    message: pb.SkipGracefulOrchestrationTerminationsRequest, plan: ExternalizePlan
) -> None:
    """Note the large payloads of `SkipGracefulOrchestrationTerminationsRequest`: reason."""
    if message.HasField("reason") and len(text := message.reason.value) > plan.payload_gate:
        plan.upload(message.reason, "SkipGracefulOrchestrationTerminationsRequest.reason", text)


def externalize_work_item(message: pb.WorkItem, plan: ExternalizePlan) -> None:
    """Note the large payloads of `WorkItem`: orchestratorRequest, activityRequest, entityRequest, entityRequestV2."""
    match message.WhichOneof("request"):
        case "orchestratorRequest":
            externalize_orchestrator_request(message.orchestratorRequest, plan)
        case "activityRequest":
            externalize_activity_request(message.activityRequest, plan)
        case "entityRequest":
            externalize_entity_batch_request(message.entityRequest, plan)
        case "entityRequestV2":
            externalize_entity_request(message.entityRequestV2, plan)
        case "healthPing" | None:
            pass


def externalize_history_chunk(message: pb.HistoryChunk, plan: ExternalizePlan) -> None:
    """Note the large payloads of `HistoryChunk`: events."""
    for events_item in message.events:
        externalize_history_event(events_item, plan)
