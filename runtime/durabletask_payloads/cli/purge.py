"""The command `purge`: carries out the scheduler's ledger of purged payloads, or has it kept."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import RenderableType

from durabletask_payloads import PayloadObserver, Purge

from ._errors import CommandError
from ._options import AsJson, Credential, Debug, HubAddress, Secure, StoreUrl, TaskHubAddress, open_hub, open_store
from ._output import Column, Rows, print_result

if TYPE_CHECKING:
    import grpc

    from durabletask_payloads.purge import PayloadPurger

__all__ = ["purge"]

Action = Annotated[
    Literal["run", "enable", "disable"],
    typer.Argument(help="Delete, or set whether the scheduler keeps a ledger for this task hub."),
]
Once = Annotated[
    bool,
    typer.Option("--once", help="End when nothing is due but what this run has tried, and print what was done."),
]


@dataclass
class Flag:
    """What `enable` and `disable` print."""

    auto_purge: bool


@dataclass
class Outcome:
    """A row of what `run` prints."""

    disposition: str
    outcome: str
    reason: str
    count: int


@dataclass
class Purged:
    """What `run` prints when it ends."""

    rows: int
    outcomes: list[Outcome]


def purge(
    action: Action = "run",
    store: StoreUrl = None,
    hub: HubAddress = None,
    taskhub: TaskHubAddress = None,
    credential: Credential = "none",
    secure: Secure = None,
    once: Once = False,
    as_json: AsJson = False,
    debug: Debug = False,
) -> int:
    """Delete the payloads of instances that the Durable Task Scheduler has purged.

    `enable` tells the scheduler to keep a ledger of them for the task hub, and `disable` to stop. `run` carries the
    ledger out until Ctrl-C, and any number of processes may do so at the same time. Only blobs with the metadata
    managed_by=dts are deleted. Only v2 tokens get into the ledger: stores that write need token_version=2.
    """
    import grpc

    with open_hub(hub, taskhub=taskhub, credential=credential, secure=secure) as opened:
        try:
            if action == "run":
                return _run(store, opened.channel, once=once, as_json=as_json)
            from durabletask_payloads.purge import set_auto_purge

            set_auto_purge(opened.channel, action == "enable")
        except grpc.RpcError as error:
            raise CommandError(_refusal(hub, error), exit_code=1) from error
    print_result(Flag(action == "enable"), _flag_text, as_json=as_json)
    return 0


class _Counts(PayloadObserver):
    """Counts the rows that were reported."""

    def __init__(self) -> None:
        self.rows: Counter[tuple[str, str]] = Counter()

    def purged(self, purge: Purge) -> None:
        self.rows[purge.disposition, purge.outcome] += purge.rows


def _run(store: str | None, channel: "grpc.Channel", *, once: bool, as_json: bool) -> int:
    from durabletask_payloads.purge import PayloadPurger

    logging.basicConfig(format="%(asctime)s %(message)s")
    if not once:
        logging.getLogger("durabletask_payloads.purge").setLevel(logging.INFO)
    counts = _Counts()
    with open_store(store) as opened, PayloadPurger(opened, channel, observer=counts) as purger:
        try:
            ended = until_nothing_is_due(purger) if once else purger.run()
        except KeyboardInterrupt:  # what was not reported is due again
            print_result(_purged(counts), _text, as_json=as_json)
            raise
    if not ended:
        raise CommandError("the scheduler keeps no ledger of purged payloads", exit_code=1)
    print_result(_purged(counts), _text, as_json=as_json)
    return 0


def until_nothing_is_due(purger: "PayloadPurger") -> bool:
    """Purge batch by batch. Rows to retry may soon be due again, and come before rows that were not tried.

    So a batch of rows that were tried already is not the end yet. It is when more of them came in a row than there are.
    While the store is away the rows after the first batch would fail like those in it, each after a long wait.
    """
    from durabletask_payloads.purge import PurgeOutcome

    tried: set[str] = set()
    again = 0
    while again <= len(tried):
        report = purger.run_once()
        if not report.rows or set(report.outcomes) == {PurgeOutcome.UNAVAILABLE}:
            break
        is_new = report.count("retry") < report.rows or not report.retried <= tried
        again = 0 if is_new else again + len(report.retried)
        tried |= report.retried
    return True


def _purged(counts: _Counts) -> Purged:
    from durabletask_payloads.purge import PurgeOutcome

    outcomes = [
        Outcome(disposition, outcome, PurgeOutcome[outcome.upper()].reason, count)
        for (disposition, outcome), count in sorted(counts.rows.items())
    ]
    return Purged(counts.rows.total(), outcomes)


def _text(purged: Purged) -> Iterator[RenderableType]:
    yield f"{purged.rows:,} rows of the ledger were reported."
    if purged.outcomes:
        columns = [Column("reported as"), Column("payloads", right=True), Column("because", fold=True)]
        yield Rows(columns, [(outcome.disposition, outcome.count, outcome.reason) for outcome in purged.outcomes])


def _flag_text(flag: Flag) -> Iterator[RenderableType]:
    if flag.auto_purge:
        yield "The scheduler keeps a ledger of purged payloads from now on: run `purge` to carry it out."
    else:
        yield "The scheduler keeps no ledger of purged payloads from now on. What is in it stays due."


def _refusal(hub: str | None, error: "grpc.RpcError") -> str:
    import grpc

    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"{hub} keeps no ledger of purged payloads: it is no Durable Task Scheduler, or has no such feature"
    return f"{hub} refused: {error.code().name} ({error.details()})"
