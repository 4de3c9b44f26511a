"""Pictures for a page."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lorabench.report.thumbnails import encode_webp, make_thumbnails


def flat(height: int, width: int) -> np.ndarray:
    pixels = np.full((height, width, 3), (200, 60, 30), dtype=np.uint8)
    pixels[: height // 2] = (20, 40, 160)
    return pixels


def decode(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_a_small_flat_picture_is_kept_exactly() -> None:
    content, width, height = encode_webp(flat(96, 128), max_edge=256)

    assert (width, height) == (128, 96)
    np.testing.assert_array_equal(decode(content), flat(96, 128))


def test_a_small_noisy_picture_keeps_its_size_and_nearly_its_pixels() -> None:
    smooth = np.linspace(40, 200, 64).astype(np.uint8)
    pixels = np.repeat(np.repeat(smooth[None, :, None], 64, axis=0), 3, axis=2)
    noisy = np.clip(pixels + np.random.default_rng(1).normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)

    content, width, height = encode_webp(noisy, max_edge=256)

    assert (width, height) == (64, 64)
    assert np.abs(decode(content).astype(int) - noisy).mean() < 5


def test_a_large_picture_is_shrunk_to_the_longest_edge() -> None:
    content, width, height = encode_webp(flat(512, 1024), max_edge=256)

    assert (width, height) == (256, 128)
    assert decode(content).shape == (128, 256, 3)


def test_max_edge_also_holds_for_small_pictures() -> None:
    assert encode_webp(flat(200, 100), max_edge=50)[1:] == (25, 50)


def test_a_thumbnail_needs_an_edge() -> None:
    with pytest.raises(ValueError, match="longest edge of a thumbnail must be at least 1 pixel, got 0"):
        encode_webp(flat(8, 8), max_edge=0)


def test_each_content_is_encoded_once_and_missing_ones_are_left_out() -> None:
    asked: list[str] = []

    def picture(sha256: str) -> np.ndarray | None:
        asked.append(sha256)
        return None if sha256 == "gone" else flat(16, 16)

    thumbnails = make_thumbnails(["a", "b", "a", "gone"], picture=picture, max_edge=256)

    assert asked == ["a", "b", "gone"]
    assert {sha256: thumbnail.shared for sha256, thumbnail in thumbnails.items()} == {"a": True, "b": False}
    prefix, _, content = thumbnails["a"].uri.partition(",")
    assert prefix == "data:image/webp;base64"
    assert decode(base64.b64decode(content)).shape == (16, 16, 3)
