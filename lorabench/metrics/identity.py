"""Is it still the same character or thing? Likeness to pictures of it that were never trained on."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.text_similarity import check_unit
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

IDENTITY_SIMILARITY: Final = Metric(
    name="identity_similarity",
    version=1,
    higher_is_better=True,
    unit="cosine",
    summary="mean likeness to the held-out reference pictures",
)
IDENTITY_DRIFT: Final = Metric(
    name="identity_drift",
    version=1,
    higher_is_better=False,
    unit="index",
    level="set",
    summary="0: as like the references as they are to each other; 1: no more than the control is",
)
IDENTITY_CONSISTENCY: Final = Metric(
    name="identity_consistency",
    version=1,
    higher_is_better=True,
    unit="cosine",
    level="set",
    summary="likeness of one prompt's pictures to each other, candidate minus control",
)
LEAST_REFERENCES: Final = 4
"""Under four, how like references are to each other has no spread worth the name."""


def case_consistency(vectors: NDArray[Any]) -> float | None:
    """Mean cosine between the pictures of one case, (s, d), of unit length; None with fewer than two.

    >>> case_consistency(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])) == 1 / 3
    True
    """
    if len(vectors) < 2:
        return None
    check_unit(vectors)
    rows = vectors.astype(np.float64)
    cosines = rows @ rows.T
    n = len(rows)
    return float((cosines.sum() - np.trace(cosines)) / (n * (n - 1)))
