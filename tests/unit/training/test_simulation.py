"""Simulated trainings: what is drawn, who decides, what is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lorabench.records.config import CourseConfig
from lorabench.records.course import Action, Decision, PolicyState
from lorabench.statistics.power import power_of_t_test
from lorabench.training import policy, simulation
from lorabench.training.simulation import (
    AGAINST_MARGIN,
    AGAINST_ZERO,
    COURSE_RULE,
    TWICE_OVER_MARGIN,
    Design,
    Noise,
    RuleOutcome,
    Scenario,
    ScenarioOutcome,
    cases_to_show,
    scenarios,
    shown_harm,
    simulate,
    simulate_all,
)

SETTINGS = CourseConfig()
QUIET = Design(n_cases=10, seed_sd=0.001, case_sd=0.0, wobble=0.0)
"""Next to no noise: what happens is what was put in."""


def simulated(
    scenario: Scenario, design: Design = QUIET, *, n_runs: int = 20, settings: CourseConfig = SETTINGS, seed: int = 5
) -> ScenarioOutcome:
    return simulate(scenario, design, settings=settings, n_runs=n_runs, rng=np.random.default_rng(seed))


def flat(harm: float, design: Design = QUIET, *, onset: int | None = None) -> Scenario:
    return Scenario("flat", (harm,) * design.n_checkpoints, onset=onset)


def within(share: float, expected: float, *, n: int) -> bool:
    """Whether a share of n lies within four standard errors of what is expected."""
    return abs(share - expected) <= 4 * np.sqrt(expected * (1 - expected) / n)


# ----------------------------------------------------------------------------------------------------- without noise


def by_name(design: Design = QUIET, **facts: Any) -> dict[str, ScenarioOutcome]:
    return {scenario.name: simulated(scenario, design) for scenario in scenarios(design, **facts)}


def test_without_noise_every_scenario_ends_as_the_rule_says() -> None:
    found = by_name(dips=(2.0, 5.0), drops=(1.5, 5.0))
    delays = {name: one.course.delay(1.0) for name, one in found.items()}
    false = {name: one.course.false_stops.estimate for name, one in found.items()}

    assert delays == {
        "nothing is wrong": None,
        "half a margin throughout": None,
        "2 margins at checkpoint 9 only": None,
        "5 margins at checkpoint 9 only": None,
        "1.5 margins from checkpoint 9 on": 1,
        "5 margins from checkpoint 9 on": 0,
        "drift, 1 margin at checkpoint 9": 1,
    }
    assert {name: share for name, share in false.items() if share} == {"5 margins at checkpoint 9 only": 1.0}
    assert found["2 margins at checkpoint 9 only"].n_rejected == 20
    assert found["nothing is wrong"].rejected is None


def test_confirmations_are_counted_as_extra_pictures() -> None:
    half = flat(0.5)

    assert simulated(half).extra_pictures == 0
    assert simulated(half, settings=CourseConfig(alarm_share=0.4)).extra_pictures == 4
    assert simulated(half, settings=CourseConfig(alarm_share=0.4, confirmation_factor=2)).extra_pictures == 2


def test_nothing_is_looked_at_after_a_stop() -> None:
    """Checkpoints 1 to 8 are healthy, 9 and 10 are confirmed: two confirmations in ten looks."""
    drop = Scenario("drop", (0.0,) * 8 + (2.0,) * 12, onset=8)

    assert simulated(drop).extra_pictures == pytest.approx(4 * 2 / 10)


def test_harm_lies_in_the_first_guard_and_any_guard_can_stop() -> None:
    alone = simulated(flat(2.0, onset=0), replace(QUIET, n_gates=1))
    among = simulated(flat(2.0, onset=0), replace(QUIET, n_gates=4))

    assert alone.course.delay(1.0) == among.course.delay(1.0) == 1


def test_other_rules_are_carried_along_on_the_same_screens() -> None:
    drop = Scenario("drop", (0.5,) * 8 + (2.0,) * 12, onset=8)

    outcome = simulated(drop)
    found = {one.rule: (one.n_false, one.delay(1.0)) for one in outcome.rules}

    assert [one.rule for one in outcome.rules] == list(simulation.RULES)
    assert found[COURSE_RULE] == (0, 1)
    assert found[AGAINST_MARGIN] == (0, 0)
    assert found[TWICE_OVER_MARGIN] == (0, 1)
    assert found[AGAINST_ZERO] == (20, None)


# -------------------------------------------------------------------------------------------------------- who decides


def test_the_policy_decides_and_not_a_copy_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_at_three(*, training_step: int, state: PolicyState, **_: Any) -> tuple[Decision, PolicyState]:
        action = Action.STOP if training_step == 3 else Action.CONTINUE
        return Decision(action=action, sentence="", training_step=training_step), state

    monkeypatch.setattr(policy, "conclude", stop_at_three)

    assert simulated(flat(2.0, onset=1)).course.stops_by_delay[:4] == (0, 0, 20, 0)


def test_settings_of_the_course_matter() -> None:
    drop = flat(2.0, onset=0)

    assert simulated(drop, settings=CourseConfig(confirmations=1)).course.delay(1.0) == 0
    assert simulated(drop, settings=CourseConfig(confirmations=4, window=4)).course.delay(1.0) == 3


def test_settings_that_only_want_advice_are_simulated_as_if_they_stopped() -> None:
    assert simulated(flat(2.0, onset=0), settings=CourseConfig(stop=False)).course.delay(1.0) == 1


# ------------------------------------------------------------------------------------------------- known error rates


def test_one_confirmation_has_the_power_of_its_t_test() -> None:
    design = Design(n_cases=12, n_seeds=2, case_sd=0.08, wobble=0.0, n_checkpoints=1, n_gates=1, onset=1)
    always = CourseConfig(confirmations=1, window=1, alarm_share=1e-9, catastrophe_margins=50)
    sd = float(np.hypot(design.case_sd, design.seed_sd / np.sqrt(2 * always.confirmation_factor)))
    expected = power_of_t_test(0.1, sd, n_cases=12, significance_level=always.confirmation_level)

    outcome = simulated(flat(2.0, design, onset=0), design, n_runs=2000, settings=always)

    stopped = outcome.course.right_stops
    assert stopped is not None
    assert 0.6 < expected < 0.95
    assert within(stopped.estimate, expected, n=2000)


def test_testing_against_zero_at_each_of_twenty_looks_stops_two_healthy_trainings_in_three() -> None:
    """1 - 0.95^20 = 0.64 with independent looks: a known figure that the simulation must meet."""
    design = Design(case_sd=0.0, wobble=0.0, n_gates=1)

    rules = simulated(flat(0.0, design), design, n_runs=500).rules

    (against_zero,) = (one for one in rules if one.rule == AGAINST_ZERO)
    assert within(against_zero.false_stops.estimate, 1 - 0.95**20, n=500)


def test_cases_are_drawn_once_per_training() -> None:
    """Were they drawn anew at each look, their spread would average out over looks."""
    design = Design(n_cases=4, seed_sd=1e-6, case_sd=0.1, wobble=0.0, n_gates=1)
    twice = {one.rule: one for one in simulated(flat(1.0, design), design, n_runs=200).rules}[TWICE_OVER_MARGIN]

    assert within(twice.false_stops.estimate, 0.5, n=200)


@pytest.mark.parametrize("noise", Noise)
def test_noise_of_every_shape_has_the_spread_that_is_stated(noise: Noise) -> None:
    rng = np.random.default_rng(0)

    drawn = simulation._spread(rng, noise, sd=0.3, shape=(200_000,), n=4)

    assert drawn.mean() == pytest.approx(0.0, abs=0.002)
    assert drawn.std() == pytest.approx(0.15, rel=0.02)
    skewness = ((drawn - drawn.mean()) ** 3).mean() / drawn.std() ** 3
    expected = {Noise.NORMAL: 0.0, Noise.RARE_LOSSES: 4.13 / 2, Noise.RARE_GAINS: -4.13 / 2}
    assert skewness == pytest.approx(expected[noise], abs=0.06)


def test_cases_without_any_spread_are_judged_by_the_side_they_lie_on() -> None:
    design = Design(n_cases=2, n_seeds=1, case_sd=0.0, n_gates=1, noise=Noise.RARE_LOSSES)

    worse, fine = (simulated(flat(harm, design, onset=0), design, n_runs=50) for harm in (4.0, 0.0))

    assert worse.course.delay(0.5) is not None
    assert fine.course.delay(0.5) is None


# ------------------------------------------------------------------------------------------------------------ seeds


def test_equal_seeds_give_equal_numbers_and_others_do_not() -> None:
    design = Design(n_checkpoints=8, onset=3)
    drop = flat(1.5, design, onset=0)
    first, again, other = (simulated(drop, design, n_runs=50, seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_a_scenario_does_not_depend_on_its_companions() -> None:
    design = Design(n_checkpoints=5, onset=2)

    def run(*drops: float) -> dict[str, ScenarioOutcome]:
        found = simulate_all(design, settings=SETTINGS, n_runs=30, seed=3, drops=drops, dips=(2.0,))
        return {one.scenario.name: one for one in found}

    alone, among = run(2.0), run(1.5, 2.0, 3.0)

    assert len(among) == len(alone) + 2
    assert all(among[name] == one for name, one in alone.items())


# ------------------------------------------------------------------------------------------------------ what is told


def test_delay_is_counted_over_all_trainings_that_were_not_stopped_too_early() -> None:
    outcome = RuleOutcome(COURSE_RULE, n_runs=110, n_false=10, stops_by_delay=(0, 50, 0, 30, 0))

    assert [outcome.delay(share) for share in (0.1, 0.5, 0.51, 0.8, 0.81)] == [1, 1, 3, 3, None]
    assert outcome.false_stops.estimate == pytest.approx(10 / 110)
    assert outcome.right_stops is not None
    assert outcome.right_stops.estimate == pytest.approx(80 / 110)


def test_where_no_stop_is_right_there_is_neither_share_nor_delay() -> None:
    outcome = RuleOutcome(COURSE_RULE, n_runs=100, n_false=0, stops_by_delay=())

    assert outcome.right_stops is None
    assert outcome.delay(0.5) is None
    assert 0.03 < outcome.false_stops.high < 0.04


def test_drift_has_no_right_stop_where_it_only_reaches_the_margin_at_the_end() -> None:
    *_, drift = scenarios(Design(n_checkpoints=9, onset=9))

    assert drift.onset is None
    assert drift.harm[-1] == 1.0


def test_harm_that_a_look_shows_lies_beyond_the_margin_and_falls_with_cases_and_seeds() -> None:
    at = {"n_seeds": 8, "significance_level": 0.05}
    few, many = (shown_harm(Design(n_cases=n), **at) for n in (15, 60))

    assert few == pytest.approx(0.1 + (1.6449 + 1.2816) * np.sqrt(0.1**2 / 15 + 0.3**2 / 120), abs=1e-4)
    assert few - 0.1 == pytest.approx(2 * (many - 0.1))
    assert shown_harm(Design(), n_seeds=2, significance_level=0.05) > few


def test_cases_to_show_a_drop_do_show_it() -> None:
    design = Design()
    n = cases_to_show(2.0, design, n_seeds=8, significance_level=0.05)
    sd = float(np.hypot(design.case_sd, design.seed_sd / np.sqrt(8)))

    powers = [power_of_t_test(0.1, sd, n_cases=k, significance_level=0.05) for k in (n - 1, n)]
    assert powers[0] < 0.9 <= powers[1]


# --------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"n_cases": 1}, "a design needs 2 cases and at least one seed"),
        ({"n_gates": 0}, "a design needs 2 cases and at least one seed"),
        ({"seed_sd": 0.0}, "seed_sd and margin must be positive"),
        ({"wobble": -0.1}, "case_sd and wobble not negative"),
        ({"onset": 0}, "onset must be one of the 20 checkpoints"),
        ({"onset": 21}, "onset must be one of the 20 checkpoints"),
    ],
)
def test_design_that_cannot_be_simulated_is_refused(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Design(**facts)


@pytest.mark.parametrize("facts", [{"drops": (0.9,)}, {"dips": (0.0,)}, {"drops": (float("nan"),)}])
def test_harm_that_is_none_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="drops must be at least 1 margin and dips positive"):
        scenarios(QUIET, **facts)


@pytest.mark.parametrize(("scenario", "n_runs"), [(Scenario("short", (0.0,)), 10), (flat(0.0), 0)])
def test_scenario_of_another_design_and_no_run_are_refused(scenario: Scenario, n_runs: int) -> None:
    with pytest.raises(ValueError, match="needs at least one run and one harm per checkpoint"):
        simulated(scenario, n_runs=n_runs)
