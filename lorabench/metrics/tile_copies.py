"""Copies of a part: a training figure on a new ground, which an average over the whole picture hides.

LPIPS averages over places last. Averaged over the tiles of a grid instead, the same features tell for each tile which
training picture is nearest there, and whether it is singled out.

References:
    N. Carlini et al., Extracting training data from diffusion models, USENIX Security 2023, arXiv 2301.13188: there the
    largest tile distance rejects pairs that only share a background. Here the small ones are counted, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.memorisation import (
    LEAST_LEAVE_ONE_OUT,
    TAIL,
    TrainingSet,
    squared_distances,
)
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

TILE_COPY_SHARE: Final = Metric(
    name="tile_copy_share",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="share of a picture's tiles in which one and the same training picture is singled out",
)
PART_COPY_RATE: Final = Metric(
    name="part_copy_rate",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="1 where more tiles come from one training picture than in any null",
)
LARGEST_TILE_DISTANCE: Final = Metric(
    name="largest_tile_distance",
    version=1,
    higher_is_better=True,
    unit="LPIPS",
    summary="the tile least like the training picture that most tiles are like; low where the whole is copied",
)

GRID: Final = 4
"""Tiles per side."""
N_TILES: Final = GRID * GRID
LEAST_TILES: Final = 3
"""Tiles of one training picture under which nothing is called a part. Features reach beyond their tile, so that chance
comes in pairs of neighbours."""
MOST_NULL_TILES: Final = 8
"""Where the nulls themselves share half of their tiles, parts cannot be told."""
LEAST_LEVEL: Final = 0.25
"""Tiles whose third nearest is nearer than this share of the busy tiles' are empty ground: like several."""
NEXT: Final = 2
"""How many training pictures may be as near in a tile as the nearest before it counts as shared: the level is the
distance to the one after them. A mean over many would be raised by pictures that have a figure there, and empty ground
that half of the training pictures have would look singled out."""
LEAST_THRESHOLD: Final = 0.1
"""A decoder alone leaves copied tiles at ratios of 0.03 to 0.4 in drawings; under this nothing would be found."""
BUSY: Final = 0.9
"""Quantile of the training pictures' tiles that counts as busy."""


@dataclass(frozen=True, slots=True)
class TileCalibration:
    """When a tile is singled out, and when that makes a copied part.

    Attributes:
        threshold: The ratio under which a tile is singled out.
        least_level: Distance to the third nearest training picture under which a tile is not read.
        least_tiles: Tiles of one training picture that make a copied part.
    """

    threshold: float
    least_level: float
    least_tiles: int


@dataclass(frozen=True, slots=True)
class PartReading:
    """What of one picture comes from one training picture.

    Attributes:
        training_index: Number of the training picture with most tiles (of the nearest one where there are none).
        n_tiles: Its tiles.
        share: The same over all tiles.
        largest_distance: LPIPS between the two in the tile where they differ most.
        is_part_copy: Whether that is more than nulls have.
    """

    training_index: int
    n_tiles: int
    share: float
    largest_distance: float
    is_part_copy: bool


def tile_distances(vectors: NDArray[Any], training: TrainingSet, *, tiles: NDArray[np.intp]) -> Floats:
    """Distances tile by tile to each training picture or its mirror image, whichever is nearer in that tile.

    Args:
        vectors: Embeddings, (n, d).
        training: The training set.
        tiles: The tile that each coordinate belongs to, 0 to 15, (d,).

    Returns:
        (n, 16, m), in LPIPS units: their mean over tiles is about the distance of the whole.
    """
    found = np.empty((len(vectors), N_TILES, len(training.kept)))
    for tile in range(N_TILES):
        columns = np.flatnonzero(tiles == tile)
        own = vectors[:, columns]
        plain, flipped = training.vectors[:, columns], training.mirrored[:, columns]
        centre = plain.mean(axis=0)
        nearer = np.minimum(
            squared_distances(own, plain, centre=centre), squared_distances(own, flipped, centre=centre)
        )
        found[:, tile] = N_TILES * nearer
    return found


