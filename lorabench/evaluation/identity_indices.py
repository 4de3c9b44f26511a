"""Does the candidate show the same character or thing as held-out references do, and the same each time?"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.axis_indices import axis_of
from lorabench.evaluation.comparing import compare
from lorabench.evaluation.encoding import Features
from lorabench.evaluation.indices import Resampling, case_means, common_seeds, digest_in, resampled
from lorabench.metrics.identity import (
    IDENTITY_CONSISTENCY,
    IDENTITY_DRIFT,
    LEAST_REFERENCES,
    case_consistency,
)
from lorabench.metrics.style_similarity import likeness_level, mean_cosine
from lorabench.metrics.training_palette import LEAST_CASES, LEAST_SE
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm

Vectors = NDArray[np.float32]
ARMS: Final = (Arm.CANDIDATE, Arm.CONTROL)


def identity_drift_of(
    features: Features, references: Vectors | None, *, why_not: str, scale: float, resampling: Resampling
) -> Comparison | Unmeasured:
    """How much of the way from the control to the references' own likeness is left.

    Args:
        features: CLIP's vectors of the pictures.
        references: Those of the held-out references, (m, d); None without any.
        why_not: The reason if there are none.
        scale: The candidate's.
        resampling: How the interval is made.

    Returns:
        The index; unmeasured with fewer than four references, or where the control is as like them as they are to each
        other: then likeness to them says nothing about identity.
    """
    name = IDENTITY_DRIFT.name
    if references is None:
        return Unmeasured(metric=name, reason=why_not)
    if len(references) < LEAST_REFERENCES:
        reason = f"{name} needs at least {LEAST_REFERENCES} held-out references; found {len(references)}. Add some."
        return Unmeasured(metric=name, reason=reason)
    grid = common_seeds(features, ARMS, of=features.clip)
    if len(grid) < LEAST_CASES:
        return Unmeasured(metric=name, reason=f"{name} needs at least {LEAST_CASES} cases; found {len(grid)}.")
    level, error = likeness_level(references)

    def distance(vectors: Vectors) -> Any:
        return 1.0 - mean_cosine(vectors, references)

    axis = axis_of(features, grid, of=features.clip, distance=distance, level=1.0 - level, scale=scale)
    control = axis.control
    gap = float(control.mean()) - axis.level
    spread = float(np.hypot(error, control.std(ddof=1) / np.sqrt(len(control))))
    if gap <= LEAST_SE * spread:
        reason = (
            f"{name} needs references that are more like each other than the control is like them, by more than "
            f"{LEAST_SE:g} standard errors; the gap is {gap:.3g} in cosine with a standard error of {spread:.2g}."
        )
        return Unmeasured(metric=name, reason=reason)
    return resampled(
        IDENTITY_DRIFT,
        lambda drawn: axis.left(case_means(drawn)),
        list(axis.data),
        reference="training",
        resampling=resampling,
    )


def identity_consistency_of(
    features: Features, references: Vectors | None, *, why_not: str, scale: float, confidence_level: float
) -> Comparison | Unmeasured:
    """How much more alike one prompt's pictures are to CLIP than the control's, over cases with two seeds or more.

    Args:
        features: CLIP's vectors of the pictures.
        references: Only where there are references does identity matter.
        why_not: The reason if there are none.
        scale: The candidate's.
        confidence_level: Two-sided, in (0, 1).
    """
    if references is None:
        return Unmeasured(metric=IDENTITY_CONSISTENCY.name, reason=why_not)
    grid = common_seeds(features, ARMS, of=features.clip)
    values: dict[Arm, dict[tuple[str, int], float]] = {arm: {} for arm in ARMS}
    for arm in ARMS:
        for case, seeds in grid.items():
            rows = [features.clip[digest_in(features, arm, case, seed, scale=scale)] for seed in seeds]
            found = case_consistency(np.stack(rows))
            if found is not None:
                values[arm][case, seeds[0]] = found
    return compare(
        IDENTITY_CONSISTENCY,
        values[Arm.CANDIDATE],
        values[Arm.CONTROL],
        candidate_arm=Arm.CANDIDATE,
        reference_name="B1",
        family=None,
        confidence_level=confidence_level,
    )
