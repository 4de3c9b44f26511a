from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorabench.judges.color_reader import COLORS, TEMPLATES, ColorReader

RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class MeanColourEncoder:
    """Pictures are their mean colour; sentences the colour they name. Stands where CLIP stands."""

    name = "mean-colour"
    weights_digest = "0" * 64
    logit_scale = 1.0

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode_images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        return self._unit([picture.reshape(-1, 3).mean(axis=0) for picture in pictures])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return self._unit([next((rgb for name, rgb in RGB.items() if name in text), (1, 1, 1)) for text in texts])

    def _unit(self, rows: Sequence[object]) -> np.ndarray:
        array = np.asarray(rows, dtype=np.float32) + 1e-3
        return array / np.linalg.norm(array, axis=1, keepdims=True)


def picture() -> np.ndarray:
    array = np.zeros((20, 40, 3), dtype=np.uint8)
    array[:, :20] = RGB["red"]
    array[:, 20:] = RGB["blue"]
    return array


def test_color_is_read_inside_the_box() -> None:
    reader = ColorReader(MeanColourEncoder(), colors=("red", "green", "blue"))

    assert reader.read(picture(), [(0, 0, 20, 20), (20, 0, 40, 20)], label="car") == ["red", "blue"]


def test_boxes_beyond_the_picture_are_cut_and_thin_ones_widened() -> None:
    reader = ColorReader(MeanColourEncoder(), colors=("red", "green", "blue"))

    assert reader.read(picture(), [(-5, -5, 10, 90), (45.0, 3.0, 60.0, 3.0)], label="car") == ["red", "blue"]


def test_nothing_found_needs_no_network() -> None:
    encoder = MeanColourEncoder()

    assert ColorReader(encoder).read(picture(), [], label="car") == []
    assert encoder.texts == []


def test_sentences_are_made_once_per_class() -> None:
    encoder = MeanColourEncoder()
    reader = ColorReader(encoder)

    for _ in range(2):
        reader.read(picture(), [(0, 0, 20, 20)], label="car")

    assert len(encoder.texts) == len(COLORS) * len(TEMPLATES) == 30
    assert encoder.texts[:3] == ["a photo of a red car", "a photo of a red-colored car", "a photo of a red object"]


def test_method_says_that_there_is_no_mask() -> None:
    assert "no mask" in ColorReader(MeanColourEncoder()).method
