"""The command `fields`."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from ._errors import CommandError
from ._options import AsJson, Debug
from ._output import Cell, Column, Rows, print_result

if TYPE_CHECKING:
    from durabletask_payloads.operations._fields import SchemaFields

__all__ = ["fields"]

Rpc = Annotated[str | None, typer.Argument(metavar="RPC", show_default=False, help="Show this one only.")]


def fields(rpc: Rpc = None, as_json: AsJson = False, debug: Debug = False) -> int:
    """Show which fields of which RPC are payloads.

    A payload is externalized when it is large; a diagnostic, as a stack trace, only when the whole message is too
    large. The walkers do not know the fields marked unknown, which a newer SDK has brought. Needs the extra [sdk].
    """
    from durabletask_payloads.operations._fields import schema_fields

    schema = schema_fields()
    if rpc is not None:
        found = tuple(one for one in schema.rpcs if one.rpc.lower() == rpc.lower())
        if not found:
            known = ", ".join(dict.fromkeys(one.rpc for one in schema.rpcs))
            raise CommandError(f"no RPC with payloads is called {rpc!r}: there are {known}", exit_code=2)
        schema = replace(schema, rpcs=found)
    print_result(schema, _text, as_json=as_json)
    return 0


def _text(schema: "SchemaFields") -> Iterator[RenderableType]:
    yield f"The walkers were generated from {schema.walkers}."
    for one in schema.rpcs:
        yield ""
        yield Text(f"{one.rpc}, {one.direction}: {one.message}", style="bold")
        rows: list[list[Cell]] = [[field.path, field.kind] for field in one.fields]
        yield Rows([Column("field", fold=True), Column("kind")], rows)
