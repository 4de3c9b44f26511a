"""Tests of "no difference" that assume nothing about the distribution."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.statistics.pairing import NoPairsError, NotFiniteError, cluster_means

Alternative = Literal["less", "greater", "two-sided"]

MAX_EXACT_CASES = 15
# Sums of the same numbers in another order differ by rounding only; such ties count as ties.
TIE = 1e-12


@dataclass(frozen=True, slots=True)
class SignificanceTest:
    """The outcome of a test of "no difference".

    Attributes:
        estimate: Mean of the case means, or gained minus lost over all discordant units.
        p_value: Probability of a result at least as extreme if there were no difference, in (0, 1].
        n_informative: Units that could speak: cases with a non-zero mean, or discordant units.
        exact: True if every outcome was enumerated, False if outcomes were drawn.
    """

    estimate: float
    p_value: float
    n_informative: int
    exact: bool


def sign_flip_test(
    case_means: ArrayLike,
    *,
    alternative: Alternative,
    rng: np.random.Generator | None = None,
    n_resamples: int = 9999,
) -> SignificanceTest:
    """Test that the case means are spread evenly about zero.

    If nothing changed, each case mean could as well have had the other sign. All 2^k sign patterns are enumerated
    for up to 15 cases that are not zero; above that, patterns are drawn and the one seen is counted with them, so
    that the test keeps its level. Zeros say nothing and change nothing.

    >>> sign_flip_test([-1.0, -1.0, -1.0, 0.0], alternative="two-sided").p_value
    0.25

    Args:
        case_means: One mean difference per case, shape (k,).
        alternative: "less" means shown to be below zero.
        rng: Source of the patterns; needed above 15 informative cases only.
        n_resamples: Patterns to draw above 15 informative cases.

    Returns:
        The test. Its p-value is 1 where all means are zero.

    Raises:
        ValueError: Not of shape (k,), or no `rng` where one is needed.
        NoPairsError: There is no case.
        NotFiniteError: A mean is NaN or infinite.
    """
    means = _validated_means(case_means)
    informative = means[means != 0]
    if informative.size <= MAX_EXACT_CASES:
        sums = _all_signs(informative.size) @ informative  # (2^k,)
        p_value = float(_as_extreme(sums, informative, alternative).mean())
        return SignificanceTest(float(means.mean()), p_value, informative.size, exact=True)
    if rng is None:
        msg = (
            f"sign-flip test enumerates up to {MAX_EXACT_CASES} informative cases; found {informative.size}. "
            "Pass rng to draw patterns instead."
        )
        raise ValueError(msg)
    signs = rng.choice(np.array([-1.0, 1.0]), size=(n_resamples, informative.size))
    n_extreme = int(_as_extreme(signs @ informative, informative, alternative).sum())
    p_value = (1 + n_extreme) / (1 + n_resamples)
    return SignificanceTest(float(means.mean()), p_value, informative.size, exact=False)


def mcnemar_exact(n_lost: int, n_gained: int, *, alternative: Alternative) -> SignificanceTest:
    """Exact McNemar test on discordant pairs, for one pair per case only.

    With several seeds per case the pairs are not independent and the test claims far too much: 3 of 20 cases lost
    on all four seeds give p = 0.0005 here and 0.25 by case. Use `clustered_binary_test` there.

    >>> round(mcnemar_exact(12, 0, alternative="two-sided").p_value, 4)
    0.0005

    Args:
        n_lost: Pairs where the reference has the property and the candidate has not.
        n_gained: Pairs where the candidate has it and the reference has not.
        alternative: "less" means that the candidate has the property less often.

    Returns:
        The test. Its p-value is 1 without discordant pairs.

    Raises:
        ValueError: A count is negative.
    """
    if n_lost < 0 or n_gained < 0:
        msg = f"discordant counts must not be negative, got {n_lost} lost and {n_gained} gained. Count pairs."
        raise ValueError(msg)
    n = n_lost + n_gained
    at_most_gained = _binomial_tail(n_gained, n)
    at_most_lost = _binomial_tail(n_lost, n)
    p_value = {
        "less": at_most_gained,
        "greater": at_most_lost,
        "two-sided": min(1.0, 2 * min(at_most_gained, at_most_lost)),
    }[alternative]
    return SignificanceTest((n_gained - n_lost) / n if n else 0.0, p_value, n, exact=True)


def clustered_binary_test(
    candidate: ArrayLike,
    reference: ArrayLike,
    clusters: ArrayLike,
    *,
    alternative: Alternative,
    rng: np.random.Generator | None = None,
) -> SignificanceTest:
    """Compare a yes-or-no property of paired pictures by case.

    Args:
        candidate: Whether the candidate's picture has the property, shape (n,), booleans or 0 and 1.
        reference: The same of the reference's picture, shape (n,).
        clusters: The case of each pair, shape (n,).
        alternative: "less" means that the candidate has the property less often.
        rng: Source of sign patterns; needed above 15 informative cases only.

    Returns:
        The sign-flip test on the mean difference of each case; `estimate` is a difference of rates.

    Raises:
        ValueError: Values other than 0 and 1, arrays of different shapes, or no `rng` where one is needed.
        NoPairsError: There is no pair.
    """
    yes_candidate, yes_reference = _binary("candidate", candidate), _binary("reference", reference)
    if yes_candidate.shape != yes_reference.shape:
        msg = (
            f"candidate and reference must be paired; got shapes {yes_candidate.shape} and {yes_reference.shape}. "
            "Give both arms one value per pair."
        )
        raise ValueError(msg)
    means, _ = cluster_means(yes_candidate - yes_reference, clusters)
    return sign_flip_test(means, alternative=alternative, rng=rng)


def _validated_means(case_means: ArrayLike) -> NDArray[np.float64]:
    means = np.asarray(case_means, dtype=np.float64)
    if means.ndim != 1:
        msg = f"case means must have shape (k,), got {means.shape}. Average the pairs of each case first."
        raise ValueError(msg)
    if means.size == 0:
        raise NoPairsError
    finite = np.isfinite(means)
    if not finite.all():
        raise NotFiniteError(tuple(f"number {i}" for i in np.flatnonzero(~finite)), means.size)
    return means


def _all_signs(n: int) -> NDArray[np.float64]:
    patterns = np.arange(2**n)[:, np.newaxis] >> np.arange(n) & 1  # (2^n, n)
    return np.where(patterns == 0, 1.0, -1.0)


def _as_extreme(
    sums: NDArray[np.float64], informative: NDArray[np.float64], alternative: Alternative
) -> NDArray[np.bool_]:
    observed = float(informative.sum())
    tie = TIE * float(np.abs(informative).sum())
    if alternative == "less":
        return np.less_equal(sums, observed + tie)
    if alternative == "greater":
        return np.greater_equal(sums, observed - tie)
    return np.greater_equal(np.abs(sums), abs(observed) - tie)


def _binomial_tail(successes: int, n: int) -> float:
    """Probability of at most so many successes in n fair tosses."""
    favourable = sum(math.comb(n, i) for i in range(successes + 1))
    return float(favourable / 2**n)


def _binary(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not np.isin(array, (0.0, 1.0)).all():
        other = array[~np.isin(array, (0.0, 1.0))][0]
        msg = f"{name} must hold 0 and 1 only, found {other:g}. Use t_interval for graded scores."
        raise ValueError(msg)
    return array
