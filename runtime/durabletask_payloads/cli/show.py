"""The command `show`."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from durabletask_payloads._errors import PayloadTokenError

from ._errors import CommandError
from ._options import AsJson, Debug, StoreUrl, open_store
from ._output import Facts, print_result, size

if TYPE_CHECKING:
    from durabletask_payloads.operations._show import PayloadFacts

__all__ = ["show"]

Token = Annotated[str, typer.Argument(metavar="TOKEN", help="As it stands in a message: blob:v1:..., object:v1:...")]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", show_default=False, help="Write the payload, decompressed, to a file."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file.")]


def show(
    token: Token,
    store: StoreUrl = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Show whose a payload is, how old and how large, and whether it is whole.

    The payload itself is shown to nobody: --output writes it to a file. Exits with 1 if it is damaged.
    """
    from durabletask_payloads.operations._show import payload_facts

    if output is not None and output.exists() and not force:
        raise CommandError(f"--output: {output} exists: --force overwrites it", exit_code=2)
    with open_store(store) as opened:
        try:
            facts, content = payload_facts(opened, token)
        except PayloadTokenError as error:
            raise CommandError(str(error), exit_code=2) from error
    if output is not None and content is not None:
        _write(output, content, force=force)
    print_result(facts, _text, as_json=as_json)
    return 0 if facts.ok else 1


def _write(path: Path, content: bytes, *, force: bool) -> None:
    """Write a file as a whole or not at all, for its owner alone."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    part = Path(name)
    try:
        with open(handle, "wb") as file:
            file.write(content)
        if path.exists() and not force:  # it came into being meanwhile
            raise CommandError(f"--output: {path} exists: --force overwrites it", exit_code=2)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _text(facts: "PayloadFacts") -> Iterator[RenderableType]:
    yield Facts(
        [
            ("token", facts.token),
            ("store", facts.location),
            ("instance", "unknown" if facts.instance_id is None else facts.instance_id),
            ("written", facts.written),
            ("stored", size(facts.stored_bytes) + (", compressed" if facts.compressed else "")),
            ("payload", "unknown" if facts.raw_bytes is None else size(facts.raw_bytes)),
            ("SHA-256", facts.sha256 or "none is stored"),
            ("managed", "unknown" if facts.managed is None else facts.managed),
            ("content", facts.check),
        ]
    )
    if facts.trouble is not None:
        yield facts.trouble
