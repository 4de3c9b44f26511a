"""Have the training pictures' colours been learned? Distances to their palette on the axis from control to training.

References:
    Distances between palettes: N. Bonneel et al., Sliced and Radon Wasserstein barycenters of measures, JMIV 51 (2015).
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lorabench.metrics.color import Picture, background_mask, check_picture, picture_oklab
from lorabench.metrics.palette import N_PROJECTIONS, sliced_embedding
from lorabench.metrics.response import distance_matrix
from lorabench.records.measurement import Metric
from lorabench.records.suite import Case, ColorCheck, CountCheck, ObjectCheck, PaletteCheck, RelationCheck, fill_style

Floats = NDArray[np.float64]

TRAINING_PALETTE_DISTANCE: Final = Metric(
    name="training_palette_distance",
    version=1,
    higher_is_better=False,
    unit="index",
    level="set",
    summary="0: colours as near to the training pictures' as those are to each other; 1: no nearer than the control's",
)
BRAND_DISTANCE: Final = Metric(
    name="brand_distance",
    version=1,
    higher_is_better=False,
    unit="index",
    level="set",
    summary="the same where prompts ask for other colours and the training palette is wanted all the same",
)
LEAST_TRAINING: Final = 5
LEAST_CASES: Final = 5
LEAST_SE: Final = 2.0
"""Standard errors by which training and control must lie apart."""
QUANTILES: Final = 32
"""Per direction: 4,096 numbers a picture instead of half a million; distances come out 1 % shorter, at most 4 %."""
_NAMED: Final = (
    "amber apricot aqua azure beige black blonde blue bronze brown burgundy charcoal cobalt copper coral cream crimson "
    "cyan ebony emerald fuchsia gold golden gray green grey indigo ivory jade khaki lavender lilac lime magenta maroon "
    "mauve mint monochrome mustard navy ochre olive orange peach pink plum purple red rose ruby rust rusty saffron "
    "salmon sapphire scarlet sepia silver slate tan teal terracotta turquoise umber vermilion violet white yellow"
)
COLOR_WORDS: Final = frozenset(_NAMED.split())
"""Words by which a prompt asks for a colour."""


def palette_sketch(picture: Picture) -> NDArray[np.float32]:
    """A short vector of a picture's colours, once with its even ground and once without.

    Sliced Wasserstein distances in OKLab as in `metrics.palette`, with 32 quantiles per direction.

    Args:
        picture: RGB, uint8, (height, width, 3).

    Returns:
        (2, 4096): the whole picture, and the picture without its even background (see `background_mask`). Euclidean
        distances between such vectors are SW2 in OKLab units.
    """
    check_picture(picture)
    lab = picture_oklab(picture)
    figure = lab[~background_mask(picture)]
    return np.stack([_coarse(lab.reshape(-1, 3)), _coarse(figure)]).astype(np.float32)


def is_neutral(case: Case) -> bool:
    """Whether a case leaves the colours open: no colour word, no colour in a check, no palette check."""
    words = set(re.findall(r"[a-z]+", fill_style(case.prompt, "").lower()))
    return not (words & COLOR_WORDS) and not any(_asks_for_color(check) for check in case.checks)


def training_level(training: NDArray[Any]) -> tuple[float, float]:
    """How far training pictures lie from each other, and the standard error of that.

    Args:
        training: Palettes of the training pictures, (m, d), m at least 3.

    Returns:
        Mean distance of a picture to all others, left out itself; its jackknife standard error.
    """
    distances = distance_matrix(training)
    m = len(distances)
    total = float(distances.sum())
    without = (total - 2.0 * distances.sum(axis=1)) / ((m - 1) * (m - 2))
    error = math.sqrt((m - 1) / m * float(np.sum((without - without.mean()) ** 2)))
    return total / (m * (m - 1)), error


def palette_axis_problem(control: Floats, level: float, error: float) -> str | None:
    """Why control and training pictures cannot be told apart by colour; None if they can.

    Args:
        control: Mean distance of each case's control pictures to the training pictures, (k,).
        level: Mean distance of the training pictures from each other.
        error: Its standard error.
    """
    if len(control) < LEAST_CASES:
        return f"colours need at least {LEAST_CASES} cases; found {len(control)}."
    gap = float(control.mean()) - level
    spread = math.hypot(error, float(control.std(ddof=1)) / math.sqrt(len(control)))
    if gap > LEAST_SE * spread:
        return None
    return (
        f"the control's colours must lie farther from the training pictures' than those from each other by more than "
        f"{LEAST_SE:g} standard errors; the gap is {gap:.3g} with a standard error of {spread:.2g} (OKLab units)."
    )


def _coarse(colors: Floats) -> Floats:
    full = sliced_embedding(colors.astype(np.float32)).reshape(N_PROJECTIONS, QUANTILES, -1)
    return np.asarray(full.mean(axis=2).ravel() * math.sqrt(full.shape[2]))


def _asks_for_color(check: object) -> bool:
    if isinstance(check, ObjectCheck | CountCheck):
        return check.color is not None
    if isinstance(check, RelationCheck):
        return check.subject_color is not None or check.object_color is not None
    return isinstance(check, ColorCheck | PaletteCheck)
