"""What `make mutants` mutates, and which tests have to notice. In the order of danger to users' data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.mutation.mutants import mutants_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.mutation.mutants import Mutant

ROOT: Final = Path(__file__).parents[2]
_RUNTIME: Final = "runtime/durabletask_payloads"
_WALKERS: Final = "generated/durabletask_payloads_walkers"


class Target(NamedTuple):
    """Modules that are mutated, and the tests that are run.

    Attributes:
        modules: paths from the root of the repository.
        tests: files, or ids of pytest.
        chosen: an expression for `pytest -k`: some tests take too long.
        functions: only those of the modules; all if empty.
        texts: whether the text of constants is mutated too.
    """

    modules: tuple[str, ...]
    tests: tuple[str, ...]
    chosen: str = ""
    functions: tuple[str, ...] = ()
    texts: bool = False

    def mutants(self) -> Iterator[Mutant]:
        for module in self.modules:
            for mutant in mutants_of(ROOT / module, module, texts=self.texts):
                if not self.functions or mutant.key.function in self.functions:
                    yield mutant


_EXTERNALIZER: Final = (
    "tests/externalizer/test_boundaries.py",
    "tests/externalizer/test_planning.py",
    "tests/externalizer/test_externalizer.py",
    "tests/externalizer/test_walkers.py",
    "tests/externalizer/test_unreadable.py",
    "tests/externalizer/test_strange_stores.py",
)

# What walkers.py.j2 has: a payload (the first), a diagnostic and a message in itself (the second), a oneof (the third),
# a repeated message, and several of them (the last two; with `rules_out`).
_SAMPLE: Final = (
    "activity_request",
    "task_failure_details",
    "history_event",
    "entity_batch_request",
    "orchestrator_request",
)

TARGETS: Final = {
    "plan": Target(
        tuple(f"{_RUNTIME}/externalizer/{name}.py" for name in ("_plan", "_planning", "_sizing")),
        _EXTERNALIZER,
    ),
    "commit": Target(
        tuple(f"{_RUNTIME}/externalizer/{name}.py" for name in ("_placing", "_receipt", "_externalizer")),
        (
            *_EXTERNALIZER,
            "tests/externalizer/test_commit.py",
            "tests/externalizer/test_async_shell.py",
            "tests/observers/test_observers.py",
        ),
    ),
    "purge": Target(
        (f"{_RUNTIME}/purge/_outcomes.py", f"{_RUNTIME}/purge/_purger.py"), ("tests/purge/test_decisions.py",)
    ),
    "sweep": Target(
        (f"{_RUNTIME}/operations/_sweep.py",),
        (
            "tests/operations/test_sweep_decisions.py",
            *(
                f"tests/operations/test_sweep.py::{test}"
                for test in (
                    "test_nothing_is_deleted_where_the_hub_fails",
                    "test_by_age_without_a_hub",
                    "test_what_is_deleted",
                    "test_an_instance_that_may_have_a_message_to_come",
                    "test_a_payload_of_an_unknown_instance",
                    "test_the_right_to_write_is_needed_to_delete_only",
                    "test_a_dry_run_deletes_nothing_and_estimates",
                )
            ),
        ),
    ),
    "verdict": Target((f"{_RUNTIME}/interceptors/_verdict.py",), ("tests/interceptors/test_verdict.py",)),
    "tokens": Target(
        (f"{_RUNTIME}/stores/_tokens.py",),
        ("tests/stores/test_tokens.py", "tests/stores/test_token_grammar.py"),
        chosen="not costs_nothing and not linear_time",  # they measure
        texts=True,
    ),
    "codec": Target((f"{_RUNTIME}/stores/_codec.py",), ("tests/stores/test_codec.py",)),
    "registry": Target(
        (f"{_RUNTIME}/interceptors/worker/_registry.py", f"{_RUNTIME}/interceptors/worker/_arrival.py"),
        (
            "tests/interceptors/worker/test_registry.py",
            "tests/interceptors/worker/test_arrival.py",
            "tests/interceptors/test_verdict.py",
        ),
    ),
    "walkers": Target(
        (f"{_WALKERS}/externalize.py", f"{_WALKERS}/deexternalize.py"),
        ("tests/generated/test_completeness.py",),
        functions=tuple(f"{verb}_{message}" for verb in ("externalize", "deexternalize") for message in _SAMPLE),
    ),
}
