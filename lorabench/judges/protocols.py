"""What a judge must offer. Pictures are uint8 arrays of shape (height, width, 3), RGB, 0 to 255."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lorabench.records.detection import Detection, Lettering

Picture = NDArray[np.uint8]
"""One picture: (height, width, 3), RGB."""
Vectors = NDArray[np.float32]


class ImageTextEncoder(Protocol):
    """Puts pictures and sentences into one space (CLIP, SigLIP)."""

    name: str
    weights_digest: str
    logit_scale: float
    """Factor on the cosine before the softmax (CLIP: about 100)."""

    def encode_images(self, pictures: Sequence[Picture]) -> Vectors:
        """Unit vectors of the pictures, (n, d)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of the sentences, (k, d). Too long ones are split into clauses and averaged, never cut."""
        ...


class PerceptualEncoder(Protocol):
    """Vectors whose squared Euclidean distance is the perceptual distance exactly (LPIPS)."""

    name: str
    weights_digest: str

    def embed(self, pictures: Sequence[Picture]) -> Vectors:
        """Embeddings of the pictures, (n, d)."""
        ...


@runtime_checkable
class TiledEncoder(Protocol):
    """A perceptual encoder that knows which coordinates come from which part of the picture."""

    def tiles(self, grid: int) -> NDArray[np.intp]:
        """The tile (0 to grid² - 1, row by row) of each coordinate, (d,)."""
        ...


class CopyEncoder(Protocol):
    """Unit vectors in which a picture stays near its edited copies (SSCD)."""

    name: str
    weights_digest: str

    def embed(self, pictures: Sequence[Picture]) -> Vectors:
        """Unit vectors of the pictures, (n, d); sizes may differ."""
        ...


class Detector(Protocol):
    """Finds objects."""

    name: str
    weights_digest: str
    reads_color: bool
    """Whether its detections carry colours."""
    counts_parts: frozenset[str]
    """Labels whose parts it counts (`hand`, `person`)."""

    @property
    def thresholds(self) -> Mapping[str, float]:
        """Scores above which a detection counts: `presence`, and `count` where objects are counted."""
        ...

    def detect(self, pictures: Sequence[Picture], *, labels: Sequence[str]) -> list[tuple[Detection, ...]]:
        """Detections of the given classes in each picture, by falling score."""
        ...


@runtime_checkable
class WorldDetector(Protocol):
    """A detector of a closed world: it knows every class there is, and prompts of that world name all they ask for."""

    classes: frozenset[str]
    """All classes that it tells apart."""


class TextReader(Protocol):
    """Finds lettering and reads it."""

    name: str
    weights_digest: str

    def read(self, pictures: Sequence[Picture]) -> list[tuple[Lettering, ...]]:
        """All that looks like lettering in each picture, from top to bottom, legible or not."""
        ...
