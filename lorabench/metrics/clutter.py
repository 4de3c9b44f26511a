"""Clutter: what fills the space that should be empty, and how dense pictures are.

References:
    Edge density as a measure of clutter: R. Rosenholtz, Y. Li, L. Nakano, Measuring visual clutter, Journal of Vision
    7(2):17, 2007, which also says what it misses. The empty-space probe is our own.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from lorabench.metrics.color import luma
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.reading import Missing
from lorabench.metrics.texture import FLAT_TAU, local_std, luma_sigma
from lorabench.records.measurement import Metric

EMPTY_SPACE_CLUTTER: Final = Metric(
    name="empty_space_clutter",
    version=1,
    higher_is_better=False,
    unit="share",
    summary="share of the area around the largest thing that other things cover",
)
CLUTTER_COMPONENTS: Final = Metric(
    name="clutter_components",
    version=1,
    higher_is_better=False,
    unit="things",
    summary="number of things beside the largest one",
)
AMBIENT_DENSITY: Final = Metric(
    name="ambient_density",
    version=1,
    higher_is_better=False,
    unit="log",
    summary="how much there is in a picture: edges, patches and bits",
)
AMBIENT_POSITION: Final = Metric(
    name="ambient_position",
    version=1,
    higher_is_better=False,
    unit="position",
    level="set",
    summary="density between the control (0) and the training pictures (1)",
)

LEAST_SIDE: Final = 32
"""Pixels a picture needs on each side."""
NOISE_FACTOR: Final = 3.0
"""A window is not empty if its spread is beyond that many standard deviations of the picture's noise."""
GROUND_FACTOR: Final = 3.0
"""Nor is it if it is below that many times the median spread of the picture's windows, ..."""
MOST_GROUND: Final = 8.0
"""... up to that many grey levels: a ground that is busier is no ground."""
LARGEST_SUBJECT: Final = 0.6
"""Share of the picture that a subject covers at most."""
LARGEST_HOLE: Final = 0.25
"""Share of the picture up to which what a thing encloses belongs to it; a frame does not enclose what is in it."""
LEAST_AREA: Final = 0.002
"""Share of the picture from which a component is counted."""
DENSITY_SIDE: Final = 256
"""Longer side at which density is read; larger pictures are reduced to it."""
_EDGE_SIGMA: Final = 2.0
_EDGE_STEP: Final = 4.0
"""Grey levels a pixel, of the gradient at sigma 2: a step of 20 levels."""
_LEVELS: Final = 8
"""Levels per channel when patches are told apart."""
_PATCH: Final = 16
"""Pixels from which a patch is counted."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Clutter:
    """What lies around the largest thing of a picture.

    Attributes:
        share: Of the area outside the largest thing, what other things cover, 0 to 1.
        n_components: Things outside it that cover more than 0.2 % of the picture.
    """

    share: float
    n_components: int


def clutter_of(picture: NDArray[Any]) -> Clutter:
    """Find what fills the space around the largest thing.

    A 7 x 7 window is empty if its luma spreads by less than 2 grey levels, by less than three times the noise,
    and by less than three times the median window, up to 8 grey levels: neither grain nor a cloudy ground is
    clutter. What is not empty forms things, with the holes it encloses. The largest is the subject; the space is all
    the rest. Where one thing covers more than 60 % of the picture, it is no subject: the space itself is filled.

    Args:
        picture: RGB, (height, width, 3), 0 to 255; at least 32 pixels on each side.

    Returns:
        Share and number. A picture without anything has none of it.
    """
    from scipy import ndimage

    spread = local_std(picture)  # (height - 6, width - 6)
    ground = min(GROUND_FACTOR * float(np.median(spread)), MOST_GROUND)
    busy = spread > max(FLAT_TAU * 255.0, NOISE_FACTOR * luma_sigma(luma(picture)), ground)
    things = _filled(_closed(busy, max(1, min(picture.shape[:2]) // 128)))
    labels, n_things = ndimage.label(things, structure=np.ones((3, 3)))
    if not n_things:
        return Clutter(0.0, 0)
    areas = np.bincount(labels.ravel())[1:]
    if areas.max() > LARGEST_SUBJECT * labels.size:
        return Clutter(float(things.mean()), int(np.count_nonzero(areas > LEAST_AREA * labels.size)))
    space = labels != 1 + int(areas.argmax())
    others = np.delete(areas, areas.argmax())
    return Clutter(float(things[space].mean()), int(np.count_nonzero(others > LEAST_AREA * labels.size)))


def ambient_density(picture: NDArray[Any]) -> float:
    """How much there is in a picture, whatever it is.

    The mean of three natural logarithms: the share of pixels on an edge, the number of patches of one colour, and the
    bits per pixel that deflate needs. All are read at 256 pixels after a median filter; grain would count as edges.

    Args:
        picture: RGB, (height, width, 3), 0 to 255; at least 32 pixels on each side.

    Returns:
        About -2 for a plain surface, 0 for a few flat shapes, 3 for a crowd.
    """
    small = _reduced(picture)
    codes = np.asarray(small) // (256 // _LEVELS)  # (h, w, 3)
    bits = 8.0 * len(zlib.compress(codes.tobytes(), 6)) / codes[..., 0].size
    edges = _edge_share(luma(np.asarray(small)))
    return (math.log(edges + 0.005) + math.log(_n_patches(codes) + 1.0) + math.log(bits + 0.05)) / 3.0


def _closed(busy: Mask, reach: int) -> Mask:
    """Gaps of up to `reach` pixels to each side are closed; the picture's border is no gap."""
    from scipy import ndimage

    padded = np.pad(busy, reach, mode="edge")
    disc = ndimage.generate_binary_structure(2, 2)
    closed = ndimage.binary_closing(padded, structure=disc, iterations=reach)
    return np.asarray(closed[reach:-reach, reach:-reach]) | busy


