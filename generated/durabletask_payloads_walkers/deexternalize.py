# Source: durabletask/internal/orchestrator_service.proto (durabletask 1.12.0)
# Generator: durabletask-payloads-codegen 1.2
# DO NOT EDIT: run make generate
"""Notes the tokens of a message, after it was received."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durabletask.internal import orchestrator_service_pb2 as pb

    from durabletask_payloads import DeexternalizePlan


def deexternalize_activity_request(message: pb.ActivityRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ActivityRequest`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ActivityRequest.input", text)


def deexternalize_activity_response(message: pb.ActivityResponse, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ActivityResponse`: result, failureDetails."""
    if message.HasField("result") and (text := message.result.value).startswith(plan.prefixes):
        plan.download(message.result, "ActivityResponse.result", text)
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_task_failure_details(message: pb.TaskFailureDetails, plan: DeexternalizePlan) -> None:
    """Note the tokens of `TaskFailureDetails`: stackTrace, innerFailure."""
    if message.HasField("stackTrace") and (text := message.stackTrace.value).startswith(plan.prefixes):
        plan.download(message.stackTrace, "TaskFailureDetails.stackTrace", text)
    if message.HasField("innerFailure"):
        deexternalize_task_failure_details(message.innerFailure, plan)


def deexternalize_execution_started_event(message: pb.ExecutionStartedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ExecutionStartedEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ExecutionStartedEvent.input", text)


def deexternalize_execution_completed_event(message: pb.ExecutionCompletedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ExecutionCompletedEvent`: result, failureDetails."""
    if message.HasField("result") and (text := message.result.value).startswith(plan.prefixes):
        plan.download(message.result, "ExecutionCompletedEvent.result", text)
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_execution_terminated_event(message: pb.ExecutionTerminatedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ExecutionTerminatedEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ExecutionTerminatedEvent.input", text)


def deexternalize_task_scheduled_event(message: pb.TaskScheduledEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `TaskScheduledEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "TaskScheduledEvent.input", text)


def deexternalize_task_completed_event(message: pb.TaskCompletedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `TaskCompletedEvent`: result."""
    if message.HasField("result") and (text := message.result.value).startswith(plan.prefixes):
        plan.download(message.result, "TaskCompletedEvent.result", text)


def deexternalize_task_failed_event(message: pb.TaskFailedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `TaskFailedEvent`: failureDetails."""
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_sub_orchestration_instance_created_event(
    message: pb.SubOrchestrationInstanceCreatedEvent, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `SubOrchestrationInstanceCreatedEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "SubOrchestrationInstanceCreatedEvent.input", text)


def deexternalize_sub_orchestration_instance_completed_event(
    message: pb.SubOrchestrationInstanceCompletedEvent, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `SubOrchestrationInstanceCompletedEvent`: result."""
    if message.HasField("result") and (text := message.result.value).startswith(plan.prefixes):
        plan.download(message.result, "SubOrchestrationInstanceCompletedEvent.result", text)


def deexternalize_sub_orchestration_instance_failed_event(
    message: pb.SubOrchestrationInstanceFailedEvent, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `SubOrchestrationInstanceFailedEvent`: failureDetails."""
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_event_sent_event(message: pb.EventSentEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `EventSentEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "EventSentEvent.input", text)


def deexternalize_event_raised_event(message: pb.EventRaisedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `EventRaisedEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "EventRaisedEvent.input", text)


def deexternalize_generic_event(message: pb.GenericEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `GenericEvent`: data."""
    if message.HasField("data") and (text := message.data.value).startswith(plan.prefixes):
        plan.download(message.data, "GenericEvent.data", text)


def deexternalize_history_state_event(message: pb.HistoryStateEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `HistoryStateEvent`: orchestrationState."""
    if message.HasField("orchestrationState"):
        deexternalize_orchestration_state(message.orchestrationState, plan)


def deexternalize_continue_as_new_event(message: pb.ContinueAsNewEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ContinueAsNewEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ContinueAsNewEvent.input", text)


def deexternalize_execution_suspended_event(message: pb.ExecutionSuspendedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ExecutionSuspendedEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ExecutionSuspendedEvent.input", text)


def deexternalize_execution_resumed_event(message: pb.ExecutionResumedEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ExecutionResumedEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ExecutionResumedEvent.input", text)


def deexternalize_entity_operation_signaled_event(
    message: pb.EntityOperationSignaledEvent, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `EntityOperationSignaledEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "EntityOperationSignaledEvent.input", text)


def deexternalize_entity_operation_called_event(
    message: pb.EntityOperationCalledEvent, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `EntityOperationCalledEvent`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "EntityOperationCalledEvent.input", text)


def deexternalize_entity_operation_completed_event(
    message: pb.EntityOperationCompletedEvent, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `EntityOperationCompletedEvent`: output."""
    if message.HasField("output") and (text := message.output.value).startswith(plan.prefixes):
        plan.download(message.output, "EntityOperationCompletedEvent.output", text)


def deexternalize_entity_operation_failed_event(
    message: pb.EntityOperationFailedEvent, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `EntityOperationFailedEvent`: failureDetails."""
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_execution_rewound_event(message: pb.ExecutionRewoundEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ExecutionRewoundEvent`: reason, input."""
    if message.HasField("reason") and (text := message.reason.value).startswith(plan.prefixes):
        plan.download(message.reason, "ExecutionRewoundEvent.reason", text)
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ExecutionRewoundEvent.input", text)


def deexternalize_history_event(message: pb.HistoryEvent, plan: DeexternalizePlan) -> None:
    """Note the tokens of `HistoryEvent`.

    In executionStarted, executionCompleted, executionTerminated, taskScheduled, taskCompleted, taskFailed,
    subOrchestrationInstanceCreated, subOrchestrationInstanceCompleted, subOrchestrationInstanceFailed, eventSent,
    eventRaised, genericEvent, historyState, continueAsNew, executionSuspended, executionResumed,
    entityOperationSignaled, entityOperationCalled, entityOperationCompleted, entityOperationFailed, executionRewound.
    """
    match message.WhichOneof("eventType"):
        case "executionStarted":
            deexternalize_execution_started_event(message.executionStarted, plan)
        case "executionCompleted":
            deexternalize_execution_completed_event(message.executionCompleted, plan)
        case "executionTerminated":
            deexternalize_execution_terminated_event(message.executionTerminated, plan)
        case "taskScheduled":
            deexternalize_task_scheduled_event(message.taskScheduled, plan)
        case "taskCompleted":
            deexternalize_task_completed_event(message.taskCompleted, plan)
        case "taskFailed":
            deexternalize_task_failed_event(message.taskFailed, plan)
        case "subOrchestrationInstanceCreated":
            deexternalize_sub_orchestration_instance_created_event(message.subOrchestrationInstanceCreated, plan)
        case "subOrchestrationInstanceCompleted":
            deexternalize_sub_orchestration_instance_completed_event(message.subOrchestrationInstanceCompleted, plan)
        case "subOrchestrationInstanceFailed":
            deexternalize_sub_orchestration_instance_failed_event(message.subOrchestrationInstanceFailed, plan)
        case "eventSent":
            deexternalize_event_sent_event(message.eventSent, plan)
        case "eventRaised":
            deexternalize_event_raised_event(message.eventRaised, plan)
        case "genericEvent":
            deexternalize_generic_event(message.genericEvent, plan)
        case "historyState":
            deexternalize_history_state_event(message.historyState, plan)
        case "continueAsNew":
            deexternalize_continue_as_new_event(message.continueAsNew, plan)
        case "executionSuspended":
            deexternalize_execution_suspended_event(message.executionSuspended, plan)
        case "executionResumed":
            deexternalize_execution_resumed_event(message.executionResumed, plan)
        case "entityOperationSignaled":
            deexternalize_entity_operation_signaled_event(message.entityOperationSignaled, plan)
        case "entityOperationCalled":
            deexternalize_entity_operation_called_event(message.entityOperationCalled, plan)
        case "entityOperationCompleted":
            deexternalize_entity_operation_completed_event(message.entityOperationCompleted, plan)
        case "entityOperationFailed":
            deexternalize_entity_operation_failed_event(message.entityOperationFailed, plan)
        case "executionRewound":
            deexternalize_execution_rewound_event(message.executionRewound, plan)
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


def deexternalize_schedule_task_action(message: pb.ScheduleTaskAction, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ScheduleTaskAction`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "ScheduleTaskAction.input", text)


def deexternalize_create_sub_orchestration_action(
    message: pb.CreateSubOrchestrationAction, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `CreateSubOrchestrationAction`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "CreateSubOrchestrationAction.input", text)


def deexternalize_send_event_action(message: pb.SendEventAction, plan: DeexternalizePlan) -> None:
    """Note the tokens of `SendEventAction`: data."""
    if message.HasField("data") and (text := message.data.value).startswith(plan.prefixes):
        plan.download(message.data, "SendEventAction.data", text)


def deexternalize_complete_orchestration_action(
    message: pb.CompleteOrchestrationAction, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `CompleteOrchestrationAction`: result, details, carryoverEvents, failureDetails."""
    if plan.rules_out(message, message.carryoverEvents):
        return
    if message.HasField("result") and (text := message.result.value).startswith(plan.prefixes):
        plan.download(message.result, "CompleteOrchestrationAction.result", text)
    if message.HasField("details") and (text := message.details.value).startswith(plan.prefixes):
        plan.download(message.details, "CompleteOrchestrationAction.details", text)
    for carryoverEvents_item in message.carryoverEvents:
        deexternalize_history_event(carryoverEvents_item, plan)
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_terminate_orchestration_action(
    message: pb.TerminateOrchestrationAction, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `TerminateOrchestrationAction`: reason."""
    if message.HasField("reason") and (text := message.reason.value).startswith(plan.prefixes):
        plan.download(message.reason, "TerminateOrchestrationAction.reason", text)


def deexternalize_send_entity_message_action(message: pb.SendEntityMessageAction, plan: DeexternalizePlan) -> None:
    """Note the tokens of `SendEntityMessageAction`: entityOperationSignaled, entityOperationCalled."""
    match message.WhichOneof("EntityMessageType"):
        case "entityOperationSignaled":
            deexternalize_entity_operation_signaled_event(message.entityOperationSignaled, plan)
        case "entityOperationCalled":
            deexternalize_entity_operation_called_event(message.entityOperationCalled, plan)
        case "entityLockRequested" | "entityUnlockSent" | None:
            pass


def deexternalize_rewind_orchestration_action(message: pb.RewindOrchestrationAction, plan: DeexternalizePlan) -> None:
    """Note the tokens of `RewindOrchestrationAction`: newHistory."""
    if plan.rules_out(message, message.newHistory):
        return
    for newHistory_item in message.newHistory:
        deexternalize_history_event(newHistory_item, plan)


def deexternalize_orchestrator_action(message: pb.OrchestratorAction, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OrchestratorAction`.

    In scheduleTask, createSubOrchestration, sendEvent, completeOrchestration, terminateOrchestration,
    sendEntityMessage, rewindOrchestration.
    """
    match message.WhichOneof("orchestratorActionType"):
        case "scheduleTask":
            deexternalize_schedule_task_action(message.scheduleTask, plan)
        case "createSubOrchestration":
            deexternalize_create_sub_orchestration_action(message.createSubOrchestration, plan)
        case "sendEvent":
            deexternalize_send_event_action(message.sendEvent, plan)
        case "completeOrchestration":
            deexternalize_complete_orchestration_action(message.completeOrchestration, plan)
        case "terminateOrchestration":
            deexternalize_terminate_orchestration_action(message.terminateOrchestration, plan)
        case "sendEntityMessage":
            deexternalize_send_entity_message_action(message.sendEntityMessage, plan)
        case "rewindOrchestration":
            deexternalize_rewind_orchestration_action(message.rewindOrchestration, plan)
        case "createTimer" | None:
            pass


def deexternalize_orchestrator_request(message: pb.OrchestratorRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OrchestratorRequest`: pastEvents, newEvents."""
    if plan.rules_out(message, message.pastEvents, message.newEvents):
        return
    for pastEvents_item in message.pastEvents:
        deexternalize_history_event(pastEvents_item, plan)
    for newEvents_item in message.newEvents:
        deexternalize_history_event(newEvents_item, plan)


def deexternalize_orchestrator_response(message: pb.OrchestratorResponse, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OrchestratorResponse`: actions, customStatus."""
    if plan.rules_out(message, message.actions):
        return
    for actions_item in message.actions:
        deexternalize_orchestrator_action(actions_item, plan)
    if message.HasField("customStatus") and (text := message.customStatus.value).startswith(plan.prefixes):
        plan.download(message.customStatus, "OrchestratorResponse.customStatus", text)


def deexternalize_create_instance_request(message: pb.CreateInstanceRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `CreateInstanceRequest`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "CreateInstanceRequest.input", text)


def deexternalize_get_instance_response(message: pb.GetInstanceResponse, plan: DeexternalizePlan) -> None:
    """Note the tokens of `GetInstanceResponse`: orchestrationState."""
    if message.HasField("orchestrationState"):
        deexternalize_orchestration_state(message.orchestrationState, plan)


def deexternalize_rewind_instance_request(message: pb.RewindInstanceRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `RewindInstanceRequest`: reason."""
    if message.HasField("reason") and (text := message.reason.value).startswith(plan.prefixes):
        plan.download(message.reason, "RewindInstanceRequest.reason", text)


def deexternalize_orchestration_state(message: pb.OrchestrationState, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OrchestrationState`: input, output, customStatus, failureDetails."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "OrchestrationState.input", text)
    if message.HasField("output") and (text := message.output.value).startswith(plan.prefixes):
        plan.download(message.output, "OrchestrationState.output", text)
    if message.HasField("customStatus") and (text := message.customStatus.value).startswith(plan.prefixes):
        plan.download(message.customStatus, "OrchestrationState.customStatus", text)
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_raise_event_request(message: pb.RaiseEventRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `RaiseEventRequest`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "RaiseEventRequest.input", text)


def deexternalize_terminate_request(message: pb.TerminateRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `TerminateRequest`: output."""
    if message.HasField("output") and (text := message.output.value).startswith(plan.prefixes):
        plan.download(message.output, "TerminateRequest.output", text)


def deexternalize_suspend_request(message: pb.SuspendRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `SuspendRequest`: reason."""
    if message.HasField("reason") and (text := message.reason.value).startswith(plan.prefixes):
        plan.download(message.reason, "SuspendRequest.reason", text)


def deexternalize_resume_request(message: pb.ResumeRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `ResumeRequest`: reason."""
    if message.HasField("reason") and (text := message.reason.value).startswith(plan.prefixes):
        plan.download(message.reason, "ResumeRequest.reason", text)


def deexternalize_query_instances_response(message: pb.QueryInstancesResponse, plan: DeexternalizePlan) -> None:
    """Note the tokens of `QueryInstancesResponse`: orchestrationState."""
    if plan.rules_out(message, message.orchestrationState):
        return
    for orchestrationState_item in message.orchestrationState:
        deexternalize_orchestration_state(orchestrationState_item, plan)


def deexternalize_signal_entity_request(message: pb.SignalEntityRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `SignalEntityRequest`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "SignalEntityRequest.input", text)


def deexternalize_get_entity_response(message: pb.GetEntityResponse, plan: DeexternalizePlan) -> None:
    """Note the tokens of `GetEntityResponse`: entity."""
    if message.HasField("entity"):
        deexternalize_entity_metadata(message.entity, plan)


def deexternalize_query_entities_response(message: pb.QueryEntitiesResponse, plan: DeexternalizePlan) -> None:
    """Note the tokens of `QueryEntitiesResponse`: entities."""
    if plan.rules_out(message, message.entities):
        return
    for entities_item in message.entities:
        deexternalize_entity_metadata(entities_item, plan)


def deexternalize_entity_metadata(message: pb.EntityMetadata, plan: DeexternalizePlan) -> None:
    """Note the tokens of `EntityMetadata`: serializedState."""
    if message.HasField("serializedState") and (text := message.serializedState.value).startswith(plan.prefixes):
        plan.download(message.serializedState, "EntityMetadata.serializedState", text)


def deexternalize_entity_batch_request(message: pb.EntityBatchRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `EntityBatchRequest`: entityState, operations."""
    if plan.rules_out(message, message.operations):
        return
    if message.HasField("entityState") and (text := message.entityState.value).startswith(plan.prefixes):
        plan.download(message.entityState, "EntityBatchRequest.entityState", text)
    for operations_item in message.operations:
        deexternalize_operation_request(operations_item, plan)


def deexternalize_entity_batch_result(message: pb.EntityBatchResult, plan: DeexternalizePlan) -> None:
    """Note the tokens of `EntityBatchResult`: results, actions, entityState, failureDetails."""
    if plan.rules_out(message, message.results, message.actions):
        return
    for results_item in message.results:
        deexternalize_operation_result(results_item, plan)
    for actions_item in message.actions:
        deexternalize_operation_action(actions_item, plan)
    if message.HasField("entityState") and (text := message.entityState.value).startswith(plan.prefixes):
        plan.download(message.entityState, "EntityBatchResult.entityState", text)
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_entity_request(message: pb.EntityRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `EntityRequest`: entityState, operationRequests."""
    if plan.rules_out(message, message.operationRequests):
        return
    if message.HasField("entityState") and (text := message.entityState.value).startswith(plan.prefixes):
        plan.download(message.entityState, "EntityRequest.entityState", text)
    for operationRequests_item in message.operationRequests:
        deexternalize_history_event(operationRequests_item, plan)


def deexternalize_operation_request(message: pb.OperationRequest, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OperationRequest`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "OperationRequest.input", text)


def deexternalize_operation_result(message: pb.OperationResult, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OperationResult`: success, failure."""
    match message.WhichOneof("resultType"):
        case "success":
            deexternalize_operation_result_success(message.success, plan)
        case "failure":
            deexternalize_operation_result_failure(message.failure, plan)
        case None:
            pass


def deexternalize_operation_result_success(message: pb.OperationResultSuccess, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OperationResultSuccess`: result."""
    if message.HasField("result") and (text := message.result.value).startswith(plan.prefixes):
        plan.download(message.result, "OperationResultSuccess.result", text)


def deexternalize_operation_result_failure(message: pb.OperationResultFailure, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OperationResultFailure`: failureDetails."""
    if message.HasField("failureDetails"):
        deexternalize_task_failure_details(message.failureDetails, plan)


def deexternalize_operation_action(message: pb.OperationAction, plan: DeexternalizePlan) -> None:
    """Note the tokens of `OperationAction`: sendSignal, startNewOrchestration."""
    match message.WhichOneof("operationActionType"):
        case "sendSignal":
            deexternalize_send_signal_action(message.sendSignal, plan)
        case "startNewOrchestration":
            deexternalize_start_new_orchestration_action(message.startNewOrchestration, plan)
        case None:
            pass


def deexternalize_send_signal_action(message: pb.SendSignalAction, plan: DeexternalizePlan) -> None:
    """Note the tokens of `SendSignalAction`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "SendSignalAction.input", text)


def deexternalize_start_new_orchestration_action(
    message: pb.StartNewOrchestrationAction, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `StartNewOrchestrationAction`: input."""
    if message.HasField("input") and (text := message.input.value).startswith(plan.prefixes):
        plan.download(message.input, "StartNewOrchestrationAction.input", text)


def deexternalize_skip_graceful_orchestration_terminations_request(
    message: pb.SkipGracefulOrchestrationTerminationsRequest, plan: DeexternalizePlan
) -> None:
    """Note the tokens of `SkipGracefulOrchestrationTerminationsRequest`: reason."""
    if message.HasField("reason") and (text := message.reason.value).startswith(plan.prefixes):
        plan.download(message.reason, "SkipGracefulOrchestrationTerminationsRequest.reason", text)


def deexternalize_work_item(message: pb.WorkItem, plan: DeexternalizePlan) -> None:
    """Note the tokens of `WorkItem`: orchestratorRequest, activityRequest, entityRequest, entityRequestV2."""
    match message.WhichOneof("request"):
        case "orchestratorRequest":
            deexternalize_orchestrator_request(message.orchestratorRequest, plan)
        case "activityRequest":
            deexternalize_activity_request(message.activityRequest, plan)
        case "entityRequest":
            deexternalize_entity_batch_request(message.entityRequest, plan)
        case "entityRequestV2":
            deexternalize_entity_request(message.entityRequestV2, plan)
        case "healthPing" | None:
            pass


def deexternalize_history_chunk(message: pb.HistoryChunk, plan: DeexternalizePlan) -> None:
    """Note the tokens of `HistoryChunk`: events."""
    if plan.rules_out(message, message.events):
        return
    for events_item in message.events:
        deexternalize_history_event(events_item, plan)
