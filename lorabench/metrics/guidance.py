"""How a candidate answers to guidance, beside its base: a collapsed guidance input, haze, figures at low guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lorabench.metrics.reading import Missing
from lorabench.records.measurement import Metric

Floats = NDArray[np.float64]

GUIDANCE_COLLAPSE: Final = Metric(
    name="guidance_collapse",
    version=1,
    higher_is_better=False,
    unit="share",
    level="set",
    summary="share of the base's answer to guidance that is lost",
)
GUIDANCE_HAZE: Final = Metric(
    name="guidance_haze",
    version=1,
    higher_is_better=False,
    unit="log ratio",
    level="set",
    summary="contrast lost against the base even at the guidance where least is lost",
)
ANATOMY_GUIDANCE_LOSS: Final = Metric(
    name="anatomy_guidance_loss",
    version=1,
    higher_is_better=False,
    unit="score",
    level="set",
    summary="what figures lose at low guidance against the base beyond what they lose at the usual one",
)
LEAST_CONTRAST: Final = 0.004
"""Added before the logarithm, about one grey level in OKLab lightness, so that an even picture has one."""
LEAST_RESPONSE: Final = 1e-6
"""Mean distance under which the base does not answer to guidance at all."""


def neighbour_response(distances: ArrayLike) -> Floats:
    """Mean distance between pictures at neighbouring guidances: (n, g - 1) to (n,)."""
    return np.asarray(np.asarray(distances, dtype=np.float64).mean(axis=1))


def response_problem(control: ArrayLike, *, dial: str) -> str | None:
    """Why a collapse cannot be read against this control; None if it can.

    Args:
        control: Responses of the control's pictures, (n,).
        dial: Name of the guidance parameter.
    """
    mean = float(np.asarray(control, dtype=np.float64).mean())
    if mean > LEAST_RESPONSE:
        return None
    return (
        f"the base must answer to {dial}; its pictures do not change with it (mean distance {mean:.2g}). "
        "It has no guidance input, or another parameter is its guidance."
    )


def guidance_collapse(candidate: ArrayLike, control: ArrayLike) -> Floats:
    """Share of the base's answer to guidance that the candidate has lost.

    >>> float(guidance_collapse(0.05, 0.2))
    0.75

    Args:
        candidate: Mean response of the candidate.
        control: That of the control, positive.

    Returns:
        1 - candidate / control: 0 as responsive as the base, 1 guidance does nothing, below 0 more responsive.
    """
    return np.asarray(1.0 - np.asarray(candidate, dtype=np.float64) / np.asarray(control, dtype=np.float64))


def contrast_losses(candidate: ArrayLike, control: ArrayLike, *, training: float | None) -> Floats:
    """How much contrast pictures lack, as a log ratio.

    Args:
        candidate: Contrast (standard deviation of lightness) of the candidate's pictures, any shape.
        control: That of the control's pictures of the same cells, same shape.
        training: Mean contrast of the training pictures; a style that has little is allowed little. None: unknown.

    Returns:
        ln(expected / found), same shape: 0 as much as expected, 0.69 half of it, below 0 more.
    """
    expected = np.asarray(control, dtype=np.float64)
    expected = expected if training is None else np.minimum(expected, training)
    return np.asarray(np.log((expected + LEAST_CONTRAST) / (np.asarray(candidate, dtype=np.float64) + LEAST_CONTRAST)))


def log_slope(guidances: Sequence[float], values: ArrayLike) -> Floats | Missing:
    """Slope of values against the natural logarithm of the guidance, by least squares.

    >>> float(log_slope([1.0, math.e], [[0.2, 0.5]])[0].round(3))
    0.3

    Args:
        guidances: Positive, (g,).
        values: (n, g).

    Returns:
        (n,), unit of the values per factor e; or why there is none.
    """
    logs = np.log(np.asarray(guidances, dtype=np.float64))
    if len(logs) < 2 or np.ptp(logs) == 0:
        return Missing(f"a slope needs two guidances that differ; got {list(guidances)}.")
    weights = (logs - logs.mean()) / np.sum((logs - logs.mean()) ** 2)
    return np.asarray(np.asarray(values, dtype=np.float64) @ weights)


def usual_guidance(guidances: Sequence[float], setting: float | None) -> float:
    """The guidance that counts as the usual one: the setting, or the grid's value nearest to 3.5 by ratio."""
    if setting is not None:
        return setting
    return min(guidances, key=lambda value: abs(math.log(value / 3.5)))
