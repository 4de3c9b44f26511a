"""Compliance with the colours asked for, and the pull towards the training palette."""

import numpy as np
import pytest

from lorabench.metrics.palette import (
    color_list_compliance,
    mean_training_distance,
    palette_compliance,
    palette_embedding,
    palette_pull,
)
from lorabench.metrics.reading import Missing
from lorabench.records.suite import PaletteCheck

RED, ORANGE, BLUE, WHITE, CREAM = (220, 30, 30), (240, 150, 20), (30, 60, 215), (255, 255, 255), (247, 237, 212)
WARM = PaletteCheck(hues=((10.0, 85.0),))


def picture(*colors: tuple[int, int, int], page: tuple[int, int, int] = WHITE) -> np.ndarray:
    pixels = np.full((60, 60, 3), page, dtype=np.uint8)
    for index, color in enumerate(colors):
        pixels[10 + 10 * index : 20 + 10 * index, 20:40] = color
    return pixels


def test_hues_asked_for_comply() -> None:
    assert palette_compliance(picture(RED, ORANGE), WARM) == 1.0
    assert palette_compliance(picture(BLUE), WARM) == 0.0
    assert 0.3 < palette_compliance(picture(RED, BLUE), WARM) < 0.6


def test_cream_page_does_not_count_unless_asked_for() -> None:
    cool = PaletteCheck(hues=((230.0, 300.0),))

    assert palette_compliance(picture(BLUE, page=CREAM), cool) == 1.0
    assert palette_compliance(picture(BLUE, page=CREAM), cool, with_background=True) < 0.7


def test_hue_range_may_wrap_around() -> None:
    assert palette_compliance(picture(RED), PaletteCheck(hues=((340.0, 40.0),))) == 1.0
    assert palette_compliance(picture(BLUE), PaletteCheck(hues=((340.0, 40.0),))) == 0.0


def test_no_colour_at_all_does_not_comply_with_hues() -> None:
    assert palette_compliance(picture((90, 90, 90)), WARM) == 0.0


def test_grey_and_single_hue() -> None:
    grey, single = PaletteCheck(monochrome="grey"), PaletteCheck(monochrome="single_hue")

    assert palette_compliance(picture((90, 90, 90)), grey) == 1.0
    assert palette_compliance(picture(RED), grey) == 0.0
    assert palette_compliance(picture(RED, (120, 20, 20)), single) > 0.99
    assert palette_compliance(picture(RED, BLUE), single) < 0.7
    assert palette_compliance(picture((90, 90, 90)), single) == 0.0


def test_color_list_is_kept_and_used_up() -> None:
    wanted = ("#dc1e1e", "#1e3cd7")

    assert color_list_compliance(np.array([RED, BLUE], dtype=np.uint8), wanted) == pytest.approx(1.0)
    assert color_list_compliance(np.array([RED, RED], dtype=np.uint8), wanted) == pytest.approx(0.75)
    assert color_list_compliance(np.array([[0, 200, 0]], dtype=np.uint8), wanted) == pytest.approx(0.0)
    assert palette_compliance(picture(RED, BLUE), PaletteCheck(colors=wanted)) == pytest.approx(1.0)


def test_embedding_sees_colours_and_not_their_places() -> None:
    one, other, blue = (palette_embedding(p) for p in (picture(RED), picture(RED)[:, ::-1], picture(BLUE)))

    assert np.linalg.norm(one - other) < 0.1 * np.linalg.norm(one - blue)


def test_embedding_of_chroma_alone_does_not_see_lightness() -> None:
    dark, light = (np.full((20, 20, 3), level, dtype=np.uint8) for level in (60, 200))

    assert np.linalg.norm(palette_embedding(dark) - palette_embedding(light)) > 0.2
    apart = palette_embedding(dark, chroma_only=True) - palette_embedding(light, chroma_only=True)
    assert np.linalg.norm(apart) < 1e-4


def test_foreground_alone_is_independent_of_the_page() -> None:
    one, other = (palette_embedding(picture(RED, page=p), foreground_only=True) for p in (WHITE, CREAM))

    assert np.linalg.norm(one - other) < 1e-6


def test_pull_is_zero_at_the_control_and_one_at_the_training_palette() -> None:
    training = np.stack([palette_embedding(picture(RED))])
    red, blue = (mean_training_distance(np.stack([palette_embedding(picture(c))]), training) for c in (RED, BLUE))

    assert palette_pull(blue, blue) == 0.0
    assert palette_pull(red, blue) == pytest.approx(1.0)
    assert isinstance(palette_pull(red, red * 0), Missing)


def test_pull_without_training_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match="a pull needs training pictures"):
        mean_training_distance(np.zeros((1, 3)), np.zeros((0, 3)))
