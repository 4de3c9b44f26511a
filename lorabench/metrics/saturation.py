"""Over-cooked colour: chroma, clipped colours and contrast, which rise when strength or guidance is too high."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.color import check_picture, chroma, oklab, picture_oklab
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.records.measurement import Metric

CLIPPED_SHARE: Final = Metric(
    name="clipped_share",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="share of the pixels that are coloured and have a channel at its end",
)
MEAN_CHROMA: Final = Metric(
    name="mean_chroma",
    version=2,
    higher_is_better=False,
    unit="OKLCh chroma",
    summary="mean colourfulness of the most colourful tenth of the pixels",
)
RMS_CONTRAST: Final = Metric(
    name="rms_contrast",
    version=1,
    higher_is_better=False,
    unit="OKLab lightness",
    summary="standard deviation of lightness",
)

LOW_END: Final = 2
HIGH_END: Final = 253
"""Levels up to which, or from which on, a channel is clipped."""
LEAST_CHROMA: Final = 0.05
"""OKLCh chroma above which a clipped pixel is a colour, not ink or paper."""
COLOURFUL_SHARE: Final = 0.1
"""Share of the pixels whose chroma is read: the most colourful ones. A mean over all pixels falls where pushed contrast
bleaches a tinted page to white, and so misses burnt drawings on such pages."""


def mean_chroma(picture: NDArray[np.uint8]) -> float:
    """Mean OKLCh chroma of the most colourful tenth of a picture's pixels.

    It never falls when pixels gain chroma, and pale ground that becomes white does not move it while a tenth of the
    picture is more colourful than that ground.

    >>> mean_chroma(np.full((4, 4, 3), 128, dtype=np.uint8)) < 1e-3
    True

    Args:
        picture: RGB, uint8, (height, width, 3).

    Returns:
        0 for greys; up to about 0.32, that of pure blue and magenta.
    """
    values = chroma(picture_oklab(picture)).ravel()
    n_read = math.ceil(COLOURFUL_SHARE * values.size)
    return float(np.partition(values, values.size - n_read)[-n_read:].mean())


def clipped_share(picture: NDArray[np.uint8]) -> float:
    """Share of a picture's pixels that are coloured and have a channel at its end.

    Args:
        picture: RGB, uint8, (height, width, 3).

    Returns:
        0 to 1. Black ink and white paper do not count.
    """
    check_picture(picture)
    at_end = ((picture <= LOW_END) | (picture >= HIGH_END)).any(axis=2)
    coloured = chroma(oklab(picture[at_end] / 255.0)) > LEAST_CHROMA
    return float(coloured.sum() / at_end.size)


def rms_contrast(picture: NDArray[np.uint8]) -> float:
    """Standard deviation of the OKLab lightness of a picture's pixels.

    Args:
        picture: RGB, uint8, (height, width, 3).

    Returns:
        0 for an even picture, 0.5 for half black and half white.
    """
    return float(picture_oklab(picture)[..., 0].std())


SATURATION: Final = (
    PictureMetric(MEAN_CHROMA, mean_chroma),
    PictureMetric(CLIPPED_SHARE, clipped_share),
    PictureMetric(RMS_CONTRAST, rms_contrast),
)
"""Facts and readers of this module's metrics."""
