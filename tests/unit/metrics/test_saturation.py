"""Chroma, clipped colours and contrast against known answers."""

import numpy as np
import pytest

from lorabench.metrics.color import chroma, picture_oklab
from lorabench.metrics.saturation import clipped_share, mean_chroma, rms_contrast


def plain(*color: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), color, dtype=np.uint8)


def halves(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.concatenate([left, right], axis=1)


@pytest.mark.parametrize(
    ("color", "expected"), [((255, 0, 0), 0.2577), ((0, 0, 255), 0.3132), ((255, 255, 255), 0.0), ((99, 99, 99), 0.0)]
)
def test_chroma_of_plain_colours(color: tuple[int, int, int], expected: float) -> None:
    assert mean_chroma(plain(*color)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("rows", "expected"), [(0, 0.0), (1, 0.2577 / 2), (2, 0.2577), (20, 0.2577)])
def test_chroma_is_the_mean_of_the_most_colourful_tenth(rows: int, expected: float) -> None:
    picture = plain(128, 128, 128, size=20)
    picture[:rows] = (255, 0, 0)  # each row is a twentieth

    assert mean_chroma(picture) == pytest.approx(expected, abs=1e-4)


def test_a_page_that_is_bleached_to_white_hides_no_burnt_colours() -> None:
    def drawing(page: tuple[int, int, int], ink: tuple[int, int, int]) -> np.ndarray:
        picture = plain(*page, size=20)
        picture[8:12] = ink  # a fifth
        return picture

    mild, burnt = drawing((250, 243, 220), (200, 90, 70)), drawing((255, 255, 255), (255, 60, 30))
    everywhere = [chroma(picture_oklab(picture)).mean() for picture in (mild, burnt)]

    assert everywhere[1] - everywhere[0] < 0.02, "the mean over all pixels stays within the gate's margin"
    assert mean_chroma(burnt) - mean_chroma(mild) > 0.05
    assert mean_chroma(drawing((255, 255, 255), (200, 90, 70))) == pytest.approx(mean_chroma(mild), abs=1e-9)


def test_ink_and_paper_are_not_clipped_but_burnt_colours_are() -> None:
    assert clipped_share(halves(plain(0, 0, 0), plain(255, 255, 255))) == 0.0
    assert clipped_share(halves(plain(255, 60, 40), plain(200, 60, 40))) == 0.5
    assert clipped_share(plain(254, 60, 40)) == 1.0
    assert clipped_share(plain(252, 60, 40)) == 0.0
    assert clipped_share(plain(200, 60, 2)) == 1.0


def test_contrast_of_black_and_white_is_a_half() -> None:
    assert rms_contrast(halves(plain(0, 0, 0), plain(255, 255, 255))) == pytest.approx(0.5, abs=1e-3)
    assert rms_contrast(plain(20, 200, 90)) == pytest.approx(0.0, abs=1e-9)


def test_pushed_saturation_raises_chroma_by_its_factor() -> None:
    picture = halves(plain(150, 110, 90), plain(100, 120, 160))
    grey = picture @ np.array([0.299, 0.587, 0.114])
    pushed = np.rint(grey[..., None] + 1.4 * (picture - grey[..., None])).astype(np.uint8)

    assert mean_chroma(pushed) / mean_chroma(picture) == pytest.approx(1.4, rel=0.05)
