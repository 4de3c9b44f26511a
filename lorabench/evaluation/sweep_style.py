"""Style along a sweep: positions between the control's look and that of the training pictures; curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lorabench.errors import MeasurementError
from lorabench.evaluation.sweep_estimates import interval_of, table
from lorabench.evaluation.sweep_panel import Key, Look, StyleRuler
from lorabench.metrics.reading import Missing
from lorabench.metrics.strength import axis_problem, style_positions
from lorabench.records.sweep import STYLE, Curve, CurvePoint, Side
from lorabench.registry import METRICS
from lorabench.statistics.intervals import EqualCasesError, t_interval

if TYPE_CHECKING:
    from lorabench.evaluation.indices import Resampling
    from lorabench.statistics.intervals import DifferenceInterval


@dataclass(frozen=True, slots=True)
class StyleAxis:
    """Style of pictures as positions between control (0) and training pictures (1)."""

    ruler: StyleRuler
    control: Mapping[Key, float]
    """Distances of the control's pictures."""
    training: float
    """Mean distance of the training pictures to one another."""

    @classmethod
    def of(cls, ruler: StyleRuler | str, control: Look) -> StyleAxis | Missing:
        """The axis, or why there is none."""
        if isinstance(ruler, str):
            return Missing(ruler)
        found = ruler.distances(control)
        means = [case[:, 0].mean() for case in table([found])] if found else []
        if problem := axis_problem(means, ruler.training):
            return Missing(problem)
        return cls(ruler, found, float(ruler.training.mean()))

    def position(self, look: Look, *, resampling: Resampling, limit: float = 0.0) -> DifferenceInterval | Missing:
        """Mean position of a look's pictures; p-values are about `limit`."""
        data = table([self.control, self.ruler.distances(look)])
        return interval_of(
            data,
            lambda means: style_positions(means[:, 1], control=means[:, 0], training=self.training),
            name=STYLE,
            resampling=resampling,
            limit=limit,
        )


def curve_of(
    name: str,
    rows: Mapping[float, Mapping[Key, float]],
    *,
    axis: Literal["strength", "guidance"],
    side: Side,
    confidence_level: float,
) -> Curve | None:
    """Means over cases along an axis, each with its t-interval.

    Args:
        name: Of the metric.
        rows: Strength or guidance to the values by case and seed, in the axis' order.
        axis: Which axis.
        side: Whose values.
        confidence_level: Two-sided, in (0, 1).

    Returns:
        The curve, without the places that fewer than two cases have a value at; None where none is left.
    """
    points = [found for at, values in rows.items() if (found := _point(at, values, confidence_level)) is not None]
    if not points:
        return None
    metric = METRICS.load(name)
    return Curve(
        name=name,
        axis=axis,
        side=side,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        points=tuple(points),
    )


def _point(at: float, values: Mapping[Key, float], confidence_level: float) -> CurvePoint | None:
    cases = [case for case, _ in values]
    try:
        found = t_interval(list(values.values()), cases, confidence_level=confidence_level)
    except EqualCasesError as error:  # a mean of equal cases is known; how far others would lie is not asked here
        return CurvePoint(at=at, value=error.difference, low=error.difference, high=error.difference)
    except MeasurementError:
        return None
    return CurvePoint(at=at, value=found.estimate, low=found.low, high=found.high)
