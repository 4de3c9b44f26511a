"""Backgrounds, dominant colours, refused pictures."""

import numpy as np
import pytest

from lorabench.metrics.color import background_mask, color_clusters, dominant_colors, hex_to_srgb, picture_oklab


def page(color: tuple[int, int, int] = (255, 255, 255), size: int = 40) -> np.ndarray:
    return np.full((size, size, 3), color, dtype=np.uint8)


def test_dominant_colors_come_most_frequent_first() -> None:
    picture = page()
    picture[:10] = (200, 0, 0)
    picture[10:13] = (0, 0, 200)

    assert dominant_colors(picture) == ["#ffffff", "#c80000", "#0000c8"]
    assert dominant_colors(picture, n=1) != ["#ffffff"], "one cluster is the mean of all"


def test_dominant_colors_do_not_change_from_call_to_call() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)

    assert dominant_colors(picture) == dominant_colors(picture.copy())
    assert len(dominant_colors(picture)) == 6


def test_weights_of_clusters_are_shares() -> None:
    picture = page()
    picture[:10] = (200, 0, 0)

    clusters = color_clusters(picture, n=8)

    assert clusters.weights == pytest.approx([0.75, 0.25])
    assert clusters.srgb[1] == pytest.approx([200 / 255, 0, 0])


def test_background_is_the_even_area_at_the_border() -> None:
    picture = page((247, 237, 212))
    picture[15:25, 15:25] = (220, 30, 30)
    picture[18:22, 18:22] = (247, 237, 212)

    mask = background_mask(picture)

    assert mask.sum() == 40 * 40 - 100, "a hole of the page's colour is no background"
    assert not mask[20, 20]


@pytest.mark.parametrize("kind", ["busy", "empty"])
def test_without_an_even_page_nothing_is_background(kind: str) -> None:
    busy = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)

    assert not background_mask(busy if kind == "busy" else page()).any()


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_rgb_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be a uint8 array of shape"):
        picture_oklab(picture)


def test_malformed_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="must be written #rrggbb; got 'red'"):
        hex_to_srgb("red")


def test_clusters_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="clusters need pixels and n >= 1"):
        color_clusters(page(), n=0)
