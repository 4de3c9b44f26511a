"""Where the candidate's density lies between the control's pictures and the training pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lorabench.evaluation.indices import Resampling, common_seeds, digest_in, resampled
from lorabench.metrics.clutter import AMBIENT_DENSITY, AMBIENT_POSITION
from lorabench.metrics.texture import LEAST_SE
from lorabench.records.comparison import Comparison
from lorabench.records.measurement import Unmeasured
from lorabench.records.plan import Arm

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lorabench.evaluation.encoding import Features
    from lorabench.evaluation.indices import Grid, TrainingLook


def ambient_position_of(
    features: Features, training: TrainingLook | None, *, scale: float, resampling: Resampling
) -> Comparison | Unmeasured:
    """How far the candidate's pictures have come from the control's density (0) to the training pictures' (1).

    Args:
        features: What is known of the pictures.
        training: The training pictures; None where there are none.
        scale: Of the candidate.
        resampling: How the interval is made.

    Returns:
        The position over all cases; beyond 1 the candidate is further from the control than its training set. Missing
        where control and training pictures lie less than two standard errors apart.
    """
    name = AMBIENT_POSITION.name
    levels = None if training is None else training.readings.get(AMBIENT_DENSITY.name)
    if levels is None or len(levels) < 2:
        return Unmeasured(metric=name, reason="a position needs two training pictures or more; found fewer.")
    readable = {sha: row for sha, row in features.readings.items() if isinstance(row.get(AMBIENT_DENSITY.name), float)}
    grid = common_seeds(features, (Arm.CANDIDATE, Arm.CONTROL), of=readable)
    if len(grid) < 2:
        reason = f"a position needs two cases or more with pictures of control and candidate; found {len(grid)}."
        return Unmeasured(metric=name, reason=reason)
    data = _pairs(features, grid, scale=scale)
    control = np.array([case[:, 1].mean() for case in data])
    apart = float(levels.mean() - control.mean())
    error = float(np.sqrt(levels.var(ddof=1) / len(levels) + control.var(ddof=1) / len(control)))
    if abs(apart) <= LEAST_SE * error:
        reason = (
            f"training pictures and control must differ in density for a position between them; found "
            f"{apart:+.2f} with a standard error of {error:.2f}."
        )
        return Unmeasured(metric=name, reason=reason)

    def statistic(drawn: Any) -> Any:
        means = _means(drawn)  # (r, 2)
        return (means[:, 0] - means[:, 1]) / (float(levels.mean()) - means[:, 1])

    return resampled(AMBIENT_POSITION, statistic, data, reference="B1", resampling=resampling)


def _means(drawn: Any) -> NDArray[np.float64]:
    """Means over cases of the means over seeds, (r, 2), of resamples (r, k, s, 2) or of lists of k arrays (s, 2)."""
    if isinstance(drawn, np.ndarray):
        return np.asarray(drawn.mean(axis=2).mean(axis=1))
    return np.stack([np.mean([case.mean(axis=0) for case in sample], axis=0) for sample in drawn])


def _pairs(features: Features, grid: Grid, *, scale: float) -> list[NDArray[np.float64]]:
    """Density of candidate and control of each case, (s, 2)."""

    def density(arm: Arm, case: str, seed: int) -> float:
        value = features.readings[digest_in(features, arm, case, seed, scale=scale)][AMBIENT_DENSITY.name]
        return float(value) if isinstance(value, float) else np.nan

    return [
        np.array([[density(arm, case, seed) for arm in (Arm.CANDIDATE, Arm.CONTROL)] for seed in seeds])
        for case, seeds in grid.items()
    ]
