"""The statistics floor against SciPy's implementations of the same procedures."""

import numpy as np
import pytest
from scipy import stats

from lorabench.statistics.decisions import holm
from lorabench.statistics.intervals import t_interval, wilson_interval
from lorabench.statistics.power import power_of_t_test
from lorabench.statistics.resampling import two_stage_bootstrap
from lorabench.statistics.significance import mcnemar_exact, sign_flip_test

ALTERNATIVES = ("less", "greater", "two-sided")


@pytest.mark.parametrize("n_cases", [2, 3, 12, 60])
@pytest.mark.parametrize("confidence_level", [0.8, 0.9, 0.95, 0.99])
def test_t_interval(n_cases: int, confidence_level: float) -> None:
    means = np.random.default_rng(n_cases).normal(0.1, 1.0, n_cases)

    ours = t_interval(means, range(n_cases), confidence_level=confidence_level)

    theirs = stats.ttest_1samp(means, 0.0).confidence_interval(confidence_level)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert ours.p_lower == pytest.approx(stats.ttest_1samp(means, 0.0, alternative="less").pvalue)
    assert ours.p_higher == pytest.approx(stats.ttest_1samp(means, 0.0, alternative="greater").pvalue)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (1, 7), (30, 60), (60, 60), (1, 1)])
@pytest.mark.parametrize("confidence_level", [0.8, 0.95])
def test_wilson_interval(successes: int, n: int, confidence_level: float) -> None:
    ours = wilson_interval(successes, n, confidence_level=confidence_level)

    theirs = stats.binomtest(successes, n).proportion_ci(confidence_level, method="wilson")
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n_cases", [2, 5, 10])
@pytest.mark.parametrize("kind", ["graded", "quarters"])
def test_sign_flip(alternative: str, n_cases: int, kind: str) -> None:
    rng = np.random.default_rng(n_cases)
    means = rng.normal(0.3, 1, n_cases) if kind == "graded" else rng.integers(-4, 5, n_cases) / 4

    theirs = stats.permutation_test(
        (means,),
        lambda x, axis: np.round(x.sum(axis=axis), 9),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative=alternative,
    )

    ours = sign_flip_test(means, alternative=alternative).p_value
    assert ours == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_sign_flip_without_zeros_and_ties_is_wilcoxons_kin_on_ranks(alternative: str) -> None:
    """On values 1 to n with signs, the sum is the signed-rank statistic."""
    ranks = np.array([1.0, -2.0, 3.0, 4.0, -5.0, 6.0, 7.0, 8.0])

    theirs = stats.wilcoxon(ranks, alternative=alternative, method="exact").pvalue

    assert sign_flip_test(ranks, alternative=alternative).p_value == pytest.approx(theirs)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(("lost", "gained"), [(0, 1), (12, 0), (4, 9), (10, 10), (200, 150)])
def test_mcnemar(alternative: str, lost: int, gained: int) -> None:
    theirs = stats.binomtest(gained, lost + gained, 0.5, alternative=alternative).pvalue

    assert mcnemar_exact(lost, gained, alternative=alternative).p_value == pytest.approx(theirs)


@pytest.mark.parametrize(("n_cases", "distance"), [(2, 1.0), (10, 0.5), (60, 0.2), (12, -0.3)])
def test_power_of_t_test(n_cases: int, distance: float) -> None:
    critical = stats.t.isf(0.05, n_cases - 1)
    theirs = stats.nct.sf(critical, n_cases - 1, distance * np.sqrt(n_cases))

    assert power_of_t_test(distance, 1.0, n_cases=n_cases, significance_level=0.05) == pytest.approx(theirs)


def test_holm_is_closed_testing_with_bonferroni() -> None:
    """Holm rejects a hypothesis iff Bonferroni rejects every intersection that holds it."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        p_values = dict(zip("abcd", (rng.random(4) ** 5).tolist(), strict=True))
        steps = holm(p_values, 0.05)
        for name, step in steps.items():
            holding = [[m for i, m in enumerate("abcd") if bits >> i & 1] for bits in range(16)]
            closed = all(
                min(p_values[m] for m in members) <= 0.05 / len(members) for members in holding if name in members
            )
            assert step.rejected == closed


def test_bootstrap_of_single_seeds_is_a_wider_percentile_bootstrap() -> None:
    values = np.random.default_rng(2).gamma(2.0, 1.0, 25) - 2.0

    ours = two_stage_bootstrap(
        lambda data: data.mean(axis=(1, 2)),
        list(values[:, np.newaxis]),
        rng=np.random.default_rng(3),
        confidence_level=0.9,
        n_resamples=20_000,
        vectorized=True,
    )
    # Expanded percentiles: the tail of the normal at sqrt(25 / 24) t(0.05, 24).
    level = 1 - 2 * stats.norm.cdf(np.sqrt(25 / 24) * stats.t.ppf(0.05, 24))
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        method="percentile",
        confidence_level=level,
        n_resamples=20_000,
        rng=np.random.default_rng(4),
    ).confidence_interval

    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
