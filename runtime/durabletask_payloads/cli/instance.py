"""The command `instance`."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from ._errors import CommandError
from ._options import AsJson, Credential, Debug, HubAddress, Secure, StoreUrl, TaskHubAddress, open_hub, open_store
from ._output import Cell, Column, Facts, Rows, print_result, progress, size

if TYPE_CHECKING:
    from durabletask_payloads.operations._instance import InstancePayload, InstancePayloads

__all__ = ["instance"]

Instance = Annotated[str, typer.Argument(metavar="ID", help="Of an orchestration, or of an entity as @name@key.")]
Save = Annotated[
    Path | None,
    typer.Option(
        "--save",
        metavar="DIR",
        show_default=False,
        help="Write the payloads, decompressed, to files in a new or empty folder.",
    ),
]


def instance(
    instance_id: Instance,
    store: StoreUrl = None,
    hub: HubAddress = None,
    taskhub: TaskHubAddress = None,
    credential: Credential = "none",
    secure: Secure = None,
    save: Save = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """List every payload of an orchestration or entity: its field, size and token, and whether it can be read.

    Reads the state and the history in the hub, and each payload in the store. A payload without a token is in the
    message itself. Exits with 1 if one cannot be read.
    """
    from durabletask_payloads.operations._instance import instance_payloads

    with (
        open_hub(hub, taskhub=taskhub, credential=credential, secure=secure) as opened_hub,
        open_store(store) as opened,
        progress() as bar,
    ):
        task = bar.add_task("payloads", total=None)
        found = instance_payloads(
            opened_hub,
            opened,
            instance_id,
            keep=None if save is None else _keep_in(save),
            on_payload=lambda number: bar.update(task, completed=number),
        )
    print_result(found, _text, as_json=as_json)
    return 0 if found.ok else 1


def _keep_in(folder: Path) -> Callable[[str, bytes], str]:
    """Return what writes a file of `folder`, for its owner alone, and never over one that exists."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CommandError(f"--save: {folder} exists and is no empty folder: name a new one", exit_code=2)

    def keep(name: str, content: bytes) -> str:
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / name
        with open(path, "xb", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
            file.write(content)
        return name

    return keep


def _text(found: "InstancePayloads") -> Iterator[RenderableType]:
    facts: list[tuple[str, Cell]] = [(found.kind, found.instance_id), ("hub", found.hub), ("store", found.store)]
    if found.status is not None:
        facts.insert(1, ("status", found.status))
    yield Facts([*facts, ("payloads", len(found.payloads)), ("unreadable", found.unreadable)])
    if found.payloads:
        yield ""
        columns = [Column("in"), Column("field", fold=True), Column("size", right=True), Column("token", fold=True)]
        if any(one.file for one in found.payloads):
            columns.append(Column("file", fold=True))
        yield Rows(columns, [_row(one)[: len(columns)] for one in found.payloads])
    troubles = list(dict.fromkeys(one.trouble for one in found.payloads if one.trouble))
    if troubles:
        yield ""
        yield from troubles


def _row(one: "InstancePayload") -> list[Cell]:
    held = "unreadable" if one.size is None else size(one.size)
    return [one.place, one.field, held, one.token or "inline", one.file or ""]
