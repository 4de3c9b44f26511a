"""Exact tests and limits inside metrics against SciPy and published tables."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from lorabench.metrics.foils import beats_chance
from lorabench.metrics.memorisation import (
    _tolerance_factor,
    lower_tail,
    squared_distances,
    training_distances,
    training_set,
)


@pytest.mark.parametrize(("n_won", "n", "chance"), [(7, 10, 0.5), (4, 9, 0.25), (0, 5, 0.5), (12, 12, 1 / 3)])
def test_beats_chance_is_the_binomial_test_for_equal_chances(n_won: int, n: int, chance: float) -> None:
    won = [True] * n_won + [False] * (n - n_won)

    assert beats_chance(won, [chance] * n) == pytest.approx(binomtest(n_won, n, chance, alternative="greater").pvalue)


def test_beats_chance_adds_up_outcomes_for_unequal_chances() -> None:
    assert beats_chance([True, True], [0.5, 0.25]) == pytest.approx(0.125)
    assert beats_chance([True, False], [0.5, 0.25]) == pytest.approx(1 - 0.5 * 0.75)


@pytest.mark.parametrize(("n", "factor"), [(10, 3.981), (20, 3.295), (30, 3.064)])
def test_tolerance_factor_agrees_with_published_one_sided_table(n: int, factor: float) -> None:
    assert _tolerance_factor(n) == pytest.approx(factor, abs=2e-3)


def test_kernel_tail_of_many_lognormal_ratios_is_near_the_true_percentile() -> None:
    true = math.exp(-2.326 * 0.2)
    estimates = [lower_tail(np.exp(np.random.default_rng(s).normal(0, 0.2, 60))) for s in range(40)]

    assert np.median(estimates) == pytest.approx(true, rel=0.12)
    assert np.median(estimates) <= true * 1.02, "a wider estimate must not raise the threshold"


def test_tail_of_a_hundred_is_their_first_percentile() -> None:
    values = np.linspace(0.1, 1, 101)

    assert lower_tail(values) == pytest.approx(np.quantile(values, 0.01))


def test_tolerance_limit_holds_its_confidence() -> None:
    rng = np.random.default_rng(5)
    true = math.exp(-2.326 * 0.3)
    held = [lower_tail(np.exp(rng.normal(0, 0.3, 12))) <= true for _ in range(400)]

    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_matrix_product_distances_equal_the_loop() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 0.1, (6, 4000)).astype(np.float32), rng.normal(5, 0.1, (9, 4000)).astype(np.float32)
    loop = np.array([[np.sum((x.astype(float) - y) ** 2) for y in b] for x in a])

    assert squared_distances(a, b, centre=b.mean(axis=0)) == pytest.approx(loop, rel=1e-5)


def test_near_duplicates_keep_their_digits() -> None:
    rng = np.random.default_rng(0)
    base = (5 + rng.normal(0, 0.01, (8, 20000))).astype(np.float32)
    near = base[3] + np.float32(1e-5) * rng.normal(size=20000).astype(np.float32)
    exact = float(np.sum((near.astype(float) - base[3]) ** 2))

    found = training_distances(near[None], training_set(base, base[:, ::-1].copy())).distances[0]

    assert found.min() == pytest.approx(exact, rel=1e-3)
    assert found[3] == found.min()
