"""Do intervals hold the truth as often as they say? Simulated with seeds nested in cases."""

from collections.abc import Callable

import numpy as np
import pytest

from lorabench.statistics.intervals import DifferenceInterval, rule_of_three, t_interval
from lorabench.statistics.resampling import two_stage_bootstrap

# Cases, seeds, spread between seeds, spread between cases: a paired CLIP difference on plausible suites.
DESIGNS = [(10, 4, 0.03, 0.01), (15, 4, 0.03, 0.01), (15, 8, 0.03, 0.01), (15, 8, 0.03, 0.03)]


def draw(rng: np.random.Generator, design: tuple[int, int, float, float]) -> np.ndarray:
    k, s, seed_sd, case_sd = design
    return rng.normal(0, case_sd, (k, 1)) + rng.normal(0, seed_sd, (k, s))  # (k, s)


def coverage(
    interval_of: Callable[[np.ndarray], DifferenceInterval], design: tuple[int, int, float, float], *, n_runs: int
) -> float:
    rng = np.random.default_rng(20)
    found = [interval_of(draw(rng, design)) for _ in range(n_runs)]
    return float(np.mean([interval.low <= 0 <= interval.high for interval in found]))


def by_case(pairs: np.ndarray) -> DifferenceInterval:
    return t_interval(pairs.ravel(), np.repeat(np.arange(len(pairs)), pairs.shape[1]), confidence_level=0.95)


def by_picture(pairs: np.ndarray) -> DifferenceInterval:
    return t_interval(pairs.ravel(), np.arange(pairs.size), confidence_level=0.95)


@pytest.mark.parametrize("design", DESIGNS)
def test_t_interval_on_case_means_covers_as_it_says(design: tuple[int, int, float, float]) -> None:
    assert coverage(by_case, design, n_runs=3000) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(("design", "at_most"), [(DESIGNS[2], 0.88), (DESIGNS[3], 0.70)])
def test_interval_by_picture_would_not(design: tuple[int, int, float, float], at_most: float) -> None:
    """The fault that counting cases prevents; if this one covered, the test above could not fail."""
    assert coverage(by_picture, design, n_runs=1000) < at_most


def test_copied_seeds_do_not_change_coverage() -> None:
    def copied(pairs: np.ndarray) -> DifferenceInterval:
        return by_case(np.repeat(pairs, 8, axis=1))

    assert coverage(copied, (15, 1, 0.03, 0.01), n_runs=1500) == pytest.approx(0.95, abs=0.017)


@pytest.mark.parametrize("design", [(10, 1, 0.03, 0.01), (10, 4, 0.03, 0.03), (15, 4, 0.03, 0.01)])
def test_two_stage_bootstrap_covers_at_least_as_it_says(design: tuple[int, int, float, float]) -> None:
    rng = np.random.default_rng(21)

    def resampled(pairs: np.ndarray) -> DifferenceInterval:
        return two_stage_bootstrap(
            lambda data: data.mean(axis=(1, 2)),
            list(pairs),
            rng=rng,
            confidence_level=0.95,
            n_resamples=800,
            vectorized=True,
        )

    assert coverage(resampled, design, n_runs=500) >= 0.93


def test_two_stage_bootstrap_of_a_ratio_covers_at_least_as_it_says() -> None:
    rng = np.random.default_rng(22)

    def log_ratio(data: np.ndarray) -> np.ndarray:
        totals = data.sum(axis=(1, 2))
        return np.log(totals[:, 0] / totals[:, 1])

    hits = 0
    for _ in range(400):
        arms = rng.gamma(8, 1, (12, 1, 1)) * rng.gamma(10, 0.1, (12, 1, 2)) * rng.gamma(5, 0.2, (12, 4, 2))
        interval = two_stage_bootstrap(
            log_ratio, list(arms), rng=rng, confidence_level=0.95, n_resamples=800, vectorized=True
        )
        hits += interval.low <= 0 <= interval.high

    assert hits / 400 >= 0.93


@pytest.mark.parametrize(("n", "rate"), [(12, 0.2), (60, 0.05), (300, 0.01)])
def test_rule_of_three_excludes_no_rate_that_is_often_unseen(n: int, rate: float) -> None:
    """Exact: a rate above the bound goes unseen in at most 5 % of samples."""
    bound = rule_of_three(n, confidence_level=0.95).high

    assert (1 - bound) ** n <= 0.05
    assert (bound > rate) == ((1 - rate) ** n > (1 - bound) ** n)
