"""Intervals for a mean difference and for a rate."""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.errors import MeasurementError
from lorabench.statistics.pairing import cluster_means
from lorabench.statistics.significance import MAX_EXACT_CASES, sign_flip_test

# Case means closer together than this share of their size differ by rounding only.
ROUNDING = 1e-9
# Cases added at the end of a support. One is not enough: it lets up to 6.8 % pass at the margin where 5 % are asked
# for, and 4.5 % where 2.5 % are; two let 4.7 % and 2.4 % (10 to 260 cases, rates of 2 to 20 %).
N_UNSEEN = 2


class TooFewCasesError(MeasurementError):
    """An interval needs more cases than there are: the spread between cases is unknown.

    Attributes:
        n_clusters: Cases found.
        minimum: Cases needed.
    """

    def __init__(self, n_clusters: int, minimum: int) -> None:
        """Build the message from what was found and what is needed."""
        self.n_clusters = n_clusters
        self.minimum = minimum
        super().__init__(
            f"interval needs at least {minimum} cases, since the case is the statistical unit; found {n_clusters}. "
            "Add cases to the suite; more seeds do not help."
        )

    def __reduce__(self) -> tuple[type["TooFewCasesError"], tuple[int, int]]:
        """Travel between processes by the fields, not by the message."""
        return type(self), (self.n_clusters, self.minimum)


