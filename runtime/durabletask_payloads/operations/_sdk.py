"""The messages and the gRPC stubs of the durabletask SDK; without it, an error that names what to install."""

try:
    import durabletask.internal.orchestrator_service_pb2 as pb
    import durabletask.internal.orchestrator_service_pb2_grpc as stubs
except ImportError as _error:
    raise ImportError(
        f"reading a task hub, or its schema, needs durabletask ({_error}): pip install durabletask-payloads[sdk]"
    ) from _error

__all__ = ["pb", "stubs"]
