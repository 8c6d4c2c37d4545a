"""gRPC interceptors: put them in, and the payloads of all calls are moved, with no change to orchestrations.

    interceptor = PayloadInterceptor(BlobPayloadStore(...))
    worker = TaskHubGrpcWorker(interceptors=[interceptor])
    client = TaskHubGrpcClient(interceptors=[interceptor])

For `AsyncTaskHubGrpcClient` and other channels of grpc.aio: `interceptors=async_payload_interceptors(store)`.
"""

from ._aio import async_payload_interceptors
from ._sync import PayloadInterceptor

__all__ = ["PayloadInterceptor", "async_payload_interceptors"]
