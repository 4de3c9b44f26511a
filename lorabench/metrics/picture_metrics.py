"""All metrics that need nothing but the picture, in the order of reports."""

from __future__ import annotations

from typing import Final

from lorabench.metrics.picture_metric import PictureMetric

PICTURE_METRICS: Final[tuple[PictureMetric, ...]] = ()
"""Read on every picture of a run and on the training pictures after their round trip."""