def calibrate_tiles(own: Floats, control: Floats) -> TileCalibration | Missing:
    """Find what singles a tile out, and how many tiles make a part.

    Args:
        own: Distances of the training pictures' tiles among themselves, (m, 16, m); the diagonal is not read.
        control: Those of the control's pictures to the training pictures, (n, 16, m).

    Returns:
        The calibration, or why there is none.
    """
    m = len(own)
    for count, what in ((m, "different training pictures"), (len(control), "control pictures")):
        if count < LEAST_LEAVE_ONE_OUT:
            return Missing(f"copied parts need at least {LEAST_LEAVE_ONE_OUT} {what} for a null; found {count}.")
    others = own.copy()
    others[np.arange(m), :, np.arange(m)] = np.inf
    least_level = LEAST_LEVEL * float(np.quantile(_levels(others), BUSY))
    if least_level <= 0:
        return Missing("copied parts need training pictures that differ; their tiles are all equal.")
    nulls = [_ratios(distances, least_level=least_level) for distances in (others, control)]
    read = [values[np.isfinite(values)] for values in nulls]
    if min(len(values) for values in read) < LEAST_LEAVE_ONE_OUT:
        return Missing("copied parts need tiles that are no empty ground; too few of the null's tiles are.")
    threshold = min(float(np.quantile(values, TAIL)) for values in read)
    if threshold < LEAST_THRESHOLD:
        return Missing(
            "copied parts need training pictures without common parts; so many of theirs are the same (a figure, a "
            f"frame, a ground) that only ratios under {threshold:.2g} would be chance no longer."
        )
    counts = [
        _owned(distances, ratios < threshold).max(axis=1)
        for distances, ratios in zip((others, control), nulls, strict=True)
    ]
    usual = max(int(np.quantile(values, 1 - TAIL, method="higher")) for values in counts)
    if usual > MOST_NULL_TILES:
        return Missing(
            f"copied parts need training pictures that share none themselves; one of them has {usual} of {N_TILES} "
            "tiles of another (a frame, a ground, a series)."
        )
    return TileCalibration(threshold, least_level, max(LEAST_TILES, usual + 1))


def read_tiles(distances: Floats, training: TrainingSet, calibration: TileCalibration) -> tuple[PartReading, ...]:
    """Say which part of each picture comes from which training picture.

    Args:
        distances: From `tile_distances`, (n, 16, m).
        training: The training set.
        calibration: From `calibrate_tiles`.

    Returns:
        One reading per picture; none depends on the other pictures.
    """
    ratios = _ratios(distances, least_level=calibration.least_level)
    counts = _owned(distances, ratios < calibration.threshold)
    wholes = distances.mean(axis=1)  # (n, m)
    found = []
    for row, owned in enumerate(counts):
        most = int(owned.max())
        source = int(np.argmax(owned)) if most else int(np.argmin(wholes[row]))
        found.append(
            PartReading(
                training_index=training.kept[source],
                n_tiles=most,
                share=most / N_TILES,
                largest_distance=float(distances[row, :, source].max()),
                is_part_copy=most >= calibration.least_tiles,
            )
        )
    return tuple(found)


def _levels(distances: Floats) -> Floats:
    """Distance to the third nearest training picture, (n, 16)."""
    return np.asarray(np.partition(distances, NEXT, axis=2)[:, :, NEXT])


def _ratios(distances: Floats, *, least_level: float) -> Floats:
    """Distance to the nearest training picture over that to the third nearest, (n, 16); infinite on empty ground."""
    levels = _levels(distances)
    read = levels >= least_level
    return np.where(read, distances.min(axis=2) / np.where(read, levels, 1.0), np.inf)


def _owned(distances: Floats, singled: NDArray[np.bool_]) -> NDArray[np.intp]:
    """How many singled out tiles each training picture has, (n, m)."""
    owners = np.argmin(distances, axis=2)  # (n, 16)
    n, _, m = distances.shape
    counts = np.zeros((n, m), dtype=np.intp)
    rows, places = np.nonzero(singled)
    np.add.at(counts, (rows, owners[rows, places]), 1)
    return counts
