"""Variance between cases and within: against SciPy, against what was put in, and what it is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lorabench.statistics.intervals import TooFewCasesError, t_interval
from lorabench.statistics.pairing import NotFiniteError
from lorabench.statistics.power import power_of_t_test
from lorabench.statistics.variance_components import (
    Components,
    Estimate,
    cases_for_events,
    components,
    seeds_needed,
    smallest_margin,
    within_correlation,
)


def drawn(k: int, s: int, *, between: float, within: float, rng: np.random.Generator, rare: bool = False) -> np.ndarray:
    """Values of k cases with s seeds, shape (k, s)."""

    def noise(sd: float, shape: tuple[int, int]) -> np.ndarray:
        if not rare:
            return rng.normal(0.0, sd, shape)
        return sd * (rng.binomial(1, 0.1, shape) - 0.1) / math.sqrt(0.09)

    return noise(between, (k, 1)) + noise(within, (k, s))


def of(table: np.ndarray, *, confidence_level: float = 0.9) -> Components:
    cases = np.repeat(np.arange(len(table)), table.shape[1])
    return components(table.ravel(), cases, confidence_level=confidence_level)


def test_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    table = drawn(12, 4, between=0.3, within=0.2, rng=np.random.default_rng(3))
    found = of(table)

    assert found.within is not None
    assert found.between is not None
    within = float(np.mean(table.var(axis=1, ddof=1)))
    ratio = stats.f_oneway(*table).statistic
    assert found.within.value**2 == pytest.approx(within)
    assert found.between.value**2 == pytest.approx((ratio - 1) * within / 4)
    assert found.of_means.value == pytest.approx(table.mean(axis=1).std(ddof=1))
    assert (found.n_cases, found.n_values, found.seeds_per_case) == (12, 48, 4.0)
    assert found.mean == pytest.approx(table.mean())


def test_what_was_put_in_comes_out() -> None:
    found = of(drawn(3000, 3, between=0.3, within=0.2, rng=np.random.default_rng(4)))

    assert found.within is not None
    assert found.between is not None
    assert found.within.value == pytest.approx(0.2, rel=0.03)
    assert found.between.value == pytest.approx(0.3, rel=0.05)
    assert found.of_means_at(12).value == pytest.approx(math.hypot(0.3, 0.2 / math.sqrt(12)), rel=0.05)


@pytest.mark.parametrize("rare", [False, True], ids=["normal", "rare losses"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(rare: bool) -> None:
    rng = np.random.default_rng(5)
    truth = {"within": 0.2, "between": 0.1, "of_means": math.hypot(0.1, 0.1)}
    held = dict.fromkeys(truth, 0)
    n = 150
    for _ in range(n):
        found = of(drawn(20, 4, between=0.1, within=0.2, rng=rng, rare=rare))
        for name, value in truth.items():
            one = getattr(found, name)
            held[name] += one.low <= value <= one.high

    # 90 % asked for; with rare losses the intervals fall short, but not by as much as those that take normal values
    # for granted (0.69 for the spread within).
    least = 0.78 if rare else 0.84
    assert {name: count / n for name, count in held.items() if count / n < least} == {}


def test_unequal_numbers_of_seeds_are_weighed() -> None:
    found = components([0.0, 2.0, 1.0, 1.0, 5.0], ["a", "a", "b", "b", "c"], confidence_level=0.9)

    assert found.within is not None
    assert found.within.value == pytest.approx(1.0)  # 2 / (1 + 1 + 0)
    assert found.seeds_per_case == pytest.approx((5 - 9 / 5) / 2)


def test_one_seed_each_tells_nothing_about_seeds() -> None:
    found = components([0.0, 1.0, 2.0], ["a", "b", "c"], confidence_level=0.9)

    assert found.within is None
    assert found.between is None
    assert found.of_means_at(1) == found.of_means
    with pytest.raises(ValueError, match=r"the spread between seeds must be known for 2 seeds; .* Add seeds\."):
        found.of_means_at(2)
    with pytest.raises(ValueError, match="a case needs at least one seed, got 0"):
        found.of_means_at(0)


def test_nothing_spreads_where_all_are_equal() -> None:
    found = of(np.full((5, 3), 0.4))

    assert found.within == found.between == found.of_means == Estimate(0.0, 0.0, 0.0)
    assert found.of_means_at(7) == Estimate(0.0, 0.0, 0.0)


def test_spread_of_a_single_case_has_no_upper_end() -> None:
    table = np.zeros((6, 2))
    table[0] = (0.0, 1.0)

    found = of(table)

    assert found.within is not None
    assert found.within.value > 0
    assert math.isinf(found.within.high)


def test_two_cases_and_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(TooFewCasesError, match="interval needs at least 3 cases"):
        components([0.0, 1.0], ["a", "b"], confidence_level=0.9)
    with pytest.raises(NotFiniteError, match="differences must be finite"):
        components([0.0, math.nan, 1.0], ["a", "b", "c"], confidence_level=0.9)


def test_correlation_is_that_between_seeds_and_not_that_between_cases() -> None:
    rng = np.random.default_rng(6)
    shared, own = rng.normal(size=(400, 3)), rng.normal(size=(2, 400, 3))
    cases = 10 * rng.normal(size=(400, 1))
    arms = [
        {(f"c{i}", j): float(table[i, j]) for i in range(400) for j in range(3)}
        for table in (cases + shared + own[0], cases + shared + own[1])
    ]

    found = within_correlation(*arms, confidence_level=0.9, n_resamples=300, rng=np.random.default_rng(7))

    assert found is not None
    assert found.value == pytest.approx(0.5, abs=0.06)  # 1 of 2 parts of the variance is shared
    assert found.low < 0.5 < found.high


def test_correlation_of_what_does_not_vary_does_not_exist() -> None:
    flat = {("a", 1): 1.0, ("a", 2): 1.0}
    varied = {("a", 1): 1.0, ("a", 2): 2.0}
    settings = {"confidence_level": 0.9, "n_resamples": 10, "rng": np.random.default_rng(1)}

    assert within_correlation(flat, varied, **settings) is None
    assert within_correlation({}, varied, **settings) is None


def test_smallest_margin_has_the_power_that_was_asked_for() -> None:
    margin = smallest_margin(0.2, n_cases=15, significance_level=0.025, power=0.8)

    assert power_of_t_test(margin, 0.2, n_cases=15, significance_level=0.025) == pytest.approx(0.8, abs=1e-6)
    assert smallest_margin(0.0, n_cases=15, significance_level=0.025, power=0.8) == 0.0


def test_smallest_margin_passes_eight_of_ten_equal_candidates_by_the_rule_of_the_gates() -> None:
    rng, k, n = np.random.default_rng(8), 15, 400
    margin = smallest_margin(0.2, n_cases=k, significance_level=0.025, power=0.8)

    passed = sum(t_interval(rng.normal(0, 0.2, k), np.arange(k), confidence_level=0.95).low > -margin for _ in range(n))

    assert passed / n == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("sd", [0.0, 0.05])
def test_margin_of_events_passes_by_the_rule_of_the_gates(sd: float) -> None:
    rng, k, n = np.random.default_rng(9), 40, 300
    margin = smallest_margin(sd, n_cases=k, significance_level=0.025, power=0.8, event=True)

    passed = sum(
        t_interval(rng.normal(0, sd, k), np.arange(k), confidence_level=0.95, support=(-1.0, 1.0)).low > -margin - 1e-9
        for _ in range(n)
    )

    assert margin > smallest_margin(sd, n_cases=k, significance_level=0.025, power=0.8)
    assert passed / n >= 0.7
    assert sd == 0.0 or passed / n <= 0.9


def test_cases_for_events_are_the_fewest_that_show_the_margin() -> None:
    settings = {"significance_level": 0.025, "power": 0.8}
    n = cases_for_events(0.1, 0.2, **settings)

    assert n is not None
    assert smallest_margin(0.1, n_cases=n, event=True, **settings) <= 0.2
    assert smallest_margin(0.1, n_cases=n - 1, event=True, **settings) > 0.2
    assert cases_for_events(10.0, 0.001, **settings) is None


def test_seeds_help_only_against_the_spread_within() -> None:
    rng = np.random.default_rng(10)
    settings = {"significance_level": 0.025, "power": 0.8, "at_most": 32}
    noisy = of(drawn(40, 8, between=0.0, within=0.4, rng=rng))
    varied = of(drawn(40, 8, between=0.4, within=0.01, rng=rng))

    few = seeds_needed(noisy, 0.1, **settings)
    assert few is not None
    assert 2 <= few <= 12
    assert seeds_needed(varied, 0.1, **settings) is None
