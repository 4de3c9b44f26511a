import pickle

import numpy as np
import pytest

from lorabench.statistics.intervals import (
    EqualCasesError,
    TooFewCasesError,
    rule_of_three,
    t_interval,
    wilson_interval,
)

RARE = (-1.0, 1.0)


def test_interval_is_students_t_on_case_means() -> None:
    # Means 1, 2, 3: standard error 1 / sqrt(3); t(0.975, 2) = 4.302653 (tables).
    interval = t_interval([0.0, 2.0, 2.0, 3.0], ["a", "a", "b", "c"], confidence_level=0.95)

    assert interval.method == "t"
    assert interval.estimate == 2.0
    assert interval.high - interval.estimate == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert interval.estimate - interval.low == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert (interval.n_clusters, interval.n_pairs, interval.spread) == (3, 4, 1.0)


def test_interval_does_not_shrink_when_seeds_are_copied() -> None:
    differences, cases = np.array([0.0, 0.1, 0.4]), np.array([0, 1, 2])

    once = t_interval(differences, cases, confidence_level=0.95)
    many = t_interval(np.repeat(differences, 10), np.repeat(cases, 10), confidence_level=0.95)

    assert (many.low, many.high) == pytest.approx((once.low, once.high))
    assert (once.n_clusters, once.n_pairs, many.n_clusters, many.n_pairs) == (3, 3, 3, 30)


def test_one_sided_p_value_meets_its_level_where_the_interval_touches_zero() -> None:
    interval = t_interval([-1.0, -2.0, -3.0], [0, 1, 2], confidence_level=0.9)
    shifted = t_interval(np.array([-1.0, -2.0, -3.0]) - interval.high, [0, 1, 2], confidence_level=0.9)

    assert shifted.high == pytest.approx(0.0, abs=1e-12)
    assert shifted.p_lower == pytest.approx(0.05)
    assert shifted.p_higher == pytest.approx(0.95)


def test_sign_of_the_difference_only_mirrors_the_interval() -> None:
    differences = np.array([0.1, -0.3, 0.2, 0.4])
    straight = t_interval(differences, range(4), confidence_level=0.8, support=RARE)
    mirrored = t_interval(-differences, range(4), confidence_level=0.8, support=RARE)

    assert (mirrored.low, mirrored.high) == pytest.approx((-straight.high, -straight.low))
    assert (mirrored.p_lower, mirrored.p_higher) == (straight.p_higher, straight.p_lower)


def test_one_case_is_refused_however_many_its_seeds() -> None:
    with pytest.raises(
        TooFewCasesError, match=r"at least 2 cases.*found 1. Add cases to the suite; more seeds"
    ) as raised:
        t_interval([0.1, 0.2, 0.3], ["a", "a", "a"], confidence_level=0.95)

    assert (raised.value.n_clusters, raised.value.minimum) == (1, 2)


def test_differences_that_are_all_zero_are_identical() -> None:
    interval = t_interval(np.zeros(12), np.repeat(np.arange(3), 4), confidence_level=0.95)

    assert (interval.estimate, interval.low, interval.high) == (0.0, 0.0, 0.0)
    assert interval.method == "identical"
    assert (interval.p_lower, interval.p_higher) == (1.0, 1.0)


def test_events_that_were_not_seen_are_not_called_identical() -> None:
    interval = t_interval(np.zeros(12), np.arange(12), confidence_level=0.9, support=RARE)

    assert interval.method == "equal_cases"
    assert interval.high == -interval.low == pytest.approx(1 - 0.05 ** (1 / 12))
    assert (interval.p_lower, interval.p_higher) == (1.0, 1.0)


def test_every_case_lost_is_significant_and_still_has_a_width() -> None:
    interval = t_interval(-np.ones(12), np.arange(12), confidence_level=0.9, support=RARE)

    assert (interval.estimate, interval.low) == (-1.0, -1.0)
    assert interval.high == pytest.approx(-1 + 2 * (1 - 0.05 ** (1 / 12)))
    assert (interval.p_lower, interval.p_higher) == (2.0**-12, 1.0)


def test_two_lost_cases_prove_nothing() -> None:
    interval = t_interval(-np.ones(2), np.arange(2), confidence_level=0.9, support=RARE)

    assert interval.high > 0
    assert interval.p_lower == 0.25


