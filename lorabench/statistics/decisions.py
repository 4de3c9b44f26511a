"""From an interval and a margin to PASS, FAIL or INCONCLUSIVE; one gate, then several.

The error rates of several gates:

- A FAIL claims harm, and one false claim among several gates stops a healthy adapter. So the one-sided p-values of
  the gates go through Holm's procedure: the probability of any FAIL where nothing got worse stays at or below the
  significance level, however the gates depend on each other.
- A PASS of the whole claims that *every* gate is within its margin. It is wrong only if the gate that is truly
  beyond its margin passes, which happens at most at that gate's own level: an intersection claim needs no
  adjustment (R. L. Berger, Technometrics 24 (1982), 295-300).
- Gatekeeping only takes claims away, so it cannot raise either rate.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from lorabench.statistics.intervals import DifferenceInterval, check_level
from lorabench.statistics.power import DEFAULT_POWER, cases_needed, cases_to_exclude

GATE_ORDER = ("broken", "copy", "prompt", "anatomy", "style")
MAX_FAMILY = 4


class Outcome(StrEnum):
    """What an interval and a margin decide."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Gate:
    """What one gate decides on.

    Attributes:
        interval: Of candidate minus reference, raw sign.
        margin: Largest harm tolerated, positive, in the metric's unit.
        higher_is_better: Direction of the metric.
    """

    interval: DifferenceInterval
    margin: float
    higher_is_better: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What one gate decided.

    Attributes:
        outcome: PASS, FAIL or INCONCLUSIVE.
        p_harm: One-sided p-value against "not worse"; small means shown to be worse. Not adjusted.
        harm_level: One-sided level that `p_harm` had to meet for a FAIL; Holm's within a family.
        identical: Whether every difference was exactly zero.
        cases_needed: Further cases that should decide if the estimate is true; None where the outcome stands, or
            where no number would do because the estimate lies on the margin.
        pairs_needed: The same in pairs of pictures, at as many seeds per case as now.
    """

    outcome: Outcome
    p_harm: float
    harm_level: float
    identical: bool
    cases_needed: int | None
    pairs_needed: int | None


@dataclass(frozen=True, slots=True)
class HolmStep:
    """One hypothesis in Holm's procedure.

    Attributes:
        p_value: As given.
        p_adjusted: Smallest family-wise level at which it would be rejected, in [0, 1].
        level: What the p-value had to meet; below the first that was not rejected, that one's level.
        rejected: Whether it met it.
    """

    p_value: float
    p_adjusted: float
    level: float
    rejected: bool


@dataclass(frozen=True, slots=True)
class Gatekeeping:
    """Decisions that count, in order, up to and including the first FAIL.

    Attributes:
        decisions: By gate, in the order of testing.
        blocked_by: The gate that failed; None if none did.
        not_tested: Gates behind it, in order.
    """

    decisions: dict[str, Decision]
    blocked_by: str | None
    not_tested: tuple[str, ...]


def decide(
    interval: DifferenceInterval,
    *,
    margin: float,
    higher_is_better: bool,
    harm_level: float | None = None,
    power: float = DEFAULT_POWER,
) -> Decision:
    """Decide whether the candidate is worse than the reference.

    - PASS: the harmful end of the interval is better than minus the margin: shown to be no worse. An adapter whose
      harm is exactly the margin passes with probability (1 - confidence level) / 2.
    - FAIL: shown to be worse than zero at `harm_level`, and the estimate is beyond the margin: worse, by enough to
      matter. An adapter that does no harm fails with a probability below `harm_level`.
    - INCONCLUSIVE: neither. `cases_needed` says how many more would do.

    >>> from lorabench.statistics.intervals import t_interval
    >>> drop = t_interval([-0.10, -0.12, -0.11, -0.09], ["a", "b", "c", "d"], confidence_level=0.9)
    >>> decide(drop, margin=0.05, higher_is_better=True).outcome.value
    'FAIL'

    Args:
        interval: Of candidate minus reference, raw sign, in the metric's unit.
        margin: Largest harm tolerated, positive, in the metric's unit.
        higher_is_better: Direction of the metric.
        harm_level: One-sided level for a FAIL, in (0, 1); by default the interval's (1 - confidence level) / 2.
        power: Probability of a decision with `cases_needed` further cases, in (0, 1).

    Returns:
        The decision.

    Raises:
        ValueError: The margin is not positive, or a level is impossible.
    """
    if not margin > 0:
        msg = f"margin must be positive, got {margin}. State the largest harm tolerated, in the metric's unit."
        raise ValueError(msg)
    level = _tail(interval) if harm_level is None else harm_level
    check_level("harm_level", level)
    gain, gain_low, p_harm = _oriented(interval, higher_is_better=higher_is_better)
    if gain_low > -margin:
        outcome = Outcome.PASS
    elif p_harm <= level and gain < -margin:
        outcome = Outcome.FAIL
    else:
        outcome = Outcome.INCONCLUSIVE
    further = None
    if outcome is Outcome.INCONCLUSIVE:
        further = _further_cases(interval, gain, margin=margin, gain_low=gain_low, harm_level=level, power=power)
    return Decision(
        outcome=outcome,
        p_harm=p_harm,
        harm_level=level,
        identical=interval.method == "identical",
        cases_needed=further,
        pairs_needed=None if further is None else math.ceil(further * interval.n_pairs / interval.n_clusters),
    )


def decide_family(
    gates: Mapping[str, Gate], *, significance_level: float, power: float = DEFAULT_POWER
) -> dict[str, Decision]:
    """Decide the primary gates together: Holm over their claims of harm, no adjustment of a PASS.

    Args:
        gates: One to four gates by name.
        significance_level: Probability tolerated of any FAIL where nothing got worse; one-sided, in (0, 1).
        power: Probability of a decision with `cases_needed` further cases, in (0, 1).

    Returns:
        Decisions by name, in the order given.

    Raises:
        ValueError: More than four gates, a margin that is not positive, or an impossible level.
    """
    if len(gates) > MAX_FAMILY:
        msg = (
            f"primary family must hold at most {MAX_FAMILY} gates, got {len(gates)}: {', '.join(gates)}. "
            "Make the others secondary; each further gate costs all of them power."
        )
        raise ValueError(msg)
    steps = holm(
        {name: _oriented(gate.interval, higher_is_better=gate.higher_is_better)[2] for name, gate in gates.items()},
        significance_level,
    )
    return {
        name: decide(
            gate.interval,
            margin=gate.margin,
            higher_is_better=gate.higher_is_better,
            harm_level=steps[name].level,
            power=power,
        )
        for name, gate in gates.items()
    }


def holm(p_values: Mapping[str, float], significance_level: float) -> dict[str, HolmStep]:
    """Holm's step-down procedure: the smallest p-value meets level / m, the next level / (m - 1), and so on.

    It keeps the probability of any false rejection at or below the level, whatever the dependence.

    >>> [step.rejected for step in holm({"a": 0.01, "b": 0.04, "c": 0.03}, 0.05).values()]
    [True, False, False]

    Args:
        p_values: By hypothesis, each in [0, 1].
        significance_level: Family-wise, in (0, 1).

    Returns:
        One step per hypothesis, in the order given.

    Raises:
        ValueError: A p-value or the level is impossible.

    References:
        S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
        (1979), 65-70.
    """
    check_level("significance_level", significance_level)
    wrong = {name: p for name, p in p_values.items() if not 0 <= p <= 1}
    if wrong:
        msg = f"p-values must lie between 0 and 1; got {wrong}. Leave unmeasured gates out."
        raise ValueError(msg)
    steps: dict[str, HolmStep] = {}
    adjusted, stopped_at = 0.0, None
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        p_value, n_left = p_values[name], len(p_values) - rank
        adjusted = max(adjusted, min(1.0, n_left * p_value))
        level = significance_level / n_left if stopped_at is None else stopped_at
        rejected = stopped_at is None and p_value <= level
        if not rejected:
            stopped_at = level
        steps[name] = HolmStep(p_value, adjusted, level, rejected)
    return {name: steps[name] for name in p_values}


def gatekeep(order: Sequence[str], decisions: Mapping[str, Decision]) -> Gatekeeping:
    """Take the gates in order and stop at the first FAIL: what lies behind it does not count.

    Where every picture is broken or copied, scores of prompt or style mean nothing.

    Args:
        order: All gates, the most fundamental first.
        decisions: By gate; gates of the order may be missing, unmeasured.

    Returns:
        The decisions that count.

    Raises:
        ValueError: A decision's gate does not stand in the order, or the order names a gate twice.
    """
    unknown = sorted(set(decisions) - set(order))
    if unknown or len(set(order)) < len(order):
        msg = (
            f"order must name every gate once; got order {', '.join(order)} and gates {', '.join(decisions)}. "
            "Put each gate into the order."
        )
        raise ValueError(msg)
    present = [name for name in order if name in decisions]
    failed = [name for name in present if decisions[name].outcome is Outcome.FAIL]
    n_tested = present.index(failed[0]) + 1 if failed else len(present)
    return Gatekeeping(
        decisions={name: decisions[name] for name in present[:n_tested]},
        blocked_by=failed[0] if failed else None,
        not_tested=tuple(present[n_tested:]),
    )


def combine(outcomes: Sequence[Outcome]) -> Outcome:
    """Judge the whole: FAIL if any gate failed, PASS if all passed, else INCONCLUSIVE; also if there is none.

    >>> combine([Outcome.PASS, Outcome.INCONCLUSIVE]).value
    'INCONCLUSIVE'
    """
    if Outcome.FAIL in outcomes:
        return Outcome.FAIL
    if outcomes and all(outcome is Outcome.PASS for outcome in outcomes):
        return Outcome.PASS
    return Outcome.INCONCLUSIVE


def _tail(interval: DifferenceInterval) -> float:
    return (1 - interval.confidence_level) / 2


def _oriented(interval: DifferenceInterval, *, higher_is_better: bool) -> tuple[float, float, float]:
    """Estimate and harmful end, turned so that higher is better, and the p-value of harm."""
    if higher_is_better:
        return interval.estimate, interval.low, interval.p_lower
    return -interval.estimate, -interval.high, interval.p_higher


def _further_cases(
    interval: DifferenceInterval, gain: float, *, margin: float, gain_low: float, harm_level: float, power: float
) -> int | None:
    """Cases that decide with this power if the estimate is true, less those there are; at least one."""
    if gain == -margin:
        return None
    to_pass = gain > -margin
    distance = gain + margin if to_pass else -gain
    level = _tail(interval) if to_pass else harm_level
    if interval.method == "equal_cases":
        total = _equal_cases_needed(interval, distance, reach=gain - gain_low, level=level, to_pass=to_pass)
    else:
        total = cases_needed(_spread(interval, gain - gain_low), distance, significance_level=level, power=power)
    if interval.method == "bounded" and to_pass:
        total = max(total, _bounded_cases_to_pass(interval, distance, half_width=gain - gain_low, power=power))
    return max(1, total - interval.n_clusters)


def _equal_cases_needed(
    interval: DifferenceInterval, distance: float, *, reach: float, level: float, to_pass: bool
) -> int:
    """Cases that decide if all further ones are equal to those there are."""
    if not to_pass:
        return math.ceil(-math.log2(level))  # the sign-flip test of cases of one sign
    to_end_of_support = reach / (1 - level ** (1 / interval.n_clusters))
    return cases_to_exclude(distance / to_end_of_support, significance_level=level)


def _bounded_cases_to_pass(interval: DifferenceInterval, distance: float, *, half_width: float, power: float) -> int:
    """Cases after which a bounded interval ends within the distance.

    Its width has a part that falls with sqrt(n), the spread's, and one that falls with n, the unseen cases'.
    """
    from scipy.special import stdtrit

    k, sd, normal = interval.n_clusters, _spread(interval, half_width), NormalDist()
    unseen = k * max(0.0, half_width - float(stdtrit(k - 1, 1 - _tail(interval))) * sd / math.sqrt(k))
    if unseen == 0:
        return k
    seen = sd * (normal.inv_cdf(1 - _tail(interval)) + normal.inv_cdf(power))
    root = (math.sqrt(seen**2 + 4 * unseen * distance) - seen) / (2 * unseen)  # 1 / sqrt(n)
    return math.ceil(1 / root**2)


def _spread(interval: DifferenceInterval, half_width: float) -> float:
    from scipy.special import stdtrit

    if interval.spread is not None:
        return interval.spread
    t = float(stdtrit(interval.n_clusters - 1, 1 - _tail(interval)))
    return half_width / t * math.sqrt(interval.n_clusters)
