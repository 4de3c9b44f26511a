"""Photograph or illustration, in the eyes of an encoder of pictures and sentences."""

import math

import numpy as np
import pytest

from lorabench.metrics.photo_look import (
    ILLUSTRATION_TEXTS,
    PHOTO_TEXTS,
    TEXTS,
    auc,
    photo_look_problem,
    photo_probability,
)
from lorabench.metrics.reading import Missing

PHOTO, DRAWING = np.eye(2)
SENTENCES = np.stack([PHOTO] * len(PHOTO_TEXTS) + [DRAWING] * len(ILLUSTRATION_TEXTS))


def test_there_are_eight_sentences_of_each_kind_and_none_twice() -> None:
    assert (len(PHOTO_TEXTS), len(ILLUSTRATION_TEXTS)) == (8, 8)
    assert len(set(TEXTS)) == 16


def test_probability_is_the_logistic_function_of_the_scaled_difference_of_cosines() -> None:
    between = np.array([0.6, 0.8])

    found = photo_probability(np.stack([PHOTO, DRAWING, between]), SENTENCES, logit_scale=10.0)

    assert found == pytest.approx([1 / (1 + math.exp(-10)), 1 / (1 + math.exp(10)), 1 / (1 + math.exp(2))])


def test_large_logits_do_not_overflow() -> None:
    assert photo_probability(np.stack([PHOTO, DRAWING]), SENTENCES, logit_scale=1e6) == pytest.approx([1.0, 0.0])


def test_sentences_must_be_the_ones_that_are_named() -> None:
    with pytest.raises(ValueError, match=r"the photo look needs 16 sentences; got 3"):
        photo_probability(np.eye(2), SENTENCES[:3], logit_scale=1.0)


def test_auc_counts_ties_half() -> None:
    assert auc([1, 1], [1, 1]) == 0.5
    assert auc([3, 4], [1, 2]) == 1.0
    assert auc([1, 2], [3, 4]) == 0.0


def test_look_is_trusted_only_where_base_and_training_pictures_are_told_apart() -> None:
    high, low = np.linspace(0.8, 0.9, 8), np.linspace(0.1, 0.3, 8)
    mixed = photo_look_problem(low, high)
    few = photo_look_problem(high[:4], low)

    assert photo_look_problem(high, low) is None
    assert isinstance(mixed, Missing)
    assert isinstance(few, Missing)
    assert "AUC of 0.95; found 0.00" in mixed.reason
    assert "at least 5 training pictures and pictures of the base (B0); found 8 and 4" in few.reason
