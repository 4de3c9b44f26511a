"""Does the stopping rule stop healthy trainings as rarely, and bad ones as surely, as `docs/stopping.md` says?

The page's figures are from more trainings per line. Here are fewer, held to what a binomial count of them can be.
"""

from __future__ import annotations

from functools import cache

import pytest

from lorabench.records.config import CourseConfig
from lorabench.training.simulation import (
    AGAINST_MARGIN,
    AGAINST_ZERO,
    TWICE_OVER_MARGIN,
    Design,
    RuleOutcome,
    ScenarioOutcome,
    scenarios,
    simulate_all,
)

TOLERATED = 0.05
"""Share of whole trainings that may be stopped wrongly."""
RARE = 0.001
"""Chance that a count misses its bound though the rate is as stated."""
N_RUNS = {15: 300, 96: 150}
"""Trainings per scenario, by prompts of the suite."""
HARMLESS = (
    "nothing is wrong",
    "half a margin throughout",
    "2 margins at checkpoint 9 only",
    "3 margins at checkpoint 9 only",
)
MEASURED = {
    (15, 1.5): (0.413, None),
    (15, 2.0): (0.897, 2),
    (15, 3.0): (0.999, 1),
    (96, 1.5): (0.993, 2),
    (96, 2.0): (0.999, 1),
    (96, 3.0): (0.999, 1),
}
"""Prompts and lasting drop in margins to the share stopped by checkpoint 20, and to the median delay (None: later)."""


@cache
def outcomes(n_cases: int) -> dict[str, ScenarioOutcome]:
    design = Design(n_cases=n_cases)
    found = simulate_all(design, settings=CourseConfig(), n_runs=N_RUNS[n_cases], seed=7)
    return {one.scenario.name: one for one in found}


def most(share: float, n: int) -> int:
    """A count of n that is hardly ever exceeded at this rate."""
    from scipy.stats import binom

    return int(binom.ppf(1 - RARE, n, share))


def least(share: float, n: int) -> int:
    """A count of n that is hardly ever missed at this rate."""
    from scipy.stats import binom

    return int(binom.ppf(RARE, n, share))


def rule(outcome: ScenarioOutcome, name: str) -> RuleOutcome:
    (found,) = (one for one in outcome.rules if one.rule == name)
    return found


def test_bounds_are_worth_something() -> None:
    """At one run in a thousand the bound lies near enough to the tolerated rate to catch twice of it."""
    assert most(TOLERATED, 300) < 0.1 * 300
    assert least(0.9, 300) > 0.8 * 300


def test_the_scenarios_are_there() -> None:
    names = {one.name for one in scenarios(Design())}

    assert {*HARMLESS, "3 margins at checkpoint 9 only"} < names


@pytest.mark.parametrize("n_cases", N_RUNS)
@pytest.mark.parametrize("name", HARMLESS)
def test_healthy_trainings_and_dips_are_stopped_in_less_than_one_of_twenty(name: str, n_cases: int) -> None:
    course = outcomes(n_cases)[name].course

    assert course.right_stops is None
    assert course.n_false <= most(TOLERATED, course.n_runs)


@pytest.mark.parametrize(("n_cases", "drop"), MEASURED)
def test_lasting_drops_are_stopped_as_often_and_as_early_as_measured(n_cases: int, drop: float) -> None:
    share, median = MEASURED[n_cases, drop]
    course = outcomes(n_cases)[f"{drop:g} margins from checkpoint 9 on"].course

    assert sum(course.stops_by_delay) >= least(share, course.n_runs)
    assert course.n_false <= most(TOLERATED, course.n_runs)
    if median is not None:
        by_then = sum(course.stops_by_delay[: median + 1])
        assert by_then >= least(0.5, course.n_runs)


@pytest.mark.parametrize("name", [AGAINST_ZERO, AGAINST_MARGIN, TWICE_OVER_MARGIN])
def test_simpler_rules_would_fail_the_same_bound(name: str) -> None:
    """The fault that the rule prevents; if these met the bound, the tests above could not fail."""
    half = rule(outcomes(15)["half a margin throughout"], name)

    assert half.n_false > most(TOLERATED, half.n_runs)


def test_one_confirmation_alone_would_stop_for_a_dip() -> None:
    """The same without persistence: the dips that are rejected would all end the training."""
    eager = CourseConfig(confirmations=1, window=1)
    found = {
        one.scenario.name: one
        for one in simulate_all(Design(), settings=eager, n_runs=60, seed=7, drops=(2.0,), dips=(3.0,))
    }

    assert found["3 margins at checkpoint 9 only"].course.n_false > most(TOLERATED, 60)
