"""The colour of a detected object, by CLIP on its crop.

The rule is GenEval's (Ghosh et al. 2023, arXiv 2310.11513): ten colours, three templates whose text vectors are
averaged, the nearest colour wins without a threshold. GenEval greys out what lies outside the object's mask; the
detectors here give boxes and no masks, so the crop keeps its background. Results are named accordingly and are not
GenEval's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lorabench.judges.protocols import ImageTextEncoder, Picture, Vectors

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")


class ColorReader:
    """Names the colour of what is in a box."""

    method = "clip box crop, no mask"

    def __init__(self, encoder: ImageTextEncoder, *, colors: Sequence[str] = COLORS) -> None:
        """`encoder` compares crops with sentences; `colors` are the names to choose from."""
        self._encoder = encoder
        self.colors = tuple(colors)
        self.name = f"color-by-{encoder.name}"
        self.weights_digest = encoder.weights_digest
        self._sentences: dict[str, Vectors] = {}

    def read(self, picture: Picture, boxes: Sequence[tuple[float, float, float, float]], *, label: str) -> list[str]:
        """Colour of each box's content.

        Args:
            picture: uint8 (height, width, 3), RGB.
            boxes: Left, top, right, bottom in pixels; each is widened to whole pixels, at least one.
            label: Class of the objects.

        Returns:
            One of `colors` per box.
        """
        if not boxes:
            return []
        crops = self._encoder.encode_images([_crop(picture, box) for box in boxes])  # (n, d)
        nearest = (crops @ self._color_vectors(label).T).argmax(axis=1)  # (n,)
        return [self.colors[index] for index in nearest]

    def _color_vectors(self, label: str) -> Vectors:
        """Mean text vector of each colour's sentences, unit length, (colours, d)."""
        if label not in self._sentences:
            sentences = [template.format(color=color, label=label) for color in self.colors for template in TEMPLATES]
            vectors = self._encoder.encode_texts(sentences)  # (colours × templates, d)
            means = vectors.reshape(len(self.colors), len(TEMPLATES), -1).mean(axis=1)
            self._sentences[label] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return self._sentences[label]


def _crop(picture: Picture, box: tuple[float, float, float, float]) -> Picture:
    height, width = picture.shape[:2]
    left, top = min(max(int(np.floor(box[0])), 0), width - 1), min(max(int(np.floor(box[1])), 0), height - 1)
    right, bottom = max(int(np.ceil(box[2])), left + 1), max(int(np.ceil(box[3])), top + 1)
    return np.ascontiguousarray(picture[top:bottom, left:right])
