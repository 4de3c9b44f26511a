"""Boxes in pixels: left, top, right, bottom; x to the right, y downwards."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""(n, 4)."""


def intersection_over_union(box: NDArray[np.float64], others: Boxes) -> NDArray[np.float64]:
    """Overlap of one box with others, 0 to 1, (n,); 0 where both have no area."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])  # (n,)
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])  # (n,)
    shared = np.clip(width, 0, None) * np.clip(height, 0, None)
    union = area(box[None])[0] + area(others) - shared
    overlap: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def area(boxes: Boxes) -> NDArray[np.float64]:
    """Areas in square pixels, (n,)."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)  # (n, 2)
    areas: NDArray[np.float64] = sides.prod(axis=1)
    return areas


def suppressed(boxes: Boxes, scores: NDArray[np.float64], *, max_overlap: float) -> list[int]:
    """Greedy suppression among boxes of one class.

    Boxes are taken by falling score; one is kept if its overlap with every kept one is at most `max_overlap`.

    Args:
        boxes: (n, 4).
        scores: (n,).
        max_overlap: Intersection over union, 0 to 1.

    Returns:
        Indices of the kept boxes, by falling score.
    """
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if not kept or intersection_over_union(boxes[index], boxes[kept]).max() <= max_overlap:
            kept.append(int(index))
    return kept
