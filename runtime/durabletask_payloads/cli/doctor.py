"""The command `doctor`."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rich.console import RenderableType

from ._options import AsJson, Credential, Debug, HubAddress, Secure, StoreUrl, TaskHubAddress, open_hub, open_store
from ._output import Column, Facts, Rows, print_result

if TYPE_CHECKING:
    from durabletask_payloads.operations._doctor import Diagnosis

__all__ = ["doctor"]


def doctor(
    store: StoreUrl = None,
    hub: HubAddress = None,
    taskhub: TaskHubAddress = None,
    credential: Credential = "none",
    secure: Secure = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Check store, SDK and hub: each line is ok, or says what to grant or set.

    Run it once with the environment and the URL of each kind of process: of the client and of the workers. It stores a
    small payload, reads and deletes it. It leaves a note of the settings on which all of them must agree in the
    container, settings-<fingerprint>.json, and compares the notes of the others. Exits with 1 if something is not ok.
    """
    from durabletask_payloads.operations._doctor import diagnose

    with ExitStack() as stack:
        opened = stack.enter_context(open_store(store))
        opened_hub = None
        if hub or taskhub or credential != "none":
            opened_hub = stack.enter_context(open_hub(hub, taskhub=taskhub, credential=credential, secure=secure))
        found = diagnose(opened, opened_hub)
    print_result(found, _text, as_json=as_json)
    return 0 if found.ok else 1


def _text(found: "Diagnosis") -> Iterator[RenderableType]:
    yield Rows(
        [Column("check"), Column("result"), Column("details", fold=True)],
        [[check.name, check.verdict, check.text] for check in found.checks],
    )
    yield ""
    yield Facts([("fingerprint", found.fingerprint), *found.settings.items()])
