"""How much of a metric's spread lies between cases and how much between seeds of a case, and what that is worth.

One-way random effects: value = mean + case + seed within the case. Everything here is estimated from a pilot, hence
from few cases, so each estimate has an interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.statistics.intervals import N_UNSEEN, ROUNDING, TooFewCasesError, check_level
from lorabench.statistics.pairing import cluster_means, cluster_sizes
from lorabench.statistics.power import power_of_t_test

MIN_CASES = 3
"""Fewer leave an interval of a spread without an end."""
MOST_CASES = 100_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A positive number with the range that holds the truth with the stated confidence.

    Attributes:
        value: Best single value.
        low: Lower end, at least 0 for a standard deviation.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def of(self, function: Callable[[float], float]) -> Estimate:
        """What a function that rises with this number makes of it and of both ends."""
        return Estimate(function(self.value), function(self.low), function(self.high))


@dataclass(frozen=True, slots=True)
class Components:
    """Where the spread of a metric's values, or of paired differences, comes from.

    Attributes:
        mean: Of the case means.
        between: Standard deviation of the true case means; 0 where the cases differ no more than their seeds explain.
        within: Standard deviation between seeds of one case; None where no case has two.
        of_means: Standard deviation of the case means as they were measured, with the pilot's number of seeds.
        n_cases: Cases.
        n_values: Values.
        seeds_per_case: Mean number of values of a case, in the sense in which unequal numbers count.
    """

    mean: float
    between: Estimate | None
    within: Estimate | None
    of_means: Estimate
    n_cases: int
    n_values: int
    seeds_per_case: float

    def of_means_at(self, n_seeds: int) -> Estimate:
        """Standard deviation of case means with another number of seeds.

        between^2 + within^2 / seeds; the interval keeps the relative width that the pilot's own has, since that is what
        the number of cases allows.

        Args:
            n_seeds: Seeds of each case, at least 1.

        Raises:
            ValueError: There is no seed, or the spread between seeds is not known and the number is another one.
        """
        if n_seeds < 1:
            msg = f"a case needs at least one seed, got {n_seeds}. State the suite's number."
            raise ValueError(msg)
        if math.isclose(n_seeds, self.seeds_per_case) or self.of_means.value == 0:
            return self.of_means
        if self.within is None:
            msg = f"the spread between seeds must be known for {n_seeds} seeds; the pilot had one each. Add seeds."
            raise ValueError(msg)
        change = self.within.value**2 * (1 / n_seeds - 1 / self.seeds_per_case)
        # Never less than what the seeds alone leave: between^2 is an estimate and may come out below 0.
        value = math.sqrt(max(self.of_means.value**2 + change, self.within.value**2 / n_seeds))
        return self.of_means.of(lambda end: end * value / self.of_means.value)


def components(values: ArrayLike, clusters: ArrayLike, *, confidence_level: float) -> Components:
    """Split the spread of values into that between cases and that between seeds of a case, by analysis of variance.

    within^2 is the mean square within cases, between^2 the difference of the mean squares over the number of seeds.
    Intervals: for `of_means` and `within` from the logarithm of the variance and its jackknife over cases, which does
    not take normal values for granted (rare losses are not normal); for `between` Williams' and Tukey's.

    Args:
        values: Of a metric or paired differences, shape (n,), in the metric's unit.
        clusters: The case of each value, shape (n,).
        confidence_level: Two-sided, in (0, 1).

    Returns:
        The components.

    Raises:
        TooFewCasesError: There are fewer than 3 cases.
        NotFiniteError: A value is NaN or infinite.
        ValueError: The arrays do not have one shape, or the level is out of its range.

    References:
        R. G. Miller, Jackknifing variances, Annals of Mathematical Statistics 39 (1968), 567-582. J. S. Williams, A
        confidence interval for variance components, Biometrika 49 (1962), 278-281.
    """
    check_level("confidence_level", confidence_level)
    means, _ = cluster_means(values, clusters)  # (k,)
    k = len(means)
    if k < MIN_CASES:
        raise TooFewCasesError(k, MIN_CASES)
    sizes = cluster_sizes(clusters)  # (k,)
    n = int(sizes.sum())
    rounding = (ROUNDING * float(np.abs(means).max())) ** 2
    squares = _squares_within(np.asarray(values, dtype=np.float64), np.asarray(clusters))  # (k,)
    n0 = (n - float((sizes.astype(float) ** 2).sum()) / n) / (k - 1)
    squares = np.where(squares > rounding, squares, 0.0)
    within = between = None
    if n > k:
        within = _jackknifed(
            lambda kept: squares[kept].sum() / max((sizes[kept] - 1).sum(), 1), k, confidence_level=confidence_level
        )
        between = _between(means, sizes, squares, n0=n0, rounding=rounding, confidence_level=confidence_level)
    return Components(
        mean=float(means.mean()),
        between=between,
        within=within,
        of_means=_jackknifed(
            lambda kept: _without_rounding(float(means[kept].var(ddof=1)), rounding),
            k,
            confidence_level=confidence_level,
        ),
        n_cases=k,
        n_values=n,
        seeds_per_case=n0,
    )


def within_correlation(
    candidate: Mapping[tuple[str, int], float],
    reference: Mapping[tuple[str, int], float],
    *,
    confidence_level: float,
    n_resamples: int,
    rng: np.random.Generator,
) -> Estimate | None:
    """Correlation of two arms between seeds of one case, pooled over cases: what common noise is worth.

    Differences between cases are taken out first; they cancel in a paired difference anyway, and would make any two
    arms look alike. The variance of a difference is 1 - correlation of what it is with seeds of its own in each arm.

    Args:
        candidate: (case, seed) to value.
        reference: The same of the other arm; keys of one arm only are left out.
        confidence_level: Two-sided, in (0, 1).
        n_resamples: Of cases, for the interval.
        rng: Draws them.

    Returns:
        The correlation with its interval from a bootstrap over cases; None where no case has two pairs or one arm
        does not vary.
    """
    keys = sorted(candidate.keys() & reference.keys())
    by_case: dict[str, list[tuple[str, int]]] = {}
    for key in keys:
        by_case.setdefault(key[0], []).append(key)
    sums = []
    for of_case in by_case.values():
        first = np.array([candidate[key] for key in of_case])
        second = np.array([reference[key] for key in of_case])
        first, second = first - first.mean(), second - second.mean()
        sums.append((first @ second, first @ first, second @ second))
    table = np.array(sums)  # (k, 3): products and squares
    if not len(table) or not table[:, 1].sum() > 0 or not table[:, 2].sum() > 0:
        return None
    drawn = rng.integers(len(table), size=(n_resamples, len(table)))
    totals = table[drawn].sum(axis=1)  # (r, 3)
    totals = totals[(totals[:, 1] > 0) & (totals[:, 2] > 0)]
    if not len(totals):
        return None
    tail = (1 - confidence_level) / 2
    low, high = np.quantile(totals[:, 0] / np.sqrt(totals[:, 1] * totals[:, 2]), [tail, 1 - tail])
    product, left, right = table.sum(axis=0)
    return Estimate(float(product / math.sqrt(left * right)), float(low), float(high))


def smallest_margin(sd: float, *, n_cases: int, significance_level: float, power: float, event: bool = False) -> float:
    """Smallest margin within which a candidate that is exactly as good as the reference can be shown to lie.

    >>> round(smallest_margin(0.2, n_cases=20, significance_level=0.025, power=0.8), 3)
    0.132

    Args:
        sd: Standard deviation of the case means, in the metric's unit.
        n_cases: Cases, at least 2.
        significance_level: One-sided, in (0, 1).
        power: Probability to show it, in (0, 1).
        event: The metric counts events, with differences in -1 to 1: the decision then adds cases that were not seen
            (`t_interval` with a support), so that few cases exclude no small rate, whatever they show.

    Returns:
        The margin, in the metric's unit; 0 where nothing spreads and no event could be unseen.

    Raises:
        ValueError: A number is out of its range.
    """
    least = _unseen(sd, n_cases=n_cases, significance_level=significance_level, power=power) if event else 0.0
    if sd == 0:
        return least
    low, high = 0.0, sd
    while power_of_t_test(high, sd, n_cases=n_cases, significance_level=significance_level) < power:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        enough = power_of_t_test(middle, sd, n_cases=n_cases, significance_level=significance_level) >= power
        low, high = (low, middle) if enough else (middle, high)
    return max(high, least)


def cases_for_events(sd: float, margin: float, *, significance_level: float, power: float) -> int | None:
    """Cases with which a metric that counts events shows a margin; None where 100,000 do not.

    >>> cases_for_events(0.0, 0.1, significance_level=0.025, power=0.8)
    36

    Args:
        sd: Standard deviation of the case means.
        margin: To be shown, in the metric's unit.
        significance_level: One-sided, in (0, 1).
        power: Probability to show it, in (0, 1).
    """

    def shown(n_cases: int) -> bool:
        return (
            smallest_margin(sd, n_cases=n_cases, significance_level=significance_level, power=power, event=True)
            <= margin
        )

    low, high = 1, 2
    while not shown(high):
        low, high = high, 2 * high
        if high > MOST_CASES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def seeds_needed(
    found: Components, margin: float, *, significance_level: float, power: float, at_most: int, event: bool = False
) -> int | None:
    """Seeds per case with which this number of cases shows a margin; None where more seeds cannot.

    Args:
        found: Of paired differences.
        margin: To be shown, in the metric's unit.
        significance_level: One-sided, in (0, 1).
        power: Probability to show it, in (0, 1).
        at_most: Seeds beyond which nobody would go.
        event: As for `smallest_margin`.
    """
    for n_seeds in range(1, at_most + 1):
        sd = found.of_means_at(n_seeds).value
        level, k = significance_level, found.n_cases
        if smallest_margin(sd, n_cases=k, significance_level=level, power=power, event=event) <= margin:
            return n_seeds
    return None


def _unseen(sd: float, *, n_cases: int, significance_level: float, power: float) -> float:
    """The margin that unseen cases of the worst kind leave: those of `t_interval`, plus what the power asks for."""
    from scipy.special import stdtrit

    if sd == 0:
        return float(1 - significance_level ** (1 / n_cases))
    n = n_cases + N_UNSEEN
    squares = (n_cases - 1) * sd**2 + N_UNSEEN - N_UNSEEN**2 / n
    half = float(stdtrit(n - 1, 1 - significance_level)) * math.sqrt(squares / (n - 1) / n)
    return N_UNSEEN / n + half + NormalDist().inv_cdf(power) * sd / math.sqrt(n_cases)


def _without_rounding(variance: float, rounding: float) -> float:
    return variance if variance > rounding else 0.0


def _squares_within(values: NDArray[np.float64], clusters: NDArray[np.str_]) -> NDArray[np.float64]:
    """Sum of squared distances from the case's mean, per case in the order of `cluster_means`, shape (k,)."""
    return np.array(
        [((values[clusters == one] - values[clusters == one].mean()) ** 2).sum() for one in np.unique(clusters)]
    )


