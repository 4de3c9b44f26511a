"""Training sets, ratios, calibration and readings on points of known geometry."""

import numpy as np
import pytest

from lorabench.errors import MeasurementError
from lorabench.metrics.memorisation import (
    CopyCalibration,
    calibrate_copies,
    copy_sensitivity,
    leave_one_out,
    lower_tail,
    neighbour_count,
    neighbour_ratios,
    read_copies,
    training_set,
)
from lorabench.metrics.reading import Missing

D = 256


def points(n: int, *, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).normal(size=(n, D))).astype(np.float32)


def mirror(vectors: np.ndarray) -> np.ndarray:
    return vectors[:, ::-1].copy()


def prepared(m: int = 40, *, seed: int = 0):
    vectors = points(m, seed=seed)
    training = training_set(vectors, mirror(vectors))
    calibration = calibrate_copies(training, points(60, seed=seed + 1))
    assert isinstance(calibration, CopyCalibration)
    return vectors, training, calibration


def copies(vectors: np.ndarray, training, calibration) -> list[bool | None]:
    return [reading.is_copy for reading in read_copies(vectors, training, calibration)]


def test_duplicates_and_mirrored_duplicates_are_taken_out() -> None:
    vectors = points(6)
    vectors[3], vectors[5] = vectors[1], mirror(vectors)[2]

    training = training_set(vectors, mirror(vectors))

    assert training.kept == (0, 1, 2, 4)
    assert training.n_duplicates == 2


def test_duplicates_left_in_would_hide_a_copy() -> None:
    assert neighbour_ratios([[0.01, 0.01, 1.0]], n_neighbours=1) == pytest.approx([1.0])
    assert neighbour_ratios([[0.01, 1.0, 1.0]], n_neighbours=1) == pytest.approx([0.01])


def test_ratio_is_nearest_over_mean_of_next() -> None:
    assert neighbour_ratios([[0.6, 0.1, 0.4, 9.0]], n_neighbours=2) == pytest.approx([0.1 / 0.5])


@pytest.mark.parametrize(("m", "k"), [(3, 1), (5, 3), (12, 10), (500, 10)])
def test_null_and_picture_are_averaged_over_equally_many(m: int, k: int) -> None:
    assert neighbour_count(m) == k
    assert leave_one_out(training_set(points(m), mirror(points(m)))).shape == (m, m - 1)


def test_noisy_copy_is_found_with_its_picture() -> None:
    vectors, training, calibration = prepared()
    generated = np.concatenate([vectors[[7]] + points(1, seed=5, scale=0.2), points(1, seed=6)])

    copy, fresh = read_copies(generated, training, calibration)

    assert (copy.training_index, copy.is_copy, copy.mirrored) == (7, True, False)
    assert copy.ratio == pytest.approx(0.02, abs=0.01)
    assert not fresh.is_copy


def test_mirrored_copy_is_found() -> None:
    vectors, training, calibration = prepared()

    (reading,) = read_copies(mirror(vectors)[[7]] + points(1, seed=5, scale=0.2), training, calibration)

    assert (reading.training_index, reading.is_copy, reading.mirrored) == (7, True, True)


def test_style_contraction_is_no_copying() -> None:
    _, training, calibration = prepared()
    contracted = points(200, seed=9, scale=0.5)

    readings = read_copies(contracted, training, calibration)

    assert np.mean([r.distance for r in readings]) < 0.8 * leave_one_out(training).min(axis=1).mean()
    assert np.mean([bool(r.is_copy) for r in readings]) <= 0.02


def test_exact_copy_in_two_different_pictures_index_space_keeps_the_folders_numbers() -> None:
    vectors = points(12)
    vectors[1] = vectors[0]
    training = training_set(vectors, mirror(vectors))
    calibration = calibrate_copies(training, points(60, seed=3))

    assert [r.training_index for r in read_copies(vectors[2:5], training, calibration)] == [2, 3, 4]
    assert all(r.is_copy for r in read_copies(vectors[2:5], training, calibration))


def test_control_pictures_are_rarely_called_copies() -> None:
    _, training, calibration = prepared()

    assert np.mean([bool(c) for c in copies(points(300, seed=77), training, calibration)]) <= 0.03


def test_threshold_is_the_lower_of_the_two_nulls() -> None:
    _, _, calibration = prepared()

    tails = lower_tail(calibration.training_null), lower_tail(calibration.control_null)
    assert calibration.threshold == min(tails)


def test_a_few_training_pictures_leave_the_controls_null_only() -> None:
    vectors = points(6)
    calibration = calibrate_copies(training_set(vectors, mirror(vectors)), points(25, seed=3))

    assert isinstance(calibration, CopyCalibration)
    assert calibration.training_null.size == 0
    assert calibration.method == "control: tolerance limit on 25, coarse"


@pytest.mark.parametrize(
    ("m", "n", "reason"),
    [(2, 60, "at least 3 different training pictures; found 2"), (20, 9, "at least 10 control pictures")],
)
def test_too_little_to_calibrate_gives_no_verdict(m: int, n: int, reason: str) -> None:
    training = training_set(points(m), mirror(points(m)))
    calibration = calibrate_copies(training, points(n, seed=3))

    assert isinstance(calibration, Missing)
    assert reason in calibration.reason
    (reading,) = read_copies(points(1, seed=4), training, calibration)
    assert (reading.ratio, reading.is_copy) == (None, None)


def test_training_set_of_one_picture_many_times_gives_no_verdict() -> None:
    same = np.repeat(points(1), 8, axis=0)

    calibration = calibrate_copies(training_set(same, mirror(same)), points(20, seed=3))

    assert isinstance(calibration, Missing)
    assert "found 1 (and 7 duplicates)" in calibration.reason


def test_empty_training_set_is_refused() -> None:
    with pytest.raises(MeasurementError, match="memorisation needs training pictures; found none"):
        training_set(points(0), points(0))


def test_mirror_images_must_fit() -> None:
    with pytest.raises(ValueError, match="must both be"):
        training_set(points(3), points(2))


def test_neighbours_at_no_distance_are_refused() -> None:
    with pytest.raises(MeasurementError, match="Take duplicates out"):
        neighbour_ratios([[0.0, 0.0, 0.0]], n_neighbours=2)
    with pytest.raises(ValueError, match="Use neighbour_count"):
        neighbour_ratios([[0.1]], n_neighbours=1)


def test_fewer_null_values_lower_the_threshold() -> None:
    many = np.exp(np.random.default_rng(0).normal(0, 0.2, 400))

    assert np.median([lower_tail(many[i : i + 12]) for i in range(0, 396, 12)]) < lower_tail(many)


def test_null_with_zeros_finds_exact_copies_only() -> None:
    assert lower_tail([0.0, 0.5, 0.6]) == 0.0


def test_sensitivity_is_the_share_of_planted_copies_found() -> None:
    vectors, training, calibration = prepared()
    planted = np.concatenate([vectors[:3], points(1, seed=8)])

    assert copy_sensitivity(planted, training, calibration) == 0.75
    with pytest.raises(ValueError, match="sensitivity needs planted copies"):
        copy_sensitivity(points(0), training, calibration)
