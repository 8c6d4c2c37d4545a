"""Arguments and options that commands share, as types of their parameters, and the store that they name.

A module of a command must not say `from __future__ import annotations`: typer reads the annotations at run time.
"""

import math
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ._errors import CommandError

if TYPE_CHECKING:
    from durabletask_payloads import PayloadStore
    from durabletask_payloads.operations._hub import Hub

StoreUrl = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        envvar="DURABLETASK_PAYLOADS_STORE",
        show_default=False,
        help="The payload store: azure://ACCOUNT/CONTAINER, s3://BUCKET/PREFIX, file:///FOLDER and others. Credentials "
        "come from the environment.",
    ),
]
HubAddress = Annotated[
    str | None,
    typer.Option(
        "--hub",
        metavar="HOST[:PORT]",
        envvar="DURABLETASK_PAYLOADS_HUB",
        show_default=False,
        help="The gRPC endpoint of the scheduler, or of a sidecar.",
    ),
]
TaskHubAddress = Annotated[
    str | None,
    typer.Option("--taskhub", metavar="NAME", show_default=False, help="The task hub in the Durable Task Scheduler."),
]
HubCredential = Literal["none", "azure"]
Credential = Annotated[
    HubCredential,
    typer.Option(
        "--credential",
        help="How to sign in to the hub: not at all, or as azure-identity finds (environment, managed identity, az).",
    ),
]
Secure = Annotated[
    bool | None,
    typer.Option(
        "--secure/--insecure",
        show_default=False,
        help="Use TLS to the hub, or not. By default it is used with https:// and with a credential.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
# `_app` reads it from the arguments, for errors in them too.
Debug = Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")]


def finite(value: float | None) -> float | None:
    """Refuse "inf" and "nan", which a range lets pass and JSON cannot hold. The callback of each option with a float.

    Raises:
        typer.BadParameter: it is one of them.
    """
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is not a finite number")
    return value


def open_store(url: str | None) -> "PayloadStore":
    """Return the store that `--store` names. Makes no request.

    Raises:
        CommandError: no store is named, or the URL cannot be right.
        ImportError: an extra is missing.
    """
    from durabletask_payloads import store_from_url

    try:
        return store_from_url(url)
    except ValueError as error:
        raise CommandError(f"--store: {error}", exit_code=2) from error


def open_hub(address: str | None, *, taskhub: str | None, credential: HubCredential, secure: bool | None) -> "Hub":
    """Return the task hub that `--hub` and the options beside it name. Makes no request.

    Raises:
        CommandError: no hub is named, or the options do not go together.
        ImportError: an extra, or azure-identity, is missing.
    """
    from durabletask_payloads.operations._hub import Hub

    if not address:
        raise CommandError(
            "no hub is named: pass --hub HOST[:PORT], or set DURABLETASK_PAYLOADS_HUB, to the gRPC endpoint of the "
            "scheduler or of a sidecar",
            exit_code=2,
        )
    identity = None
    if credential == "azure":
        try:
            from azure.identity import DefaultAzureCredential
        except ImportError as error:
            raise ImportError(
                f"--credential azure needs azure-identity ({error}): pip install azure-identity"
            ) from error
        identity = DefaultAzureCredential()
    try:
        return Hub(address, taskhub=taskhub, secure=secure, credential=identity)
    except ValueError as error:
        raise CommandError(f"--hub: {error}", exit_code=2) from error