@pytest.mark.parametrize(("amounts", "said"), [(np.full(3, -0.25), "-0.25"), (np.array([1.0, -1.0] * 3), "0")])
def test_cases_that_are_equal_but_not_identical_have_no_t_interval(amounts: np.ndarray, said: str) -> None:
    cases = np.repeat(np.arange(3), amounts.size // 3)

    with pytest.raises(EqualCasesError, match=f"all 3 differ by {said}. Give `support`") as raised:
        t_interval(amounts, cases, confidence_level=0.95)

    assert raised.value.n_clusters == 3


def test_rounding_is_no_spread() -> None:
    differences = np.array([0.3 - 0.1, 0.5 - 0.3, 0.25 - 0.05])
    assert np.ptp(differences) > 0

    with pytest.raises(EqualCasesError, match="needs cases that differ from one another"):
        t_interval(differences, range(3), confidence_level=0.95)


def test_support_only_widens() -> None:
    rng = np.random.default_rng(2)
    for n_cases in (3, 10, 40):
        differences = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.0, 0.5], size=n_cases) + np.r_[0.5, np.zeros(n_cases - 1)]
        plain = t_interval(differences, range(n_cases), confidence_level=0.9)
        bounded = t_interval(differences, range(n_cases), confidence_level=0.9, support=RARE)

        assert bounded.method == "bounded"
        assert bounded.low <= max(plain.low, -1.0)
        assert bounded.high >= min(plain.high, 1.0)
        assert -1 <= bounded.low <= bounded.estimate <= bounded.high <= 1
        assert bounded.spread == plain.spread


def test_each_end_of_a_bounded_interval_allows_for_two_unseen_cases() -> None:
    seen = [-1.0, 0.0, 0.0, 0.0, 0.0]
    bounded = t_interval(seen, range(5), confidence_level=0.9, support=(-1.0, 2.0))

    assert bounded.low == t_interval([*seen, -1.0, -1.0], range(7), confidence_level=0.9).low
    assert bounded.high == t_interval([*seen, 2.0, 2.0], range(7), confidence_level=0.9).high


def test_p_values_of_a_bounded_metric_are_exact() -> None:
    interval = t_interval([-1.0] * 5 + [0.0] * 7, range(12), confidence_level=0.9, support=RARE)

    assert interval.p_lower == 2.0**-5
    assert interval.p_higher == 1.0


@pytest.mark.parametrize("support", [(0.0, 1.0), (-1.0, 0.0), (-0.4, 1.0), (-1.0, 0.2), (1.0, -1.0)])
def test_support_that_does_not_hold_the_differences_is_refused(support: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"support must hold zero and all differences; got .* from -0.5 to 0.25"):
        t_interval([-0.5, 0.25], [0, 1], confidence_level=0.95, support=support)


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, -0.5, float("nan")])
def test_impossible_levels_are_refused(level: float) -> None:
    said = "confidence_level must lie between 0 and 1, got .*Write 5 % as 0.05"
    with pytest.raises(ValueError, match=said):
        t_interval([0.0, 1.0], [0, 1], confidence_level=level)
    with pytest.raises(ValueError, match=said):
        wilson_interval(1, 2, confidence_level=level)
    with pytest.raises(ValueError, match=said):
        rule_of_three(3, confidence_level=level)


def test_wilson_never_leaves_the_possible_rates() -> None:
    none, all_ = wilson_interval(0, 10, confidence_level=0.95), wilson_interval(10, 10, confidence_level=0.95)

    assert (none.low, all_.high) == (0.0, 1.0)
    assert none.high == pytest.approx(1 - all_.low)
    assert none.high == pytest.approx(0.2775, abs=1e-4)  # z^2 / (n + z^2)


def test_zero_copies_in_sixty_bound_the_rate_by_five_percent() -> None:
    interval = rule_of_three(60, confidence_level=0.95)

    assert (interval.low, interval.estimate) == (0.0, 0.0)
    assert interval.high == pytest.approx(3 / 60, rel=0.002)


@pytest.mark.parametrize("n", [1, 5, 60, 1000])
def test_rule_of_three_is_never_below_the_exact_bound(n: int) -> None:
    assert 1 - 0.05 ** (1 / n) <= rule_of_three(n, confidence_level=0.95).high <= 1


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"0 <= successes <= n and n >= 1; got {successes} of {n}. Count independent"):
        wilson_interval(successes, n, confidence_level=0.95)


def test_rule_of_three_needs_a_unit() -> None:
    with pytest.raises(ValueError, match=r"got 0 of 0. Count independent units"):
        rule_of_three(0, confidence_level=0.95)


@pytest.mark.parametrize("error", [TooFewCasesError(1, 2), EqualCasesError(3, -0.25)])
def test_errors_travel_between_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
