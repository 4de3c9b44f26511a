"""Hard checks on pictures."""

import numpy as np
import pytest

from lorabench.metrics.broken import broken_reason, nonfinite_reason, same_for_other_seed
from lorabench.records.images import Image
from lorabench.records.plan import Arm, Cell

RNG = np.random.default_rng(0)


def scene() -> np.ndarray:
    picture = np.full((64, 64, 3), 245, dtype=np.uint8)
    picture[20:40, 20:40] = (200, 30, 30)
    return picture


def dotted(n: int) -> np.ndarray:
    picture = np.full((100, 100, 3), 128, dtype=np.uint8)
    picture.reshape(-1, 3)[:n] = 255
    return picture


def image(seed: int, digit: str, *, arm: Arm = Arm.CANDIDATE, case: str = "c1", scale: float = 1.0) -> Image:
    cell = Cell(arm=arm, case=case, seed=seed, scale=scale)
    return Image(cell=cell, sha256=digit * 64, cache_key="0" * 64, height=8, width=8)


def test_a_picture_is_not_broken() -> None:
    assert broken_reason(scene(), size=(64, 64)) is None


def test_a_small_thing_on_a_plain_page_is_not_broken() -> None:
    picture = np.full((100, 100, 3), 255, dtype=np.uint8)
    picture[50:61, 50:61] = 0

    assert broken_reason(picture) is None


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.zeros((8, 8, 3), np.uint8), "all black, every value 0: what a safety checker puts"),
        (np.full((8, 8, 3), 2, np.uint8), "all black: no value above 2"),
        (np.full((8, 8, 3), 200, np.uint8), "luma varies by 0.00 grey levels only"),
        (128 + RNG.integers(-1, 2, (64, 64, 3)).astype(float), "luma varies"),
        (dotted(8), "99.92% of the pixels have one colour"),
        (np.where(dotted(8) == 128, RNG.integers(128, 136, (100, 100, 3)), 255), "99.92% of the pixels have one"),
        (np.where(np.arange(192).reshape(8, 8, 3) == 5, np.nan, 1.0), "1 of 192 values are NaN or infinite"),
        (np.zeros((8, 8), np.uint8), "wrong shape: (8, 8)"),
    ],
)
def test_broken_pictures_are_named(pixels: np.ndarray, reason: str) -> None:
    assert reason in (broken_reason(pixels) or "")


def test_wrong_size_is_named() -> None:
    assert broken_reason(scene(), size=(64, 128)) == "wrong size: 64 x 64 instead of 128 x 64"


def test_latents_of_any_shape_are_checked() -> None:
    assert nonfinite_reason(np.zeros((1, 4, 8, 8))) is None
    assert nonfinite_reason(np.full((1, 4), np.inf)) == "not finite: 4 of 4 values are NaN or infinite"


def test_same_pixels_for_two_seeds_are_found_within_one_arm_case_and_scale() -> None:
    images = [
        image(1, "a"),
        image(2, "a"),
        image(3, "b"),
        image(1, "a", arm=Arm.CONTROL),
        image(4, "a", case="c2"),
        image(5, "a", scale=0.5),
    ]

    assert same_for_other_seed(images) == {
        "L1/c1/seed1/x1": "the same pixels for seeds 1, 2",
        "L1/c1/seed2/x1": "the same pixels for seeds 1, 2",
    }
