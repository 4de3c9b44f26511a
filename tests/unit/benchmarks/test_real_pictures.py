"""How the benchmark on real pictures counts, and that its contaminations are what they say."""

import numpy as np
import pytest

from benchmarks.real_pictures import FAULTS, grain, jpeg, photo_texture, resized, saturated, tile_grain, told_apart


def flat(size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), (180, 120, 90), dtype=np.uint8)


def test_auc_counts_pairs_and_halves_ties() -> None:
    found = told_apart(np.array([3.0, 1.0]), np.array([1.0, 0.0, np.nan]), higher=False, paired=False)

    assert found["auc"] == pytest.approx((2 + 0.5 + 1) / 4)
    assert found["n"] == [2, 2]
    assert found["low"] <= found["auc"] <= found["high"]


def test_direction_follows_the_detector() -> None:
    worse, better = np.array([0.1, 0.2]), np.array([0.8, 0.9])

    assert told_apart(worse, better, higher=True, paired=False)["auc"] == 1.0
    assert told_apart(worse, better, higher=False, paired=False)["auc"] == 0.0


def test_pairs_say_how_often_and_how_far_a_picture_moved() -> None:
    found = told_apart(np.array([1.0, 2.0, np.nan]), np.array([0.5, 2.0, 9.0]), higher=False, paired=True)

    assert found["n"] == [2, 2]
    assert found["worse"] == 0.5
    assert found["median_shift"] == 0.25


def test_interval_of_two_equal_sets_holds_chance() -> None:
    values = np.random.default_rng(0).normal(size=40)

    found = told_apart(values, np.random.default_rng(1).normal(size=40), higher=False, paired=False)

    assert found["low"] < 0.5 < found["high"]


def test_contaminations_are_of_the_size_they_say() -> None:
    rng = np.random.default_rng(2)

    assert grain(flat(), rng).std(axis=(0, 1)) == pytest.approx([1.5] * 3, rel=0.1)
    spoilt = np.any(tile_grain(flat(), rng) != flat(), axis=2)
    assert spoilt[16:32, 32:48].mean() > 0.8
    assert spoilt.sum() == spoilt[16:32, 32:48].sum()
    assert resized(flat(100)).shape == (80, 80, 3)
    assert np.array_equal(photo_texture(flat(), flat()), flat())
    assert saturated(flat())[0, 0].tolist() == [198, 114, 72]
    assert jpeg(flat(), 75).shape == flat().shape


def test_every_contamination_names_the_detectors_whose_work_it_is_but_the_harmless_one() -> None:
    assert {name for name, (_, own) in FAULTS.items() if not own} == {"resized only"}
