"""Training pictures beside each other: repeats, and compositions that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lorabench.dataset.picture_reading import PictureReading
from lorabench.metrics.memorisation import squared_distances
from lorabench.metrics.response import distance_matrix
from lorabench.records.audit import Duplicate

Floats = NDArray[np.float64]

NEAR_STRUCTURE: Final = 0.01
"""Distance in composition within which two pictures may be one. Recompressed, resized and brightened copies stay below,
different drawings of the embedded world begin at 0.018."""
NEAR_PALETTE: Final = 0.03
"""OKLab distance of palettes within which they may be one: 0.02 is just visible, a brightened copy has 0.027."""
NEAR_LPIPS: Final = 0.1
"""LPIPS within which two pictures are one: copies cut by a twentieth have 0.03 to 0.15, different drawings of the
embedded world 0.13 and more."""
ALIKE: Final = 0.3
"""Distance in composition within which two pictures count as composed alike."""


class Embedder(Protocol):
    """LPIPS as an embedding."""

    def embed(self, pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Vectors whose squared distances are LPIPS, (n, d)."""
        ...


@dataclass(frozen=True, slots=True)
class Resemblance:
    """How pictures resemble each other.

    Attributes:
        duplicates: Each picture that repeats an earlier one, with the first it repeats.
        composition_distance: Mean over pairs of different pictures, 0 to 2; None with fewer than two.
        groups: Number of each picture's group of like compositions; 0 is the largest.
        palette_spread: Mean over pairs of different pictures, OKLab; None with fewer than two.
    """

    duplicates: tuple[Duplicate, ...]
    composition_distance: float | None
    groups: tuple[int, ...]
    palette_spread: float | None


def resemblance(readings: Sequence[PictureReading], *, lpips: Embedder | None = None) -> Resemblance:
    """Compare all pictures with each other and with each other's mirror images.

    Args:
        readings: One per picture, in the order of the folder.
        lpips: Finds near duplicates that the descriptors miss (crops aside); None leaves it out.
    """
    structures = np.stack([one.structure for one in readings]).astype(np.float64)  # (n, d)
    mirrored = np.stack([one.mirrored_structure for one in readings]).astype(np.float64)
    plain, flipped = 2.0 - 2.0 * structures @ structures.T, 2.0 - 2.0 * structures @ mirrored.T  # (n, n)
    palettes = distance_matrix(np.stack([one.palette for one in readings]))  # (n, n)
    perceptual = None if lpips is None else _perceptual(readings, lpips)
    duplicates = _duplicates(readings, plain=plain, flipped=flipped, palettes=palettes, perceptual=perceptual)
    repeated = {one.name for one in duplicates}
    kept = np.array([one.facts.name not in repeated for one in readings])
    return Resemblance(
        duplicates=duplicates,
        composition_distance=_mean_of_pairs(plain, kept),
        groups=composition_groups(plain),
        palette_spread=_mean_of_pairs(palettes, kept),
    )


def composition_groups(distances: Floats, *, reach: float = ALIKE) -> tuple[int, ...]:
    """Sort pictures into groups: the picture with most like it gathers them, then the next among those left.

    Args:
        distances: Between compositions, (n, n).
        reach: Distance within which two are alike.

    Returns:
        The number of each picture's group, by falling size.
    """
    near = distances <= reach
    left = np.ones(len(distances), dtype=bool)
    groups = np.zeros(len(distances), dtype=int)
    number = 0
    while left.any():
        counts = np.where(left, (near & left).sum(axis=1), -1)
        members = near[int(np.argmax(counts))] & left
        members[int(np.argmax(counts))] = True
        groups[members] = number
        left &= ~members
        number += 1
    return tuple(int(one) for one in groups)


def _duplicates(
    readings: Sequence[PictureReading],
    *,
    plain: Floats,
    flipped: Floats,
    palettes: Floats,
    perceptual: tuple[Floats, Floats] | None,
) -> tuple[Duplicate, ...]:
    found: list[Duplicate] = []
    repeated: set[int] = set()
    for index, one in enumerate(readings):
        for earlier in range(index):
            if earlier in repeated:
                continue
            other = readings[earlier]
            same = _same_pixels(one, other) or _near_pictures(
                (one, other),
                structure=(float(plain[index, earlier]), float(flipped[index, earlier])),
                palette=float(palettes[index, earlier]),
                lpips=None if perceptual is None else (perceptual[0][index, earlier], perceptual[1][index, earlier]),
            )
            if same is not None:
                found.append(same)
                repeated.add(index)
                break
    return tuple(found)


def _same_pixels(one: PictureReading, other: PictureReading) -> Duplicate | None:
    if one.facts.sha256 == other.facts.sha256:
        return Duplicate(name=one.facts.name, of=other.facts.name, how="pixels", distance=0.0, by="pixels")
    if one.mirrored_sha256 == other.facts.sha256:
        return Duplicate(name=one.facts.name, of=other.facts.name, how="mirrored", distance=0.0, by="pixels")
    return None


def _near_pictures(
    pair: tuple[PictureReading, PictureReading],
    *,
    structure: tuple[float, float],
    palette: float,
    lpips: tuple[float, float] | None,
) -> Duplicate | None:
    """A near duplicate, by LPIPS where there is one, by structure and palette together, or none."""
    name, of = pair[0].facts.name, pair[1].facts.name
    if lpips is not None and min(lpips) <= NEAR_LPIPS:
        return Duplicate(name=name, of=of, how=_how(lpips), distance=min(lpips), by="lpips")
    edges = pair[0].structure.any() and pair[1].structure.any()
    if edges and min(structure) <= NEAR_STRUCTURE and palette <= NEAR_PALETTE:
        distance = max(min(structure), 0.0)
        return Duplicate(name=name, of=of, how=_how(structure), distance=distance, by="structure-and-palette")
    return None


def _how(distances: tuple[float, float]) -> Literal["near", "near-mirrored"]:
    """Which of the picture and its mirror image is nearer."""
    return "near" if distances[0] <= distances[1] else "near-mirrored"


def _perceptual(readings: Sequence[PictureReading], lpips: Embedder) -> tuple[Floats, Floats]:
    """LPIPS between pictures, and between pictures and mirror images, (n, n) each."""
    vectors = lpips.embed([one.small for one in readings])
    mirrors = lpips.embed([np.ascontiguousarray(one.small[:, ::-1]) for one in readings])
    centre = vectors.mean(axis=0)
    return squared_distances(vectors, vectors, centre=centre), squared_distances(vectors, mirrors, centre=centre)


def _mean_of_pairs(distances: Floats, kept: NDArray[np.bool_]) -> float | None:
    chosen = distances[np.ix_(kept, kept)]
    if len(chosen) < 2:
        return None
    return float(chosen[np.triu_indices(len(chosen), 1)].mean())
