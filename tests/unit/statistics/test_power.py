import pytest

from lorabench.statistics.power import (
    cases_needed,
    cases_to_exclude,
    mcnemar_sample_size,
    minimum_detectable_effect,
    power_of_t_test,
    sample_size,
    sample_size_table,
    standard_error,
)


@pytest.mark.parametrize(
    ("distance", "significance_level", "expected"),
    [
        (0.02, 0.05, [9, 14, 20, 35]),
        (0.02, 0.0025, [17, 27, 38, 67]),
        (0.01, 0.05, [35, 54, 78, 138]),
        (0.01, 0.0025, [67, 105, 151, 268]),
    ],
)
def test_published_table_of_pairs(distance: float, significance_level: float, expected: list[int]) -> None:
    sds = [0.02, 0.025, 0.03, 0.04]

    table = sample_size_table(sds, [distance], significance_level=significance_level, power=0.9)

    assert [table[sd, distance] for sd in sds] == expected


@pytest.mark.parametrize(
    ("drop", "discordance", "pairs"),
    [(0.10, 0.15, 125), (0.10, 0.20, 168), (0.10, 0.30, 254), (0.20, 0.30, 61), (0.05, 0.20, 682)],
)
def test_published_mcnemar_sizes(drop: float, discordance: float, pairs: int) -> None:
    assert mcnemar_sample_size(drop, discordance, significance_level=0.05, power=0.9) == pairs


@pytest.mark.parametrize(("drop", "pairs"), [(0.05, (469, 626, 940)), (0.10, (115, 155, 233)), (0.15, (50, 67, 102))])
def test_published_mcnemar_sizes_two_sided_at_80_percent_power(drop: float, pairs: tuple[int, ...]) -> None:
    """The table is rounded to the nearest number, ours is rounded up."""
    found = [mcnemar_sample_size(drop, psi, significance_level=0.025, power=0.8) for psi in (0.15, 0.20, 0.30)]

    assert all(ours in (table, table + 1) for ours, table in zip(found, pairs, strict=True))


@pytest.mark.parametrize(
    ("n_cases", "n_seeds", "fixed_suite", "new_cases"),
    [(15, 2, 0.016, 0.018), (15, 4, 0.011, 0.014), (30, 4, 0.008, 0.010), (60, 4, 0.006, 0.007)],
)
def test_published_detectable_effects(n_cases: int, n_seeds: int, fixed_suite: float, new_cases: float) -> None:
    found = [
        minimum_detectable_effect(n_cases, n_seeds, seed_sd=0.03, case_sd=case_sd, significance_level=0.05, power=0.9)
        for case_sd in (0.0, 0.01)
    ]

    assert [round(effect, 3) for effect in found] == [fixed_suite, new_cases]


def test_more_cases_beat_more_seeds() -> None:
    def error(k: int, s: int) -> float:
        return standard_error(k, s, seed_sd=0.03, case_sd=0.01)

    assert error(240, 1) < error(120, 2) < error(60, 4)


def test_estimated_spread_costs_a_case_or_two() -> None:
    known = sample_size(0.03, 0.02, significance_level=0.05)

    assert cases_needed(0.03, 0.02, significance_level=0.05) == known + 1


@pytest.mark.parametrize(("sd", "distance"), [(0.03, 0.02), (0.03, 0.01), (0.3, 0.5), (1.0, 0.25)])
@pytest.mark.parametrize("significance_level", [0.05, 0.0125])
@pytest.mark.parametrize("power", [0.8, 0.9])
def test_cases_needed_give_the_power_they_promise(
    sd: float, distance: float, significance_level: float, power: float
) -> None:
    n_cases = cases_needed(sd, distance, significance_level=significance_level, power=power)

    reached = power_of_t_test(distance, sd, n_cases=n_cases, significance_level=significance_level)
    one_less = power_of_t_test(distance, sd, n_cases=n_cases - 2, significance_level=significance_level)

    assert one_less < power <= reached


def test_power_without_distance_is_the_level() -> None:
    assert power_of_t_test(0.0, 1.0, n_cases=7, significance_level=0.05) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("rate", "level", "n"), [(0.05, 0.05, 59), (0.10, 0.05, 29), (0.05, 0.025, 72), (0.5, 0.25, 3)]
)
def test_rate_is_excluded_by_the_first_number_that_does(rate: float, level: float, n: int) -> None:
    assert cases_to_exclude(rate, significance_level=level) == n
    assert (1 - rate) ** n < level <= (1 - rate) ** (n - 1)


def test_no_spread_needs_a_single_pair_but_two_cases() -> None:
    assert sample_size(0.0, 0.01, significance_level=0.05) == 1
    assert cases_needed(0.0, 0.01, significance_level=0.05) == 2


@pytest.mark.parametrize("size", [sample_size, cases_needed])
def test_impossible_numbers_are_refused(size: object) -> None:
    with pytest.raises(ValueError, match=r"distance must be positive, got 0. State it in the metric's unit"):
        size(0.03, 0, significance_level=0.05)
    with pytest.raises(ValueError, match=r"sd must not be negative, got -1. Measure it with a pilot run"):
        size(-1, 0.01, significance_level=0.05)
    with pytest.raises(ValueError, match="significance_level must lie between 0 and 1, got 5"):
        size(0.03, 0.01, significance_level=5)
    with pytest.raises(ValueError, match="power must lie between 0 and 1, got 90"):
        size(0.03, 0.01, significance_level=0.05, power=90)


@pytest.mark.parametrize(("n_cases", "n_seeds", "name"), [(0, 4, "n_cases"), (4, 0, "n_seeds")])
def test_empty_designs_are_refused(n_cases: int, n_seeds: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        standard_error(n_cases, n_seeds, seed_sd=0.03, case_sd=0.0)


@pytest.mark.parametrize("name", ["seed_sd", "case_sd"])
def test_negative_spreads_are_refused(name: str) -> None:
    sds = {"seed_sd": 0.03, "case_sd": 0.01, name: -1.0}
    with pytest.raises(ValueError, match=f"{name} must not be negative, got -1.0"):
        standard_error(4, 4, **sds)


def test_t_test_of_one_case_is_refused() -> None:
    with pytest.raises(ValueError, match=r"t-test needs at least 2 cases, got 1. Add cases"):
        power_of_t_test(0.1, 1.0, n_cases=1, significance_level=0.05)


@pytest.mark.parametrize(("drop", "discordance"), [(0.2, 0.1), (0.0, 0.1), (0.5, 1.5)])
def test_impossible_discordance_is_refused(drop: float, discordance: float) -> None:
    with pytest.raises(ValueError, match=r"0 < drop <= discordance <= 1; got .*A rate cannot fall by more than"):
        mcnemar_sample_size(drop, discordance, significance_level=0.05)


def test_rate_to_exclude_must_be_a_share() -> None:
    with pytest.raises(ValueError, match="rate must lie between 0 and 1, got 5"):
        cases_to_exclude(5, significance_level=0.05)