def _filled(things: Mask) -> Mask:
    """Things with their holes, up to a quarter of the picture each."""
    from scipy import ndimage

    holes, _ = ndimage.label(ndimage.binary_fill_holes(things) & ~things)
    areas = np.bincount(holes.ravel())
    small = areas <= LARGEST_HOLE * things.size
    small[0] = False
    filled: Mask = things | small[holes]
    return filled


def _reduced(picture: NDArray[Any]) -> Image.Image:
    image = Image.fromarray(np.asarray(picture, dtype=np.uint8))
    image.thumbnail((DENSITY_SIDE, DENSITY_SIDE), Image.Resampling.BOX)
    median = ImageFilter.MedianFilter(5)
    return image.filter(median).filter(median)


def _edge_share(values: NDArray[np.float64]) -> float:
    from scipy.ndimage import gaussian_gradient_magnitude

    return float((gaussian_gradient_magnitude(values, _EDGE_SIGMA, mode="nearest") > _EDGE_STEP).mean())


def _n_patches(codes: NDArray[np.uint8]) -> int:
    """Connected patches of one quantised colour, (h, w, 3), that cover at least `_PATCH` pixels."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    flat = codes.astype(np.int64) @ np.array([1, _LEVELS, _LEVELS**2])  # (h, w)
    index = np.arange(flat.size).reshape(flat.shape)
    across, down = flat[:, 1:] == flat[:, :-1], flat[1:] == flat[:-1]
    one = np.concatenate([index[:, 1:][across], index[1:][down]])
    other = np.concatenate([index[:, :-1][across], index[:-1][down]])
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(flat.size, flat.size))
    _, member = connected_components(graph, directed=False)
    return int(np.count_nonzero(np.bincount(member) >= _PATCH))


def _read_share(picture: NDArray[Any]) -> float | Missing:
    return _too_small(picture) or clutter_of(picture).share


def _read_components(picture: NDArray[Any]) -> float | Missing:
    return _too_small(picture) or float(clutter_of(picture).n_components)


def _read_density(picture: NDArray[Any]) -> float | Missing:
    return _too_small(picture) or ambient_density(picture)


def _too_small(picture: NDArray[Any]) -> Missing | None:
    if min(picture.shape[:2]) >= LEAST_SIDE:
        return None
    size = f"{picture.shape[1]} x {picture.shape[0]}"
    return Missing(f"clutter needs at least {LEAST_SIDE} x {LEAST_SIDE} pixels; got {size}. Use larger pictures.")


EMPTY_SPACE: Final = PictureMetric(metric=EMPTY_SPACE_CLUTTER, read=_read_share)
COMPONENTS: Final = PictureMetric(metric=CLUTTER_COMPONENTS, read=_read_components)
DENSITY: Final = PictureMetric(metric=AMBIENT_DENSITY, read=_read_density)
