"""Flat fractions, tiles and the position between training pictures and base."""

import numpy as np
import pytest

from lorabench.metrics.reading import Missing
from lorabench.metrics.texture import (
    bleed_position,
    flat_fraction,
    local_std_quartile,
    photo_bleed,
    read_tile_sigma,
    smooth_zone_sigma,
    texture_deviation,
    tile_sigma,
)


def grey(sigma: float = 0.0, *, size: int = 128, seed: int = 0) -> np.ndarray:
    values = 128 + np.random.default_rng(seed).normal(0, sigma, (size, size, 1))
    return np.clip(np.rint(np.repeat(values, 3, axis=2)), 0, 255).astype(np.uint8)


TRAINING, BASE = [0.2, 0.3, 0.25, 0.2], [4.0, 5.0, 4.5, 5.5]


def test_flat_picture_is_flat_everywhere_and_noise_nowhere() -> None:
    assert flat_fraction(grey()) == 1.0
    assert flat_fraction(grey(5.0)) == 0.0
    assert local_std_quartile(grey()) == pytest.approx(0.0, abs=1e-6)
    assert local_std_quartile(grey(5.0)) == pytest.approx(5.0, rel=0.1)


def test_lower_tau_is_stricter() -> None:
    assert flat_fraction(grey(1.3), 1 / 255) < 0.1
    assert flat_fraction(grey(1.3)) > 0.9


def test_a_hot_spot_shows_in_its_tile() -> None:
    picture = grey()
    picture[64:128, 64:128] = grey(5.0)[64:128, 64:128]

    assert tile_sigma(picture) == pytest.approx(np.log((5.0 + 0.25) / 0.25), rel=0.1)
    assert smooth_zone_sigma(picture) < 0.5


def test_grain_all_over_is_no_hot_spot() -> None:
    assert tile_sigma(grey()) == 0.0
    assert tile_sigma(grey(5.0)) < 0.1


def test_tiles_of_tiny_pictures_are_not_read() -> None:
    found = read_tile_sigma(grey(size=31))

    assert isinstance(found, Missing)
    assert "tiles need at least 32 x 32 pixels; got 31 x 31. Use larger pictures." in found.reason
    assert read_tile_sigma(grey()) == 0.0


@pytest.mark.parametrize("measure", [smooth_zone_sigma, flat_fraction])
def test_tiny_pictures_are_refused(measure) -> None:
    with pytest.raises(ValueError, match="Use larger pictures"):
        measure(grey(size=6))


def test_position_is_zero_at_the_training_pictures_and_one_at_the_base() -> None:
    assert bleed_position(TRAINING, TRAINING, BASE) == pytest.approx(0.0)
    assert bleed_position(BASE, TRAINING, BASE) == pytest.approx(1.0)
    assert bleed_position([0.8, 0.9], [0.95, 0.9], [0.1, 0.2], axis="flat_fraction") == pytest.approx(0.075 / 0.775)


def test_position_is_read_on_logarithms_of_sigma() -> None:
    middle = np.sqrt((0.25 + 0.05) * (5.0 + 0.05)) - 0.05

    assert bleed_position([middle], [0.25, 0.25], [5.0, 5.0]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("training", "base", "reason"),
    [
        ([4.0, 4.1, 4.2], [0.4, 0.5, 0.4], "must be more textured than the training pictures on sigma"),
        ([1.0, 2.0, 3.0], [1.1, 2.1, 3.1], "must lie more than 2 standard errors apart on sigma"),
        (
            [0.05, 0.06, 0.05],
            [0.2, 0.21, 0.2],
            "must exceed the rounding of 8-bit pictures (0.29 grey levels); it is 0.20",
        ),
        ([1.0], [1.1, 2.1], "needs 2 training pictures and 2 base cases; found 1 and 2"),
    ],
)
def test_axis_without_direction_gives_no_position(training: list, base: list, reason: str) -> None:
    position = bleed_position([1.0, 2.0], training, base)

    assert isinstance(position, Missing)
    assert reason in position.reason


def test_inverted_flat_fraction_gives_no_position() -> None:
    position = bleed_position([0.5], [0.1, 0.12, 0.11], [0.9, 0.92, 0.95], axis="flat_fraction")

    assert isinstance(position, Missing)
    assert "on flat_fraction" in position.reason


def test_bleed_takes_the_worse_axis_and_forgets_unreadable_ones() -> None:
    fractions = ([0.5, 0.5], [0.9, 0.91], [0.1, 0.11])

    both = photo_bleed((TRAINING, TRAINING, BASE), fractions)
    smooth = [1.0, 1.1, 0.9]
    one = photo_bleed((TRAINING, BASE, smooth), fractions)
    neither = photo_bleed((TRAINING, BASE, smooth), (fractions[0], fractions[2], fractions[1]))

    assert both == one == pytest.approx(0.405 / 0.8)
    assert isinstance(neither, Missing)
    assert neither.reason.count("Read the two-sided deviation") == 2


def test_deviation_is_two_sided_and_in_standard_deviations() -> None:
    training = [0.1, 0.2, 0.3]

    assert texture_deviation([0.4], training, axis="flat_fraction") == pytest.approx(2.0)
    assert texture_deviation([0.0], training, axis="flat_fraction") == pytest.approx(2.0)
    assert isinstance(texture_deviation([0.4], [0.1, 0.1]), Missing)
