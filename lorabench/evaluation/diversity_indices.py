"""Indices of an arm's variety: from seed to seed, from prompt to prompt, and how many pictures it comes to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.comparing import from_interval
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.indices import (
    Grid,
    Resampling,
    common_seeds,
    resampled,
    total_collapse,
    vectors_of,
)
from lorabench.metrics.diversity import (
    CASE_SPREAD_RATIO,
    ETA_SQUARED,
    LEAST_CASES,
    SEED_COLLAPSE,
    VENDI_RATIO,
    CaseSpread,
    case_spread,
    similarity_kernel,
    vendi_score,
)
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Metric, Unmeasured
from lorabench.records.plan import Arm
from lorabench.statistics.intervals import DifferenceInterval

Floats = NDArray[np.float64]
ARMS: Final = (Arm.CANDIDATE, Arm.CONTROL)
LEAST_CONTROL_SPREAD: Final = 0.05
"""Mean distance between the control's seeds, of 0 to 1.41, under which a collapse would divide by next to nothing."""
JACKKNIFE_GROUPS: Final = 24
"""Groups of cases left out in turn: eigenvalues of a thousand pictures take long."""


@dataclass(frozen=True, slots=True)
class _Arms:
    """Compositions of candidate and control, of the same cases and seeds in the same order."""

    candidate: NDArray[np.float32]
    control: NDArray[np.float32]
    cases: NDArray[np.intp]
    seeds: NDArray[np.int64]

    @property
    def n_cases(self) -> int:
        return int(self.cases.max()) + 1

    def spreads(self) -> tuple[CaseSpread, CaseSpread]:
        return (
            case_spread(self.candidate, self.cases, self.seeds),
            case_spread(self.control, self.cases, self.seeds),
        )


def diversity_of(
    features: Features, *, scale: float, resampling: Resampling
) -> tuple[Comparison | Unmeasured, Comparison | Unmeasured, Comparison | Unmeasured, Comparison | Unmeasured]:
    """All indices of variety, candidate against control on the cases and seeds that both have.

    Args:
        features: Structure descriptors of the pictures.
        scale: The candidate's.
        resampling: How intervals are made.

    Returns:
        `seed_collapse`, `case_spread_ratio`, `eta_squared` and `vendi_ratio`, in this order.
    """
    grid = common_seeds(features, ARMS, of=features.structure)
    metrics = (SEED_COLLAPSE, CASE_SPREAD_RATIO, ETA_SQUARED, VENDI_RATIO)
    if problem := _problem(grid):
        first, second, third, fourth = (Unmeasured(metric=one.name, reason=f"{one.name} {problem}") for one in metrics)
        return first, second, third, fourth
    arms = _arms(features, grid, scale=scale)
    spreads = arms.spreads()
    return (
        _seed_collapse(spreads, arms, resampling=resampling),
        _log_ratio(spreads, arms, resampling=resampling),
        _eta_squared(spreads, arms, resampling=resampling),
        _vendi_ratio(arms, resampling=resampling),
    )


def _problem(grid: Grid) -> str | None:
    """Why variety cannot be read: a picture of one seed has nothing to differ from."""
    n_cases = sum(len(seeds) > 1 for seeds in grid.values())
    if n_cases >= LEAST_CASES:
        return None
    return (
        f"needs at least {LEAST_CASES} cases with two seeds or more in both arms; found {n_cases}. Add seeds to the "
        "suite: two on 20 cases tell as much as eight on 6."
    )


def _arms(features: Features, grid: Grid, *, scale: float) -> _Arms:
    candidate, cases = vectors_of(features, grid, of=features.structure, arm=Arm.CANDIDATE, scale=scale)
    control, _ = vectors_of(features, grid, of=features.structure, arm=Arm.CONTROL, scale=scale)
    seeds = np.array([seed for of_case in grid.values() for seed in of_case], dtype=np.int64)
    return _Arms(candidate=candidate, control=control, cases=cases, seeds=seeds)


