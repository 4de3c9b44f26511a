"""Composition without appearance: which edges run where, whatever their colour, contrast and texture.

References:
    N. Dalal and B. Triggs, Histograms of oriented gradients for human detection, CVPR 2005; here one block, on OKLab
    gradients, with a floor that takes grain out.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.color import Picture, picture_oklab
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

COMPOSITION_COLLAPSE: Final = Metric(
    name="composition_collapse",
    version=1,
    higher_is_better=False,
    unit="index",
    level="set",
    summary="0: compositions follow the prompt as in the control; 1: they ignore it",
)
COMPOSITION_COPY_RATE: Final = Metric(
    name="composition_copy_rate",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="1 where the composition is as near to a training picture's as those are to each other",
)

INSIDE: Final = 0.9
"""Quantile of the training pictures' distances to their nearest fellow: within it, a composition counts as theirs."""
LEAST_TRAINING: Final = 10
SIDE: Final = 64
"""Pixels per side at which edges are looked for."""
GRID: Final = 16
"""Cells per side."""
N_ORIENTATIONS: Final = 6
FLOOR: Final = 4.0
"""Gradients under this multiple of the picture's median gradient are grain or shading."""
LEAST_GRADIENT: Final = 0.01
"""OKLab units per pixel: no edge is weaker."""
_CELL_BLUR: Final = 1.0


def structure_descriptor(picture: Picture) -> NDArray[np.float32]:
    """A unit vector of a picture's composition; its squared distances are 2 - 2 cosine.

    The picture is brought to 64 x 64 pixels, its OKLab gradients are sorted into 6 orientations (without sign) on a
    16 x 16 grid, weak ones left out, and compressed by the square root.

    Args:
        picture: RGB, uint8, (height, width, 3); proportions are not kept.

    Returns:
        (16 x 16 x 6,), of length 1; all zeros for a picture without edges.
    """
    dy, dx = _strongest_gradient(_shrunk(picture_oklab(picture)))
    size = np.hypot(dx, dy)
    size = np.where(size >= max(FLOOR * float(np.median(size)), LEAST_GRADIENT), size, 0.0)
    angle = np.arctan2(dy, dx) % np.pi
    maps = [_pooled(size * _membership(angle, index)) for index in range(N_ORIENTATIONS)]
    values = np.sqrt(np.stack(maps, axis=-1)).ravel()
    length = float(np.linalg.norm(values))
    return (values / length if length > 0 else values).astype(np.float32)


def composition_reach(training: NDArray[Any]) -> float | Missing:
    """How near compositions must be to count as those of the training pictures.

    Args:
        training: Structure descriptors of the training pictures without duplicates, (m, d).

    Returns:
        The 90th percentile of the distances 2 - 2 cosine from each training picture to its nearest fellow; or why
        there is none.
    """
    if len(training) < LEAST_TRAINING:
        return Missing(
            f"compositions need at least {LEAST_TRAINING} different training pictures; found {len(training)}. "
            "Read composition_collapse instead."
        )
    distances = 2.0 - 2.0 * np.asarray(training, dtype=np.float64) @ np.asarray(training, dtype=np.float64).T
    np.fill_diagonal(distances, np.inf)
    return float(np.quantile(distances.min(axis=1), INSIDE))


def composition_copies(descriptors: NDArray[Any], training: NDArray[Any], *, reach: float) -> NDArray[np.bool_]:
    """Which pictures have a composition as near to a training picture's as those are to each other.

    Many innocent pictures have: read the candidate's share against the control's of the same cases and seeds. Since
    the descriptor does not see the style, the control's share is what following the prompt gives by itself.

    Args:
        descriptors: Structure descriptors of generated pictures, (n, d).
        training: Those of the training pictures, (m, d).
        reach: From `composition_reach`.

    Returns:
        (n,).
    """
    cosines = np.asarray(descriptors, dtype=np.float64) @ np.asarray(training, dtype=np.float64).T
    return np.asarray(2.0 - 2.0 * cosines.max(axis=1) <= reach)


def _shrunk(lab: Floats) -> Floats:
    from scipy.ndimage import gaussian_filter, zoom

    height, width = lab.shape[:2]
    blur = (0.6 * height / SIDE, 0.6 * width / SIDE, 0.0)
    scale = (SIDE / height, SIDE / width, 1.0)
    return np.asarray(zoom(gaussian_filter(lab, blur, mode="nearest"), scale, order=1, grid_mode=True, mode="nearest"))


def _strongest_gradient(lab: Floats) -> tuple[Floats, Floats]:
    """Gradient along rows and columns of the channel where it is strongest, (64, 64) each."""
    dy, dx = np.gradient(lab, axis=(0, 1))
    channel = np.argmax(dx**2 + dy**2, axis=-1)[..., None]
    return np.take_along_axis(dy, channel, -1)[..., 0], np.take_along_axis(dx, channel, -1)[..., 0]


def _membership(angle: Floats, index: int) -> Floats:
    """Linear weight of an orientation bin, circular over half a turn."""
    width = np.pi / N_ORIENTATIONS
    apart = np.abs((angle - index * width + np.pi / 2) % np.pi - np.pi / 2)
    return np.maximum(0.0, 1.0 - apart / width)


def _pooled(values: Floats) -> Floats:
    from scipy.ndimage import gaussian_filter

    cells = values.reshape(GRID, SIDE // GRID, GRID, SIDE // GRID).sum(axis=(1, 3))
    return np.asarray(gaussian_filter(cells, _CELL_BLUR, mode="constant"))
