"""Copy rates of verbatim, paraphrased and novel prompts apart, and the gap between the first and the last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.comparing import from_interval, values_of
from lorabench.evaluation.indices import Resampling
from lorabench.metrics.memorisation import COPY_RATE, MEMORISATION_GAP
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Measurement, SetMeasurement, Unmeasured
from lorabench.records.plan import Arm
from lorabench.records.suite import FROM_CAPTIONS, Suite
from lorabench.statistics.intervals import DifferenceInterval, t_interval

Floats = NDArray[np.float64]
NOVEL = "novel"
KINDS = (*FROM_CAPTIONS, NOVEL)
LEAST_CASES = 2


def has_caption_cases(suite: Suite) -> bool:
    """Whether a suite holds prompts made from captions."""
    return len(suite.novel_cases) < len(suite.cases)


def copy_rates_by_kind(
    measurements: Sequence[Measurement], *, suite: Suite, scale: float, confidence_level: float
) -> tuple[SetMeasurement, ...]:
    """Copy rate of control and candidate on verbatim, paraphrased and novel prompts, each with an interval over cases.

    Args:
        measurements: Copy flags of pictures.
        suite: Says which case is of which kind.
        scale: The candidate's.
        confidence_level: Two-sided.

    Returns:
        One per arm and kind that has two cases or more; `family` is the kind. None for a suite without prompts from
        captions.
    """
    if not has_caption_cases(suite):
        return ()
    found = []
    for arm in (Arm.CANDIDATE, Arm.CONTROL):
        flags = values_of(measurements, metric=COPY_RATE.name, arm=arm)
        for kind, values in _by_kind(flags, suite).items():
            if len({case for case, _ in values}) < LEAST_CASES:
                continue
            cases = [case for case, _ in values]
            # A support must hold zero inside, so rates are moved to around it.
            centred = np.array(list(values.values())) - 0.5
            interval = t_interval(centred, cases, confidence_level=confidence_level, support=(-0.5, 0.5))
            found.append(
                SetMeasurement(
                    metric=COPY_RATE.name,
                    metric_version=COPY_RATE.version,
                    arm=arm,
                    scale=scale if arm.uses_adapter else 0.0,
                    family=kind,
                    value=interval.estimate + 0.5,
                    low=interval.low + 0.5,
                    high=interval.high + 0.5,
                    confidence_level=confidence_level,
                    n_cases=interval.n_clusters,
                    n_pictures=interval.n_pairs,
                    method=interval.method,
                )
            )
    return tuple(found)


def memorisation_gap_of(
    measurements: Sequence[Measurement], *, suite: Suite, resampling: Resampling
) -> Comparison | Unmeasured:
    """How much more is copied for captions word for word than for novel prompts, each over the control's rate.

    Early warning: a memorised picture first comes back for its own caption. The interval joins those of the two kinds
    (method "mover"); the p-value permutes the kinds over the cases.

    Args:
        measurements: Copy flags of pictures.
        suite: Says which case is of which kind.
        resampling: Level, and the generator of the permutations.

    References:
        G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008), 1693-1702 (joining two intervals).
    """
    rises = _rises(measurements, suite)
    groups = [np.array(list(rises[kind].values())) for kind in (FROM_CAPTIONS[0], NOVEL)]
    if min(len(group) for group in groups) < LEAST_CASES:
        reason = (
            f"a gap needs copy flags of at least {LEAST_CASES} verbatim and {LEAST_CASES} novel prompts; found "
            f"{len(groups[0])} and {len(groups[1])}. Make a suite with: lorabench suite from-captions"
        )
        return Unmeasured(metric=MEMORISATION_GAP.name, reason=reason)
    verbatim, novel = (
        t_interval(group, np.arange(len(group)), confidence_level=resampling.confidence_level, support=(-1.0, 1.0))
        for group in groups
    )
    gap = verbatim.estimate - novel.estimate
    above, below = _permuted(groups, rng=resampling.rng(MEMORISATION_GAP.name), n=resampling.n_resamples)
    interval = DifferenceInterval(
        estimate=gap,
        low=max(gap - math.hypot(verbatim.estimate - verbatim.low, novel.high - novel.estimate), -2.0),
        high=min(gap + math.hypot(verbatim.high - verbatim.estimate, novel.estimate - novel.low), 2.0),
        n_clusters=len(groups[0]) + len(groups[1]),
        n_pairs=verbatim.n_pairs + novel.n_pairs,
        confidence_level=resampling.confidence_level,
        method="mover",
        p_lower=below,
        p_higher=above,
    )
    return from_interval(MEMORISATION_GAP, interval, candidate_arm=Arm.CANDIDATE, reference_name="B1")


def _by_kind(flags: Mapping[tuple[str, int], float], suite: Suite) -> dict[str, dict[tuple[str, int], float]]:
    kinds = {case.id: case.caption_kind or NOVEL for case in suite.cases}
    return {kind: {key: flag for key, flag in flags.items() if kinds[key[0]] == kind} for kind in KINDS}


def _rises(measurements: Sequence[Measurement], suite: Suite) -> dict[str, dict[str, float]]:
    """Mean over seeds of candidate less control, by kind and case."""
    candidate = values_of(measurements, metric=COPY_RATE.name, arm=Arm.CANDIDATE)
    control = values_of(measurements, metric=COPY_RATE.name, arm=Arm.CONTROL)
    common = {key: candidate[key] - control[key] for key in sorted(candidate.keys() & control.keys())}
    found: dict[str, dict[str, float]] = {}
    for kind, values in _by_kind(common, suite).items():
        cases = sorted({case for case, _ in values})
        found[kind] = {
            case: float(np.mean([value for (other, _), value in values.items() if other == case])) for case in cases
        }
    return found


def _permuted(groups: Sequence[Floats], *, rng: np.random.Generator, n: int) -> tuple[float, float]:
    """Shares of permutations whose gap is at least, and at most, the one seen."""
    pooled, first = np.concatenate(groups), len(groups[0])
    drawn = rng.permuted(np.tile(pooled, (n, 1)), axis=1)
    gaps = drawn[:, :first].mean(axis=1) - drawn[:, first:].mean(axis=1)
    seen = float(groups[0].mean() - groups[1].mean())
    return (1 + int((gaps >= seen - 1e-12).sum())) / (n + 1), (1 + int((gaps <= seen + 1e-12).sum())) / (n + 1)
