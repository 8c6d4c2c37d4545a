"""Stores of obstore for S3, Google Cloud Storage and Azure, behind an `ObstoreClient`. Imported on first use only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Literal, cast

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

from durabletask_payloads._errors import PayloadError

from ._obstore_client import NO_RETRIES, ObstoreClient, client_options

if TYPE_CHECKING:
    from obstore.store import AzureConfig, ClientConfig, GCSConfig, ObjectStore, S3Config

    from ._object_options import ObjectStorePayloadStoreOptions
    from ._object_tokens import Location, ObjectToken

_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


def object_client(options: ObjectStorePayloadStoreOptions) -> ObstoreClient[ObjectToken]:
    """Return a new client for the location of `options`. Makes no request."""
    location = options.location
    made: dict[Literal["read", "write"], ObjectStore] = {}

    def store_for(place: ObjectToken, use: Literal["read", "write"]) -> ObjectStore:
        if options.store is not None:
            # It is one of three types, as its options have checked without importing them.
            return cast("ObjectStore", options.store)
        store = made.get(use)
        if store is None:
            store = made[use] = _new_store(location, options, use)
        return store

    return ObstoreClient("durabletask-payloads-object-store", store_for, options.read_timeout)


def _new_store(
    location: Location, options: ObjectStorePayloadStoreOptions, use: Literal["read", "write"]
) -> ObjectStore:
    read_timeout = options.read_timeout if use == "read" else None
    client = client_options(options.connect_timeout, read_timeout, options.total_timeout)
    endpoints = list(options.config.values())
    if location.scheme == "s3":  # whose requests are signed; the others would send a token over it
        endpoints += [os.environ.get(name, "") for name in _ENDPOINTS]
    if any(str(value).startswith("http:") for value in endpoints):
        client["allow_http"] = True
    try:
        return _store_of(location, dict(options.config), client)
    except obstore.exceptions.UnknownConfigurationKeyError:
        trouble = f"config has a name that obstore does not know, among {', '.join(sorted(options.config))}"
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        trouble = f"obstore cannot use config, or what the environment says ({type(error).__name__})"
    # Not from the error, nor while it is handled: its text quotes values, which may be secret.
    raise PayloadError(f"{location}: {trouble}")


def _store_of(location: Location, config: dict[str, str | bool], client: ClientConfig) -> ObjectStore:
    prefix = location.prefix or None
    match location.scheme:
        case "s3":
            # One DELETE for an object: not every service that speaks S3 knows the other request, and its answer is one.
            s3 = cast("S3Config", {"disable_bulk_delete": True, **config})  # obstore checks the names
            return S3Store(location.bucket, prefix=prefix, config=s3, client_options=client, retry_config=NO_RETRIES)
        case "gs":
            gcs = cast("GCSConfig", config)  # obstore checks the names
            return GCSStore(location.bucket, prefix=prefix, config=gcs, client_options=client, retry_config=NO_RETRIES)
        case "az":
            azure = cast("AzureConfig", config)  # obstore checks the names
            return AzureStore(
                location.bucket, prefix=prefix, config=azure, client_options=client, retry_config=NO_RETRIES
            )
