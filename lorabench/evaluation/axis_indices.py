"""Where a candidate lies between its control and a set of pictures, as the share of the way that is left.

1: no nearer than the control; 0: as near to the set's pictures as those are to each other; below 0: nearer still.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lorabench.evaluation.encoding import Features
from lorabench.evaluation.indices import Grid, digest_in
from lorabench.records.plan import Arm

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axis:
    """Distances to the set, of both arms, by case.

    Attributes:
        data: Candidate's and control's distances of each case's pictures, (s, 2) each.
        level: Distance of the set's pictures from each other.
    """

    data: tuple[Floats, ...]
    level: float

    @property
    def control(self) -> Floats:
        """Mean of the control's distances by case, (k,)."""
        return np.array([case[:, 1].mean() for case in self.data])

    def left(self, by_case: Floats) -> Floats:
        """Share of the way that is left, of means by case (r, k, 2): (r,)."""
        means = np.ascontiguousarray(by_case).mean(axis=1)  # (r, 2)
        return np.asarray((means[:, 0] - self.level) / (means[:, 1] - self.level))

    @property
    def estimate(self) -> float:
        """The share that is left."""
        return float(self.left(np.stack([case.mean(axis=0) for case in self.data])[None])[0])


def axis_of(
    features: Features,
    grid: Grid,
    *,
    of: Mapping[str, NDArray[np.float32]],
    distance: Callable[[NDArray[np.float32]], Any],
    level: float,
    scale: float,
) -> Axis:
    """Read both arms' distances to a set.

    Args:
        features: Which picture shows which cell.
        grid: Cases and seeds that both arms have.
        of: Digest to vector.
        distance: From vectors (n, d) to distances (n,).
        level: The set's own.
        scale: The candidate's.
    """
    data = []
    for case, seeds in grid.items():
        columns = [
            distance(np.stack([of[digest_in(features, arm, case, seed, scale=scale)] for seed in seeds]))
            for arm in (Arm.CANDIDATE, Arm.CONTROL)
        ]
        data.append(np.stack(columns, axis=1))  # (s, 2)
    return Axis(tuple(data), level)
