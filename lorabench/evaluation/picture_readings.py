"""Images → Features: every metric that needs nothing but the picture, read once per distinct picture and kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.picture_metrics import PICTURE_METRICS
from lorabench.metrics.reading import Missing
from lorabench.storage.arrays import array_key

if TYPE_CHECKING:
    from lorabench.storage.arrays import ArrayCache

Readings = Mapping[str, float | Missing]
"""Metric name to number, or to why there is none."""


def read_pictures(
    pictures: Sequence[NDArray[np.uint8]],
    digests: Sequence[str],
    *,
    arrays: ArrayCache,
    metrics: Sequence[PictureMetric] = PICTURE_METRICS,
) -> list[Readings]:
    """Read pictures with every picture metric, asking the cache first.

    Args:
        pictures: RGB, 0 to 255.
        digests: Of their pixels.
        arrays: Keeps the numbers, one array per picture; what is missing is kept as NaN and its reason found anew.
        metrics: What is read.

    Returns:
        One mapping per picture.
    """
    if not pictures or not metrics:
        return [{} for _ in pictures]
    versions = [[one.metric.name, one.metric.version] for one in metrics]
    keys = [
        array_key(digest, encoder="picture-metrics", weights_digest="", parameters={"metrics": versions})
        for digest in digests
    ]

    def compute(missing: list[int]) -> NDArray[np.float32]:
        return np.array([[_number(one.read(pictures[index])) for one in metrics] for index in missing], np.float32)

    rows = arrays.rows(keys, compute)
    return [
        {one.metric.name: _reading(one, picture, float(value)) for one, value in zip(metrics, row, strict=True)}
        for picture, row in zip(pictures, rows, strict=True)
    ]


def _number(reading: float | Missing) -> float:
    return math.nan if isinstance(reading, Missing) else reading


def _reading(metric: PictureMetric, picture: NDArray[np.uint8], value: float) -> float | Missing:
    return metric.read(picture) if math.isnan(value) else value
