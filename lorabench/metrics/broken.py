"""Broken pictures: hard checks, no statistics.

A plain illustration is not broken. A picture is called broken only when next to nothing is drawn on it: its luma has a
standard deviation under 2 grey levels, or more than 99 % of its pixels fall into one 5-bit colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.color import luma
from lorabench.records.images import Image
from lorabench.records.measurement import Metric

BROKEN_RATE: Final = Metric(
    name="broken_rate",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="1 where a picture is unusable: not finite, empty, black, of the wrong size, the same for two seeds",
)

LEAST_LUMA_STD: Final = 2.0
"""Grey levels."""
MOST_ONE_COLOR: Final = 0.99
"""Share of the pixels within one 5-bit colour."""
BLACK: Final = 2
"""Brightest level of an all-black picture."""


def broken_reason(pixels: NDArray[Any], *, size: tuple[int, int] | None = None) -> str | None:
    """Why a picture is unusable; None if it is not.

    Args:
        pixels: RGB, (height, width, 3): uint8, or floats on the scale 0 to 255.
        size: Height and width asked for; None does not check them.

    Returns:
        The reason, or None.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
        return f"wrong shape: {pixels.shape} instead of (height, width, 3)"
    if size is not None and pixels.shape[:2] != size:
        return f"wrong size: {pixels.shape[1]} x {pixels.shape[0]} instead of {size[1]} x {size[0]}"
    return nonfinite_reason(pixels) or _empty_reason(pixels)


def _empty_reason(pixels: NDArray[Any]) -> str | None:
    if pixels.max() == 0:
        return "all black, every value 0: what a safety checker puts in the place of a picture"
    if pixels.max() <= BLACK:
        return f"all black: no value above {BLACK}"
    if (spread := float(luma(pixels).std())) < LEAST_LUMA_STD:
        return f"empty: luma varies by {spread:.2f} grey levels only (needs {LEAST_LUMA_STD:g})"
    if (share := _largest_color_share(pixels)) > MOST_ONE_COLOR:
        return f"empty: {share:.2%} of the pixels have one colour (more than {MOST_ONE_COLOR:.0%})"
    return None


def nonfinite_reason(values: NDArray[Any]) -> str | None:
    """Why latents or float pixels of any shape are unusable: NaN or infinite values; None if all are finite."""
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    return f"not finite: {n_bad} of {values.size} values are NaN or infinite" if n_bad else None


def same_for_other_seed(images: Sequence[Image]) -> dict[str, str]:
    """Pictures that come out the same for different seeds of one arm, case and scale.

    Args:
        images: Pictures of a run.

    Returns:
        Cell key to reason, for each picture that has such a twin.
    """
    groups: dict[tuple[object, ...], list[Image]] = {}
    for image in images:
        cell = image.cell
        groups.setdefault((cell.arm, cell.case, cell.scale, image.sha256), []).append(image)
    return {
        image.cell.key: f"the same pixels for seeds {', '.join(str(twin.cell.seed) for twin in twins)}"
        for twins in groups.values()
        if len({twin.cell.seed for twin in twins}) > 1
        for image in twins
    }


def _largest_color_share(pixels: NDArray[Any]) -> float:
    coarse = np.clip(pixels, 0, 255).astype(np.int64).reshape(-1, 3) >> 3
    codes = (coarse[:, 0] << 10) | (coarse[:, 1] << 5) | coarse[:, 2]
    return float(np.bincount(codes).max() / len(codes))