class EqualCasesError(MeasurementError):
    """All cases differ by the same amount, so the spread between cases cannot be estimated.

    Attributes:
        n_clusters: Cases found.
        difference: The amount by which each of them differs, in the metric's unit.
    """

    def __init__(self, n_clusters: int, difference: float) -> None:
        """Build the message from what was found."""
        self.n_clusters = n_clusters
        self.difference = difference
        super().__init__(
            f"t-interval needs cases that differ from one another; all {n_clusters} differ by {difference:g}. "
            "Give `support`, the smallest and the largest difference that the metric can take."
        )

    def __reduce__(self) -> tuple[type["EqualCasesError"], tuple[int, float]]:
        """Travel between processes by the fields, not by the message."""
        return type(self), (self.n_clusters, self.difference)


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the range that holds the truth with the stated confidence.

    Attributes:
        estimate: Best single value, in the metric's unit.
        low: Lower end.
        high: Upper end.
        n_clusters: Independent units behind it: cases.
        n_pairs: Pairs of pictures behind it; only for the reader, no width depends on it.
        confidence_level: Two-sided, in (0, 1).
        method: "t", "bounded", "equal_cases", "identical", "two_stage_bootstrap", "wilson" or "rule_of_three".
    """

    estimate: float
    low: float
    high: float
    n_clusters: int
    n_pairs: int
    confidence_level: float
    method: str


@dataclass(frozen=True, slots=True)
class DifferenceInterval(Interval):
    """An interval of a difference, with what a decision about zero needs.

    Attributes:
        p_lower: One-sided p-value against "the difference is not below zero"; small means shown to be below.
        p_higher: One-sided p-value against "the difference is not above zero"; small means shown to be above.
        spread: Standard deviation between case means, in the metric's unit; of a bootstrap, what it amounts to. None
            where it was not kept: then the width of the interval stands for it.
    """

    p_lower: float
    p_higher: float
    spread: float | None = None


def t_interval(
    differences: ArrayLike,
    clusters: ArrayLike,
    *,
    confidence_level: float,
    support: tuple[float, float] | None = None,
) -> DifferenceInterval:
    """Interval for the mean difference over all cases that a suite could have held.

    Student's t on one mean per case, with one degree of freedom less than there are cases. With 10 to 30 cases it
    holds its level where intervals by picture and percentile bootstraps are too short.

    For a yes-or-no metric give its `support`. Events are rare there, those not yet seen all lie on one side, and t
    promises too much: where one case in twenty is harmed, it calls harm of that size excluded in up to 19 % of
    suites instead of 5 %. With a support,

    - each end is the worse of t and of t with two further cases at that end of the support (method "bounded");
    - if the cases do not differ from one another, at most a share u of all cases lies elsewhere, at worst at an end
      of the support, with (1 - u)^k = (1 - confidence level) / 2 (method "equal_cases");
    - p-values come from the exact sign-flip test, with more than 15 informative cases from t. They ask about
      "as many gains as losses" and can be small before the protected interval leaves zero.

    Without a support, cases that do not differ carry no spread. If all differences are exactly zero, the interval is
    [0, 0] (method "identical"), which is right where a zero means the same picture, or a value that cannot be equal
    by chance. Otherwise there is no interval.

    >>> interval = t_interval([-0.1, -0.1, -0.3, -0.3], ["a", "a", "b", "b"], confidence_level=0.9)
    >>> interval.n_clusters, interval.n_pairs, round(interval.low, 3), round(interval.high, 3)
    (2, 4, -0.831, 0.431)

    Args:
        differences: Candidate minus reference, shape (n,), in the metric's unit.
        clusters: The case of each difference, shape (n,).
        confidence_level: Two-sided, in (0, 1).
        support: Smallest and largest difference that the metric can take, (-1, 1) for yes or no. None for graded
            metrics whose cases differ: there the protection only costs cases.

    Returns:
        The interval, raw sign.

    Raises:
        ValueError: Arrays of different shapes, an impossible level, a support that does not hold the differences.
        NoPairsError: There is no difference.
        NotFiniteError: A difference is NaN or infinite.
        TooFewCasesError: There are fewer than two cases.
        EqualCasesError: All cases differ by the same amount, not zero, and no support was given.
    """
    check_level("confidence_level", confidence_level)
    means, _ = cluster_means(differences, clusters)
    n_pairs = np.size(np.asarray(differences))
    if means.size < 2:
        raise TooFewCasesError(means.size, minimum=2)
    if support is not None:
        _check_support(support, means)
    if _differ(means):
        if support is not None:
            return _bounded(means, support, n_pairs, confidence_level=confidence_level)
        return _student(means, n_pairs, confidence_level)
    if support is not None:
        estimate = float(means.mean())
        return _equal_cases(estimate, support, means.size, n_pairs=n_pairs, confidence_level=confidence_level)
    if np.any(differences):
        raise EqualCasesError(means.size, float(means.mean()))
    return DifferenceInterval(
        estimate=0.0,
        low=0.0,
        high=0.0,
        n_clusters=means.size,
        n_pairs=n_pairs,
        confidence_level=confidence_level,
        method="identical",
        spread=0.0,
        p_lower=1.0,
        p_higher=1.0,
    )


def wilson_interval(successes: int, n: int, *, confidence_level: float) -> Interval:
    """Wilson's score interval for a rate.

    >>> interval = wilson_interval(3, 20, confidence_level=0.95)
    >>> round(interval.low, 4), round(interval.high, 4)
    (0.0524, 0.3604)

    Args:
        successes: Units in which the event was seen, 0 to n.
        n: Independent units. Pictures of one case are not independent: count cases.
        confidence_level: Two-sided, in (0, 1).

    Returns:
        The interval, in [0, 1].

    Raises:
        ValueError: Counts or level are impossible.

    References:
        E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212.
    """
    check_level("confidence_level", confidence_level)
    _check_counts(successes, n)
    z = NormalDist().inv_cdf(0.5 + confidence_level / 2)
    rate = successes / n
    centre = (rate + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(rate, low, high, n, n, confidence_level, "wilson")


def rule_of_three(n: int, *, confidence_level: float) -> Interval:
    """Upper bound on a rate of which no event was seen: 3 / n at 95 % confidence.

    The bound is one-sided: all of the error rate lies above it. It is -ln(1 - confidence level) / n, a little
    above the exact 1 - (1 - confidence level)^(1/n).

    >>> round(rule_of_three(60, confidence_level=0.95).high, 3)
    0.05

    Args:
        n: Independent units without event. Pictures of one case are not independent: count cases.
        confidence_level: One-sided here, in (0, 1).

    Returns:
        The interval [0, bound], in [0, 1].

    Raises:
        ValueError: The count or the level is impossible.
    """
    check_level("confidence_level", confidence_level)
    _check_counts(0, n)
    bound = min(1.0, -math.log1p(-confidence_level) / n)
    return Interval(0.0, 0.0, bound, n, n, confidence_level, "rule_of_three")


def check_level(name: str, level: float) -> None:
    """Refuse a level that is no share.

    Raises:
        ValueError: The level does not lie in (0, 1).
    """
    if not 0 < level < 1:
        msg = f"{name} must lie between 0 and 1, got {level}. Write 5 % as 0.05."
        raise ValueError(msg)


def _differ(means: NDArray[np.float64]) -> bool:
    return bool(np.ptp(means) > ROUNDING * np.abs(means).max())


def _student(means: NDArray[np.float64], n_pairs: int, confidence_level: float) -> DifferenceInterval:
    from scipy.special import stdtr, stdtrit

    df = means.size - 1
    estimate = float(means.mean())
    spread = float(means.std(ddof=1))
    standard_error = spread / math.sqrt(means.size)
    half = float(stdtrit(df, 0.5 + confidence_level / 2)) * standard_error
    t = estimate / standard_error
    return DifferenceInterval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        n_clusters=means.size,
        n_pairs=n_pairs,
        confidence_level=confidence_level,
        method="t",
        spread=spread,
        p_lower=float(stdtr(df, t)),
        p_higher=float(stdtr(df, -t)),
    )


def _bounded(
    means: NDArray[np.float64], support: tuple[float, float], n_pairs: int, *, confidence_level: float
) -> DifferenceInterval:
    smallest, largest = support
    as_seen = _student(means, n_pairs, confidence_level)
    worse = _student(np.append(means, [smallest] * N_UNSEEN), n_pairs, confidence_level)
    better = _student(np.append(means, [largest] * N_UNSEEN), n_pairs, confidence_level)
    p_lower, p_higher = as_seen.p_lower, as_seen.p_higher
    if np.count_nonzero(means) <= MAX_EXACT_CASES:
        p_lower = sign_flip_test(means, alternative="less").p_value
        p_higher = sign_flip_test(means, alternative="greater").p_value
    return replace(
        as_seen,
        low=max(smallest, min(as_seen.low, worse.low)),
        high=min(largest, max(as_seen.high, better.high)),
        method="bounded",
        p_lower=p_lower,
        p_higher=p_higher,
    )


def _equal_cases(
    estimate: float, support: tuple[float, float], n_cases: int, *, n_pairs: int, confidence_level: float
) -> DifferenceInterval:
    smallest, largest = support
    unseen = 1 - ((1 - confidence_level) / 2) ** (1 / n_cases)
    return DifferenceInterval(
        estimate=estimate,
        low=estimate - unseen * (estimate - smallest),
        high=estimate + unseen * (largest - estimate),
        n_clusters=n_cases,
        n_pairs=n_pairs,
        confidence_level=confidence_level,
        method="equal_cases",
        spread=0.0,
        # The sign-flip test, where all cases have one sign.
        p_lower=0.5**n_cases if estimate < 0 else 1.0,
        p_higher=0.5**n_cases if estimate > 0 else 1.0,
    )


def _check_support(support: tuple[float, float], means: NDArray[np.float64]) -> None:
    smallest, largest = support
    if not (smallest <= 0 <= largest and smallest < largest and smallest <= means.min() and means.max() <= largest):
        msg = (
            f"support must hold zero and all differences; got {support} for case means from {means.min():g} "
            f"to {means.max():g}. Give the smallest and the largest difference that the metric can take."
        )
        raise ValueError(msg)


def _check_counts(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        msg = f"a rate needs 0 <= successes <= n and n >= 1; got {successes} of {n}. Count independent units."
        raise ValueError(msg)
