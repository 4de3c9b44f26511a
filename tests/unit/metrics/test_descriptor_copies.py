"""Copy descriptors on vectors with a known answer: edited copies are found, a shared style is not a copy."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.errors import MeasurementError
from lorabench.metrics.descriptor_copies import (
    N_VIEWS,
    DescribedSet,
    background_level,
    calibrate_descriptors,
    described_set,
    picture_views,
    read_descriptors,
    training_views,
    view_similarities,
)
from lorabench.metrics.memorisation import CopyCalibration
from lorabench.metrics.reading import Missing

WIDTH = 256


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def seen(n: int, rng: np.random.Generator, *, n_views: int = N_VIEWS, style: float = 0.0) -> np.ndarray:
    """Views of n unrelated pictures: a picture's views are like each other; `style` is what all pictures share."""
    shared = np.zeros(WIDTH)
    shared[0] = np.sqrt(WIDTH * style)
    whole = rng.normal(size=(n, 1, WIDTH)) + shared
    return unit(whole + 0.6 * rng.normal(size=(n, n_views, WIDTH)))


def copies_of(training: np.ndarray, rng: np.random.Generator, *, view: int, noise: float = 0.5) -> np.ndarray:
    """Pictures whose whole is one view of a training picture, edited."""
    views = seen(len(training), rng)
    views[:, 0] = unit(training[:, view] + noise * unit(rng.normal(size=(len(training), WIDTH))))
    return views


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.fixture
def training(rng: np.random.Generator) -> DescribedSet:
    return described_set(seen(24, rng, n_views=2 * N_VIEWS, style=0.3))


def read(views: np.ndarray, training: DescribedSet, rng: np.random.Generator) -> list[bool]:
    control, cases = seen(40, rng), np.repeat(np.arange(20), 2).astype(str)
    calibration = calibrate_descriptors(training, control)
    assert isinstance(calibration, CopyCalibration)
    of = np.array([f"case-{n}" for n in range(len(views))])
    readings = read_descriptors(views, training, calibration, cases=of, control=control, control_cases=cases)
    return [reading.is_copy for reading in readings]


@pytest.mark.parametrize("view", [0, 3, N_VIEWS, N_VIEWS + 2], ids=["whole", "part", "mirrored", "mirrored part"])
def test_edited_copies_of_every_view_are_found(training: DescribedSet, rng: np.random.Generator, view: int) -> None:
    assert all(read(copies_of(training.views, rng, view=view), training, rng))


def test_unrelated_pictures_are_no_copies(training: DescribedSet, rng: np.random.Generator) -> None:
    assert sum(read(seen(100, rng), training, rng)) <= 2


def test_a_learned_style_draws_nearer_to_all_and_copies_none(training: DescribedSet, rng: np.random.Generator) -> None:
    styled, plain = seen(100, rng, style=0.3), seen(100, rng)

    nearer = view_similarities(styled, training.views).max(axis=1) - view_similarities(plain, training.views).max(
        axis=1
    )

    assert nearer.mean() > 0.1
    assert sum(read(styled, training, rng)) <= 3


def test_views_are_the_whole_its_corners_and_its_centre() -> None:
    picture = np.arange(100 * 50 * 3, dtype=np.uint32).reshape(100, 50, 3).astype(np.uint8)

    views = picture_views(picture)

    assert [view.shape for view in views] == [(100, 50, 3)] + [(60, 30, 3)] * 5
    np.testing.assert_array_equal(views[1], picture[:60, :30])
    np.testing.assert_array_equal(views[4], picture[40:, 20:])
    np.testing.assert_array_equal(views[5], picture[20:80, 10:40])


def test_training_views_hold_the_mirror_image() -> None:
    picture = np.random.default_rng(1).integers(0, 255, (20, 20, 3), dtype=np.uint8)

    views = training_views(picture)

    assert len(views) == 2 * N_VIEWS
    np.testing.assert_array_equal(views[N_VIEWS], picture[:, ::-1])


