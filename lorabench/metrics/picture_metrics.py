"""All metrics that need nothing but the picture, in the order of reports."""

from __future__ import annotations

from typing import Final

from lorabench.metrics.clutter import COMPONENTS, DENSITY, EMPTY_SPACE
from lorabench.metrics.halo import HALO
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.saturation import SATURATION
from lorabench.metrics.sharpness import SHARPNESS
from lorabench.metrics.texture import HOT_TILES

PICTURE_METRICS: Final[tuple[PictureMetric, ...]] = (
    *SHARPNESS,
    *HALO,
    *SATURATION,
    HOT_TILES,
    EMPTY_SPACE,
    COMPONENTS,
    DENSITY,
)
"""Read on every picture of a run and on the training pictures after their round trip."""
