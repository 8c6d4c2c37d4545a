"""Each scenario under some hundred schedules. `python -m tests.interleavings --seeds 100000` runs more."""

from __future__ import annotations

import pytest
from tests.interleavings.explore import SCENARIOS, explore
from tests.interleavings.planted import PLANTED, planted
from tests.interleavings.scheduler import ScheduleError

SEEDS = 60  # of each scenario


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_schedule_ends_well(name: str) -> None:
    figures = explore(name, range(SEEDS))
    assert figures.seeds == SEEDS
    assert figures.switches > 20 * SEEDS


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_race_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ScheduleError, match="repeats it") as caught:
        planted(name, range(SEEDS), monkeypatch)
    assert PLANTED[name].finding in str(caught.value)
