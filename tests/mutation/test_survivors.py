"""survivors.toml explains mutants that are still there. Whether they survive, `make mutants` says."""

from __future__ import annotations

import pytest
from tests.mutation.mutants import Key
from tests.mutation.survivors import FILE, SurvivorsError, explained, stale
from tests.mutation.targets import ROOT, TARGETS

ENTRY = """
[[survivor]]
module = "a.py"
function = "f"
line = "return x + 1"
mutations = ["x + 1 -> x - 1", "return None"]
why = "nobody reads it"
"""


def test_each_explained_mutant_is_still_there() -> None:
    entries = explained(FILE.read_text(encoding="utf-8"))
    there = [mutant.key for target in TARGETS.values() for mutant in target.mutants()]
    assert not stale(entries, there), f"remove these from {FILE.name}: their code has gone"


def test_modules_functions_and_tests_of_targets_are_there() -> None:
    for name, target in TARGETS.items():
        keys = [mutant.key for mutant in target.mutants()]
        assert {key.module for key in keys} == set(target.modules), name
        assert set(target.functions) <= {key.function for key in keys}, name
        assert all((ROOT / test.partition("::")[0]).exists() for test in target.tests), name


def test_an_entry_names_one_mutant_or_several() -> None:
    entries = explained(ENTRY)
    keys = [Key("a.py", "f", "return x + 1", change) for change in ("x + 1 -> x - 1", "return None")]
    assert entries == dict.fromkeys(keys, "nobody reads it")
    assert stale(entries, keys[:1]) == keys[1:]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('why = "nobody reads it"', ""),
        ('why = "nobody reads it"', 'why = " "'),
        ('function = "f"', ""),
        ('function = "f"', 'function = "f"\nmore = "g"'),
        ('mutations = ["x + 1 -> x - 1", "return None"]', 'mutations = "return None"'),
        ('mutations = ["x + 1 -> x - 1", "return None"]', "mutations = []"),
        ('["x + 1 -> x - 1", "return None"]', '["return None", "return None"]'),
        ("[[survivor]]", "[[explained]]"),
        ("[[survivor]]", "[survivor]"),
    ],
)
def test_an_entry_that_is_none(before: str, after: str) -> None:
    assert before in ENTRY
    with pytest.raises(SurvivorsError):
        explained(ENTRY.replace(before, after))
