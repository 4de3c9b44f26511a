"""Known answers for empty space and density, on drawn pictures."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from lorabench.metrics.clutter import COMPONENTS, DENSITY, EMPTY_SPACE, ambient_density, clutter_of
from lorabench.metrics.reading import Missing

PLACES = [(20, 20), (120, 20), (220, 20), (320, 20), (420, 20), (20, 430), (120, 430), (220, 430)]
SIDE = 40


def scene(n_blobs: int, *, size: int = 512, grain: float = 0.0, slope: float = 0.0) -> np.ndarray:
    """A large disc on plain ground, small squares around it, all in units of a picture of 512."""
    image, scale = Image.new("RGB", (size, size), (220, 215, 200)), size / 512
    draw = ImageDraw.Draw(image)
    draw.ellipse([150 * scale, 150 * scale, 360 * scale, 360 * scale], fill=(200, 40, 40))
    for x, y in PLACES[:n_blobs]:
        draw.rectangle([x * scale, y * scale, (x + SIDE) * scale, (y + SIDE) * scale], fill=(40, 60, 160))
    noise = grain * np.random.default_rng(0).normal(size=(size, size, 3))
    ramp = np.linspace(0, slope, size)[:, None, None]
    return (np.asarray(image) + noise - ramp).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("size", [128, 512])
@pytest.mark.parametrize("n_blobs", [0, 1, 3, 8])
def test_n_planted_blobs_are_n_components(size: int, n_blobs: int) -> None:
    assert clutter_of(scene(n_blobs, size=size)).n_components == n_blobs


def test_share_is_that_of_the_blobs_and_the_windows_on_their_edges() -> None:
    """A square of 41 pixels is seen by windows within 3 pixels of its edge: 47²."""
    found = clutter_of(scene(4))
    disc = np.hypot(*(np.mgrid[:506, :506] + 3 - 255)) < 105 + 3

    assert found.share == pytest.approx(4 * 47**2 / np.count_nonzero(~disc), rel=0.03)


def test_empty_pictures_have_no_clutter() -> None:
    assert clutter_of(np.full((64, 64, 3), 200, np.uint8)) == clutter_of(np.full((64, 64, 3), 7, np.uint8))
    assert clutter_of(np.full((64, 64, 3), 200, np.uint8)).share == 0.0
    assert clutter_of(scene(0)).share == 0.0


@pytest.mark.parametrize("grain", [1.0, 5.0, 14.0])
def test_grain_is_no_clutter(grain: float) -> None:
    assert clutter_of(scene(0, grain=grain)).share < 0.001
    assert clutter_of(scene(3, grain=grain)).n_components == 3


def test_smooth_light_is_no_clutter() -> None:
    assert clutter_of(scene(0, slope=80)).share == 0.0


def test_cloudy_ground_is_no_clutter() -> None:
    """Decoders leave soft clouds of a few grey levels; they must not join all things into one."""
    clouds = gaussian_filter(np.random.default_rng(2).normal(size=(512, 512)), 4)
    cloudy = scene(3) + (3.5 * clouds / clouds.std())[..., None]
    found = clutter_of(cloudy.clip(0, 255).round().astype(np.uint8))

    assert found.n_components == 3
    assert found.share == pytest.approx(clutter_of(scene(3)).share, abs=0.01)


def test_picture_that_is_full_everywhere_is_all_clutter() -> None:
    full = np.random.default_rng(3).integers(0, 2, (64, 64, 1)).repeat(8, 0).repeat(8, 1).repeat(3, 2) * 90 + 80

    assert clutter_of(full.astype(np.uint8)).share > 0.5


def test_frame_is_clutter_and_encloses_nothing() -> None:
    framed = scene(0)
    framed[4:10], framed[-10:-4], framed[:, 4:10], framed[:, -10:-4] = 40, 40, 40, 40

    assert clutter_of(framed).n_components == 1


def test_density_rises_with_what_there_is() -> None:
    empty, few, many = (ambient_density(scene(n)) for n in (0, 3, 8))
    crowd = ambient_density(np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8))

    assert ambient_density(np.full((64, 64, 3), 200, np.uint8)) < empty < few < many < crowd
    assert crowd - empty > 2


def test_fine_grain_adds_less_density_than_one_blob() -> None:
    plain, grainy, one = (ambient_density(scene(n, grain=grain)) for n, grain in ((0, 0), (0, 5), (1, 0)))

    assert abs(grainy - plain) < one - plain


@pytest.mark.parametrize("metric", [EMPTY_SPACE, COMPONENTS, DENSITY], ids=lambda one: one.metric.name)
def test_too_small_a_picture_has_a_reason_instead_of_a_number(metric) -> None:
    found = metric.read(np.zeros((16, 64, 3), np.uint8))

    assert isinstance(found, Missing)
    assert "clutter needs at least 32 x 32 pixels; got 64 x 16" in found.reason
