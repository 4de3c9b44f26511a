"""Blur and focus: what moves them, what does not, and when nothing can be said."""

import math

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from lorabench.metrics.reading import Missing
from lorabench.metrics.sharpness import LEAST_SIGMA, bokeh_share, edge_sigma, log_edge_sigma


def drawing(*, n: int = 6, contrast: float = 1.0) -> np.ndarray:
    """Discs in two rows, drawn at four times the size and reduced."""
    page = Image.new("RGB", (1024, 1024), (240, 235, 220))
    pen = ImageDraw.Draw(page)
    for number in range(n):
        left, top = 60 + 320 * (number % 3), 120 + 480 * (number // 3)
        pen.ellipse((left, top, left + 230, top + 300), fill=(200 - 25 * number, 60 + 20 * number, 90))
    small = np.asarray(page.resize((256, 256), Image.Resampling.BOX), dtype=float)
    return np.rint(small * contrast + 128 * (1 - contrast)).astype(np.uint8)


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(gaussian_filter(picture.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def number(reading: float | Missing) -> float:
    assert isinstance(reading, float)
    return reading


@pytest.mark.parametrize("sigma", [1.2, 2.0, 3.0])
def test_blur_widens_edges_to_its_own_sigma(sigma: float) -> None:
    assert number(edge_sigma(blurred(drawing(), sigma))) == pytest.approx(sigma, rel=0.2)


def test_logarithm_makes_differences_ratios() -> None:
    once, twice = (number(log_edge_sigma(blurred(drawing(), sigma))) for sigma in (1.5, 3.0))

    assert twice - once == pytest.approx(math.log(2), abs=0.15)


def test_edges_narrower_than_pixels_count_as_half_a_pixel() -> None:
    hard = np.zeros((64, 64, 3), dtype=np.uint8)
    hard[:, 32:] = 255

    assert edge_sigma(hard) == LEAST_SIGMA
    assert log_edge_sigma(hard) == pytest.approx(math.log(0.5))


@pytest.mark.parametrize("other", [drawing(n=3), drawing(contrast=0.5)], ids=["half emptied", "half the contrast"])
def test_neither_emptying_half_nor_halving_contrast_moves_blur(other: np.ndarray) -> None:
    for sigma in (0.8, 1.6):
        whole, changed = (number(log_edge_sigma(blurred(p, sigma))) for p in (drawing(), other))
        assert changed == pytest.approx(whole, abs=0.12)


def test_nothing_is_out_of_focus_in_a_drawing_and_half_of_one_is_when_half_is_blurred() -> None:
    sharp = drawing()
    half = sharp.copy()
    half[128:] = blurred(sharp, 4.0)[128:]

    assert number(bokeh_share(sharp)) < 0.02
    assert 0.3 < number(bokeh_share(half)) < 0.7
    assert number(bokeh_share(blurred(sharp, 3.0))) > 0.95


@pytest.mark.parametrize("read", [edge_sigma, log_edge_sigma, bokeh_share])
@pytest.mark.parametrize("size", [3, 8, 128])
def test_picture_without_edges_has_no_width(read, size: int) -> None:
    found = read(np.full((size, size, 3), 200, dtype=np.uint8))

    assert isinstance(found, Missing)
    assert "needs 40 edge pixels in a picture; found 0. An empty or very soft picture has none." in found.reason
