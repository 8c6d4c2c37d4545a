"""The command `lifecycle-policy`."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType

from ._errors import CommandError
from ._options import Debug, StoreUrl, open_store
from ._output import print_data, print_result

if TYPE_CHECKING:
    from durabletask_payloads.operations._lifecycle_policy import LifecyclePolicy

__all__ = ["lifecycle_policy"]

Days = Annotated[
    int,
    typer.Option(
        "--days",
        metavar="N",
        min=1,
        max=36_500,
        help="The age at which payloads are deleted: more than any instance lives, with the time until it is purged.",
    ),
]
Policy = Annotated[bool, typer.Option("--json", help="Print the policy alone, as one JSON object.")]


def lifecycle_policy(days: Days, store: StoreUrl = None, as_json: Policy = False, debug: Debug = False) -> int:
    """Print rules by which Azure, S3 or Google Cloud Storage deletes old payloads by itself.

    Such a rule goes by age alone and asks no task hub: `sweep` does. Makes no request and changes nothing.
    """
    from durabletask_payloads.operations import _lifecycle_policy as rules
    from durabletask_payloads.stores._inventory import inventory_of

    with open_store(store) as opened:
        location = inventory_of(opened).location
    try:
        policy = rules.lifecycle_policy(location, days)
    except rules.NoLifecycleError as error:
        raise CommandError(str(error), exit_code=2) from error
    if as_json:
        print_data(policy.policy)
    else:
        print_result(policy, lambda policy: _text(policy, days), as_json=False)
    return 0


def _text(policy: "LifecyclePolicy", days: int) -> Iterator[RenderableType]:
    yield f"{policy.service} deletes payloads {days} days after they were written, needed or not, with this policy:"
    yield ""
    yield json.dumps(policy.policy, indent=2)
    yield ""
    yield "--json prints the policy alone: with that in policy.json, set it by"
    # A terminal that breaks the line would break the command that is copied from it.
    yield "  " + policy.command.replace(" --", " \\\n    --")
    yield policy.note
