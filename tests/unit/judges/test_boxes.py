from __future__ import annotations

import numpy as np
import pytest

from lorabench.judges.boxes import area, intersection_over_union, suppressed


def test_overlap_of_known_boxes() -> None:
    box = np.array([0.0, 0, 10, 10])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [10, 0, 20, 10]])

    assert intersection_over_union(box, others) == pytest.approx([1, 1 / 3, 0, 0])


def test_boxes_without_area_do_not_overlap() -> None:
    point = np.array([1.0, 1, 1, 1])

    assert intersection_over_union(point, point[None]) == pytest.approx([0])
    assert area(np.array([[3.0, 3, 1, 1]])) == pytest.approx([0])


def test_best_box_of_an_overlapping_group_is_kept() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10], [0, 0, 10, 4]])
    scores = np.array([0.6, 0.9, 0.5, 0.4])

    assert suppressed(boxes, scores, max_overlap=0.5) == [1, 2, 3]


def test_overlap_at_the_limit_is_kept() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 5]])

    assert suppressed(boxes, np.array([0.9, 0.8]), max_overlap=0.5) == [0, 1]
    assert suppressed(boxes, np.array([0.9, 0.8]), max_overlap=0.49) == [0]


def test_no_boxes_keep_none() -> None:
    assert suppressed(np.empty((0, 4)), np.empty(0), max_overlap=0.5) == []
