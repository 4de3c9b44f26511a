"""What a metric is that needs nothing but the picture: its facts and the function that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric


@dataclass(frozen=True, slots=True)
class PictureMetric:
    """A number per picture that no judge, no prompt and no other picture has a part in.

    Attributes:
        metric: Its facts.
        read: From RGB pixels, (height, width, 3), 0 to 255, to the number, or to why there is none.
    """

    metric: Metric
    read: Callable[[NDArray[Any]], float | Missing]