def _jackknifed(variance: Callable[[NDArray[np.bool_]], float], k: int, *, confidence_level: float) -> Estimate:
    """A standard deviation with an interval from the jackknife of its variance's logarithm over cases."""
    from scipy.stats import t

    whole = variance(np.ones(k, dtype=bool))
    if not whole > 0:
        return Estimate(0.0, 0.0, 0.0)
    without = np.array([variance(np.arange(k) != left_out) for left_out in range(k)])  # (k,)
    if not (without > 0).all():  # one case holds all of the spread
        return Estimate(math.sqrt(whole), 0.0, math.inf)
    pseudo = k * math.log(whole) - (k - 1) * np.log(without)
    half = float(t.ppf(0.5 + confidence_level / 2, k - 1)) * float(pseudo.std(ddof=1)) / math.sqrt(k)
    return Estimate(math.sqrt(whole), math.sqrt(whole) * math.exp(-half / 2), math.sqrt(whole) * math.exp(half / 2))


def _between(
    means: NDArray[np.float64],
    sizes: NDArray[np.int64],
    squares: NDArray[np.float64],
    *,
    n0: float,
    rounding: float,
    confidence_level: float,
) -> Estimate:
    from scipy.stats import chi2, f

    k, n = len(means), int(sizes.sum())
    df_between, df_within = k - 1, n - k
    grand = float((sizes * means).sum()) / n
    ms_between = _without_rounding(float((sizes * (means - grand) ** 2).sum()) / df_between, rounding)
    ms_within = float(squares.sum()) / df_within
    tail = (1 - confidence_level) / 2

    def end(quantile: float) -> float:
        excess = ms_between - ms_within * float(f.ppf(quantile, df_between, df_within))
        return math.sqrt(max(df_between * excess / (n0 * float(chi2.ppf(quantile, df_between))), 0.0))

    return Estimate(math.sqrt(max((ms_between - ms_within) / n0, 0.0)), end(1 - tail), end(tail))
