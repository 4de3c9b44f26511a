"""Compositions without appearance."""

import numpy as np
import pytest

from lorabench.metrics.reading import Missing
from lorabench.metrics.structure import composition_copies, composition_reach, structure_descriptor


def square(x: int, y: int, *, color=(200, 40, 40), page=(240, 240, 240), noise: float = 0.0) -> np.ndarray:
    pixels = np.full((96, 96, 3), page, dtype=float)
    pixels[y : y + 30, x : x + 30] = color
    pixels += np.random.default_rng(0).normal(0, noise, pixels.shape) if noise else 0.0
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(structure_descriptor(a) @ structure_descriptor(b))


def test_descriptor_is_a_unit_vector() -> None:
    assert np.linalg.norm(structure_descriptor(square(10, 10))) == pytest.approx(1.0)


@pytest.mark.parametrize("other", [{"color": (30, 60, 210)}, {"page": (110, 110, 90)}, {"noise": 5.0}])
def test_colour_ground_and_grain_do_not_matter(other: dict) -> None:
    assert cosine(square(10, 10), square(10, 10, **other)) > 0.95


def test_place_matters() -> None:
    assert cosine(square(5, 5), square(60, 60)) < 0.3


def test_picture_without_edges_has_no_composition() -> None:
    assert not structure_descriptor(np.full((32, 32, 3), 90, np.uint8)).any()


def test_compositions_within_the_training_pictures_reach_are_theirs() -> None:
    training = np.stack([structure_descriptor(square(30 + i % 4, 30 + i // 4)) for i in range(12)])
    reach = composition_reach(training)
    tested = np.stack([structure_descriptor(p) for p in (square(31, 31, color=(20, 20, 200)), square(60, 2))])

    assert isinstance(reach, float)
    assert composition_copies(tested, training, reach=reach).tolist() == [True, False]


def test_few_training_pictures_have_no_reach() -> None:
    reach = composition_reach(np.eye(9))

    assert isinstance(reach, Missing)
    assert "at least 10 different training pictures; found 9" in reach.reason
