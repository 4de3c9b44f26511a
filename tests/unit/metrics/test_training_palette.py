"""Short vectors of colours, neutral prompts, and whether control and training pictures differ in colour at all."""

import math

import numpy as np
import pytest

from lorabench.metrics.color import oklab
from lorabench.metrics.palette import palette_embedding
from lorabench.metrics.training_palette import is_neutral, palette_axis_problem, palette_sketch, training_level
from lorabench.records.suite import Case, ColorCheck, CountCheck, ObjectCheck, PaletteCheck, RelationCheck
from lorabench.world.drawing import draw
from lorabench.world.scene import sample_scene


def plain(level: int, *, size: int = 40) -> np.ndarray:
    return np.full((size, size, 3), level, dtype=np.uint8)


def case(prompt: str, *checks: object) -> Case:
    return Case(id="c", family="spatial", prompt="{style} " + prompt, checks=checks)


def test_distance_of_two_plain_pictures_is_their_difference_in_oklab_over_root_3() -> None:
    dark, light = palette_sketch(plain(60)), palette_sketch(plain(200))
    apart = float(np.linalg.norm(oklab([60 / 255] * 3) - oklab([200 / 255] * 3)))

    assert np.linalg.norm(dark[0] - light[0]) == pytest.approx(apart / math.sqrt(3), rel=1e-5)


def test_sketches_lie_as_far_apart_as_full_embeddings() -> None:
    rng = np.random.default_rng(2)
    pictures = [draw(sample_scene("pair", rng=rng), style, seed=3) for style in ("flat", "photo", "painting")]
    short = [palette_sketch(picture)[0] for picture in pictures]
    full = [palette_embedding(picture) for picture in pictures]

    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert 0.96 < np.linalg.norm(short[i] - short[j]) / np.linalg.norm(full[i] - full[j]) <= 1.0


def test_ground_counts_in_the_first_row_only() -> None:
    pictures = []
    for ground in (250, 40):
        picture = plain(ground)
        picture[15:25, 15:25] = (200, 30, 30)
        pictures.append(palette_sketch(picture))

    assert np.linalg.norm(pictures[0][0] - pictures[1][0]) > 0.3
    assert np.linalg.norm(pictures[0][1] - pictures[1][1]) == 0.0


@pytest.mark.parametrize(
    ("prompt", "checks", "neutral"),
    [
        ("a ladder against a wall", (ObjectCheck(label="ladder"),), True),
        ("a rusty key", (), False),
        ("a Blue ladder", (), False),
        ("a ladder", (PaletteCheck(monochrome="grey"),), False),
        ("a ladder", (ObjectCheck(label="ladder", color="teal"),), False),
        ("a ladder", (CountCheck(label="ladder", count=2, color="teal"),), False),
        ("a ladder", (ColorCheck(label="ladder", color="teal"),), False),
        ("a cup", (RelationCheck(subject="cup", relation="above", object="tray", object_color="teal"),), False),
        ("greenhouse gardening", (), True),
    ],
)
def test_case_is_neutral_where_neither_words_nor_checks_ask_for_a_colour(
    prompt: str, checks: tuple[object, ...], neutral: bool
) -> None:
    assert is_neutral(case(prompt, *checks)) is neutral


def test_level_of_equidistant_pictures_is_their_distance_without_error() -> None:
    level, error = training_level(np.eye(6))

    assert level == pytest.approx(math.sqrt(2))
    assert error == pytest.approx(0.0, abs=1e-9)


def test_error_of_the_level_is_the_jackknifes() -> None:
    points = np.array([[0.0], [1.0], [2.0], [7.0]])
    mean = lambda rows: np.mean([abs(a - b) for a in rows for b in rows if a is not b])  # noqa: E731
    rows = [float(point[0]) for point in points]
    without = np.array([mean([row for j, row in enumerate(rows) if j != i]) for i in range(4)])

    level, error = training_level(points)

    assert level == pytest.approx(mean(rows))
    assert error == pytest.approx(math.sqrt(3 / 4 * np.sum((without - without.mean()) ** 2)))


def test_control_must_lie_farther_from_the_training_pictures_than_those_from_each_other() -> None:
    far = np.array([1.0, 1.1, 0.9, 1.05, 0.95])

    assert palette_axis_problem(far, 0.5, 0.05) is None
    assert "the gap is 0.01 with a standard error of" in str(palette_axis_problem(far, 0.99, 0.05))
    assert palette_axis_problem(far[:4], 0.5, 0.05) == "colours need at least 5 cases; found 4."
