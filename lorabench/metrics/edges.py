"""Where a picture's edges run, and how wide each of them is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.color import luma

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LEAST_SLOPE: Final = 6.0
"""Slope of an edge's middle in grey levels per pixel, after a blur of one pixel."""
STRONG_SLOPE: Final = 12.0
"""The same for edges around which JPEG leaves marks."""
MOST_SIGMA: Final = 10.0
"""Width in pixels beyond which edges are not told apart."""
_BLUR: Final = 1.0
_MORE_BLUR: Final = 1.5
_DIRECTIONS: Final = ((0, 1), (1, 1), (1, 0), (1, -1))
"""Steps (rows, columns) along gradients of 0, 45, 90 and 135 degrees."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Edge pixels of a picture.

    Attributes:
        on_edge: (height, width), True where the slope is steepest across an edge.
        slope: (height, width), grey levels per pixel after a blur of one pixel.
    """

    on_edge: Mask
    slope: Floats

    @property
    def strong(self) -> Mask:
        """Edge pixels of at least `STRONG_SLOPE`, (height, width)."""
        return np.asarray(self.on_edge & (self.slope > STRONG_SLOPE))


def find_edges(values: Floats) -> Edges:
    """Pixels where the slope exceeds `LEAST_SLOPE` and both neighbours along the gradient are no steeper.

    Args:
        values: Luma, (height, width), 0 to 255.
    """
    from scipy.ndimage import gaussian_filter

    across = gaussian_filter(values, _BLUR, order=(0, 1), mode="nearest")
    down = gaussian_filter(values, _BLUR, order=(1, 0), mode="nearest")
    slope = np.hypot(across, down)
    rows, columns = np.nonzero(slope[1:-1, 1:-1] > LEAST_SLOPE)
    rows, columns = rows + 1, columns + 1
    turns = np.rint(np.arctan2(down[rows, columns], across[rows, columns]) / (np.pi / 4)).astype(int) % 4
    step = np.array(_DIRECTIONS)[turns]  # (n, 2)
    middle = slope[rows, columns]
    ahead = slope[rows + step[:, 0], columns + step[:, 1]]
    behind = slope[rows - step[:, 0], columns - step[:, 1]]
    steepest = (middle >= ahead) & (middle > behind)
    on_edge = np.zeros(values.shape, dtype=bool)
    on_edge[rows[steepest], columns[steepest]] = True
    return Edges(on_edge=on_edge, slope=slope)


def edge_sigmas(picture: NDArray[Any]) -> Floats:
    """Width of each edge pixel's edge, as the sigma of the Gaussian that would blur a step as much.

    A step blurred by s has, after a further blur of s0, a steepest slope proportional to 1/sqrt(s^2 + s0^2). The ratio
    R of two such slopes, without and with a further blur of sr, gives s^2 = sr^2 / (R^2 - 1) - s0^2, whatever
    the step's height. Here s0 = 1 and sr = 1.5 pixels.

    Args:
        picture: RGB, (height, width, 3), 0 to 255.

    Returns:
        Pixels, (n,), 0 to `MOST_SIGMA`, one per edge pixel.
    """
    from scipy.ndimage import gaussian_gradient_magnitude

    values = luma(picture)
    edges = find_edges(values)
    blurred = gaussian_gradient_magnitude(values, np.hypot(_BLUR, _MORE_BLUR), mode="nearest")
    ratio = (edges.slope[edges.on_edge] / np.maximum(blurred[edges.on_edge], 1e-12)) ** 2
    least = 1 + _MORE_BLUR**2 / (MOST_SIGMA**2 + _BLUR**2)
    return np.asarray(np.sqrt(np.maximum(_MORE_BLUR**2 / (np.maximum(ratio, least) - 1) - _BLUR**2, 0.0)))
