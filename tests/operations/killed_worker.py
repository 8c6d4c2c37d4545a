"""A worker that kills itself between the upload of an activity's result and its completion: ADDRESS URL NUMBER."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import grpc
from tests.operations.hub_at_work import FUNCTIONS, THRESHOLD
from tests.support.backend import worker_on

from durabletask_payloads import store_from_url
from durabletask_payloads.interceptors import PayloadInterceptor


class Killer(grpc.UnaryUnaryClientInterceptor):
    """Below ours: what arrives here has its tokens. Kills the process at the n-th completion of an activity."""

    def __init__(self, number: int) -> None:
        self._left = number

    # Any: as grpc's own stubs have it.
    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        if client_call_details.method.endswith("CompleteActivityTask"):
            self._left -= 1
            if self._left <= 0:
                assert request.result.value.startswith("blob:v1:")
                os.kill(os.getpid(), signal.SIGKILL)
        return continuation(client_call_details, request)


if __name__ == "__main__":
    address, url, number = sys.argv[1:]
    interceptor = PayloadInterceptor(store_from_url(url, threshold_bytes=THRESHOLD))
    with worker_on(address, FUNCTIONS, [interceptor, Killer(int(number))]) as worker:
        worker.start()
        time.sleep(60)
