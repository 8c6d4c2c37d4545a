"""A gRPC channel to a task hub, with its metadata and credential, and without interceptors of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc

from ._options import BOOL, check_type

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

_SECURE: Final = ("https://", "grpcs://")
_INSECURE: Final = ("http://", "grpc://")
# A page of instances holds payloads up to the threshold, three an instance. gRPC's own limit is 4 MB.
_LONGEST_MESSAGE: Final = 512 * 1024 * 1024


def scheduler_channel(
    host_address: str,
    *,
    taskhub: str | None = None,
    token_credential: TokenCredential | None = None,
    secure_channel: bool | None = None,
) -> grpc.Channel:
    """Open a channel to the Durable Task Scheduler or a sidecar. Makes no request; close it after use.

    The parameters have the names of `DurableTaskSchedulerWorker`.

    Args:
        host_address: `https://<scheduler>.<region>.durabletask.io`, or `localhost:4001`.
        taskhub: the name of the task hub; None where the server has only one.
        token_credential: of azure-identity; needs durabletask.azuremanaged.
        secure_channel: whether to use TLS; None for what the scheme of the address says, without one for TLS with a
            credential only.

    Raises:
        ValueError: a credential without a task hub.
        TypeError: `secure_channel` is no bool.
        ImportError: the extra `[sdk]`, or durabletask.azuremanaged, is missing.
    """
    check_type("secure_channel", secure_channel, bool | None, f"{BOOL}, or None")
    address, by_scheme = split_address(host_address)
    if secure_channel is None:
        secure_channel = by_scheme if by_scheme is not None else token_credential is not None
    options = [("grpc.max_receive_message_length", _LONGEST_MESSAGE)]
    if secure_channel:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
    else:
        channel = grpc.insecure_channel(address, options)
    if token_credential is not None:
        return _authorized(channel, token_credential, taskhub)
    return _named(channel, taskhub) if taskhub else channel


def split_address(host_address: str) -> tuple[str, bool | None]:
    """Return the address without a scheme, and whether that asks for TLS."""
    for schemes, secure in ((_SECURE, True), (_INSECURE, False)):
        for scheme in schemes:
            if host_address.lower().startswith(scheme):
                return host_address[len(scheme) :].rstrip("/"), secure
    return host_address.rstrip("/"), None


def _named(channel: grpc.Channel, taskhub: str) -> grpc.Channel:
    try:
        from durabletask.internal import grpc_interceptor as sdk
    except ImportError as error:
        raise ImportError(
            f"a channel to a task hub needs durabletask ({error}): pip install durabletask-payloads[sdk]"
        ) from error
    return grpc.intercept_channel(channel, sdk.DefaultClientInterceptorImpl([("taskhub", taskhub)]))


def _authorized(channel: grpc.Channel, credential: TokenCredential, taskhub: str | None) -> grpc.Channel:
    """Return a channel that sends a token of `credential`, and the task hub, as the scheduler's own client does."""
    if not taskhub:
        raise ValueError("the scheduler needs the name of the task hub")
    try:
        from durabletask.azuremanaged.internal.durabletask_grpc_interceptor import DTSDefaultClientInterceptorImpl
    except ImportError as error:
        raise ImportError(
            f"a credential for the task hub needs durabletask.azuremanaged ({error}): "
            "pip install durabletask.azuremanaged"
        ) from error
    return grpc.intercept_channel(channel, DTSDefaultClientInterceptorImpl(credential, taskhub))
