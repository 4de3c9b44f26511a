"""How a candidate answers to its scale: the style's curve, what is there at low strength, which strengths are usable.

Positions lie on the axis from the control's look (0) to that of the training pictures (1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

LOW_STRENGTH_LOSS: Final = Metric(
    name="low_strength_loss",
    version=1,
    higher_is_better=False,
    unit="share",
    level="set",
    summary="share of the style's gain that is missing at seven tenths of the working strength",
)
STYLE_SHORTFALL: Final = Metric(
    name="style_shortfall",
    version=1,
    higher_is_better=False,
    unit="position",
    level="set",
    summary="style that is missing at the best strength at which no guard is broken",
)
OVERCOOK_HARM: Final = Metric(
    name="overcook_harm",
    version=1,
    higher_is_better=False,
    unit="margins",
    level="set",
    summary="largest harm a quarter above the working strength",
)
LOW_STRENGTH_ARTIFACTS: Final = Metric(
    name="low_strength_artifacts",
    version=1,
    higher_is_better=False,
    unit="margins",
    level="set",
    summary="largest artefact at the lowest strength",
)
LEAST_SE: Final = 2.0
"""Standard errors that control and training pictures must lie apart for a position between them."""


def mean_distances(distances: ArrayLike) -> Floats:
    """How far pictures are from the training pictures as a whole.

    The mean over all of them, not the nearest one: a copy of one picture is no style.

    Args:
        distances: To each training picture, (n, m).

    Returns:
        (n,), in the unit of the distances.
    """
    return np.asarray(np.asarray(distances, dtype=np.float64).mean(axis=1))


def axis_problem(control: ArrayLike, training: ArrayLike) -> str | None:
    """Why there is no axis between control and training pictures; None if there is one.

    Args:
        control: Mean distance of the control's pictures to the training pictures, one per case, (k,).
        training: The same of each training picture to the others, (m,).
    """
    first, second = np.asarray(control, dtype=np.float64), np.asarray(training, dtype=np.float64)
    if len(first) < 2 or len(second) < 3:
        return (
            f"a style position needs 2 cases and 3 training pictures at least; found {len(first)} and {len(second)}. "
            "Add some."
        )
    error = float(np.hypot(first.std(ddof=1) / np.sqrt(len(first)), second.std(ddof=1) / np.sqrt(len(second))))
    apart = float(first.mean() - second.mean())
    if apart <= LEAST_SE * error:
        return (
            "a style position needs training pictures that are nearer to one another than the control's are to them, "
            f"by more than {LEAST_SE:g} standard errors; they are by {apart:.4g}, with a standard error of "
            f"{error:.3g}. The style phrase alone already gives this look, or the set has no common one."
        )
    return None


def style_positions(distances: ArrayLike, *, control: ArrayLike, training: float) -> Floats:
    """Where pictures lie between the control's look and that of the training pictures.

    >>> style_positions([0.9, 0.7, 0.5], control=0.9, training=0.5).round(3).tolist()
    [0.0, 0.5, 1.0]

    Args:
        distances: Mean distances to the training pictures, any shape.
        control: Those of the control, broadcast against them.
        training: Mean distance of the training pictures to one another.

    Returns:
        Positions: 0 the control's look, 1 the training pictures', above 1 nearer to them than they are to each other.
    """
    start = np.asarray(control, dtype=np.float64)
    return np.asarray((start - np.asarray(distances, dtype=np.float64)) / (start - training))


def low_strength_loss(low: ArrayLike, zero: ArrayLike, full: ArrayLike) -> Floats:
    """Share of the gain from strength 0 to the working strength that is missing at a lower one.

    >>> float(low_strength_loss(0.7, 0.0, 1.0).round(3))
    0.3

    Args:
        low: Style at the lower strength.
        zero: At strength 0.
        full: At the working strength.

    Returns:
        1 - (low - zero) / (full - zero): 0.3 at 0.7 of the strength where the style grows evenly, 1 where nothing of it
        is there yet, below 0 where there is more than at the working strength.
    """
    start = np.asarray(zero, dtype=np.float64)
    return np.asarray(1.0 - (np.asarray(low, dtype=np.float64) - start) / (np.asarray(full, dtype=np.float64) - start))


def isotonic_fit(strengths: Sequence[float], values: Sequence[float]) -> list[float]:
    """The nearest curve that never falls, by least squares.

    >>> isotonic_fit([0.0, 0.5, 1.0], [0.0, 0.6, 0.4])
    [0.0, 0.5, 0.5]

    Args:
        strengths: Ascending.
        values: One each.

    Returns:
        Fitted values at the same strengths.
    """
    from scipy.optimize import isotonic_regression

    if len(strengths) != len(values) or list(strengths) != sorted(strengths):
        msg = (
            f"a fit needs one value per ascending strength; got {len(values)} values for {list(strengths)}. Sort them."
        )
        raise ValueError(msg)
    return [float(value) for value in isotonic_regression(np.asarray(values, dtype=np.float64)).x]


def half_gain_strength(strengths: Sequence[float], fitted: Sequence[float], *, full: float) -> float | Missing:
    """a50: the smallest strength at which half of the gain is there.

    >>> half_gain_strength([0.0, 0.5, 1.0], [0.0, 0.2, 0.6], full=0.6)
    0.625

    Args:
        strengths: Ascending, the first one 0.
        fitted: A curve that never falls, one value each.
        full: Style at the working strength.

    Returns:
        The strength, between grid points by straight lines; or why there is none.
    """
    wanted = fitted[0] + (full - fitted[0]) / 2
    if full <= fitted[0]:
        return Missing("a half of the gain needs a gain; the working strength has no more style than strength 0.")
    for index in range(1, len(strengths)):
        below, above = fitted[index - 1], fitted[index]
        if above >= wanted:
            share = (wanted - below) / (above - below)
            return float(strengths[index - 1] + share * (strengths[index] - strengths[index - 1]))
    return Missing("half of the gain is not reached on the grid.")


def first_strength(strengths: Sequence[float], flags: Sequence[bool]) -> float | None:
    """The smallest strength with a flag; None where none has one.

    >>> first_strength([0.5, 1.0, 1.5], [False, True, True])
    1.0
    """
    return next((strength for strength, flag in zip(strengths, flags, strict=True) if flag), None)


def usable_window(strengths: Sequence[float], usable: Sequence[bool]) -> tuple[float, float] | None:
    """Ends of the longest run of usable neighbours on the grid, the lowest of equals; None where none is usable.

    >>> usable_window([0.25, 0.5, 0.7, 1.0], [True, False, True, True])
    (0.7, 1.0)
    """
    best: tuple[float, float] | None = None
    start: float | None = None
    for strength, good in zip(strengths, usable, strict=True):
        start = (strength if start is None else start) if good else None
        if start is not None and (best is None or strength - start > best[1] - best[0]):
            best = start, strength
    return best


def case_means(drawn: Any) -> Floats:
    """Means over cases and seeds of resamples (r, k, s, c): (r, c)."""
    values = np.asarray(drawn, dtype=np.float64)
    return np.asarray(values.reshape(len(values), -1, values.shape[-1]).mean(axis=1))
