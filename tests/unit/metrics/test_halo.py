"""JPEG's marks: what leaves them, what does not, and whose fault they are."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from lorabench.metrics.halo import VISIBLE, chroma_halo, halo_origin, jpeg_halo, luma_ring
from lorabench.metrics.reading import Missing


def drawing(size: int = 512) -> np.ndarray:
    page = Image.new("RGB", (2 * size, 2 * size), (240, 235, 220))
    pen = ImageDraw.Draw(page)
    for number, (x, y) in enumerate([(0.1, 0.12), (0.55, 0.2), (0.2, 0.6), (0.65, 0.66)]):
        left, top = 2 * size * x, 2 * size * y
        color = [(30, 60, 160), (200, 40, 50), (40, 120, 70), (210, 150, 30)][number]
        pen.ellipse(
            (left, top, left + 0.44 * size, top + 0.5 * size), fill=color, outline=(30, 25, 30), width=size // 64
        )
    return np.asarray(page.resize((size, size), Image.Resampling.BOX))


def jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer).convert("RGB"))


def reduced(picture: np.ndarray) -> np.ndarray:
    side = round(len(picture) * 0.8)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def noisy(picture: np.ndarray, sigma: float) -> np.ndarray:
    grain = np.random.default_rng(1).normal(0, sigma, (*picture.shape[:2], 1))
    return np.clip(np.rint(picture * 0.9 + 12 + grain), 0, 255).astype(np.uint8)


def number(reading: float | Missing) -> float:
    assert isinstance(reading, float)
    return reading


@pytest.mark.parametrize("read", [chroma_halo, luma_ring, jpeg_halo])
def test_clean_drawing_has_no_marks(read) -> None:
    assert number(read(drawing())) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("quality", [30, 50, 75])
@pytest.mark.parametrize("after", [lambda p: p, reduced], ids=["as saved", "reduced"])
def test_jpeg_leaves_both_marks_even_after_resizing(quality: int, after) -> None:
    clean, marked = after(drawing()), after(jpeg(drawing(), quality))

    assert number(chroma_halo(marked)) > number(chroma_halo(clean)) + 0.2
    assert number(luma_ring(marked)) > number(luma_ring(clean)) + 0.05
    assert number(jpeg_halo(marked)) > number(jpeg_halo(clean)) + VISIBLE


@pytest.mark.parametrize(
    "changed",
    [noisy(drawing(), 2.0), reduced(drawing()), np.rint(gaussian_filter(drawing().astype(float), (1.2, 1.2, 0)))],
    ids=["grain", "reduced", "blur"],
)
def test_neither_grain_nor_resizing_nor_blur_counts(changed: np.ndarray) -> None:
    assert number(jpeg_halo(changed.astype(np.uint8))) < 0.2


@pytest.mark.parametrize("read", [chroma_halo, luma_ring, jpeg_halo])
@pytest.mark.parametrize(
    "picture", [np.full((128, 128, 3), 9, dtype=np.uint8), drawing(32)], ids=["no edges", "no room between them"]
)
def test_without_edges_or_room_between_them_there_is_no_number(read, picture: np.ndarray) -> None:
    found = read(picture)

    assert isinstance(found, Missing)
    assert "marks around edges need 200 pixels beside strong edges and as many far from all; found" in found.reason


def test_halo_that_the_training_pictures_have_is_the_datasets() -> None:
    clean, marked = [0.0, 0.1, -0.1], [0.9, 1.2, 1.0]

    assert halo_origin(clean, clean, marked) == "none"
    assert halo_origin(marked, marked, clean) == "none"
    assert halo_origin(marked, clean, marked) == "dataset"
    assert halo_origin(marked, clean, clean) == "adapter"
    assert halo_origin(marked, clean, []) == "adapter"


def test_origin_needs_pictures_of_both_arms() -> None:
    with pytest.raises(ValueError, match="needs pictures of both arms; got 0 and 1"):
        halo_origin([], [0.0], [])
