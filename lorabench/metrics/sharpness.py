"""Blur and shallow focus: how wide edges are drawn, whatever their height and number.

Counting strong gradients instead would call a half-empty or pale picture blurred.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.edges import Floats, edge_sigmas
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

BOKEH_SHARE: Final = Metric(
    name="bokeh_share",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="share of the edges that are out of focus",
)
EDGE_SIGMA: Final = Metric(
    name="edge_sigma",
    version=1,
    higher_is_better=False,
    unit="log px",
    summary="how wide edges are drawn: blur, as the logarithm of a sigma in pixels",
)

LEAST_EDGES: Final = 40
"""Edge pixels that a picture must have before anything is said of its edges."""
LEAST_SIGMA: Final = 0.5
"""Pixels. Narrower edges count as this wide: pixels themselves have no finer ones."""
FOCUS_SIGMA: Final = 2.0
"""Pixels. Wider edges are out of focus."""


def edge_sigma(picture: NDArray[Any]) -> float | Missing:
    """Median width of a picture's edges.

    Args:
        picture: RGB, (height, width, 3), 0 to 255.

    Returns:
        The sigma, in pixels, of the Gaussian that would blur a step as much; 0.5 to 10. Or why there is none.
    """
    sigmas = edge_sigmas(picture)
    return _too_few(sigmas) or max(float(np.median(sigmas)), LEAST_SIGMA)


def log_edge_sigma(picture: NDArray[Any]) -> float | Missing:
    """Natural logarithm of `edge_sigma`: differences are log ratios, 0.22 for edges a quarter wider."""
    sigma = edge_sigma(picture)
    return sigma if isinstance(sigma, Missing) else math.log(sigma)


def bokeh_share(picture: NDArray[Any]) -> float | Missing:
    """Share of the edge pixels whose edge is wider than 2 pixels.

    Args:
        picture: RGB, (height, width, 3), 0 to 255.

    Returns:
        0 to 1, or why there is none.
    """
    sigmas = edge_sigmas(picture)
    return _too_few(sigmas) or float((sigmas > FOCUS_SIGMA).mean())


def _too_few(sigmas: Floats) -> Missing | None:
    if len(sigmas) >= LEAST_EDGES:
        return None
    return Missing(
        f"the width of edges needs {LEAST_EDGES} edge pixels in a picture; found {len(sigmas)}. "
        "An empty or very soft picture has none."
    )


SHARPNESS: Final = (
    PictureMetric(EDGE_SIGMA, log_edge_sigma),
    PictureMetric(BOKEH_SHARE, bokeh_share),
)
"""Facts and readers of this module's metrics."""
