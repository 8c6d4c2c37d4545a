"""The generated walkers: one function for each direction and message type, which type checkers verify.

    python typed_walkers.py

For those who move payloads by other means than the interceptors. A walker only collects fields, without any I/O;
transfers, and putting tokens or payloads into the fields, are the caller's. Needs `durabletask-payloads[sdk]` for the
messages.
"""

from __future__ import annotations

from durabletask.internal import orchestrator_service_pb2 as pb
from google.protobuf.wrappers_pb2 import StringValue

from durabletask_payloads import DeexternalizePlan, ExternalizePlan, InMemoryPayloadStore, PayloadStore
from durabletask_payloads_walkers import deexternalize_activity_request, externalize_activity_response


# --8<-- [start:main]
def send(response: pb.ActivityResponse, store: PayloadStore) -> None:
    options = store.options
    plan = ExternalizePlan(options.threshold_bytes, options.max_stored_payload_bytes, store.is_known_token)
    externalize_activity_response(response, plan)  # with another message, or a DeexternalizePlan: a type error
    tokens = [store.upload(upload.data, instance_id=response.instanceId) for upload in plan.uploads]
    for upload, token in zip(plan.uploads, tokens, strict=True):  # all are stored: now the message may change
        print(f"{upload.path}: {len(upload.data):,} bytes became {token[:12]}...")
        upload.field.value = token


def receive(request: pb.ActivityRequest, store: PayloadStore) -> None:
    prefixes = tuple(prefix.decode() for prefix in store.token_prefixes)
    plan = DeexternalizePlan(prefixes, store.is_known_token)
    deexternalize_activity_request(request, plan)
    payloads = [store.download(download.token) for download in plan.downloads]
    for download, payload in zip(plan.downloads, payloads, strict=True):
        print(f"{download.path}: a token became {len(payload):,} bytes")
        download.field.value = payload.decode()


# --8<-- [end:main]


def main() -> None:
    store = InMemoryPayloadStore()
    response = pb.ActivityResponse(instanceId="order-17", taskId=1, result=StringValue(value="x" * 5_000_000))
    send(response, store)
    print(f"the response now has {response.ByteSize()} bytes")
    # The next activity gets that result as its input.
    request = pb.ActivityRequest(name="next", input=StringValue(value=response.result.value))
    receive(request, store)
    print(f"the request now has {request.ByteSize():,} bytes")


if __name__ == "__main__":
    main()
