"""How near a picture's look is to the training pictures', to all of them rather than to a few.

References:
    A. Conneau et al., Word translation without parallel data, ICLR 2018, arXiv 1710.04087, section 2.3 (CSLS).
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.text_similarity import check_unit
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

STYLE_SIMILARITY: Final = Metric(
    name="style_similarity",
    version=1,
    higher_is_better=True,
    unit="csls",
    summary="mean likeness to the training pictures in CLIP, less that to the nearest of them",
)
NEIGHBOURS: Final = 5


def csls_similarity(pictures: NDArray[Any], training: NDArray[Any], background: NDArray[Any]) -> Floats:
    """Mean CSLS of each picture with the training pictures.

    CSLS(g, t) = 2 cos(g, t) - r_T(g) - r_G(t): r_T(g) is g's mean cosine with its 5 nearest training pictures, r_G(t)
    that of t with its 5 nearest pictures of the background. Averaged over t, a picture that is like a few training
    pictures only (a copy) scores less than one that is like all of them.

    Args:
        pictures: Unit vectors, (n, d).
        training: Unit vectors of the training pictures, (m, d).
        background: Unit vectors of pictures of the base, which has not seen the training pictures, (b, d).

    Returns:
        (n,), about -2 to 2; comparable within one run only.

    Raises:
        ValueError: Vectors are not of unit length, or training or background is empty.
    """
    if not len(training) or not len(background):
        msg = f"csls needs training and background pictures; got {len(training)} and {len(background)}. Give both."
        raise ValueError(msg)
    for vectors in (pictures, training, background):
        check_unit(vectors)
    g, t, b = (np.asarray(vectors, dtype=np.float64) for vectors in (pictures, training, background))
    cosines = g @ t.T  # (n, m)
    return np.asarray(2.0 * cosines.mean(axis=1) - _nearest(cosines) - float(_nearest(t @ b.T).mean()))


def mean_cosine(pictures: NDArray[Any], references: NDArray[Any]) -> Floats:
    """Mean cosine of each picture (n, d) with references (m, d), unit vectors all: (n,).

    Raises:
        ValueError: Vectors are not of unit length, or there are no references.
    """
    if not len(references):
        msg = "a likeness needs references; got none. Give at least one."
        raise ValueError(msg)
    check_unit(pictures)
    check_unit(references)
    return np.asarray((pictures.astype(np.float64) @ references.astype(np.float64).T).mean(axis=1))


def likeness_level(references: NDArray[Any]) -> tuple[float, float]:
    """How like references are to each other, itself left out, and the jackknife standard error of that.

    Args:
        references: Unit vectors, (m, d), m at least 3.
    """
    cosines = references.astype(np.float64) @ references.astype(np.float64).T
    np.fill_diagonal(cosines, 0.0)
    m, total = len(cosines), float(cosines.sum())
    without = (total - 2.0 * cosines.sum(axis=1)) / ((m - 1) * (m - 2))
    error = float(np.sqrt((m - 1) / m * np.sum((without - without.mean()) ** 2)))
    return total / (m * (m - 1)), error


def _nearest(cosines: Floats) -> Floats:
    """Mean of the largest 5 of each row: (n, m) to (n,)."""
    k = min(NEIGHBOURS, cosines.shape[1])
    return np.asarray(np.sort(cosines, axis=1)[:, -k:].mean(axis=1))
