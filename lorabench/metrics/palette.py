"""Colour: does the palette follow the prompt, is it locked to the training pictures, does it do as asked?

References:
    N. Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, JMIV 51 (2015) 22-45.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.color import (
    CHROMATIC,
    Picture,
    background_mask,
    check_picture,
    chroma,
    color_clusters,
    hex_to_srgb,
    hue,
    oklab,
    picture_oklab,
)
from lorabench.metrics.reading import Missing
from lorabench.metrics.response import distance_matrix
from lorabench.records.measurement import Metric
from lorabench.records.suite import PaletteCheck

Floats = NDArray[np.float64]

PALETTE_COMPLIANCE_SCORE: Final = Metric(
    name="palette_compliance_score",
    version=1,
    higher_is_better=True,
    unit="share",
    summary="how much of the colour is what the prompt asked for",
)
PALETTE_COLLAPSE: Final = Metric(
    name="palette_collapse",
    version=1,
    higher_is_better=False,
    unit="index",
    level="set",
    summary="0: colours follow the prompt as in the control; 1: they ignore it",
)
PALETTE_PULL: Final = Metric(
    name="palette_pull",
    version=1,
    higher_is_better=False,
    unit="index",
    level="set",
    summary="0: colours as far from the training pictures as the control's; 1: the training palette",
)

N_PIXELS: Final = 4096
N_PROJECTIONS: Final = 128
COLOR_REACH: Final = 0.2
"""OKLab distance at which a colour counts nothing towards a colour that was asked for."""
_PIXEL_SEED: Final = 8191
_PROJECTION_SEED: Final = 127
_N_CLUSTERS: Final = 8
_LEAST_CLUSTER: Final = 0.01


def palette_embedding(
    picture: Picture, *, chroma_only: bool = False, foreground_only: bool = False
) -> NDArray[np.float32]:
    """A vector of the picture's colours; distances between vectors are sliced Wasserstein-2 distances in OKLab.

    The same 4,096 pixel positions (drawn once, with replacement) and the same 128 directions serve every picture.

    Args:
        picture: RGB, uint8, (height, width, 3).
        chroma_only: Use a and b only: palette without lighting.
        foreground_only: Leave the even background out (see `background_mask`).

    Returns:
        (128 x 4096,), single precision. The Euclidean distance of two such vectors is SW2, in OKLab units (0.02 is
        just visible).
    """
    check_picture(picture)
    lab = picture_oklab(picture).astype(np.float32)
    colors = lab[~background_mask(picture)] if foreground_only else lab.reshape(-1, 3)
    return sliced_embedding(colors[:, 1:] if chroma_only else colors)


def sliced_embedding(points: NDArray[Any]) -> NDArray[Any]:
    """Sorted projections of points (n, d), scaled so that Euclidean distances of embeddings are SW2 distances.

    As precise as the points are.
    """
    rows = np.random.default_rng(_PIXEL_SEED).random(N_PIXELS)
    drawn = points[(rows * len(points)).astype(np.int64)]  # (4096, d)
    sorted_values = np.sort(directions(points.shape[1]).astype(points.dtype) @ drawn.T, axis=1)  # (128, 4096)
    return np.asarray(sorted_values.ravel() / math.sqrt(sorted_values.size))


@cache
def directions(d: int) -> Floats:
    """The fixed unit vectors projected on, (128, d), with second moment exactly I / d.

    Drawn once and then whitened, so that a translation by t has the distance |t| / sqrt(d) exactly.
    """
    if d == 2:
        angles = np.pi * (np.arange(N_PROJECTIONS) + 0.5) / N_PROJECTIONS
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    vectors = np.random.default_rng(_PROJECTION_SEED).standard_normal((N_PROJECTIONS, d))
    for _ in range(50):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        values, axes = np.linalg.eigh(d * vectors.T @ vectors / N_PROJECTIONS)
        vectors = vectors @ (axes / np.sqrt(values)) @ axes.T
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def mean_training_distance(vectors: NDArray[Any], training: NDArray[Any]) -> Floats:
    """Mean distance of each picture's colours (n, d) to the training pictures' (m, d): (n,).

    Raises:
        ValueError: There are no training pictures.
    """
    if len(training) == 0:
        msg = "a pull needs training pictures; got none. Name the training folder."
        raise ValueError(msg)
    return np.asarray(distance_matrix(vectors, training).mean(axis=1))


def palette_pull(candidate: ArrayLike, control: ArrayLike) -> float | Missing:
    """How far the candidate's colours have moved from the control's towards the training pictures'.

    Read it on cases that ask for colours the training pictures do not have.

    Args:
        candidate: `mean_training_distance` of the candidate's pictures, any shape.
        control: The same of the control's.

    Returns:
        1 - candidate / control, ratio of the means; or why it cannot be read.
    """
    distance = float(np.asarray(control, dtype=np.float64).mean())
    if distance == 0.0:
        return Missing(
            "the control's colours must differ from the training pictures'; their distance is 0. "
            "Use cases that ask for other colours."
        )
    return 1.0 - float(np.asarray(candidate, dtype=np.float64).mean()) / distance


def palette_compliance(picture: Picture, check: PaletteCheck, *, with_background: bool = False) -> float:
    """How far a picture's colours are what the check asks for.

    Args:
        picture: RGB, uint8, (height, width, 3).
        check: Hue ranges, a monochrome, or a list of colours.
        with_background: Count the even background, too. A white page is most of an illustration, and a cream one
            outweighs a small figure in chroma, so it is left out unless asked for.

    Returns:
        0 to 1. Hues: chroma-weighted share of the coloured pixels inside the ranges; 0 without coloured pixels.
        Grey: share of the pixels without colour. Single hue: length of the chroma-weighted mean hue vector; 0
        without coloured pixels. Colours: see `color_list_compliance`.
    """
    check_picture(picture)
    chosen = np.ones(picture.shape[:2], dtype=bool) if with_background else ~background_mask(picture)
    if check.colors is not None:
        return color_list_compliance(picture[chosen], check.colors)
    lab = picture_oklab(picture)[chosen]
    if check.monochrome == "grey":
        return float((chroma(lab) <= CHROMATIC).mean())
    if check.monochrome == "single_hue":
        return hue_concentration(lab)
    return hue_share(lab, check.hues or ())


def hue_share(lab: Floats, hues: Sequence[tuple[float, float]]) -> float:
    """Chroma-weighted share of the coloured pixels (n, 3) within the hue ranges; 0 without coloured pixels.

    A range whose end is below its start wraps around 360 degrees.
    """
    weights = np.where(chroma(lab) > CHROMATIC, chroma(lab), 0.0)
    if weights.sum() == 0.0:
        return 0.0
    inside = np.any([_in_range(hue(lab), low, high) for low, high in hues], axis=0)
    return float(weights[inside].sum() / weights.sum())


def hue_concentration(lab: Floats) -> float:
    """Length of the chroma-weighted mean hue vector of the coloured pixels (n, 3): 1 is one hue; 0 without any."""
    colored = lab[chroma(lab) > CHROMATIC]
    if len(colored) == 0:
        return 0.0
    return float(np.hypot(colored[:, 1].sum(), colored[:, 2].sum()) / chroma(colored).sum())


def color_list_compliance(pixels: Picture, colors: Sequence[str]) -> float:
    """How well pixels keep to a list of colours, and use all of it.

    Half is the share of the pixels near a listed colour, half the share of the listed colours near a colour of the
    picture (a cluster of 1 % or more). Nearness falls from 1 at the colour to 0 at an OKLab distance of 0.2.

    Args:
        pixels: RGB, uint8, (..., 3).
        colors: `#rrggbb`, at least one.

    Returns:
        0 to 1.
    """
    clusters = color_clusters(pixels, n=_N_CLUSTERS)
    wanted = oklab(np.stack([hex_to_srgb(code) for code in colors]))
    nearness = np.clip(1.0 - distance_matrix(clusters.lab, wanted) / COLOR_REACH, 0.0, 1.0)  # (clusters, colours)
    kept = float(clusters.weights @ nearness.max(axis=1))
    used = float(nearness[clusters.weights >= _LEAST_CLUSTER].max(axis=0).mean())
    return (kept + used) / 2.0


def _in_range(angles: Floats, low: float, high: float) -> NDArray[np.bool_]:
    if low <= high:
        return np.asarray((angles >= low) & (angles <= high))
    return np.asarray((angles >= low) | (angles <= high))
