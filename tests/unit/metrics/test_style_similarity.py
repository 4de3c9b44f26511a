"""Likeness to the training pictures, to all of them rather than a few, and how like references are to each other."""

import math

import numpy as np
import pytest

from lorabench.metrics.identity import case_consistency
from lorabench.metrics.style_similarity import csls_similarity, likeness_level, mean_cosine

RNG = np.random.default_rng(1)


def unit(*rows: list[float]) -> np.ndarray:
    vectors = np.array(rows, dtype=float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_csls_by_hand() -> None:
    g, t, b = unit([1, 0, 0]), unit([1, 0, 0], [0, 1, 0]), unit([0, 1, 0], [0, 0, 1])

    # cosines 1 and 0, their mean .5; r_T = mean of both (fewer than five); r_G of the two: 0 and .5
    assert csls_similarity(g, t, b)[0] == pytest.approx(2 * 0.5 - 0.5 - 0.25)


def test_likeness_to_all_training_pictures_counts_more_than_the_same_likeness_to_a_few() -> None:
    training, background = np.eye(20)[:12], np.eye(20)[12:]
    even = np.zeros((1, 20))
    even[0, :12] = 1 / 12
    few = np.zeros((1, 20))
    few[0, :2] = 1 / 2
    rest = np.eye(20)[15:16]  # both have one mean cosine, and unit length by what lies outside
    pictures = np.concatenate([one + rest * math.sqrt(1 - float((one**2).sum())) for one in (even, few)])

    plain = mean_cosine(pictures, training)
    corrected = csls_similarity(pictures, training, background)

    assert plain[0] == pytest.approx(plain[1])
    assert corrected[0] - corrected[1] == pytest.approx(1 / 5 - 1 / 12)


def test_turning_all_vectors_changes_no_similarity() -> None:
    turn, _ = np.linalg.qr(RNG.normal(size=(8, 8)))
    g, t, b = (unit(*RNG.normal(size=(n, 8)).tolist()) for n in (3, 6, 7))

    assert csls_similarity(g @ turn, t @ turn, b @ turn) == pytest.approx(csls_similarity(g, t, b))


def test_csls_needs_both_sides() -> None:
    with pytest.raises(ValueError, match=r"csls needs training and background pictures; got 0 and 2"):
        csls_similarity(np.eye(2), np.empty((0, 2)), np.eye(2))
    with pytest.raises(ValueError, match=r"a likeness needs references; got none"):
        mean_cosine(np.eye(2), np.empty((0, 2)))


def test_likeness_level_leaves_each_reference_itself_out() -> None:
    level, error = likeness_level(np.eye(5))

    assert (level, error) == (0.0, 0.0)
    assert likeness_level(np.ones((4, 1)))[0] == 1.0


def test_consistency_needs_two_pictures() -> None:
    assert case_consistency(np.eye(3)[:1]) is None
    assert case_consistency(np.stack([np.eye(3)[0]] * 4)) == pytest.approx(1.0)
