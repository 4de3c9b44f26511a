"""Copied parts on vectors with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from lorabench.metrics.memorisation import TrainingSet, training_set
from lorabench.metrics.reading import Missing
from lorabench.metrics.tile_copies import (
    N_TILES,
    TileCalibration,
    calibrate_tiles,
    read_tiles,
    tile_distances,
)

PER_TILE = 60
TILES = np.repeat(np.arange(N_TILES), PER_TILE)


def pictures(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(n, N_TILES * PER_TILE)).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(8)


@pytest.fixture
def training(rng: np.random.Generator) -> TrainingSet:
    return training_set(pictures(20, rng), pictures(20, rng))


def calibrated(training: TrainingSet, rng: np.random.Generator) -> TileCalibration:
    own = tile_distances(training.vectors, training, tiles=TILES)
    found = calibrate_tiles(own, tile_distances(pictures(40, rng), training, tiles=TILES))
    assert isinstance(found, TileCalibration)
    return found


def with_part(whole: np.ndarray, part: np.ndarray, tiles: list[int]) -> np.ndarray:
    made, inside = whole.copy(), np.isin(TILES, tiles)
    made[inside] = part[inside]
    return made


def test_distances_by_tile_average_to_the_distance_of_the_whole(
    training: TrainingSet, rng: np.random.Generator
) -> None:
    shown = pictures(3, rng)
    plain = TrainingSet(training.vectors, training.vectors, training.kept, 0)

    found = tile_distances(shown, plain, tiles=TILES)

    whole = ((shown[:, None] - training.vectors[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(found.mean(axis=1), whole, rtol=1e-5)


def test_a_copied_figure_on_a_new_ground_is_found_with_its_source(
    training: TrainingSet, rng: np.random.Generator
) -> None:
    calibration = calibrated(training, rng)
    figure = [5, 6, 9, 10]
    shown = np.stack([with_part(pictures(1, rng)[0], training.vectors[7], figure), pictures(1, rng)[0]])

    part, unrelated = read_tiles(tile_distances(shown, training, tiles=TILES), training, calibration)

    assert (part.training_index, part.n_tiles, part.is_part_copy) == (7, 4, True)
    assert part.share == 0.25
    assert not unrelated.is_part_copy


def test_a_mirrored_part_is_found(training: TrainingSet, rng: np.random.Generator) -> None:
    calibration = calibrated(training, rng)
    shown = with_part(pictures(1, rng)[0], training.mirrored[3], [0, 1, 4, 5])

    (found,) = read_tiles(tile_distances(shown[None], training, tiles=TILES), training, calibration)

    assert (found.training_index, found.is_part_copy) == (3, True)


def test_largest_tile_distance_tells_a_whole_copy_from_a_shared_ground(
    training: TrainingSet, rng: np.random.Generator
) -> None:
    calibration = calibrated(training, rng)
    whole = training.vectors[2] + 0.05 * pictures(1, rng)[0]
    ground = with_part(training.vectors[2], pictures(1, rng)[0], [5])

    copy, shared = read_tiles(tile_distances(np.stack([whole, ground]), training, tiles=TILES), training, calibration)

    assert copy.n_tiles == N_TILES
    assert shared.n_tiles == N_TILES - 1
    assert copy.largest_distance < 0.1 * shared.largest_distance


def test_empty_ground_is_nobodys(rng: np.random.Generator) -> None:
    """White tiles are like all white tiles; the nearest of them is singled out by rounding only."""
    empty = np.isin(TILES, list(range(8)))
    both = [pictures(20, rng) for _ in range(2)]
    for vectors in both:
        vectors[:, empty] *= 1e-3
    training = training_set(*both)
    calibration = calibrated(training, rng)
    shown = pictures(30, rng)
    shown[:, empty] = training.vectors[3, empty]

    found = read_tiles(tile_distances(shown, training, tiles=TILES), training, calibration)

    assert max(reading.n_tiles for reading in found) < 4
    assert not any(reading.is_part_copy for reading in found)


@pytest.mark.parametrize(("n_training", "n_control", "words"), [
    (9, 40, "at least 10 different training pictures for a null; found 9"),
    (20, 9, "at least 10 control pictures for a null; found 9"),
])  # fmt: skip
def test_too_few_pictures_give_no_calibration(
    n_training: int, n_control: int, words: str, rng: np.random.Generator
) -> None:
    found = calibrate_tiles(rng.random((n_training, N_TILES, n_training)), rng.random((n_control, N_TILES, n_training)))
    assert isinstance(found, Missing)
    assert words in found.reason


def test_training_pictures_that_share_a_frame_make_parts_unreadable(rng: np.random.Generator) -> None:
    vectors = pictures(20, rng)
    frame = np.isin(TILES, list(range(12)))
    vectors[1::2, frame] = vectors[::2, frame] + 0.01 * rng.normal(size=vectors[::2, frame].shape)
    training = training_set(vectors, pictures(20, rng))
    own = tile_distances(training.vectors, training, tiles=TILES)

    found = calibrate_tiles(own, tile_distances(pictures(40, rng), training, tiles=TILES))

    assert isinstance(found, Missing) or found.threshold < 0.01


def test_equal_training_tiles_give_no_calibration() -> None:
    found = calibrate_tiles(np.zeros((12, N_TILES, 12)), np.zeros((12, N_TILES, 12)))
    assert isinstance(found, Missing)
    assert "their tiles are all equal" in found.reason
