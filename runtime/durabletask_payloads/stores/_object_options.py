"""Options of the object store, and the checks of their values. Imports nothing of obstore."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from durabletask_payloads._options import LargePayloadStorageOptions, check_timing, check_types

from ._object_tokens import FORMS, Location

if TYPE_CHECKING:
    from collections.abc import Mapping

_SCHEMES: Final = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}


class ObstoreStore(Protocol):
    """What `S3Store`, `GCSStore` and `AzureStore` of obstore have in common."""

    @property
    def prefix(self) -> str | None: ...
    @property
    def config(self) -> Mapping[str, object]: ...


@dataclass
class ObjectStorePayloadStoreOptions(LargePayloadStorageOptions):
    """Options of an `ObjectStorePayloadStore`. Set either `url` or `store`.

    No secret is in their repr.

    Attributes:
        url: where the payloads go: "s3://<bucket>/<prefix>", "gs://<bucket>/<prefix>" or "az://<container>/<prefix>".
            The prefix may be left out. Stores with different URLs cannot read each other's payloads.
        config: settings of obstore for that service, by their names there: for S3 "region", "endpoint" (of another
            service that speaks S3; one that begins with http: is allowed by this), "access_key_id",
            "secret_access_key", "virtual_hosted_style_request"; for Azure "account_name". What is missing comes from
            the environment (AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS,
            AZURE_STORAGE_ACCOUNT_NAME), and credentials also from the role of the machine or the container.
        store: an `S3Store`, `GCSStore` or `AzureStore` of obstore, for all else that those can do. It has its own
            timeouts and retries (up to 3 minutes, unless it was made with `retry_config={"max_retries": 0}`):
            `total_timeout` holds all the same, and what is still running then goes on without a caller. Its bucket and
            prefix are where payloads go, so they have to be arguments of the store, not of its environment.
        connect_timeout: how long to wait for a connection, in seconds: 3 by default.
        read_timeout: how long to wait for the next byte of a response, in seconds: 10 by default.
        total_timeout: the longest that an upload or a download may take with all its retries, in seconds: 25 by
            default. Raise it for large payloads over a slow link.
        retries: how often a request is repeated after a transient failure: 4 by default.

    Raises:
        ValueError: a setting is out of its range or cannot be right, or two settings contradict each other. The text
            shows no secret.
        TypeError: a setting is of another type.
    """

    url: str | None = None
    config: Mapping[str, str | bool] = field(default_factory=dict[str, "str | bool"], repr=False)
    store: ObstoreStore | None = field(default=None, repr=False)
    connect_timeout: float = 3.0
    read_timeout: float = 10.0
    total_timeout: float = 25.0
    retries: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_types(self, ("url",), str | None, "text, or None", secret=True)
        check_timing(self)
        if (self.url is None) == (self.store is None):
            raise ValueError(f"either url or store must be given, and not both: url is {FORMS}")
        if self.store is not None and self.config:
            raise ValueError("config goes with url: a store has its own")
        if not all(isinstance(value, str | bool) for value in dict[str, object](self.config).values()):
            raise TypeError("config must have text or bool as its values")
        if self.location.scheme == "az" and any("sas" in name.lower() for name in self.config):
            raise ValueError(
                "config has a signature (SAS), which obstore would send to wherever a request is redirected: use "
                "BlobPayloadStore(BlobPayloadStoreOptions(credential=AzureSasCredential(...)))"
            )

    @property
    def create_container(self) -> bool:
        """False: a bucket has to exist."""
        return False

    @property
    def location(self) -> Location:
        """Where the payloads go."""
        if self.store is not None:
            return _location_of(self.store)
        try:
            return Location.of_url(self.url or "")
        except ValueError as error:
            raise ValueError(f"url cannot be used: {error}") from None


def _location_of(store: ObstoreStore) -> Location:
    """Return where a store of obstore keeps its objects. Never show it: its repr may have secrets, or panic."""
    kind = type(store)
    scheme = next((_SCHEMES[one.__name__] for one in kind.__mro__ if one.__name__ in _SCHEMES), None)
    if scheme is None:
        raise TypeError(f"store is of type {kind.__name__}: it must be an S3Store, GCSStore or AzureStore of obstore")
    name = "container_name" if scheme == "az" else "bucket"
    bucket = store.config.get(name)
    if not isinstance(bucket, str):
        raise ValueError(f"store does not say its {name}: make it with one, as in {kind.__name__}({name}=...)")
    try:
        return Location.of(scheme, bucket, store.prefix or "")
    except ValueError as error:
        raise ValueError(f"store cannot be used: as a URL, {error}") from None