def _seed_collapse(
    spreads: tuple[CaseSpread, CaseSpread], arms: _Arms, *, resampling: Resampling
) -> Comparison | Unmeasured:
    candidate, control = spreads
    spread = float(control.intra()[0])
    if spread < LEAST_CONTROL_SPREAD:
        reason = (
            f"seed_collapse needs a control whose seeds differ; its mean distance between seeds is {spread:.3g}, at "
            f"least {LEAST_CONTROL_SPREAD:g} is needed. Use prompts that leave the composition open."
        )
        return Unmeasured(metric=SEED_COLLAPSE.name, reason=reason)
    if float(np.nansum(candidate.within)) == 0.0:
        n_cases = int(np.isfinite(candidate.within).sum())
        return total_collapse(SEED_COLLAPSE, n_cases=n_cases, n_pictures=len(arms.cases), resampling=resampling)
    return _drawn(
        SEED_COLLAPSE, lambda w: 1.0 - candidate.intra(w) / control.intra(w), arms=arms, resampling=resampling
    )


def _log_ratio(spreads: tuple[CaseSpread, CaseSpread], arms: _Arms, *, resampling: Resampling) -> Any:
    candidate, control = spreads
    of_both = [float(spread.inter()[0]) for spread in spreads]
    if not all(value > 0 for value in of_both):
        reason = "case_spread_ratio needs prompts that differ in composition at one seed, in both arms; found none."
        return Unmeasured(metric=CASE_SPREAD_RATIO.name, reason=reason)
    return _drawn(
        CASE_SPREAD_RATIO,
        lambda w: np.log(candidate.inter(w)) - np.log(control.inter(w)),
        arms=arms,
        resampling=resampling,
    )


def _eta_squared(spreads: tuple[CaseSpread, CaseSpread], arms: _Arms, *, resampling: Resampling) -> Any:
    candidate, control = spreads
    if not all(spread.inter()[0] > 0 for spread in spreads):
        reason = "eta_squared needs prompts that differ in composition at one seed, in both arms; found none."
        return Unmeasured(metric=ETA_SQUARED.name, reason=reason)
    return _drawn(
        ETA_SQUARED, lambda w: candidate.eta_squared(w) - control.eta_squared(w), arms=arms, resampling=resampling
    )


def _drawn(
    metric: Metric, statistic: Callable[[Floats], Floats], *, arms: _Arms, resampling: Resampling
) -> Comparison | Unmeasured:
    """Bootstrap a statistic of case weights, (r, k) to (r,). Cases are drawn whole, so that no seed meets its twin."""
    n_cases = arms.n_cases

    def of_rows(drawn: Any) -> Floats:
        rows = np.asarray(drawn).reshape(len(drawn), -1)
        return statistic(np.stack([np.bincount(row, minlength=n_cases) for row in rows]).astype(np.float64))

    data = [np.array([case]) for case in range(n_cases)]
    found = resampled(metric, of_rows, data, reference="B1", resampling=resampling)
    return found.model_copy(update={"n_pairs": len(arms.cases)}) if isinstance(found, Comparison) else found


def _vendi_ratio(arms: _Arms, *, resampling: Resampling) -> Comparison | Unmeasured:
    """Log ratio of Vendi scores with a jackknife interval: a bootstrap's twins would lower both scores unevenly."""
    kernels = similarity_kernel(arms.candidate), similarity_kernel(arms.control)

    def of(kept: NDArray[np.bool_]) -> float:
        candidate, control = (vendi_score(kernel[np.ix_(kept, kept)]) for kernel in kernels)
        return math.log(candidate) - math.log(control)

    n_groups = min(arms.n_cases, JACKKNIFE_GROUPS)
    group = arms.cases % n_groups
    estimate = of(np.ones(len(group), dtype=bool))
    left_out = np.array([of(group != number) for number in range(n_groups)])
    interval = _jackknifed(estimate, left_out, arms=arms, confidence_level=resampling.confidence_level)
    return from_interval(VENDI_RATIO, interval, candidate_arm=Arm.CANDIDATE, reference_name="B1")


def _jackknifed(estimate: float, left_out: Floats, *, arms: _Arms, confidence_level: float) -> DifferenceInterval:
    from scipy.special import stdtr, stdtrit

    n = len(left_out)
    error = math.sqrt((n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2)))
    half = float(stdtrit(n - 1, 0.5 + confidence_level / 2)) * error
    t = estimate / error if error > 0 else math.copysign(math.inf, estimate) if estimate else 0.0
    return DifferenceInterval(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        n_clusters=arms.n_cases,
        n_pairs=len(arms.cases),
        confidence_level=confidence_level,
        method="jackknife" if error > 0 or estimate else "identical",
        spread=error * math.sqrt(arms.n_cases),
        p_lower=float(stdtr(n - 1, t)),
        p_higher=float(stdtr(n - 1, -t)),
    )