def test_likeness_is_the_largest_of_all_pairs_of_views() -> None:
    one = np.array([[[1.0, 0.0], [0.0, 1.0]]])
    other = np.array([[[0.6, 0.8]], [[-1.0, 0.0]]])

    assert view_similarities(one, other).round(6).tolist() == [[0.8, 0.0]]


def test_background_level_is_the_mean_of_the_three_most_alike() -> None:
    similarities = np.array([[0.1, 0.4, 0.5, 0.6, np.nan], [-0.2, -0.1, np.nan, -0.3, -0.4], [np.nan] * 5])

    assert background_level(similarities).round(6).tolist() == [0.5, 0.0, 0.0]


def test_what_is_as_like_the_background_is_no_copy(training: DescribedSet, rng: np.random.Generator) -> None:
    """A picture that the base draws for other prompts, too, is not the adapter's memory."""
    views = copies_of(training.views, rng, view=0)
    control, cases = seen(40, rng), np.arange(40)
    known = np.concatenate([views[:1], views[:1], views[:1], control])
    calibration = calibrate_descriptors(training, control)
    assert isinstance(calibration, CopyCalibration)

    readings = read_descriptors(
        views[:2],
        training,
        calibration,
        cases=np.array([100, 101]),
        control=known,
        control_cases=np.concatenate([[90, 91, 92], cases]),
    )

    assert [reading.is_copy for reading in readings] == [False, True]
    assert readings[0].ratio < calibration.threshold


def test_exact_copy_has_ratio_zero(training: DescribedSet, rng: np.random.Generator) -> None:
    control, cases = seen(40, rng), np.arange(40)
    calibration = calibrate_descriptors(training, control)
    assert isinstance(calibration, CopyCalibration)

    (found,) = read_descriptors(
        training.views[4:5, :N_VIEWS], training, calibration, cases=np.array([99]), control=control, control_cases=cases
    )

    assert (found.training_index, found.is_copy) == (4, True)
    assert found.ratio == pytest.approx(0.0, abs=1e-5)


def test_duplicates_leave_one_picture(rng: np.random.Generator) -> None:
    views = seen(6, rng, n_views=2 * N_VIEWS)
    again = unit(views[2] + 0.01 * rng.normal(size=views[2].shape))

    found = described_set(np.concatenate([views, again[None]]))

    assert (found.kept, found.n_duplicates) == (tuple(range(6)), 1)


def test_no_training_pictures_is_said() -> None:
    with pytest.raises(MeasurementError, match=r"memorisation needs training pictures; found none"):
        described_set(np.empty((0, 12, 8), dtype=np.float32))


def test_too_few_pictures_give_no_threshold(rng: np.random.Generator) -> None:
    few = described_set(seen(2, rng, n_views=12))
    found = calibrate_descriptors(few, seen(20, rng))
    assert isinstance(found, Missing)
    assert "at least 3 different training pictures; found 2" in found.reason

    enough = described_set(seen(5, rng, n_views=12))
    found = calibrate_descriptors(enough, np.empty((0, 1, WIDTH)))
    assert isinstance(found, Missing)
    assert "at least 10 control pictures for a null; found 0" in found.reason


def test_a_picture_is_read_alike_whoever_its_batch_mates_are(training: DescribedSet, rng: np.random.Generator) -> None:
    control, cases = seen(30, rng), np.arange(30)
    calibration = calibrate_descriptors(training, control)
    assert isinstance(calibration, CopyCalibration)
    views, of = seen(5, rng), np.arange(100, 105)

    def readings(chosen: slice) -> list[float]:
        found = read_descriptors(
            views[chosen], training, calibration, cases=of[chosen], control=control, control_cases=cases
        )
        return [reading.ratio for reading in found]

    assert readings(slice(2, 3)) == pytest.approx(readings(slice(0, 5))[2:3], abs=1e-6)
