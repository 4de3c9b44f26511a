"""Intervals for a mean difference and for a rate."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.errors import MeasurementError
from lorabench.statistics.pairing import cluster_means

# Case means closer together than this share of their scale differ by rounding only.
ROUNDING = 1e-9


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
        method: "t", "identical", "equal_cases", "two_stage_bootstrap", "wilson" or "rule_of_three".
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
    """

    p_lower: float
    p_higher: float


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

    Cases that do not differ from one another carry no spread to build a t-interval on:

    - all differences exactly zero and no `support`: method "identical", an interval of width 0. This is right where
      a zero means the same picture, or a value that cannot be equal by chance.
    - otherwise, with `support`: method "equal_cases". At the confidence asked for, at most a share u of further
      cases, (1 - u)^k = significance level, lies elsewhere, at worst at the ends of the support. This is right for
      yes-or-no metrics, where zero means "not seen in k cases".

    >>> interval = t_interval([-0.1, -0.1, -0.3, -0.3], ["a", "a", "b", "b"], confidence_level=0.9)
    >>> interval.n_clusters, interval.n_pairs, round(interval.low, 3), round(interval.high, 3)
    (2, 4, -0.831, 0.431)

    Args:
        differences: Candidate minus reference, shape (n,), in the metric's unit.
        clusters: The case of each difference, shape (n,).
        confidence_level: Two-sided, in (0, 1).
        support: Smallest and largest difference that the metric can take; (-1, 1) for a yes-or-no metric.

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
    scale = np.abs(means).max() if support is None else support[1] - support[0]
    if np.ptp(means) > ROUNDING * scale:
        return _student(means, n_pairs, confidence_level)
    estimate = float(means.mean())
    if support is not None:
        return _equal_cases(estimate, support, means.size, n_pairs=n_pairs, confidence_level=confidence_level)
    if not np.any(differences):
        return DifferenceInterval(0.0, 0.0, 0.0, means.size, n_pairs, confidence_level, "identical", 1.0, 1.0)
    raise EqualCasesError(means.size, estimate)


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


def _student(means: NDArray[np.float64], n_pairs: int, confidence_level: float) -> DifferenceInterval:
    from scipy.special import stdtr, stdtrit

    df = means.size - 1
    estimate = float(means.mean())
    standard_error = float(means.std(ddof=1)) / math.sqrt(means.size)
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
        p_lower=float(stdtr(df, t)),
        p_higher=float(stdtr(df, -t)),
    )


def _equal_cases(
    estimate: float, support: tuple[float, float], n_cases: int, *, n_pairs: int, confidence_level: float
) -> DifferenceInterval:
    smallest, largest = support
    elsewhere = 1 - ((1 - confidence_level) / 2) ** (1 / n_cases)
    below, above = estimate - smallest, largest - estimate
    return DifferenceInterval(
        estimate=estimate,
        low=estimate - elsewhere * below,
        high=estimate + elsewhere * above,
        n_clusters=n_cases,
        n_pairs=n_pairs,
        confidence_level=confidence_level,
        method="equal_cases",
        # The levels at which one end of the interval would just touch zero.
        p_lower=(largest / above) ** n_cases if estimate < 0 else 1.0,
        p_higher=(-smallest / below) ** n_cases if estimate > 0 else 1.0,
    )


def _check_support(support: tuple[float, float], means: NDArray[np.float64]) -> None:
    smallest, largest = support
    if not (smallest < 0 < largest and smallest <= means.min() and means.max() <= largest):
        msg = (
            f"support must hold zero and all differences; got {support} for case means from {means.min():g} "
            f"to {means.max():g}. Give the smallest and the largest difference that the metric can take."
        )
        raise ValueError(msg)


def _check_counts(successes: int, n: int) -> None:
    if n < 1 or not 0 <= successes <= n:
        msg = f"a rate needs 0 <= successes <= n and n >= 1; got {successes} of {n}. Count independent units."
        raise ValueError(msg)
