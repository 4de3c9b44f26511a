"""How many cases a decision needs, and what a number of cases can show."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from lorabench.statistics.intervals import check_level

DEFAULT_POWER = 0.9
# From here on the approximate number of cases is right to a part in a thousand.
N_LARGE = 1000


def sample_size(sd: float, distance: float, *, significance_level: float, power: float = DEFAULT_POWER) -> int:
    """Independent pairs needed to see a distance: ((z_level + z_power) sd / distance)^2, rounded up.

    The distance is the one between the true difference and what it is tested against. A drop of 0.02 with a
    margin of 0.01 is a distance of 0.01 from the margin.

    >>> sample_size(0.03, 0.02, significance_level=0.05)
    20

    Args:
        sd: Standard deviation of a paired difference, in the metric's unit. For cases: of their means.
        distance: Positive, in the metric's unit.
        significance_level: One-sided, in (0, 1).
        power: Probability to see it, in (0, 1).

    Returns:
        The number of pairs, at least 1.

    Raises:
        ValueError: A number is out of its range.
    """
    _check_positive("distance", distance)
    _check_not_negative("sd", sd)
    return max(1, math.ceil((_z_sum(significance_level, power) * sd / distance) ** 2))


def cases_needed(sd: float, distance: float, *, significance_level: float, power: float = DEFAULT_POWER) -> int:
    """Cases needed by a t-test on case means, whose spread has to be estimated too.

    Starts at `sample_size` plus z_level^2 / 2 and adds cases while their exact power falls short.

    >>> cases_needed(0.03, 0.02, significance_level=0.05)
    21

    Args:
        sd: Standard deviation of the case means, in the metric's unit.
        distance: Distance of the true difference from what it is tested against; positive, in the metric's unit.
        significance_level: One-sided, in (0, 1).
        power: Probability to see it, in (0, 1).

    Returns:
        The number of cases, at least 2.

    Raises:
        ValueError: A number is out of its range.

    References:
        W. C. Guenther, Sample size formulas for normal theory t tests, The American Statistician 35 (1981), 243-244.
    """
    _check_positive("distance", distance)
    _check_not_negative("sd", sd)
    known_sd = (_z_sum(significance_level, power) * sd / distance) ** 2
    n_cases = max(2, math.ceil(known_sd + NormalDist().inv_cdf(1 - significance_level) ** 2 / 2))
    if sd == 0:
        return n_cases
    while n_cases < N_LARGE and (
        power_of_t_test(distance, sd, n_cases=n_cases, significance_level=significance_level) < power
    ):
        n_cases += 1
    return n_cases


def cases_to_exclude(rate: float, *, significance_level: float) -> int:
    """Cases without any event that exclude a rate of events: the least n with (1 - rate)^n < level.

    With fewer cases no yes-or-no metric can show that its harm stays below the rate, whatever is seen.

    >>> cases_to_exclude(0.05, significance_level=0.05)
    59

    Args:
        rate: Rate to exclude, in (0, 1); the margin, for a difference that can reach -1.
        significance_level: One-sided, in (0, 1).

    Returns:
        The number of cases.

    Raises:
        ValueError: A number is out of its range.
    """
    check_level("rate", rate)
    check_level("significance_level", significance_level)
    return math.floor(math.log(significance_level) / math.log1p(-rate)) + 1


def standard_error(n_cases: int, n_seeds: int, *, seed_sd: float, case_sd: float) -> float:
    """Standard error of a mean difference: sqrt(case_sd^2 / k + seed_sd^2 / (k s)).

    With case_sd = 0 the answer holds for this very suite; with the true one, for cases the suite could have held.

    >>> round(standard_error(15, 4, seed_sd=0.03, case_sd=0.01), 5)
    0.00465

    Args:
        n_cases: Cases k.
        n_seeds: Seeds s of each case.
        seed_sd: Standard deviation of a paired difference between seeds of one case, in the metric's unit.
        case_sd: Standard deviation of the true difference between cases, in the metric's unit.

    Returns:
        The standard error, in the metric's unit.

    Raises:
        ValueError: A number is out of its range.
    """
    _check_positive("n_cases", n_cases)
    _check_positive("n_seeds", n_seeds)
    _check_not_negative("seed_sd", seed_sd)
    _check_not_negative("case_sd", case_sd)
    return math.sqrt(case_sd**2 / n_cases + seed_sd**2 / (n_cases * n_seeds))


def minimum_detectable_effect(
    n_cases: int,
    n_seeds: int,
    *,
    seed_sd: float,
    case_sd: float,
    significance_level: float,
    power: float = DEFAULT_POWER,
) -> float:
    """Smallest distance from what is tested against that a design sees: (z_level + z_power) standard error.

    >>> round(minimum_detectable_effect(15, 4, seed_sd=0.03, case_sd=0.01, significance_level=0.05), 3)
    0.014

    Args:
        n_cases: Cases.
        n_seeds: Seeds of each case.
        seed_sd: Standard deviation of a paired difference between seeds of one case, in the metric's unit.
        case_sd: Standard deviation of the true difference between cases; 0 asks about this very suite.
        significance_level: One-sided, in (0, 1).
        power: Probability to see it, in (0, 1).

    Returns:
        The distance, in the metric's unit.

    Raises:
        ValueError: A number is out of its range.
    """
    error = standard_error(n_cases, n_seeds, seed_sd=seed_sd, case_sd=case_sd)
    return _z_sum(significance_level, power) * error


def power_of_t_test(distance: float, sd: float, *, n_cases: int, significance_level: float) -> float:
    """Probability that a one-sided t-test on case means sees a distance; exact for normal case means.

    >>> round(power_of_t_test(0.02, 0.03, n_cases=21, significance_level=0.05), 3)
    0.904

    Args:
        distance: Distance of the true difference from what it is tested against, in the metric's unit.
        sd: Standard deviation of the case means; positive.
        n_cases: Cases, at least 2.
        significance_level: One-sided, in (0, 1).

    Returns:
        The power, in (0, 1).

    Raises:
        ValueError: A number is out of its range.
    """
    from scipy.special import nctdtr, stdtrit

    check_level("significance_level", significance_level)
    _check_positive("sd", sd)
    if n_cases < 2:
        msg = f"a t-test needs at least 2 cases, got {n_cases}. Add cases."
        raise ValueError(msg)
    critical = stdtrit(n_cases - 1, 1 - significance_level)
    return float(1 - nctdtr(n_cases - 1, distance / sd * math.sqrt(n_cases), critical))


def mcnemar_sample_size(
    drop: float, discordance: float, *, significance_level: float, power: float = DEFAULT_POWER
) -> int:
    """Pairs that McNemar's test needs to see a drop of a rate, one pair per case.

    n = (z_level sqrt(discordance) + z_power sqrt(discordance - drop^2))^2 / drop^2, rounded up.

    >>> mcnemar_sample_size(0.10, 0.20, significance_level=0.05)
    168

    Args:
        drop: Fall of the rate, in (0, discordance].
        discordance: Share of pairs in which the arms differ, in (0, 1].
        significance_level: One-sided, in (0, 1). Half of a two-sided one.
        power: Probability to see it, in (0, 1).

    Returns:
        The number of pairs.

    Raises:
        ValueError: A number is out of its range.

    References:
        R. J. Connor, Sample size for testing differences in proportions for the paired-sample design,
        Biometrics 43 (1987), 207-211.
    """
    if not 0 < drop <= discordance <= 1:
        msg = (
            f"drop and discordance must satisfy 0 < drop <= discordance <= 1; got {drop} and {discordance}. "
            "A rate cannot fall by more than the share of pairs that differ."
        )
        raise ValueError(msg)
    z_level, z_power = _z(significance_level, power)
    return math.ceil((z_level * math.sqrt(discordance) + z_power * math.sqrt(discordance - drop**2)) ** 2 / drop**2)


def sample_size_table(
    sds: Sequence[float],
    distances: Sequence[float],
    *,
    significance_level: float,
    power: float = DEFAULT_POWER,
) -> dict[tuple[float, float], int]:
    """Tabulate `sample_size`.

    Args:
        sds: Standard deviations of a paired difference.
        distances: Distances from what is tested against.
        significance_level: One-sided, in (0, 1).
        power: Probability to see each distance, in (0, 1).

    Returns:
        Number of pairs by (sd, distance), in the order given.

    Raises:
        ValueError: A number is out of its range.
    """
    return {
        (sd, distance): sample_size(sd, distance, significance_level=significance_level, power=power)
        for distance in distances
        for sd in sds
    }


def _z(significance_level: float, power: float) -> tuple[float, float]:
    check_level("significance_level", significance_level)
    check_level("power", power)
    normal = NormalDist()
    return normal.inv_cdf(1 - significance_level), normal.inv_cdf(power)


def _z_sum(significance_level: float, power: float) -> float:
    return sum(_z(significance_level, power))


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        msg = f"{name} must be positive, got {value}. State it in the metric's unit, without sign."
        raise ValueError(msg)


def _check_not_negative(name: str, value: float) -> None:
    if not value >= 0:
        msg = f"{name} must not be negative, got {value}. Measure it with a pilot run."
        raise ValueError(msg)
