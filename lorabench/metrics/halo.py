"""JPEG's marks around edges: colour and ripples that bleed from them into flat ground.

The 8 x 8 grid that gives a JPEG file away is gone after resizing and an autoencoder; what it left around edges is not.
Colour alone would also find blur, which widens coloured edges; ripples alone would also find texture that stops short
of the background. `jpeg_halo` asks for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.color import luma
from lorabench.metrics.edges import Floats, Mask, find_edges
from lorabench.metrics.picture_metric import PictureMetric
from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Origin = Literal["none", "dataset", "adapter"]

LUMA_RING: Final = Metric(
    name="luma_ring",
    version=1,
    higher_is_better=False,
    unit="log ratio",
    summary="ripples beside edges against the noise far from them",
)
CHROMA_HALO: Final = Metric(
    name="chroma_halo",
    version=1,
    higher_is_better=False,
    unit="grey levels",
    summary="colour that bleeds from edges into flat ground",
)
JPEG_HALO: Final = Metric(
    name="jpeg_halo",
    version=1,
    higher_is_better=False,
    unit="JPEG 75",
    summary="colour and ripples beside edges, the weaker of the two, in units of what JPEG of quality 75 leaves",
)

NEAR: Final = (4.0, 8.0)
"""Pixels from a strong edge between which JPEG leaves marks: beyond the edge itself, within a block."""
FAR: Final = 12.0
"""Pixels from any edge beyond which it leaves none."""
LEAST_PIXELS: Final = 200
"""Pixels that both zones must have."""
SIGMA_OFFSET: Final = 0.25
"""Grey levels added to both noises before their ratio is taken, so that noiseless ground has one."""
CHROMA_UNIT: Final = 0.6
"""Chroma halo, in grey levels, that JPEG of quality 75 leaves in a flat drawing reduced to four fifths afterwards."""
RING_UNIT: Final = 0.12
"""Luma ring that it leaves there."""
VISIBLE: Final = 0.5
"""Halo from which marks count: half of what JPEG of quality 75 leaves."""
_BLUE_DIFFERENCE: Final = np.array([-0.168736, -0.331264, 0.5])
_WINDOW: Final = 5
_RIM: Final = 3


@dataclass(frozen=True, slots=True)
class Marks:
    """What JPEG leaves around edges.

    Attributes:
        chroma: Median standard deviation of the blue difference in 5 x 5 windows at 4 to 8 pixels from strong edges,
            minus the same beyond 12 pixels from any; grey levels, about 0 without marks.
        ring: Logarithm of the noise (Immerkaer's kernel) in the first zone over that in the second; about 0 without
            marks, whatever the picture's grain.
    """

    chroma: float
    ring: float

    @property
    def both(self) -> float:
        """The weaker of the two, in units of what JPEG of quality 75 leaves; blur raises `chroma` alone."""
        return min(self.chroma / CHROMA_UNIT, self.ring / RING_UNIT)


def halo_marks(picture: NDArray[Any]) -> Marks | Missing:
    """Colour and ripples beside the strong edges of a picture.

    Args:
        picture: RGB, (height, width, 3), 0 to 255.

    Returns:
        The marks, or why nothing can be said of them.
    """
    values = luma(picture)
    zones = _zones(values)
    if isinstance(zones, Missing):
        return zones
    near, far = zones
    spread = _window_std(np.asarray(picture, dtype=np.float64) @ _BLUE_DIFFERENCE)
    response = np.zeros_like(values)
    response[1:-1, 1:-1] = np.abs(np.diff(np.diff(values, 2, axis=0), 2, axis=1))
    beside, away = (math.sqrt(math.pi / 2) / 6 * float(response[zone].mean()) for zone in zones)
    return Marks(
        chroma=float(np.median(spread[near]) - np.median(spread[far])),
        ring=math.log((beside + SIGMA_OFFSET) / (away + SIGMA_OFFSET)),
    )


def chroma_halo(picture: NDArray[Any]) -> float | Missing:
    """`Marks.chroma` of a picture, or why there is none."""
    marks = halo_marks(picture)
    return marks if isinstance(marks, Missing) else marks.chroma


def luma_ring(picture: NDArray[Any]) -> float | Missing:
    """`Marks.ring` of a picture, or why there is none."""
    marks = halo_marks(picture)
    return marks if isinstance(marks, Missing) else marks.ring


def jpeg_halo(picture: NDArray[Any]) -> float | Missing:
    """`Marks.both` of a picture, or why there is none: 1 in a flat drawing saved at quality 75 and resized."""
    marks = halo_marks(picture)
    return marks if isinstance(marks, Missing) else marks.both


def halo_origin(candidate: ArrayLike, control: ArrayLike, training: ArrayLike) -> Origin:
    """Where the candidate's halo comes from.

    Args:
        candidate: `jpeg_halo` of the candidate's pictures, (n,).
        control: Of the control's, (m,).
        training: Of the training pictures after the autoencoder's round trip, (k,); may be empty.

    Returns:
        "none" unless the candidate's mean exceeds the control's by `VISIBLE`; then "dataset" if the training pictures'
        median does so, too (the adapter learned what it was shown: clean the pictures), else "adapter".

    Raises:
        ValueError: No pictures of candidate or control.
    """
    of_candidate, of_control, of_training = (
        np.asarray(one, dtype=np.float64) for one in (candidate, control, training)
    )
    if not of_candidate.size or not of_control.size:
        msg = f"an origin needs pictures of both arms; got {of_candidate.size} and {of_control.size}. Measure some."
        raise ValueError(msg)
    level = float(of_control.mean()) + VISIBLE
    if of_candidate.mean() < level:
        return "none"
    return "dataset" if of_training.size and float(np.median(of_training)) >= level else "adapter"


def _zones(values: Floats) -> tuple[Mask, Mask] | Missing:
    """Pixels where marks would be, and where none would; neither lies on an edge, however weak."""
    from scipy.ndimage import distance_transform_edt

    edges = find_edges(values)
    near = far = np.zeros(values.shape, dtype=bool)
    if edges.strong.any():
        any_edge, strong_edge = distance_transform_edt(~edges.on_edge), distance_transform_edt(~edges.strong)
        inside = np.zeros(values.shape, dtype=bool)
        inside[_RIM:-_RIM, _RIM:-_RIM] = True
        near = inside & (any_edge >= NEAR[0]) & (strong_edge <= NEAR[1])
        far = inside & (any_edge > FAR)
    if min(near.sum(), far.sum()) >= LEAST_PIXELS:
        return near, far
    return Missing(
        f"marks around edges need {LEAST_PIXELS} pixels beside strong edges and as many far from all; found "
        f"{near.sum()} and {far.sum()}. A picture without edges, or without room between them, has none."
    )


def _window_std(values: Floats) -> Floats:
    from scipy.ndimage import uniform_filter

    centred = values - values.mean()  # keeps the digits of the small differences below
    mean = uniform_filter(centred, _WINDOW)
    return np.asarray(np.sqrt(np.maximum(uniform_filter(centred**2, _WINDOW) - mean**2, 0.0)))


HALO: Final = (
    PictureMetric(JPEG_HALO, jpeg_halo),
    PictureMetric(CHROMA_HALO, chroma_halo),
    PictureMetric(LUMA_RING, luma_ring),
)
"""Facts and readers of this module's metrics."""
