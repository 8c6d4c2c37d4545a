"""Reads a task hub as it is, tokens included, over a channel without interceptors: instances, histories, entities."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import grpc

from durabletask_payloads._errors import PayloadError
from durabletask_payloads._hub_channel import scheduler_channel, split_address

from ._sdk import pb, stubs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from azure.core.credentials import TokenCredential
    from typing_extensions import Self

_T = TypeVar("_T")

# How long a call may take, in seconds, and a history.
_CALL: Final = 60.0
_HISTORY: Final = 600.0
_PAGE: Final = 100
_ADVICE: Final = {
    grpc.StatusCode.UNAVAILABLE: "check the address, and whether it needs TLS (https://) or none (http://)",
    grpc.StatusCode.UNAUTHENTICATED: "check the credential",
    grpc.StatusCode.PERMISSION_DENIED: "an identity needs the role Durable Task Data Reader or Contributor",
    grpc.StatusCode.NOT_FOUND: "check the name of the task hub",
    grpc.StatusCode.UNIMPLEMENTED: "this server does not have the call",
}


class HubError(PayloadError):
    """A task hub cannot be reached, refused a call, or broke off half-way through a listing."""

    permanent = False


class _AbsentError(HubError):
    """The server knows no such instance, or no such hub."""


class Hub:
    """A task hub of a scheduler or a sidecar. It may be used from any number of threads. Making one makes no request.

    All messages are as the hub keeps them: large payloads are tokens. All methods raise HubError.

    Args:
        host: its address, `localhost:4001` or `https://<scheduler>.<region>.durabletask.io`.
        taskhub: the name of the task hub; None where the server has only one.
        secure: whether to use TLS; None for what the scheme of `host` says, without one for TLS with a credential only.
        credential: a token credential of azure-identity; needs durabletask.azuremanaged.
        page_size: how many instances or entities are asked for at a time.
    """

    def __init__(
        self,
        host: str,
        *,
        taskhub: str | None = None,
        secure: bool | None = None,
        credential: TokenCredential | None = None,
        page_size: int = _PAGE,
    ) -> None:
        self._address, _ = split_address(host)
        self._taskhub = taskhub
        self._page_size = page_size
        self._channel = scheduler_channel(host, taskhub=taskhub, token_credential=credential, secure_channel=secure)
        self._stub = stubs.TaskHubSidecarServiceStub(self._channel)

    @property
    def location(self) -> str:
        """What it is called in texts and state files. No secret is in it."""
        return f"{self._address}/{self._taskhub}" if self._taskhub else self._address

    @property
    def channel(self) -> grpc.Channel:
        """The channel, which is closed with this."""
        return self._channel

    def ping(self) -> None:
        """Raise HubError unless the server answers."""
        from google.protobuf.empty_pb2 import Empty

        with self._translated("Hello"):
            self._stub.Hello(Empty(), timeout=_CALL)

    def instances(self, *, payloads: bool = True) -> Iterator[pb.OrchestrationState]:
        """Yield the state of every orchestration, of any status.

        An instance that is there all the time can be missed where others are purged meanwhile, since some servers count
        how many they have listed. It may come twice.

        Args:
            payloads: whether to ask for inputs and outputs too.
        """

        def page(after: str) -> tuple[list[pb.OrchestrationState], str]:
            query = pb.InstanceQuery(maxInstanceCount=self._page_size, fetchInputsAndOutputs=payloads)
            if after:
                query.continuationToken.value = after
            request = pb.QueryInstancesRequest(query=query)
            answer = self._stub.QueryInstances(request, timeout=_CALL)
            return list(answer.orchestrationState), answer.continuationToken.value

        yield from self._pages("QueryInstances", "instances", page)

    def entities(self, *, state: bool = True) -> Iterator[pb.EntityMetadata]:
        """Yield every entity, also one that has only waiting operations. As for instances, some may be missed.

        Args:
            state: whether to ask for their states too.
        """

        def page(after: str) -> tuple[list[pb.EntityMetadata], str]:
            query = pb.EntityQuery(includeState=state, includeTransient=True)
            query.pageSize.value = self._page_size
            if after:
                query.continuationToken.value = after
            request = pb.QueryEntitiesRequest(query=query)
            answer = self._stub.QueryEntities(request, timeout=_CALL)
            return list(answer.entities), answer.continuationToken.value

        yield from self._pages("QueryEntities", "entities", page)

    def history(self, instance_id: str) -> Iterator[pb.HistoryChunk]:
        """Yield the history of an orchestration, in chunks of events; nothing if it does not exist (any more)."""
        request = pb.StreamInstanceHistoryRequest(instanceId=instance_id)
        try:
            with self._translated("StreamInstanceHistory", f" of {instance_id!r}"):
                yield from self._stub.StreamInstanceHistory(request, timeout=_HISTORY)
        except _AbsentError:
            return

    def instance(self, instance_id: str) -> pb.OrchestrationState | None:
        """Return the state of an orchestration with its payloads; None if there is none."""
        request = pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True)
        try:
            with self._translated("GetInstance", f" of {instance_id!r}"):
                answer = self._stub.GetInstance(request, timeout=_CALL)
        except _AbsentError:
            return None
        return answer.orchestrationState if answer.exists else None

    def entity(self, instance_id: str) -> pb.EntityMetadata | None:
        """Return an entity (`@name@key`) with its state; None if there is none."""
        request = pb.GetEntityRequest(instanceId=instance_id, includeState=True)
        try:
            with self._translated("GetEntity", f" of {instance_id!r}"):
                answer = self._stub.GetEntity(request, timeout=_CALL)
        except _AbsentError:
            return None
        return answer.entity if answer.exists else None

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pages(self, call: str, what: str, page: Callable[[str], tuple[list[_T], str]]) -> Iterator[_T]:
        after, listed = "", 0
        while True:
            with self._translated(call, f" after {listed} {what}"):
                items, following = page(after)
            yield from items
            listed += len(items)
            if not following:
                return
            if following == after:
                raise HubError(f"the task hub at {self.location} lists the same {what} again and again, after {listed}")
            after = following

    @contextmanager
    def _translated(self, call: str, about: str = "") -> Generator[None]:
        """Raise HubError for whatever a call raises: gRPC's errors, those of a credential, a closed channel."""
        try:
            yield
        except Exception as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            reason = (error.details() if isinstance(error, grpc.Call) else None) or type(error).__name__
            text = f"the task hub at {self.location} failed in {call}{about}: {code.name if code else 'no answer'}"
            advice = f": {_ADVICE[code]}" if code in _ADVICE else ""
            kind = _AbsentError if code is grpc.StatusCode.NOT_FOUND else HubError
            raise kind(f"{text} ({reason}){advice}") from error
