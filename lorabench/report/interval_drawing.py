"""Where the marks of an interval drawing lie: an interval against zero and against the margin."""

from __future__ import annotations

from dataclasses import dataclass

from lorabench.records.comparison import Comparison

_ROOM = 1.12
_EDGE = 6.0


@dataclass(frozen=True, slots=True)
class IntervalDrawing:
    """Positions along one axis, in drawing units. Left is worse, whatever the metric's direction; zero is the middle.

    Attributes:
        width: Of the whole drawing.
        zero: No difference.
        margin: The largest harm tolerated; what lies left of it is too much.
        low: Harmful end of the interval.
        high: The other end.
        estimate: Between the two.
    """

    width: float
    zero: float
    margin: float
    low: float
    high: float
    estimate: float


def reach_of(comparison: Comparison, margin: float) -> float:
    """How far from zero an axis goes that just holds interval, estimate and margin, in the metric's unit."""
    return max(*(abs(value) for value in comparison.oriented()), margin)


def draw_interval(
    comparison: Comparison, margin: float, *, width: float = 220.0, reach: float | None = None
) -> IntervalDrawing:
    """Place interval, zero and margin on an axis that is symmetric about zero and just holds all of them.

    Args:
        comparison: Candidate minus reference, raw sign; it is turned so that better lies to the right.
        margin: Largest harm tolerated, positive, in the metric's unit.
        width: Of the drawing, in drawing units.
        reach: How far the axis goes, in the metric's unit, where several drawings share it; None for just far enough.

    Returns:
        The positions, each in [0, width].
    """
    estimate, low, high = comparison.oriented()
    unit = (width / 2 - _EDGE) / ((reach_of(comparison, margin) if reach is None else reach) * _ROOM)

    def place(value: float) -> float:
        return round(width / 2 + value * unit, 2)

    return IntervalDrawing(
        width=width,
        zero=place(0.0),
        margin=place(-margin),
        low=place(low),
        high=place(high),
        estimate=place(estimate),
    )
