"""Smooth-zone sigma and local deviations against known answers."""

import numpy as np
import pytest

from lorabench.metrics.texture import local_std, luma_sigma, smooth_zone_sigma

SIZE = 512
Y, X = np.mgrid[:SIZE, :SIZE].astype(float)


def noise(sigma: float) -> np.ndarray:
    return np.random.default_rng(3).normal(0, sigma, (SIZE, SIZE))


@pytest.mark.parametrize(("sigma", "measured"), [(0.5, 0.499), (1.0, 1.000), (2.0, 1.997), (5.0, 4.948)])
def test_white_noise_returns_its_own_size(sigma: float, measured: float) -> None:
    assert luma_sigma(128 + noise(sigma)) == pytest.approx(measured, rel=0.015)


def test_flat_and_plane_have_none() -> None:
    assert luma_sigma(np.full((SIZE, SIZE), 90.0)) == 0.0
    assert luma_sigma(20 + 0.2 * X + 0.1 * Y) == pytest.approx(0.0, abs=1e-9)


def test_rounded_plane_has_next_to_none() -> None:
    plane = np.rint(20 + 0.2 * X + 0.1 * Y).astype(np.uint8)

    assert smooth_zone_sigma(np.repeat(plane[..., None], 3, axis=2)) < 0.25


@pytest.mark.parametrize("background", [0.2 * X + 0.1 * Y, ((X - 256) / 32) ** 2, 80.0 * (X // 64 % 2)])
def test_planes_parabolas_and_stripes_do_not_move_it(background: np.ndarray) -> None:
    assert luma_sigma(50 + background + noise(2.0)) == pytest.approx(luma_sigma(50 + noise(2.0)), rel=0.02)


def test_rounding_to_eight_bits_adds_a_twelfth_to_the_variance() -> None:
    assert luma_sigma(np.rint(128 + noise(1.0))) == pytest.approx(np.sqrt(1 + 1 / 12), rel=0.01)


def test_local_std_is_numpys_standard_deviation_of_each_window() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    values = picture @ np.array([0.299, 0.587, 0.114])
    windows = np.lib.stride_tricks.sliding_window_view(values, (7, 7))

    assert local_std(picture) == pytest.approx(windows.std(axis=(2, 3)), abs=1e-9)
